"""The lifecycle runner: carries out the rules of all buckets, once a day, by the order in which rows were made.

It never walks a bucket. Each sweep (`lifecycle_sweeps`) goes on from the last row that it judged for good and ends at the age
that its rules want, so a pass costs what became due since the one before. A row that is to be judged again is not remembered by
name: the sweep begins before it once more. docs/lifecycle.md says what that promises, and what waits for the next whole sweep.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from functools import partial
from hashlib import sha256
from typing import Final

from abixio.errors import AbixioError, NoSuchBucket, Unavailable
from abixio.store.background import Background
from abixio.store.bucketstore import Buckets
from abixio.store.budget import Manners
from abixio.store.commit import Committer
from abixio.store.completion import Completion
from abixio.store.configs import Configs
from abixio.store.errand import errand
from abixio.store.health import LifecycleStatus
from abixio.store.lifecycle_key import Executor, RulesChanged
from abixio.store.lifecycle_rules import CONFIG, SETTING, Calendar, decode, now
from abixio.store.lifecycle_state import Mark, Progress, State, load, save
from abixio.store.lifecycle_sweeps import Sweep, sweeps
from abixio.store.lister import vouching
from abixio.store.multipart import uploads_space
from abixio.store.objects import Objects
from abixio.store.types import Bucket
from abixio.volume.interface import Aged

_log = logging.getLogger(__name__)

PAGE: Final = 1000
"""Rows of one look: 2 ms of a thread, and the most a read transaction may span."""
AT_ONCE: Final = 8
"""Keys in work: their commits share syncs."""
DELAY: Final = 60_000
"""ms from the start to the first pass: volumes come back and journals are worked off in that time. (This and the others below are
a day at most, where days are short.)"""
LAG: Final = 60_000
"""ms of rows that are looked at twice: a commit may take half of that from its seq to its rows."""
RETRY: Final = 60_000
"""ms until a pass is tried again for which, or for some buckets of which, too few volumes answered."""
AGAIN: Final = 3_600_000
"""ms until a key is judged again about which too few volumes could tell, together with all that is behind it: often enough for
what is due by the day, and seldom enough for a key that can never be told."""
SOON: Final = 1000
"""ms until rules that were just put are carried out: whoever puts them puts several."""
SAVE: Final = 30_000
"""ms between notes of where it is."""
WHOLE: Final = 7
"""Days until a bucket's old rows are looked at from the first one again, for what the order of rows did not show: rows that a
volume got late, delete markers that clients left alone."""
NOTICED: Final = 10_000
"""Keys remembered of which clients deleted single versions: 10 MiB at most. Those beyond wait for the next whole sweep."""


class Lifecycle(Background):
    """One pass a day."""

    def __init__(
        self, committer: Committer, buckets: Buckets, configs: Configs, objects: Objects, completion: Completion
    ) -> None:
        self._pool = committer.pool
        self._buckets = buckets
        self._configs = configs
        self._calendar = Calendar(self._pool.config.debug_day)
        self._execute = Executor(committer, buckets, configs, objects, completion, self._calendar)
        self._manners = Manners(self._pool)
        self._state = State()
        self._noticed: dict[bytes, set[bytes]] = {}
        self._turn = 0
        self._judged = 0
        self._before = 0
        """Deleted before this start."""
        self._passing = self._failed = False
        self._wake = asyncio.Event()

    async def stop(self) -> None:
        """End after the keys in work, and remember where that was."""
        if self._task is not None:
            await super().stop()
            await self._execute.drain()
            await self._save()

    def wake(self) -> None:
        """A bucket has other rules."""
        self._wake.set()

    def notice(self, space: bytes, key: bytes) -> None:
        """A client deleted one version of a key: what is left may be due, and no row of it will say so."""
        if sum(map(len, self._noticed.values())) < NOTICED:
            self._noticed.setdefault(space, set()).add(key)

    def status(self) -> LifecycleStatus:
        state = self._state
        waiting = sum(mark.again > 0 for progress in state.buckets.values() for mark in progress.marks.values())
        return LifecycleStatus(
            self._passing, len(state.buckets), self._before + self._execute.deleted, self._judged, waiting, state.finished,
        )

    async def _work(self) -> None:
        self._state = await load(self._pool)
        self._before = self._state.deleted
        await asyncio.sleep(self._short(DELAY) / 1000)
        while True:
            self._wake.clear()
            try:
                await self.run_once()
                pause = self._until_next()
            except AbixioError as error:
                _log.warning("lifecycle rules are carried out later: %s", error)
                pause = self._short(RETRY)
            try:
                async with asyncio.timeout(pause / 1000):
                    await self._wake.wait()
                    await asyncio.sleep(self._short(SOON) / 1000)
            except TimeoutError:
                continue

    def _short(self, ms: int) -> int:
        return min(ms, self._calendar.day)

    def _until_next(self) -> int:
        """ms to the next midnight, or until something has to be judged again."""
        moment = now()
        moments = [mark.again for each in self._state.buckets.values() for mark in each.marks.values() if mark.again]
        if self._failed:
            moments.append(moment + self._short(RETRY))
        return max(min([self._calendar.midnight(moment), *moments]) - moment, self._short(SOON))

    # ---- one pass ----------------------------------------------------------------------------------------------------
    async def run_once(self) -> int:
        """Carry out all that is due now; returns how many versions, markers and uploads were deleted."""
        before, self._turn, self._passing, self._failed = self._execute.deleted, self._turn + 1, True, False
        try:
            noticed = list(self._noticed)
            there = [bucket for bucket in await self._buckets.all() if SETTING in bucket.settings]
            for bucket in there:
                try:
                    await self._bucket(bucket)
                except (NoSuchBucket, RulesChanged):
                    continue
                except AbixioError as error:
                    _log.warning("lifecycle of bucket %s goes on later: %s", bucket.name, error)
                    self._failed = True
            spaces = {bucket.space for bucket in there}
            self._state.buckets = {space: each for space, each in self._state.buckets.items() if bytes.fromhex(space) in spaces}
            for gone in set(noticed) - spaces:
                del self._noticed[gone]
        finally:
            self._passing = False
        self._state.finished = now()
        await self._save()
        return self._execute.deleted - before

    async def _bucket(self, bucket: Bucket) -> None:
        document = await self._configs.get(bucket, CONFIG)
        noticed = self._noticed.pop(bucket.space, set())
        if document is None:
            self._state.buckets.pop(bucket.space.hex(), None)
            return
        progress = self._progress(bucket, document)
        for key in noticed:
            if await self._one(bucket, document, Sweep("noticed", None), key) is not None:
                self.notice(bucket.space, key)
        for sweep in sweeps(decode(document), now()):
            await self._sweep(bucket, document, sweep, progress.marks.setdefault(sweep.name, Mark()))

    def _progress(self, bucket: Bucket, document: str) -> Progress:
        """How far these rules are; from the beginning when they are new, or it is time for all of it again."""
        space, moment, name = bucket.space.hex(), now(), sha256(document.encode()).hexdigest()[:32]
        found = self._state.buckets.get(space)
        if found is None or found.document != name or found.began + WHOLE * self._calendar.day <= moment:
            found = self._state.buckets[space] = Progress(name, moment)
        return found

    async def _sweep(self, bucket: Bucket, document: str, sweep: Sweep, mark: Mark) -> None:
        """Judge what is as old as the sweep wants and was not judged before."""
        space = uploads_space(bucket) if sweep.uploads else bucket.space
        moment = now()
        until = 1000 * (moment if sweep.days is None else self._calendar.horizon(moment, sweep.days))
        behind = until - 1000 * self._short(LAG)
        at = mark.resume(moment)
        while at < until:
            rows = await self._rows(space, sweep, at, until)
            await self._judge(bucket, document, sweep, mark, rows)
            at = rows[-1].at if len(rows) == PAGE else until
            mark.done = max(mark.done, min(at, behind))
            if now() - self._state.saved > SAVE:
                await self._save()

    async def _rows(self, space: bytes, sweep: Sweep, after: int, until: int) -> list[Aged]:
        """The next page, from one volume; from another one in the next pass."""
        lanes = vouching(self._pool)
        for lane in sorted(lanes, key=lambda lane: (not lane.well, (lane.slot + self._turn) % self._pool.n)):
            look = lane.volume.amended if sweep.amended else lane.volume.aged
            try:
                return await errand(self._pool, lane, partial(look, space, after, until, PAGE))
            except Unavailable as error:
                _log.info("lifecycle: %s", error)
        raise Unavailable("no volume tells which rows are old")

    async def _judge(self, bucket: Bucket, document: str, sweep: Sweep, mark: Mark, rows: Iterable[Aged]) -> None:
        """Several keys at a time."""
        first: dict[bytes, int] = {}
        for row in rows:
            if sweep.wants(row):
                first.setdefault(row.key, row.at)
        rest = iter(first.items())

        async def work() -> None:
            for key, at in rest:
                later = await self._one(bucket, document, sweep, key)
                if later is not None:
                    mark.postpone(at, later)
                await asyncio.sleep(0)  # to judge a key takes some 50 us of the event loop, and a page has a thousand

        for ended in await asyncio.gather(*(work() for _ in range(min(AT_ONCE, len(first)))), return_exceptions=True):
            if ended is not None:
                raise ended

    async def _one(self, bucket: Bucket, document: str, sweep: Sweep, key: bytes) -> int | None:
        """Judge one key, or upload; when that has to be done again, if it has to be."""
        self._judged += 1
        try:
            async with self._manners.turn():
                if sweep.uploads:
                    await self._execute.upload(bucket, document, key)
                    return None
                later = await self._execute.key(bucket, document, key)
            # All retentions that end on one day are looked at in one go: the day after, as everything.
            return None if later is None else self._calendar.midnight(later)
        except NoSuchBucket:
            raise
        except AbixioError as error:
            _log.info("lifecycle of key %r goes on later: %s", key, error)
            return now() + self._short(AGAIN)

    async def _save(self) -> None:
        if not (self._state.buckets or self._state.saved):
            return  # no bucket ever had rules
        self._state.saved, self._state.deleted = now(), self._before + self._execute.deleted
        await save(self._pool, self._state)
