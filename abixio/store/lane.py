"""One volume as the store uses it. Its I/O thread: everything that changes the volume runs there, in order; its readers, for
what the event loop will not wait for; and its breaker, which says how far it can be relied on.

Changes that wait together are committed together (group commit): one transaction, one sync. Those of one turn of the event loop
come as one: the thread is woken once for all of them, and nobody waits for company. With one client a commit begins at once;
with 64 a transaction has 18 changes where it had 5 when each change woke the thread.

A call that is past its deadline is no longer waited for, but the thread cannot be taken back: until it returns, the lane counts
as down.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

from abixio.errors import (
    NewerExists,
    Overloaded,
    ShardCorrupt,
    ShardMissing,
    VolumeError,
    VolumeFull,
    VolumeReadOnly,
    VolumeUnusable,
    WouldBlock,
)
from abixio.store.breaker import Breaker, State
from abixio.store.readers import Readers
from abixio.volume.interface import Change, Volume

T = TypeVar("T")
Told = Callable[[Exception | None], None]

MAX_WAITING: Final = 4096
"""Jobs queued on one volume; at 1,000 inserts per transaction that is under a second of a slow disk."""
MAX_BATCH: Final = 512
"""Changes in one transaction: keeps the write lock and the WAL growth of one commit small."""


LATE: Final = 0.5
"""Seconds after which a read counts as slow: a healthy disk needs milliseconds, a spinning one under load tenths of a second."""
BEHIND: Final = 0.05
"""Seconds by which the event loop itself is late when the processor is what is short, and no disk is to blame."""
HUNG: Final = 10.0
"""Seconds after which a read is given up and the volume counts as down: past that, disks do not come back by themselves."""
BACKLOG: Final = 64
"""Jobs waiting for a slow volume from which on it gets no more: seconds' worth; the journal brings it the rest."""
STALL: Final = 0.05
"""Seconds of a read on the event loop that show that a disk was waited for after all (a file system that cannot say what is
in memory)."""
STUCK: Final = 2.0
"""Seconds of it that nothing but a disk explains: on a machine with eight times the work it can do, half a second was seen."""
_ANSWERS: Final = (NewerExists, VolumeFull, VolumeReadOnly, ShardMissing, ShardCorrupt, WouldBlock)
"""Errors that a well volume may have."""


