"""One key of a filling volume of which more is to be said than that a row is missing: brought to where the volume's silence on
it is no lie. Everything here happens under the key's lock, by the rule *Resolve*."""

from __future__ import annotations

from abixio.errors import DataLost, Unavailable, VolumeUnusable
from abixio.store.errand import done_by
from abixio.store.lane import Lane
from abixio.store.mend import Mender
from abixio.store.ranges import Key
from abixio.store.rebuild import rebuild_shard
from abixio.store.resolve import DATA_KINDS, Fate, Version, View
from abixio.store.settle import drop
from abixio.store.versions import walk
from abixio.volume.interface import Insert, State


class Reconciler:
    """Works on the keys of one volume."""

    def __init__(self, mender: Mender, slot: int) -> None:
        self._mender = mender
        self._committer = mender.committer
        self._pool = mender.pool
        self._slot = slot

    async def look_into(self, key: Key) -> bool:
        """Bring that key to rest here. True when its object is lost. Unavailable, Overloaded, DataLost and VolumeError say that
        it remains undecided."""
        await self._forget_purged(key)
        await self._mender.settle(*key)
        if await self._accounted(key):
            return False
        lost = await self._without_data(key)
        if not await self._accounted(key):
            raise Unavailable("it cannot be put back now")
        return lost

    def _lane(self) -> Lane:
        lane = self._pool.lanes[self._slot]
        if lane is None or not lane.up:
            raise VolumeUnusable(f"volume {self._slot} does not answer")
        return lane

    # ---- what went back in time --------------------------------------------------------------------------------------
    async def _forget_purged(self, key: Key) -> None:
        """Rows that only regressed volumes show, and that so many others deny that they never were committed, or were purged."""
        if self._slot not in self._pool.regressed:
            return
        async with self._committer.locks.exclusive(*key):
            view = await self._mender.view(*key)
            for version in view.versions:
                if self._pool.regressed.issuperset(version.copies) and view.judge(version) is Fate.NEVER:
                    await self._drop(view, version)

    async def _drop(self, view: View, version: Version) -> None:
        row = version.copies.get(self._slot)
        if row is not None:
            head = self._committer.placer.head(version.id, version.record, State.ABORTED, view, self._slot)
            lane = self._lane()
            await done_by(lane, lane.apply((drop(row), head), durable=False))

    # ---- what was committed ------------------------------------------------------------------------------------------
    async def _accounted(self, key: Key) -> bool:
        """Whether nothing that this volume does not show of the key was committed, or may have been."""
        view = await self._mender.view(*key)
        if self._slot not in view.rows or view.vouching < self._pool.quorum.r:
            return False
        for version, fate in walk(view):
            if self._pool.regressed.issuperset(version.copies) or fate in (Fate.FINISH, Fate.OPEN):
                return False
            if fate is Fate.COMMITTED and self._slot not in version.present:
                return False
        return True

    async def _without_data(self, key: Key) -> bool:
        """Where every volume answers and too few shards are left: put the row there alone (see `Missing.lost`). Whether it was
        such a case."""
        async with self._mender.locked(*key) as alive:
            view = await self._mender.view(*key)
            if not alive or len(view.rows) < self._pool.n:
                return False
            lost = [version for version, fate in walk(view) if fate is Fate.COMMITTED and self._slot not in version.present]
            lost = [version for version in lost if await self._is_lost(version)]
            for version in lost:
                everybody, record = (1 << self._pool.n) - 1, version.record
                state = self._committer.placer.as_committed(version)
                row = Insert(version.id, state, everybody, version.stored, record.write_ids, guard=False)
                head = self._committer.placer.head(version.id, record, State.COMMITTED, await self._mender.view(*key), self._slot)
                lane = self._lane()
                await done_by(lane, lane.apply((row, head), self._pool.durable))
        return bool(lost)

    async def _is_lost(self, version: Version) -> bool:
        record = version.record
        if record.kind not in DATA_KINDS:
            return False
        with self._pool.writes(record.write_ids):
            try:
                for part in record.parts:
                    await rebuild_shard(self._pool, record, part, version.present, self._slot)
            except DataLost:
                return True
        return False
