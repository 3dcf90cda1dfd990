"""How much of the machine background work may have: a budget of bytes and of processor time, and manners towards clients."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from abixio.store.pool import Pool

BURST: Final = 1.0
"""Seconds of allowance that may be saved up: what a slow stretch left over is spent at once, but a quiet hour is not."""
SAMPLE: Final = 0.25
"""Seconds between two looks at how much clients ask."""
BUSY: Final = 20.0
"""Requests per second from which on clients come first. Below, a request has the machine to itself most of the time."""
SHARE: Final = 0.2
"""Of one thread's time, for background work while clients are busy: on two cores a 64 KiB GET then waits for it no longer than
it waits for other requests."""


class Budget:
    """An allowance of bytes per second and of a share of one core; both must hold."""

    def __init__(self, loop: asyncio.AbstractEventLoop, rate: float, share: float) -> None:
        self._loop = loop
        self._rate = rate
        self._share = share
        self._paid_until = 0.0

    async def spend(self, size: int, seconds: float) -> None:
        """So much was read, and that much processor time taken: wait until it is paid."""
        now = self._loop.time()
        cost = max(size / self._rate, seconds / self._share)
        self._paid_until = max(self._paid_until, now - BURST) + cost
        if self._paid_until > now:
            await asyncio.sleep(self._paid_until - now)


class Manners:
    """Lets work that may use the whole machine step back while clients use it."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._one = asyncio.Lock()
        self._asked = pool.load
        self._looked = pool.loop.time()
        self.busy = False
        """Whether clients asked for anything worth stepping back, at the last look."""

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Inside, do a piece of work of some milliseconds. With nobody else there, as many at a time as come; while clients are
        busy one after the other, with pauses."""
        if not self._look():
            yield
            return
        async with self._one:
            start = self._pool.loop.time()
            yield
            await asyncio.sleep((self._pool.loop.time() - start) * (1 / SHARE - 1))

    def _look(self) -> bool:
        now, asked = self._pool.loop.time(), self._pool.load
        if now - self._looked >= SAMPLE:
            self.busy = (asked - self._asked) / (now - self._looked) >= BUSY
            self._looked, self._asked = now, asked
        return self.busy
