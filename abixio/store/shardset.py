"""The shard files of one upload in the making: one on each lane, written stripe by stripe, finished or removed together.

A lane that errs, or takes longer than its deadline, leaves the set and the others go on. So does a slow one for which the
others, being enough, would have to wait. What it has not begun is taken back at once, so that a hung disk keeps no memory but
that of the one write it hangs in.

Lanes write at the same time, each on its own thread, also where volumes share a device: with turns, 14 alternating pairs of
uploads into the page cache took 0.97 of the time and 0.91 of the processor, which is not worth waiting for a disk that may hang.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Final

from abixio.config import MIB
from abixio.errors import Exhausted, InsufficientStorage, Overloaded, Unavailable, VolumeError, VolumeFull
from abixio.store.buffers import StripeBuffer
from abixio.store.lane import Lane
from abixio.volume.interface import ShardWriter

WRITE_DEADLINE: Final = 30.0
"""Seconds for one write, the queue before it included: a healthy disk clears the whole default memory budget in that time."""
SYNC_RATE: Final = 16 * MIB
"""Bytes per second that a sync must reach beyond WRITE_DEADLINE: all of a shard may still be in the page cache, and this
is a tenth of what one slow hard disk does."""
LAG: Final = 5.0
"""Seconds for one write after which a lane for which all others wait is slow; a sync has more, as above."""
CHECK: Final = 0.5
"""Seconds between looks at lanes that became slow."""
REMOVE_WAIT: Final = 5.0
"""Seconds to wait until the files of a failed upload are gone; the removal goes on without the waiter."""


class _Call:
    """One call on a lane's thread for one shard."""

    __slots__ = ("_body", "buffer", "deadline", "future", "stripe")

    def __init__(self, stripe: int, body: Callable[[], None], buffer: StripeBuffer | None, deadline: float) -> None:
        self.stripe = stripe
        self.buffer = buffer
        self.deadline = deadline
        """When the lane leaves; WRITE_DEADLINE - LAG seconds before, it becomes slow."""
        self.future: asyncio.Future[None] | None = None
        self._body = [body]

    def take(self) -> Callable[[], None] | None:
        """What to do, for the first who asks: the thread that does it or the loop that takes it back. Atomic by the GIL."""
        try:
            return self._body.pop()
        except IndexError:
            return None

    def __call__(self) -> None:
        if (body := self.take()) is not None:
            body()


class _Shard:
    """One lane's side of the upload. The fields of the second group are touched on the lane's thread only."""

    __slots__ = ("error", "expected", "finished", "lane", "pending", "repair", "size", "writer")

    def __init__(self, lane: Lane, repair: bool, expected: int) -> None:
        self.lane = lane
        self.repair = repair
        self.expected = expected
        self.error: Exception | None = None
        self.pending: deque[_Call] = deque()
        self.size = 0

        self.writer: ShardWriter | None = None
        self.finished = False

    def opened(self, write_id: bytes) -> ShardWriter:
        if self.writer is None:
            self.writer = self.lane.volume.create_shard(write_id, self.repair, self.expected)
        return self.writer

    def write(self, write_id: bytes, piece: memoryview) -> None:
        self.opened(write_id).write((piece,))

    def finish(self, write_id: bytes, footer: tuple[bytes, bytes], record: bytes, durable: bool) -> None:
        sums, digest = footer
        self.opened(write_id).finish(sums, record, digest, durable)
        self.finished = True

    def remove(self, write_id: bytes) -> None:
        if self.finished:
            self.lane.volume.unlink((write_id,))
        elif self.writer is not None:
            self.writer.abort()


