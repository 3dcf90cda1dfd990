"""What background work asks of one volume: with more patience than clients have, but not with endless patience. A disk that
takes its time here is not slow, and one that errs is told to its breaker as always."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar

from abixio.errors import Unavailable, VolumeError
from abixio.store.lane import Lane
from abixio.store.pool import Pool

T = TypeVar("T")

PATIENCE: Final = 30.0
"""Seconds for one errand, which is some MiB or some hundred rows: a spinning disk under load needs a few."""


async def errand(pool: Pool, lane: Lane, call: Callable[[], T]) -> T:
    """`call()`, which reads that volume, on an executor thread. Unavailable when it cannot be had."""
    running = pool.loop.run_in_executor(pool.executor, call)
    done, _ = await asyncio.wait((running,), timeout=PATIENCE)
    if not done:
        pool.spare_thread(running)
        lane.lags(running)
        running.add_done_callback(lambda late: late.cancelled() or late.exception())
        raise Unavailable(f"volume {lane.slot} does not answer")
    try:
        return running.result()
    except VolumeError as error:
        pool.lost(lane, error)
        raise Unavailable(f"volume {lane.slot}: {error}") from error


async def done_by(lane: Lane, future: asyncio.Future[T]) -> T:
    """What the volume's own thread does, waited for. Unavailable when it takes too long: it counts as down then, until it is
    done. (Locks are held meanwhile; and whoever cancels the wait does not cancel the work.)"""
    done, _ = await asyncio.wait((future,), timeout=PATIENCE)
    if done:
        return future.result()
    lane.overdue(future)
    future.add_done_callback(lambda late: late.cancelled() or late.exception())
    raise Unavailable(f"volume {lane.slot} does not answer")
