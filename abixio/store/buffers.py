"""The memory of all transfers: stripe buffers and one budget for them, handed out in order of arrival.

Uploads `acquire` a buffer, count its users and give it back themselves, so it is used again while its pages are warm.
Readers take a `Loan`, for memory that leaves with the answer: nobody can tell when a transport is done with a slice, so
that goes back by itself when the last view of it dies. All of this is used on the event loop, only views travel to threads.
"""

from __future__ import annotations

import asyncio
import mmap
import weakref
from collections import deque
from typing import Final

from abixio.config import KIB, MIB
from abixio.errors import Overloaded
from abixio.store.layout import STRIPE_BUFFER

SMALL: Final = 256 * KIB
"""Up to here a buffer is made to measure, so that a thousand small uploads at once take megabytes, not gigabytes; making
one costs less than 10 us."""
RESERVE_SHARE: Final = 8
"""An eighth of the budget is for small buffers alone, or a few dozen large uploads on slow lines would stop every small one:
with the default 256 of the largest, thousands of usual ones. Another eighth is for bodies of up to one stripe."""
SCRAPS_SHARE: Final = 16
"""A sixteenth of it is for small answers on their way to clients that do not read them: 32 MiB by default, some hundreds."""
_SLACK: Final = 64 * KIB
"""A buffer for a stripe of 4 MiB has room for one byte more: by it one sees whether the stripe is the last."""
_SIZES: Final = (512 * KIB + _SLACK, MIB + _SLACK, 2 * MIB + _SLACK, 4 * MIB + _SLACK, STRIPE_BUFFER)
"""Of larger buffers: few, so that one is nearly always there from before. Most layouts need the last but one."""
KEPT: Final = 48 * MIB
"""Bytes of free buffers kept once all are back: a few uploads' worth, with three stripes in flight each."""
MAX_WAITING: Final = 4096
"""Transfers that may wait for memory; each is a connection with a paused socket, so this is about open connections."""
WAIT: Final = 30.0
"""Seconds to wait for memory: less than the minute after which usual clients give up, so they hear SlowDown instead."""


class _Share:
    """A part of the budget that is kept for some. Nobody waits for it: what does not fit comes from what is for all."""

    __slots__ = ("most", "out")

    def __init__(self, most: int) -> None:
        self.most = most
        self.out = 0

    def fits(self, size: int) -> bool:
        return self.out + size <= self.most


class StripeBuffer:
    """Borrowed memory. It begins with one user; whoever drops the last hold gives it back."""

    __slots__ = ("_home", "_memory", "_share", "_users", "view")

    def __init__(self, home: BufferPool, memory: mmap.mmap | bytearray, share: _Share) -> None:
        self.view = memoryview(memory)
        self._home = home
        self._memory = memory
        self._share = share
        self._users = 1

    def hold(self) -> None:
        """One more user."""
        self._users += 1

    def drop(self) -> None:
        """One user less."""
        self._users -= 1
        if self._users == 0:
            self._home._take_back(self._memory, self._share)


class _Scrap(bytearray):
    """Says when it dies."""

    __slots__ = ("_share",)

    def __init__(self, share: _Share, size: int) -> None:
        super().__init__(size)
        self._share = share
        share.out += size

    def __del__(self) -> None:
        self._share.out -= len(self)


