"""Jobs on executor threads that ask one volume after another, and are begun anew without a volume that keeps them waiting."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from abixio.errors import VolumeError
from abixio.store.lane import BEHIND, HUNG, LATE, STUCK, Lane
from abixio.store.pool import Pool

T = TypeVar("T")


class Pace:
    """Tells the event loop which volume a job waits for."""

    def __init__(self) -> None:
        self.asking: tuple[Lane, float, bool] | None = None
        """Since when (time.monotonic), and whether the volume was well then."""
        self.errors: list[tuple[Lane, VolumeError]] = []

    @contextmanager
    def at(self, lane: Lane) -> Iterator[None]:
        """While inside, the job waits for that volume. A VolumeError is remembered, and passes."""
        self.asking = (lane, time.monotonic(), lane.well)
        try:
            yield
        except VolumeError as error:
            self.errors.append((lane, error))
            raise
        finally:
            self.asking = None

    def waited(self) -> float:
        """Seconds for which it waits by now."""
        asking = self.asking
        return 0.0 if asking is None else time.monotonic() - asking[1]


async def in_time(job: asyncio.Future[T], seconds: float) -> bool:
    """Wait for a job for so long. Whether the event loop was on time: where it is not, the processor is what is short, and
    whoever waits need not be waiting for a disk."""
    due = time.monotonic() + seconds
    await asyncio.wait((job,), timeout=seconds)
    return time.monotonic() - due < BEHIND


async def paced(pool: Pool, job: Callable[[Pace], T]) -> T:
    """`job(pace)` on a thread, with no effect but its answer: where a volume keeps it waiting it is given up, the volume is from
    then on slow, or down when it was slow before, and the job is begun anew."""
    while True:
        pace = Pace()
        running = pool.loop.run_in_executor(pool.lookers, job, pace)
        spared = given_up = False
        while not running.done() and not given_up:
            on_time = await in_time(running, LATE)
            asking, waited = pace.asking, pace.waited()
            if running.done() or asking is None or waited < (LATE / 2 if on_time else STUCK):
                continue
            if not spared:
                pool.spare_thread(running, pool.lookers)
                spared = True
            given_up = _give_up(asking[0], asking[2], running, waited)
        for lane, error in pace.errors:
            pool.lost(lane, error)
        if not given_up:
            return running.result()


def _give_up(lane: Lane, well: bool, running: asyncio.Future[T], waited: float) -> bool:
    """Whether to try without that volume. A slow one was asked because the others are not enough: that is worth a wait."""
    if well:
        lane.lags(running)
    elif waited > HUNG:
        lane.overdue(running)
    else:
        return False
    running.add_done_callback(lambda late: late.cancelled() or late.exception())
    return True
