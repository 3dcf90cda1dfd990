"""The body of one request, read by the handler while the kernel writes into the handler's own buffer.

Bytes reach a body in two ways. What was received together with the head, or beyond a line, waits in the connection's
`ahead` and is copied. Everything else goes straight from the kernel into the view that the handler waits with: `place`
hands it out, bounded by the payload that is still to come, so that nothing of a next request is ever swallowed.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from abixio.errors import BadRequest, RequestError
from abixio.http.framing import Framing

WINDOW: Final = 512
"""Received at most, when a line or a chunk size is wanted: a few lines of any kind in use (the longest has about 90 bytes),
yet so little that the payload received along with it costs nothing to copy."""


class Inlet(Protocol):
    """What a body needs of its connection."""

    ahead: bytearray
    """Received and not used yet."""

    def reading(self) -> None:
        """Somebody waits for body bytes: receive, against a deadline."""
        ...

    def satisfied(self) -> None:
        """Nobody waits any longer."""
        ...

    def interim(self) -> None:
        """Send `100 Continue`."""
        ...


class EmptyBody:
    """Of all requests that have none."""

    __slots__ = ("length",)

    def __init__(self) -> None:
        self.length: int | None = 0

    async def readinto(self, view: memoryview) -> int:
        return 0

    async def readline(self, limit: int) -> bytes:
        return b""

    def at_hand(self) -> bytes | None:
        return b""


class RequestBody:
    """See `abixio.message.Body`."""

    __slots__ = ("_failure", "_filled", "_inlet", "_loop", "_view", "_waiter", "expecting", "framing", "length", "open")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, inlet: Inlet, framing: Framing, length: int | None, expecting: bool
    ) -> None:
        self._loop = loop
        self._inlet = inlet
        self.framing = framing
        self.length = length
        self.expecting = expecting
        """The client still waits for `100 Continue`."""
        self.open = False
        """A reader waits: what arrives goes to `place`."""
        self._view: memoryview | None = None
        self._filled = 0
        self._waiter: asyncio.Future[None] | None = None
        self._failure: tuple[type[RequestError], str] | None = None

    # ---- for the handler ---------------------------------------------------------------------------------------------
    async def readinto(self, view: memoryview) -> int:
        filled, size = 0, len(view)
        ahead = self._inlet.ahead
        while filled < size and await self._payload():
            count = min(size - filled, self.framing.payload)
            if ahead:
                count = min(count, len(ahead))
                view[filled : filled + count] = ahead[:count]
                self._use(count)
            else:
                count = await self._receive(view[filled : filled + count])
            filled += count
        return filled

    async def readline(self, limit: int) -> bytes:
        line = bytearray()
        ahead = self._inlet.ahead
        while await self._payload():
            if not ahead:
                await self._receive(None)
                continue
            count = min(self.framing.payload, len(ahead), limit + 1 - len(line))
            end = ahead.find(b"\n", 0, count)
            if end >= 0:
                count = end + 1
            line += ahead[:count]
            self._use(count)
            if len(line) > limit:
                raise BadRequest(f"a line of more than {limit} bytes in the body")
            if end >= 0:
                break
        return bytes(line)

    def at_hand(self) -> bytes | None:
        length, ahead = self.length, self._inlet.ahead
        if length is None or length != self.framing.payload or len(ahead) < length:
            return None
        with memoryview(ahead) as view:
            return bytes(view[:length])

    # ---- for the connection ------------------------------------------------------------------------------------------
    @property
    def failed(self) -> bool:
        """The rest of the body will not come, or makes no sense."""
        return self._failure is not None

    def missing(self) -> bool:
        """Whether some of the body may not have been received yet."""
        return not self.framing.done and (self.length is None or self.framing.payload > len(self._inlet.ahead))

    def place(self, room: memoryview) -> memoryview:
        """Where the next bytes go; `room` is for those that are not the handler's yet."""
        if self._view is None:
            return room[:WINDOW]
        return self._view[self._filled :]

    def arrived(self, count: int, room: memoryview) -> None:
        """The kernel has written that many bytes to where `place` said."""
        self._filled += count
        if self._view is None:
            self._inlet.ahead += room[:count]
            self._wake()
        elif self._filled == len(self._view):
            self._wake()

    def fail(self, error: type[RequestError], text: str) -> None:
        """No more bytes will come. What was received before can still be read. The first reason counts."""
        if self._failure is None:
            self._failure = error, text
            self._wake()

    def skip(self) -> None:
        """Throw away what was received of the body. IncompleteBody."""
        ahead, framing = self._inlet.ahead, self.framing
        while not framing.done:
            count = min(framing.payload, len(ahead))
            if count:
                self._use(count)
            else:
                count = framing.feed(ahead)
                if not count:
                    break
                del ahead[:count]

    # ---- in between --------------------------------------------------------------------------------------------------
    async def _payload(self) -> bool:
        """Wait until payload comes next; False at the end of the body."""
        framing, ahead = self.framing, self._inlet.ahead
        while framing.payload == 0 and not framing.done:
            try:
                used = framing.feed(ahead)
            except RequestError as error:
                self.fail(type(error), str(error))
                raise
            if used:
                del ahead[:used]
            else:
                await self._receive(None)
        return framing.payload > 0

    async def _receive(self, view: memoryview | None) -> int:
        """Wait until `view` is full; without one, until something is ahead."""
        self._filled = 0
        if self._failure is None:
            await self._wait(view)
        if self._failure is not None and self._filled < (1 if view is None else len(view)):
            error, text = self._failure
            raise error(text)
        return self._filled

    async def _wait(self, view: memoryview | None) -> None:
        if self._waiter is not None:
            raise RuntimeError("a body has one reader at a time")
        if self.expecting:
            self.expecting = False
            self._inlet.interim()
        self._waiter = self._loop.create_future()
        self._view, self.open = view, True
        self._inlet.reading()
        try:
            await self._waiter
        finally:
            # Also when the reader is cancelled: nothing may be written into its buffer from here on.
            self._view, self._waiter, self.open = None, None, False
            if view is not None:
                self.framing.took(self._filled)
            self._inlet.satisfied()

    def _use(self, count: int) -> None:
        del self._inlet.ahead[:count]
        self.framing.took(count)

    def _wake(self) -> None:
        self.open = False
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
