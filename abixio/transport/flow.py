"""Write flow control of one connection: whoever produces an answer waits here while the client does not read."""

from __future__ import annotations

import asyncio

from abixio.errors import ClientDisconnected


class Flow:
    """Between the transport, which pauses and resumes, and the one producer of the connection, which waits."""

    __slots__ = ("_loop", "_lost", "_waiter", "paused")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiter: asyncio.Future[None] | None = None
        self._lost = False
        self.paused = False

    def pause(self) -> None:
        """The transport holds too much. Twice is harmless."""
        self.paused = True

    def resume(self) -> None:
        """The transport has room again. Twice is harmless."""
        self.paused = False
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def lose(self) -> None:
        """The connection is gone; nobody waits any longer."""
        self._lost = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(ClientDisconnected("the client went away before the end of the answer"))

    async def drain(self) -> None:
        """Wait for room. ClientDisconnected."""
        if self._lost:
            raise ClientDisconnected("the client went away before the end of the answer")
        if not self.paused:
            return
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
