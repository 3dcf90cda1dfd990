"""Refill: brings a filling volume up to date, and ends that state.

Its rows are compared with those of its peers, key range by key range, while it takes part in all writes as any other volume.
What is in no doubt (a committed row that it lacks) is put back in batches by `restore`; everything else goes key by key
under the key's lock, by the rule *Resolve*. Once every key was compared while at least R volumes that are not filling answered,
and none was left undecided, the volume's silence is evidence again: whatever was committed before is here, and whatever comes is
here or in the journal of those that have it. An undecided key keeps the volume filling, for ending it would decide the key.

A regressed volume (a snapshot was restored) also holds rows that its peers forgot. What N-W+1 volumes that are not filling deny
was purged after every slot, this one too, had confirmed it, or was never committed: it goes.

Comparing again costs microseconds per key that is there, so nothing is remembered over a restart.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from abixio.config import MIB
from abixio.errors import AbixioError
from abixio.store.assembly import FILLING
from abixio.store.background import Background
from abixio.store.budget import Manners
from abixio.store.crew import Topic
from abixio.store.errand import done_by
from abixio.store.health import RefillStatus
from abixio.store.lacks import Missing, batches, sort_out
from abixio.store.lane import Lane
from abixio.store.mend import Mender
from abixio.store.opening import SINCE
from abixio.store.ranges import Key, count_keys, read_range
from abixio.store.reconcile import Reconciler
from abixio.store.restore import Restorer
from abixio.volume.interface import Note

_log = logging.getLogger(__name__)

PAUSE: Final = 1.0
"""Seconds between looks for a volume to fill, or for peers to come back."""
AGAIN: Final = 5.0
LONGEST: Final = 300.0
"""Seconds until what could not be decided is tried again, and at most, after doubling each time."""
SAID: Final = 20
"""Keys that are named in the log per pass; there may be millions."""


class _Wait(Exception):
    """Not now; says what is missing."""


@dataclass(slots=True)
class _Progress:
    """Of one volume's refill."""

    slot: int
    began: float
    of: int = 0
    keys: int = 0
    """Compared in this pass."""
    restored: int = 0
    bytes: int = 0
    lost: int = 0
    """Objects that no pass can make again."""
    undecided: int = 0
    why: str = ""
    marks: list[tuple[float, int, int]] = field(default_factory=list)
    """(time, keys, bytes) now and then, to tell the rate of late."""


MARK: Final = 1.0
MARKS: Final = 10
"""Ten marks a second apart: the rate of the last ten seconds."""