class BufferPool:
    """Hands out memory within a budget of bytes, first come, first served."""

    def __init__(self, budget: int) -> None:
        if budget < STRIPE_BUFFER:
            raise ValueError(f"a memory budget of {budget} bytes is less than one stripe buffer ({STRIPE_BUFFER})")
        self.budget = budget
        left = budget - STRIPE_BUFFER
        self.small = _Share(min(budget // RESERVE_SHARE, left))
        self.scraps = _Share(min(budget // SCRAPS_SHARE, left - self.small.most))
        self.short = _Share(min(budget // RESERVE_SHARE, left - self.small.most - self.scraps.most))
        self.common = _Share(budget - self.small.most - self.scraps.most - self.short.most)
        self._free: dict[int, list[mmap.mmap]] = {size: [] for size in _SIZES}
        self._queue: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def out(self) -> int:
        """Bytes handed out, scraps aside."""
        return self.common.out + self.small.out + self.short.out

    @property
    def waiting(self) -> int:
        """Transfers in the queue."""
        return len(self._queue)

    async def acquire(self, size: int, short: bool = False) -> StripeBuffer:
        """A buffer of at least `size` bytes, of any content. `short`: all of a body goes there. Overloaded when there is none to
        be had."""
        size = size if size <= SMALL else next(each for each in _SIZES if each >= size)
        own = self.small if size <= SMALL else self.short
        if own.fits(size) and (short or own is self.small):
            own.out += size
            return StripeBuffer(self, self._memory(size), own)
        await self._charge(size)
        return StripeBuffer(self, self._memory(size), self.common)

    def _memory(self, size: int) -> mmap.mmap | bytearray:
        if size <= SMALL:
            return bytearray(size)
        if self._free[size]:
            return self._free[size].pop()
        if self.out + self._idle() > self.budget:
            for others in self._free.values():
                others.clear()
        return _pages(size)

    def _idle(self) -> int:
        """Bytes of free buffers."""
        return sum(size * len(free) for size, free in self._free.items())

    def scrap(self, size: int) -> memoryview | None:
        """Memory of any content for an answer that is sent as soon as it is there; it counts for as long as anybody has a view
        of it. None when there is too much of that: nobody waits for it."""
        return memoryview(_Scrap(self.scraps, size)) if self.scraps.fits(size) else None

    def _take_back(self, memory: mmap.mmap | bytearray, share: _Share) -> None:
        if isinstance(memory, mmap.mmap):
            self._free[len(memory)].append(memory)
        self._release(len(memory), share)

    def loan(self) -> Loan:
        """Memory for one reader."""
        return Loan(self)

    # ---- the budget --------------------------------------------------------------------------------------------------
    async def _charge(self, size: int) -> None:
        if not self._queue and self.common.fits(size):
            self.common.out += size
            return
        if len(self._queue) >= MAX_WAITING:
            raise Overloaded(f"{MAX_WAITING} transfers wait for memory")
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (size, future)
        self._queue.append(entry)
        try:
            async with asyncio.timeout(WAIT):
                await future
        except BaseException as error:
            if future.done() and not future.cancelled():
                self._release(size, self.common)
            elif entry in self._queue:
                self._queue.remove(entry)
                self._grant()
            if isinstance(error, TimeoutError):
                raise Overloaded(f"no memory within {WAIT:.0f} seconds") from error
            raise

    def _release(self, size: int, share: _Share) -> None:
        share.out -= size
        if self.out == 0:
            for free in self._free.values():
                while free and self._idle() > KEPT:
                    free.pop()
        self._grant()

    def _grant(self) -> None:
        """Serve the head of the queue; nobody overtakes it, so a large request is not starved by small ones."""
        while self._queue:
            size, future = self._queue[0]
            if not self.common.fits(size):
                return
            self._queue.popleft()
            if not future.done():
                self.common.out += size
                future.set_result(None)


class Loan:
    """Memory for one reader, which has one view of it on its way out while it fills the next.

    Twice the size first asked for is counted, from then until the loan and all views are gone. Only that first time may be
    waited for: readers that hold memory and wait for more would wait for each other. What is asked for beyond it later
    (another shard fails) is counted without waiting.
    """

    __slots__ = ("__weakref__", "_counted", "_pool")

    def __init__(self, pool: BufferPool) -> None:
        self._pool = pool
        self._counted = [0]

    async def take(self, size: int) -> memoryview:
        """Exactly `size` bytes. Overloaded when there are none to be had."""
        (counted,) = self._counted
        if not counted:
            await self._pool._charge(2 * size)
            weakref.finalize(self, _died, self._pool, self._counted, asyncio.get_running_loop()).atexit = False
            self._counted[0] = 2 * size
        elif 2 * size > counted:
            self._pool.common.out += 2 * size - counted
            self._counted[0] = 2 * size
        memory = _pages(size)
        weakref.finalize(memory, _keep, self).atexit = False
        return memoryview(memory)


class Rooms:
    """Pieces of a loan, used again: to have new ones made by the kernel can take as long as what is done in them. To be cleared
    at the end, for they keep the loan."""

    MOST: Final = 3
    """One that is sent, one that waits for that, and one that is filled."""

    def __init__(self) -> None:
        self._pieces: list[mmap.mmap] = []

    async def take(self, loan: Loan, size: int) -> memoryview:
        """`size` bytes that nobody else looks at, of any content. Overloaded when there are none to be had."""
        for piece in self._pieces:
            if len(piece) >= size and _is_idle(piece):
                return memoryview(piece)[:size]
        view = await loan.take(size)
        if len(self._pieces) < self.MOST:
            memory: object = view.obj
            assert isinstance(memory, mmap.mmap)
            self._pieces.append(memory)
        return view

    def clear(self) -> None:
        """Keep nothing any longer; what somebody looks at stays until he looks away."""
        self._pieces.clear()


def _is_idle(piece: mmap.mmap) -> bool:
    """Whether there is no view of it, nor of a part of it. What would move it is refused as long as there is one, and does
    nothing when it has that size already."""
    try:
        piece.resize(len(piece))
    except BufferError:
        return False
    return True


def _pages(size: int) -> mmap.mmap:
    """Private, so that it counts as anonymous memory and not as shared memory, which is what Python's default gives."""
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def _keep(loan: Loan) -> None:
    """As the last wish of a piece of memory this keeps its loan alive until then."""


def _died(pool: BufferPool, counted: list[int], loop: asyncio.AbstractEventLoop) -> None:
    """A loan and its last view went, in whatever thread."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(pool._release, counted[0], pool.common)
