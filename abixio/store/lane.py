"""The I/O thread of one volume: everything that changes the volume runs there, in order.

Changes that wait together are committed together (group commit): one transaction, one sync. A call that is past its
deadline is no longer waited for, but the thread cannot be taken back: until it returns, the lane counts as down.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Final, TypeVar

from abixio.errors import Overloaded, VolumeError, VolumeUnusable
from abixio.volume.interface import Change, Volume

T = TypeVar("T")

MAX_WAITING: Final = 4096
"""Jobs queued on one volume; at 1,000 inserts per transaction that is under a second of a slow disk."""
MAX_BATCH: Final = 512
"""Changes in one transaction: keeps the write lock and the WAL growth of one commit small."""


class Lane:
    """Runs jobs of one volume, one at a time, on a thread of its own."""

    def __init__(self, volume: Volume, loop: asyncio.AbstractEventLoop) -> None:
        self.volume = volume
        self.slot = volume.slot
        self.failed: VolumeError | None = None
        self.lagging = 0
        """Reads that nobody waits for any more but that did not return yet: other volumes are asked first meanwhile."""
        self.trouble: VolumeError | None = None
        """What the last write that failed here said."""
        self._loop = loop
        self._queue: queue.SimpleQueue[Callable[[], None] | _Changes | None] = queue.SimpleQueue()
        self._waiting = 0
        self._overdue = 0
        self._thread = threading.Thread(target=self._work, name=f"volume-{volume.slot}", daemon=True)
        self._thread.start()

    @property
    def up(self) -> bool:
        """Whether the volume answers, as far as is known."""
        return self.failed is None and not self._overdue

    def run(self, call: Callable[[], T]) -> asyncio.Future[T]:
        """`call()` on the volume's thread. VolumeError of the call reaches the future; Overloaded is raised here."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._enter()
        self._queue.put(lambda: self._answer(future, call))
        return future

    def apply(self, change: Change, durable: bool) -> asyncio.Future[None]:
        """Commit a change, together with whatever else waits. The future raises NewerExists when the volume refuses it."""
        future: asyncio.Future[None] = self._loop.create_future()
        self._enter()
        self._queue.put(_Changes(change, durable, future))
        return future

    def overdue(self, late: asyncio.Future[T]) -> None:
        """Nobody waits for this call any more: the lane counts as down until it returns."""
        self._overdue += 1
        late.add_done_callback(self._returned)

    def lags(self, late: asyncio.Future[T]) -> None:
        """Nobody waits any more for this read of the volume."""
        self.lagging += 1
        late.add_done_callback(self._caught_up)

    def fail(self, error: VolumeError) -> None:
        """Take the volume out of service."""
        if self.failed is None:
            self.failed = error

    async def close(self) -> None:
        """Finish what is queued, end the thread, close the volume."""
        self._queue.put(None)
        await self._loop.run_in_executor(None, self._thread.join)
        self.volume.close()

    # ---- the caller's side -------------------------------------------------------------------------------------------
    def _enter(self) -> None:
        if self.failed is not None:
            raise VolumeUnusable(f"volume {self.slot} is out of service: {self.failed}") from self.failed
        if self._waiting >= MAX_WAITING:
            raise Overloaded(f"{MAX_WAITING} jobs wait for volume {self.slot}")
        self._waiting += 1

    def _returned(self, late: asyncio.Future[T]) -> None:
        self._overdue -= 1

    def _caught_up(self, late: asyncio.Future[T]) -> None:
        self.lagging -= 1

    def _done(self, future: asyncio.Future[T], result: T | None, error: BaseException | None) -> None:
        self._waiting -= 1
        if future.cancelled():
            return
        if error is None:
            future.set_result(result)  # type: ignore[arg-type]
        else:
            future.set_exception(error)

    # ---- the volume's thread -----------------------------------------------------------------------------------------
    def _work(self) -> None:
        job = self._queue.get()
        while job is not None:
            if isinstance(job, _Changes):
                job = self._commit(job)
            else:
                job()
                job = self._queue.get()

    def _answer(self, future: asyncio.Future[T], call: Callable[[], T]) -> None:
        try:
            result = call()
        except Exception as error:
            self._note(error)
            self._loop.call_soon_threadsafe(self._done, future, None, error)
        else:
            self._loop.call_soon_threadsafe(self._done, future, result, None)

    def _commit(self, first: _Changes) -> Callable[[], None] | _Changes | None:
        """Commit `first` and the changes right behind it; return the first job that is none of them."""
        batch, follower = [first], None
        while len(batch) < MAX_BATCH:
            try:
                follower = self._queue.get_nowait()
            except queue.Empty:
                follower = self._EMPTY
                break
            if not isinstance(follower, _Changes):
                break
            batch.append(follower)
        else:
            follower = self._EMPTY
        self._apply(batch)
        return self._queue.get() if follower is self._EMPTY else follower

    @staticmethod
    def _EMPTY() -> None:
        """Stands for an empty queue."""

    def _apply(self, batch: list[_Changes]) -> None:
        answers: list[Exception | None]
        try:
            answers = list(self.volume.apply([job.change for job in batch], any(job.durable for job in batch)))
        except Exception as error:
            self._note(error)
            answers = [error] * len(batch)
        self._loop.call_soon_threadsafe(self._tell, batch, answers)

    def _tell(self, batch: list[_Changes], answers: list[Exception | None]) -> None:
        for job, answer in zip(batch, answers, strict=True):
            self._done(job.future, None, answer)

    def _note(self, error: Exception) -> None:
        if isinstance(error, VolumeUnusable):
            self.fail(error)


class _Changes:
    __slots__ = ("change", "durable", "future")

    def __init__(self, change: Change, durable: bool, future: asyncio.Future[None]) -> None:
        self.change, self.durable, self.future = change, durable, future


