"""One response onto the wire: its head with its body in one write where that can be, a stream slice by slice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from abixio.http.response import bodiless, render_head
from abixio.message import Buffer, Response, Stream


class Outlet(Protocol):
    """What an answer needs of its connection."""

    largest: int
    """Bytes of a stream to hand over at a time at most."""

    @property
    def full(self) -> bool:
        """Too much is unsent: `drained` comes before the next `send`."""
        ...

    def send(self, first: Buffer, second: Buffer = b"") -> None:
        """Hand over to the transport, together. ClientDisconnected."""
        ...

    async def drained(self) -> None:
        """Wait until less is unsent. ClientDisconnected."""
        ...


class WrongLength(Exception):
    """A handler's stream gives more or fewer bytes than it promised. A defect; never leaves the transport."""


def whole(response: Response, body: bytes, method: str, *, close: bool, keep: bool) -> bytes:
    """Head and body of an answer that is there already, for one write: to copy a small body costs less than a second buffer."""
    head = _head(response, len(body), method, close, keep)
    return head if not body or bodiless(response.status, method) else head + body


def send_whole(outlet: Outlet, response: Response, body: bytes, method: str, *, close: bool, keep: bool) -> None:
    """A body that is there already. ClientDisconnected."""
    head = _head(response, len(body), method, close, keep)
    outlet.send(head, b"" if bodiless(response.status, method) else body)


async def send_stream(outlet: Outlet, response: Response, body: Stream, method: str, *, close: bool, keep: bool) -> None:
    """A body that comes in slices. ClientDisconnected, or whatever the stream raises. Closes the stream in every case."""
    try:
        head = _head(response, body.length, method, close, keep)
        if bodiless(response.status, method):
            outlet.send(head)
        else:
            await _send_slices(outlet, head, body)
    finally:
        await body.aclose()


async def _send_slices(outlet: Outlet, head: bytes, stream: Stream) -> None:
    """The head waits for the first slice: until then an error can still become an answer, and both go in one write."""
    unsent, rest, largest = True, stream.length, outlet.largest
    async for piece in stream:
        rest -= len(piece)
        if rest < 0:
            raise WrongLength(f"a stream of {stream.length} bytes gives more")
        for part in (piece,) if len(piece) <= largest else _parts(piece, largest):
            if unsent:
                unsent = False
                outlet.send(head, part)
            else:
                outlet.send(part)
            if outlet.full:
                await outlet.drained()
        # A slice may be a pooled buffer, free for others once nobody refers to it.
        del piece, part
    if rest:
        raise WrongLength(f"a stream of {stream.length} bytes lacks {rest}")
    if unsent:
        outlet.send(head)


def _parts(piece: Buffer, largest: int) -> Iterator[Buffer]:
    """Without a copy."""
    view = memoryview(piece)
    for at in range(0, len(piece), largest):
        yield view[at : at + largest]


def _head(response: Response, size: int, method: str, close: bool, keep: bool) -> bytes:
    """With the Content-Length that the handler gives, or that of the body. 204 has none, 304 only a given one."""
    status, headers = response.status, response.headers
    length: int | None = None if status in (204, 304) else size
    for name, value in headers:
        if len(name) == 14 and name.lower() == "content-length":
            if value != str(size) and not bodiless(status, method):
                raise WrongLength(f"Content-Length {value} for a body of {size} bytes")
            length = None
    return render_head(status, headers, length, close=close, keep=keep)
