"""One response onto the wire: its head with its body in one write where that can be, a stream slice by slice."""

from __future__ import annotations

from typing import Protocol

from abixio.http.response import bodiless, render_head
from abixio.message import Buffer, Response, Stream


class Outlet(Protocol):
    """What an answer needs of its connection."""

    def send(self, *pieces: Buffer) -> None:
        """Hand over to the transport, together. ClientDisconnected."""
        ...

    async def drained(self) -> None:
        """Wait while too much is unsent. ClientDisconnected."""
        ...


class WrongLength(Exception):
    """A handler's stream gives more or fewer bytes than it promised. A defect; never leaves the transport."""


async def send_answer(outlet: Outlet, response: Response, method: str, *, close: bool, keep: bool) -> None:
    """Send all of it. ClientDisconnected, or whatever the handler's stream raises. Closes the stream in every case."""
    body = response.body
    if isinstance(body, bytes):
        head = _head(response, len(body), method, close, keep)
        if bodiless(response.status, method):
            outlet.send(head)
        else:
            outlet.send(head, body)
        return
    try:
        head = _head(response, body.length, method, close, keep)
        if bodiless(response.status, method):
            outlet.send(head)
        else:
            await _send_stream(outlet, head, body)
    finally:
        await body.aclose()


def _head(response: Response, size: int, method: str, close: bool, keep: bool) -> bytes:
    """With the Content-Length that the handler gives, or that of the body. 204 has none, 304 only a given one."""
    given = next((value for name, value in response.headers if name.lower() == "content-length"), None)
    length: int | None = size
    if given is not None or response.status in (204, 304):
        length = None
    if given is not None and not bodiless(response.status, method) and given != str(size):
        raise WrongLength(f"Content-Length {given} for a body of {size} bytes")
    return render_head(response.status, response.headers, length, close=close, keep=keep)


async def _send_stream(outlet: Outlet, head: bytes, stream: Stream) -> None:
    """The head waits for the first slice: until then an error can still become an answer, and both go in one write."""
    unsent, rest = True, stream.length
    async for piece in stream:
        rest -= len(piece)
        if rest < 0:
            raise WrongLength(f"a stream of {stream.length} bytes gives more")
        if unsent:
            unsent = False
            outlet.send(head, piece)
        elif piece:
            outlet.send(piece)
        # A slice may be a pooled buffer, free for others once nobody refers to it.
        del piece
        await outlet.drained()
    if rest:
        raise WrongLength(f"a stream of {stream.length} bytes lacks {rest}")
    if unsent:
        outlet.send(head)