class Refill(Background):
    """Fills one volume after the other, for as long as there are any."""

    def __init__(self, mender: Mender) -> None:
        self._mender = mender
        self._committer = mender.committer
        self._pool = mender.pool
        self._manners = Manners(mender.pool)
        self._progress: dict[int, _Progress] = {}

    def status(self) -> list[RefillStatus]:
        """How far it is, for each volume that is filling."""
        return [self._status(slot) for slot in sorted(self._pool.filling)]

    def why(self, slot: int) -> str:
        """Why that volume is still filling."""
        progress = self._progress.get(slot)
        return progress.why if progress is not None and progress.why else "its turn comes"

    async def _work(self) -> None:
        pauses: dict[int, float] = {}
        due: dict[int, float] = {}
        while True:
            for slot in sorted(self._pool.filling):
                if due.get(slot, 0.0) > self._pool.loop.time():
                    continue
                if await self.run_once(slot):
                    pauses.pop(slot, None)
                    due.pop(slot, None)
                    continue
                tried = self._progress[slot].undecided > 0
                pauses[slot] = min(2 * pauses.get(slot, AGAIN / 2), LONGEST) if tried else PAUSE
                due[slot] = self._pool.loop.time() + pauses[slot]
            await asyncio.sleep(PAUSE)

    async def run_once(self, slot: int) -> bool:
        """One comparison of everything; True when the volume is not filling any more."""
        progress = self._progress[slot] = _Progress(slot, self._pool.loop.time(), why="being compared with its peers")
        try:
            await self._pass(slot, progress)
            if not progress.undecided:
                await self._end(slot, progress)
                return True
            _log.warning("volume %d stays filling: %d keys cannot be decided now: %s", slot, progress.undecided, progress.why)
        except _Wait as wait:
            progress.why = str(wait)
            _log.info("refill of volume %d waits: %s", slot, wait)
        except AbixioError as error:
            progress.why = str(error)
            _log.warning("refill of volume %d goes on later: %s", slot, error)
        return False

    def _ready(self, slot: int, answered: frozenset[int] | None = None) -> Lane:
        """The volume's lane, while enough others can be compared with."""
        lane = self._pool.lanes[slot]
        if lane is None or not lane.up or (answered is not None and slot not in answered):
            raise _Wait("it does not answer")
        peers = self._pool.vouching([lane.slot for lane in self._pool.up()] if answered is None else answered)
        if peers < self._pool.quorum.r:
            raise _Wait(f"{peers} of the {self._pool.quorum.r} whole volumes that it must be compared with answer")
        return lane

    # ---- one pass ----------------------------------------------------------------------------------------------------
    async def _pass(self, slot: int, progress: _Progress) -> None:
        lane = self._ready(slot)
        _log.info("volume %d is being refilled", slot)
        progress.of = await count_keys(self._pool, [other for other in self._pool.up() if other is not lane])
        restorer, reconciler = Restorer(self._committer, lane, self._manners), Reconciler(self._mender, slot)
        after: Key | None = None
        while True:
            found = await read_range(self._pool, after)
            self._ready(slot, found.slots)
            work = partial(sort_out, found, slot, slot in self._pool.regressed, len(found.slots) == self._pool.n)
            sure, doubtful = await self._pool.loop.run_in_executor(self._pool.executor, work)
            for batch in batches(sure, slot):
                left = await restorer.restore(batch)
                doubtful += [missing.key for missing in left]
                self._count(progress, batch, left, slot)
            for key in doubtful:
                await self._look_into(reconciler, key, progress)
            progress.keys += len(found.keys)
            self._mark(progress)
            if found.end is None:
                return
            after = found.end

    async def _look_into(self, reconciler: Reconciler, key: Key, progress: _Progress) -> None:
        try:
            async with self._manners.turn():
                if await reconciler.look_into(key):
                    self._say_lost(key[1], progress)
        except AbixioError as error:
            self._ready(progress.slot)
            progress.undecided += 1
            progress.why = f"{key[1]!r}: {error}"
            if progress.undecided <= SAID:
                _log.info("volume %d: key %r cannot be decided now: %s", progress.slot, key[1], error)

    async def _end(self, slot: int, progress: _Progress) -> None:
        """What the volume holds is durable by now but for its last rows, which this note's sync takes along."""
        lane = self._ready(slot)
        await done_by(lane, lane.run(lane.volume.barrier))
        await done_by(lane, lane.apply((Note(FILLING, 0), Note(SINCE, 0)), durable=True))
        self._pool.whole(slot)
        if self._pool.crew is not None:
            self._pool.crew.tell(Topic.WHOLE)
        del self._progress[slot]
        seconds = self._pool.loop.time() - progress.began
        lost = f"; {progress.lost} objects are lost, too few of their shards are left" if progress.lost else ""
        _log.warning(
            "volume %d is whole again: %d keys compared, %d put back (%.1f MiB) in %.1f s%s",
            slot, progress.keys, progress.restored, progress.bytes / MIB, seconds, lost,
        )

    # ---- progress ----------------------------------------------------------------------------------------------------
    def _count(self, progress: _Progress, batch: list[Missing], left: list[Missing], slot: int) -> None:
        """What a batch brought."""
        gone = {missing.id for missing in left}
        for missing in batch:
            if missing.id not in gone:
                progress.restored += 1
                progress.bytes += missing.bytes(slot)
                if missing.lost:
                    self._say_lost(missing.id.key, progress)
        self._mark(progress)

    def _say_lost(self, key: bytes, progress: _Progress) -> None:
        progress.lost += 1
        if progress.lost <= SAID:
            _log.warning("key %r is lost: too few of its shards are left on all %d volumes", key, self._pool.n)

    def _mark(self, progress: _Progress) -> None:
        now, marks = self._pool.loop.time(), progress.marks
        if not marks or now - marks[-1][0] >= MARK:
            marks.append((now, progress.keys, progress.bytes))
            del marks[:-MARKS]

    def _status(self, slot: int) -> RefillStatus:
        progress = self._progress.get(slot)
        if progress is None:
            return RefillStatus(slot, 0, 0, 0, 0.0, None)
        since, keys, size = progress.marks[0] if progress.marks else (progress.began, 0, 0)
        seconds = max(self._pool.loop.time() - since, MARK)
        speed = (progress.keys - keys) / seconds
        eta = max(progress.of - progress.keys, 0) / speed if speed and progress.of else None
        return RefillStatus(slot, progress.keys, progress.bytes, progress.of, (progress.bytes - size) / seconds, eta)