class ShardSet:
    """Shards by shard index. Used on the event loop."""

    def __init__(
        self, lanes: Mapping[int, Lane], least: int, write_id: bytes, loop: asyncio.AbstractEventLoop, enough: int | None = None,
        repair: bool = False, expected: Callable[[int], int] = lambda index: 0,
    ) -> None:
        """Unavailable when there are fewer than `least` lanes; the same error later, when fewer are left. With `enough` of them
        slow ones are not waited for; None: they are. `repair`, and `expected` of a shard index: as `Volume.create_shard` says."""
        self._shards = {index: _Shard(lane, repair, expected(index)) for index, lane in lanes.items()}
        self._least = least
        self._enough = len(lanes) if enough is None else enough
        self._write_id = write_id
        self._loop = loop
        self._defect: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None
        self.check()

    @property
    def slots(self) -> set[int]:
        """The slots that still take part."""
        return {shard.lane.slot for shard in self._shards.values() if shard.error is None}

    def check(self) -> None:
        """Raise when too few lanes are left."""
        if self._defect is not None:
            raise self._defect
        left = len(self.slots)
        if left >= self._least:
            return
        if any(isinstance(shard.error, Exhausted) for shard in self._shards.values()):
            raise Overloaded("no descriptors are left for another upload")
        full = sum(isinstance(shard.error, VolumeFull) for shard in self._shards.values())
        if left + full >= self._least:
            raise InsufficientStorage(f"{full} volumes are full, {left} took the data, {self._least} are needed")
        raise Unavailable(f"{left} volumes took the data, {self._least} are needed")

    def write(self, stripe: int, index: int, piece: memoryview, buffer: StripeBuffer | None = None) -> None:
        """Append a piece to shard `index`; returns at once. `buffer`, of which it is a slice, is held until that is done."""
        shard = self._shards.get(index)
        if shard is None or shard.error is not None or not piece:
            return
        shard.size += len(piece)
        self._enter(shard, stripe, partial(shard.write, self._write_id, piece), buffer, WRITE_DEADLINE)

    async def written(self, stripe: int) -> None:
        """Wait until all lanes that still take part are done with every stripe up to that one, then `check`."""
        await self._until(lambda shard: not shard.pending or shard.pending[0].stripe > stripe)
        self.check()

    async def finish(self, stripe: int, footer: Callable[[int], tuple[bytes, bytes]], record: bytes, durable: bool) -> set[int]:
        """Write the footers and put the files in their places; return the slots where that was done, then `check`."""
        for index, shard in self._shards.items():
            if shard.error is None:
                end = footer(index)
                seconds = WRITE_DEADLINE + (shard.size / SYNC_RATE if durable else 0)
                self._enter(shard, stripe, partial(shard.finish, self._write_id, end, record, durable), None, seconds)
        await self.written(stripe)
        return self.slots

    async def remove(self) -> None:
        """Take back what was not begun, and remove all files, finished or not. Goes on when the caller is cancelled, and on
        volumes that are slow or down goes on behind his back."""
        removals = [(shard.lane, self._leave(shard, None)) for shard in self._shards.values()]
        waiting = [future for lane, future in removals if future is not None and lane.well]
        if waiting:
            await asyncio.wait(waiting, timeout=REMOVE_WAIT)

    # ---- one call ----------------------------------------------------------------------------------------------------
    def _enter(self, shard: _Shard, stripe: int, body: Callable[[], None], buffer: StripeBuffer | None, seconds: float) -> None:
        call = _Call(stripe, body, buffer, self._loop.time() + seconds)
        try:
            call.future = shard.lane.run(call)
        except (VolumeError, Overloaded) as error:
            self._leave(shard, error)
            return
        if buffer is not None:
            buffer.hold()
        shard.pending.append(call)
        call.future.add_done_callback(lambda done: self._done(shard, call, done))

    def _done(self, shard: _Shard, call: _Call, done: asyncio.Future[None]) -> None:
        error = done.exception()
        if call.buffer is not None:
            call.buffer.drop()
            call.buffer = None
        if shard.error is None:
            shard.pending.popleft()
            if isinstance(error, VolumeError):
                self._leave(shard, error)
            elif error is not None:
                self._defect = error
        self._wake()

    def _leave(self, shard: _Shard, error: Exception | None) -> asyncio.Future[None] | None:
        """The shard is given up: its calls are taken back, its file goes. Returns the future of that, if there is one."""
        if error is not None:
            # Without its traceback: that keeps the frames of the thread alive, and with them the memory it wrote from.
            error = type(error)(*error.args)
        if isinstance(error, VolumeError):
            shard.lane.trouble = error
        shard.error = error or shard.error or Unavailable("the upload was given up")
        for call in shard.pending:
            if call.take() is not None and call.buffer is not None:
                call.buffer.drop()
                call.buffer = None
        shard.pending.clear()
        # A volume that takes no calls any more clears its unfinished files when it is opened again.
        with suppress(VolumeError, Overloaded):
            removal = shard.lane.run(partial(shard.remove, self._write_id))
            removal.add_done_callback(lambda done: done.exception())
            return removal
        return None

    # ---- waiting -----------------------------------------------------------------------------------------------------
    async def _until(self, ready: Callable[[_Shard], bool]) -> None:
        while waiting := [shard for shard in self._shards.values() if shard.error is None and not ready(shard)]:
            if self._defect is not None:
                return
            if self._go_on_without(waiting):
                continue
            first = min(shard.pending[0].deadline for shard in waiting)
            timer = self._loop.call_at(min(first, self._loop.time() + CHECK), self._expire)
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                timer.cancel()
                self._waiter = None

    def _go_on_without(self, waiting: list[_Shard]) -> bool:
        """Whether those that keep all others waiting were left behind for being slow."""
        if len(self.slots) - len(waiting) < self._enough:
            return False
        now = self._loop.time()
        for shard in waiting:
            if shard.pending[0].deadline - WRITE_DEADLINE + LAG <= now:
                shard.lane.breaker.slow(f"a write takes longer than {LAG:.0f} s, and other volumes are done")
        if any(shard.lane.well for shard in waiting):
            return False
        for shard in waiting:
            self._leave(shard, VolumeError(f"volume {shard.lane.slot} is slow"))
        return True

    def _expire(self) -> None:
        now = self._loop.time()
        for shard in self._shards.values():
            if shard.pending and shard.pending[0].deadline <= now:
                late = shard.pending[0].future
                if late is not None:
                    shard.lane.overdue(late)
                self._leave(shard, VolumeError(f"volume {shard.lane.slot} took longer than its deadline"))
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
