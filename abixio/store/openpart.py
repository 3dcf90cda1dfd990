"""A part of an object, open for the event loop: its decoder at work on executor threads, one job at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from abixio.store.decoder import Decoder
from abixio.store.lane import HUNG, LATE, STUCK
from abixio.store.pace import in_time
from abixio.store.pool import Pool
from abixio.store.record import Part
from abixio.store.sources import Copies, decoder, report

T = TypeVar("T")
P = ParamSpec("P")

SLOW: Final = LATE
"""Seconds on one shard after which a read goes on without it, if it can."""


class OpenPart:
    """Runs jobs over a decoder, and replaces the decoder when one shard keeps a job waiting that others can do without."""

    def __init__(self, pool: Pool, copies: Copies, part: Part, without: int | None = None) -> None:
        """`without`: the index of a shard that is not asked. Overloaded when too many parts are open."""
        self._maps = 0 if copies.inline else copies.layout.k
        pool.maps.take(self._maps)
        self._pool = pool
        self._copies = copies
        self._part = part
        self._without = without
        self._avoid: set[int] = set()
        self._running: asyncio.Future[Any] | None = None
        self._spared: asyncio.Future[Any] | None = None
        """The job whose thread was replaced, since it may keep it for long."""
        self.decoder = self._decoder()

    def _decoder(self) -> Decoder:
        return decoder(self._pool, self._copies, self._part, self._avoid, self._without)

    async def run(self, job: Callable[Concatenate[Decoder, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`job(decoder, ...)` on a thread. The wait can be cancelled, the job cannot; and a job that was given up for being slow
        may still be running when its successor is done: it must not write where that matters."""
        while self._running is not None:
            await asyncio.wait((self._running,))
        while True:
            source = self.decoder
            work = partial(self._job, job, source, *args, **kwargs)
            running = self._pool.loop.run_in_executor(self._pool.executor, work)
            self._running = running
            running.add_done_callback(self._ended)
            while not running.done() and source is self.decoder:
                on_time = await in_time(running, SLOW)
                if not running.done():
                    self._check_pace(source, running, SLOW / 2 if on_time else STUCK)
            if source is self.decoder:
                report(self._pool, self._copies, source)
                try:
                    return running.result()
                finally:
                    del running  # or an error and this frame keep each other, and all memory lent to the job, alive

    @property
    def idle(self) -> bool:
        """No thread uses the decoder."""
        return self._running is None

    def _job(self, job: Callable[Concatenate[Decoder, P], T], source: Decoder, *args: P.args, **kwargs: P.kwargs) -> T:
        """On the thread. A disk that began to hang while this job waited for its turn need not take this thread too."""
        lanes = [self._pool.lanes[slot] for slot in self._copies.layout.slots]
        source.distrust({index for index, lane in enumerate(lanes) if lane is not None and not lane.well})
        return job(source, *args, **kwargs)

    def close(self) -> None:
        """Let go of the shards, once no thread works on them; slices that somebody holds stay valid."""
        self._pool.maps.give_back(self._maps)
        self._maps = 0
        self._let_go()

    def _let_go(self) -> None:
        source = self.decoder
        if self._running is None:
            source.close()
        else:
            self._running.add_done_callback(lambda done: source.close())

    def _ended(self, done: asyncio.Future[T]) -> None:
        if self._running is done:
            self._running = None
        if not done.cancelled():
            done.exception()

    def _check_pace(self, source: Decoder, running: asyncio.Future[T], patience: float) -> None:
        """Go on without the shard that keeps the job waiting, if its others will do. If not, it is waited for, up to a limit."""
        asking = source.asking
        waited = 0.0 if asking is None else time.monotonic() - asking[1]
        if asking is None or waited < patience:
            return
        if self._spared is not running:
            self._pool.spare_thread(running)
            self._spared = running
        lane = self._pool.lanes[self._copies.layout.slots[asking[0]]]
        if source.could_do_without(asking[0]):
            if lane is not None:
                lane.lags(running)
        elif lane is not None and waited < HUNG:
            lane.breaker.slow("a read that needs it waits for it")
            return
        elif lane is not None:
            lane.overdue(running)
        self._avoid.add(asking[0])
        self._let_go()
        self._running = None
        self.decoder = self._decoder()