class Lane:
    """Runs jobs of one volume, one at a time, on a thread of its own."""

    def __init__(self, volume: Volume, loop: asyncio.AbstractEventLoop) -> None:
        self.volume = volume
        self.slot = volume.slot
        self.failed: VolumeError | None = None
        """Why it is out for good."""
        self.lagging = 0
        """Reads that nobody waits for any more but that did not return yet: other volumes are asked first meanwhile."""
        self.trouble: VolumeError | None = None
        """What the last write that failed here said."""
        self.breaker = Breaker(volume.slot, volume.probe, loop, self._weigh)
        self.well = True
        """Neither slow nor down: asked on the event loop, and before others."""
        self.quiet_until = 0.0
        self.unsaid = 0
        """Until when its errors are not logged (loop time), and how many were not."""
        self.tardy = 0
        """Reads of it that are waited for no more, though it is not known to be slow yet."""
        self._readers = Readers(f"reader-{volume.slot}", loop)
        self._loop = loop
        self._queue: queue.SimpleQueue[Callable[[], None] | _Batch | None] = queue.SimpleQueue()
        self._gathered: _Batch = []
        """Changes of this turn of the loop."""
        self._waiting = 0
        self._overdue = 0
        self._thread = threading.Thread(target=self._work, name=f"volume-{volume.slot}", daemon=True)
        self._thread.start()

    @property
    def up(self) -> bool:
        """Whether the volume answers, as far as is known; slowly perhaps."""
        return self.failed is None and not self._overdue and self.breaker.state is not State.DOWN

    @property
    def takes(self) -> bool:
        """Whether it would take a job now."""
        return self.failed is None and self._waiting < MAX_WAITING

    @property
    def behind(self) -> bool:
        """Whether it is slow and has enough to do: it gets no more of what others can take."""
        return not self.well and self._waiting >= BACKLOG

    def run(self, call: Callable[[], T]) -> asyncio.Future[T]:
        """`call()` on the volume's thread. VolumeError of the call reaches the future; Overloaded is raised here."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._enter()
        self._pass_on()  # in the order of the calls
        self._queue.put(lambda: self._answer(future, call))
        return future

    def apply(self, change: Change, durable: bool) -> asyncio.Future[None]:
        """Commit a change, together with whatever else waits. The future raises NewerExists when the volume refuses it."""
        future: asyncio.Future[None] = self._loop.create_future()
        self.submit(change, durable, partial(answer, future))
        return future

    def submit(self, change: Change, durable: bool, told: Told) -> None:
        """The same for those who need no future: `told` hears, later and on the event loop, which error it was, if any. It must
        not raise."""
        self._enter()
        if not self._gathered:
            self._loop.call_soon(self._pass_on)
        self._gathered.append(_Changes(change, durable, told))

    def ask(self, call: Callable[[], T]) -> asyncio.Future[T]:
        """A read on a reader's thread: HUNG seconds at most, then the volume is down and TimeoutError the answer. Overloaded when
        too many wait."""
        asked = self._readers.submit(call)
        answer: asyncio.Future[T] = self._loop.create_future()
        timer = self._loop.call_later(HUNG, self._hang, answer)
        asked.add_done_callback(lambda done: self._heard(done, answer, timer))
        self._watch(answer, self._loop.time(), 0.0)
        return answer

    @property
    def prompt(self) -> bool:
        """Whether it is worth a wait, as far as is known."""
        return self.well and not self.tardy

    # ---- what its users tell of it -----------------------------------------------------------------------------------
    def overdue(self, late: asyncio.Future[T]) -> None:
        """Nobody waits for this call any more: the lane counts as down until it returns, and until it is well again."""
        self._overdue += 1
        late.add_done_callback(self._returned)
        self.breaker.down("a call on it hangs")

    def lags(self, late: asyncio.Future[T]) -> None:
        """Nobody waits any more for this read of the volume."""
        self.lagging += 1
        late.add_done_callback(self._caught_up)
        self.breaker.slow("a read of it keeps others waiting")

    def dawdles(self, late: asyncio.Future[T]) -> None:
        """This read takes longer than it should: nobody else need wait for the volume before it returns."""
        self.tardy += 1
        late.add_done_callback(self._arrived)

    def erred(self, error: VolumeError) -> None:
        """A read of the volume failed."""
        if isinstance(error, VolumeUnusable):
            self.fail(error)
        elif not isinstance(error, _ANSWERS):
            self.breaker.erred(error)

    def stalled(self, seconds: float) -> None:
        """A read on the event loop took that long: for the disk, or for want of a processor."""
        if seconds > STUCK:
            self.breaker.slow(f"a lookup took {seconds:.1f} s")
        else:
            self.breaker.suspect()

    def fail(self, error: VolumeError) -> None:
        """Take the volume out of service."""
        if self.failed is None:
            self.failed = error
            self.breaker.fail(str(error))

    async def close(self) -> None:
        """Finish what is queued, end the threads, close the volume."""
        self.breaker.close()
        self._readers.close()
        self._pass_on()
        self._queue.put(None)
        await self._loop.run_in_executor(None, self._thread.join)
        await self._loop.run_in_executor(None, self.volume.close)  # which syncs, and moves what is left in the WAL

    # ---- the caller's side -------------------------------------------------------------------------------------------
    def _enter(self) -> None:
        if self.failed is not None:
            raise VolumeUnusable(f"volume {self.slot} is out of service: {self.failed}") from self.failed
        if self._waiting >= MAX_WAITING:
            raise Overloaded(f"{MAX_WAITING} jobs wait for volume {self.slot}")
        self._waiting += 1

    def _pass_on(self) -> None:
        if self._gathered:
            self._queue.put(self._gathered)
            self._gathered = []

    def _weigh(self) -> None:
        self.well = self.breaker.state is State.UP
        if self.breaker.state is State.FAILED and self.failed is None:
            self.failed = VolumeUnusable(self.breaker.why)

    def _watch(self, answer: asyncio.Future[T], began: float, due: float) -> None:
        """Call the volume slow once an answer is late and nothing else is, or once it is very late."""
        now = self._loop.time()
        if answer.done():
            return
        if due and (now - due < BEHIND or now - began > STUCK):
            self.breaker.slow(f"a read takes longer than {LATE} s")
        else:
            self._loop.call_at(now + LATE, self._watch, answer, began, now + LATE)

    def _hang(self, answer: asyncio.Future[T]) -> None:
        self.breaker.down(f"a read takes longer than {HUNG:.0f} s")
        if not answer.done():
            answer.set_exception(TimeoutError(f"volume {self.slot} does not answer"))
            answer.exception()

    def _heard(self, done: asyncio.Future[T], answer: asyncio.Future[T], timer: asyncio.TimerHandle) -> None:
        timer.cancel()
        if answer.done():
            return
        error = done.exception()
        if error is None:
            answer.set_result(done.result())
        else:
            answer.set_exception(error)
            answer.exception()

    def _returned(self, late: asyncio.Future[T]) -> None:
        self._overdue -= 1

    def _arrived(self, late: asyncio.Future[T]) -> None:
        self.tardy -= 1

    def _caught_up(self, late: asyncio.Future[T]) -> None:
        self.lagging -= 1

    def _ended(self, error: Exception | None) -> None:
        self._waiting -= 1
        if isinstance(error, VolumeUnusable):
            self.fail(error)

    def _done(self, future: asyncio.Future[T], result: T | None, error: Exception | None) -> None:
        self._ended(error)
        if future.cancelled():
            return
        if error is None:
            future.set_result(result)  # type: ignore[arg-type]
        else:
            future.set_exception(error)

    # ---- the volume's thread -----------------------------------------------------------------------------------------
    def _work(self) -> None:
        while True:
            job = self._queue.get()
            while isinstance(job, list):
                job = self._commit(job)
            if job is None:
                return
            job()
            del job  # not kept, with all that it holds, until the next one comes

    def _answer(self, future: asyncio.Future[T], call: Callable[[], T]) -> None:
        try:
            result = call()
        except Exception as error:
            self._loop.call_soon_threadsafe(self._done, future, None, error)
        else:
            self._loop.call_soon_threadsafe(self._done, future, result, None)

    def _commit(self, batch: _Batch) -> Callable[[], None] | _Batch | None:
        """Commit these changes and those right behind them; return the first job that is none, `_EMPTY` if there is none."""
        follower: Callable[[], None] | _Batch | None = self._EMPTY
        while len(batch) < MAX_BATCH:
            try:
                follower = self._queue.get_nowait()
            except queue.Empty:
                break
            if not isinstance(follower, list):
                break
            batch += follower
            follower = self._EMPTY
        for start in range(0, len(batch), MAX_BATCH):
            self._apply(batch[start : start + MAX_BATCH])
        return follower

    @staticmethod
    def _EMPTY() -> None:
        """Stands for an empty queue."""

    def _apply(self, batch: list[_Changes]) -> None:
        answers: list[Exception | None]
        try:
            answers = list(self.volume.apply([job.change for job in batch], any(job.durable for job in batch)))
        except Exception as error:
            answers = [error] * len(batch)
        self._loop.call_soon_threadsafe(self._tell, batch, answers)

    def _tell(self, batch: list[_Changes], answers: list[Exception | None]) -> None:
        for job, error in zip(batch, answers, strict=True):
            self._ended(error)
            job.told(error)


def answer(future: asyncio.Future[None], error: Exception | None) -> None:
    """Pass on what became of a change."""
    if future.cancelled():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)


class _Changes:
    __slots__ = ("change", "durable", "told")

    def __init__(self, change: Change, durable: bool, told: Told) -> None:
        self.change, self.durable, self.told = change, durable, told


_Batch = list[_Changes]
