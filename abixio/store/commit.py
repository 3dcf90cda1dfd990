"""The one commit: how a record gets onto the volumes so that it is seen by all or by none, and how it is read back.

Reading needs no lock while the newest row is committed beyond doubt (see `lookup`). Anything else takes the key lock, resolves,
and reads again. Writing goes: lock, look, resolve, condition, T1 (pending rows, synced), answer; T2 follows in `settle`.
Of keys that may lose so many volumes that the rest could not tell whether it was answered, the rows say so before it is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from dataclasses import replace as changed
from typing import Final

from msgspec import structs

from abixio.errors import DataLost, OutcomeUnknown, Unavailable, VolumeError
from abixio.store.clock import Clock
from abixio.store.lane import Lane
from abixio.store.locks import KeyLocks
from abixio.store.lookup import Doubt, Found, Lookup, newest
from abixio.store.pairs import Pairs
from abixio.store.placing import Along, Placer, refusal
from abixio.store.pool import Pool
from abixio.store.rebuild import rebuild_shard
from abixio.store.record import Record, unpaired
from abixio.store.resolve import DATA_KINDS, Fate, Version, View
from abixio.store.settle import Settler
from abixio.store.versions import Which, is_wanted, matters, walk
from abixio.volume.interface import Row, RowId, State


@dataclass(frozen=True, slots=True)
class Draft:
    """A write, ready but for what is decided under the lock. `build(seq, w, current)` makes its record; `holders` are the
    slots that have the shard (None: any slot will do); `inline` has the shards that live in the catalog."""

    space: bytes
    key: bytes
    k: int
    build: Callable[[int, int, Found | None], Record]
    check: Callable[[Found | None], None]
    """Raises to stop the write; sees the current record."""
    holders: Collection[int] | None = None
    inline: Mapping[int, bytes] | None = None
    of: Which = None
    """The version that `check` and `build` see."""
    few: bool = False
    """It hides no version, so that it needs to know no more than the newest ones, and what they say of the others."""


ALL_NEED: Final = frozenset({"bucket", "setting"})
"""Kinds without which no object is found: one volume that is left has to know them."""
SAME: Final[Collection[int]] = frozenset({-1})
"""As the holders of a draft: the slots that hold the version that it sees."""


class Committer(Lookup):
    """Reads and writes records by the rules of design.md, *Commit*."""

    def __init__(self, pool: Pool, locks: KeyLocks, clock: Clock, settler: Settler) -> None:
        super().__init__(pool)
        self.placer = Placer(pool)
        self.locks = locks
        self.clock = clock
        self.settler = settler
        self.pairs = Pairs(pool, self.placer, locks, lambda space, key: self.view(space, key, lambda view: False), self._finish)

    # ---- reading -----------------------------------------------------------------------------------------------------
    async def current(self, space: bytes, key: bytes, reading: bool = True, of: Which = None) -> Found | None:
        """The version asked for, the newest by default; a delete marker is one, None when there is none, or a tombstone.
        Unavailable when that cannot be told."""
        try:
            return await self.seen(space, key, reading, of)
        except Doubt:
            pass
        async with self.locks.exclusive(space, key):
            try:
                return await self.resolve(await self.view(space, key), reading, of)
            except Unavailable:
                if (found := self._as_before(await self.view(space, key), reading, of)) is None:
                    raise
                return found

    # ---- resolving (under the key lock) ------------------------------------------------------------------------------
    async def resolve(self, view: View, reading: bool = True, of: Which = None) -> Found | None:
        """The version asked for, after every doubt that it depends on is settled."""
        return self.pick(await self.settled(view, of), reading, of)

    async def settled(self, view: View, of: Which = None, held: Collection[bytes] = ()) -> View:
        """Settle the fate of the rows that the answer depends on, from the newest down; the view after that. `held`: the keys
        that are locked, when there are more than this one."""
        touched = False
        for version, fate in walk(view):
            record = version.record
            if fate is Fate.COMMITTED:
                if is_wanted(record, of):
                    break
            elif fate is Fate.ABORTED or not matters(record, of):
                continue
            elif fate is Fate.OPEN:
                raise Unavailable("an unfinished write can be neither completed nor taken back with these volumes")
            else:
                if version.other is not None:
                    await self.pairs.settle(version, held or (version.id.key,))
                elif fate is Fate.FINISH:
                    await self._finish(view, version)
                else:
                    await self._abort(view, version)
                if fate is Fate.FINISH:
                    return await self.settled(await self.view(version.id.space, version.id.key), of, held)
                touched = True
        return await self.view(*view.versions[0].id[:2]) if touched else view

    async def _abort(self, view: View, version: Version) -> None:
        """A write that never committed: say so where the volumes can be reached."""
        w = version.record.w
        if len(view.rows) >= self.pool.n - w + 1:
            await self.placer.insert(version.id, version.record, State.ABORTED, self.pool.up(), None, view, stored=version.stored)
        elif view.vouching < self.pool.quorum.r:
            raise Unavailable("too few volumes answer to take an unfinished write back")

    async def _finish(
        self, view: View, version: Version, other: Version | None = None, beside: View | None = None
    ) -> None:
        """A write that may have been answered: complete it on W volumes at least; of a rename both rows, if they are not done.
        `beside`: what the volumes show of the other key."""
        if other is not None and beside is not None and version.record.kind not in DATA_KINDS:
            return await self._finish(beside, other, version, view)
        record = version.record
        with self.pool.writes(record.write_ids), self.pool.reads(record.write_ids):
            lanes, inline = await self._ready(view, version, beside)
            along: Along | None = None
            if other is not None and beside is not None:
                along = Along(other.id, other.record, other.stored, beside)
            everybody = (1 << self.pool.n) - 1
            done = await self.placer.insert(
                version.id, record, State.PENDING, lanes, inline, view, everybody, stored=version.stored, along=along
            )
            if len(done) < record.w:
                raise Unavailable("an unfinished write could not be completed")
            if not await self.confirm(version.id, record, view, done, along):
                raise Unavailable("an unfinished write could not be completed for good")
            self.note(version.id, record, done, along)

    async def _ready(self, view: View, version: Version, beside: View | None) -> tuple[list[Lane], dict[int, bytes]]:
        """The volumes that have the shards of an unfinished write, or were given them, inline ones to go with the row."""
        record, present = version.record, version.present
        ready: list[Lane] = []
        inline: dict[int, bytes] = {}
        for lane in self.pool.up():
            if lane.slot in present:
                ready.append(lane)
            elif lane.slot in view.rows and (beside is None or lane.slot in beside.rows):
                shared = record.kind not in DATA_KINDS or (beside is not None and beside.keeps(lane.slot, record.write_ids))
                shard = {} if shared else await self.remake(record, present, lane.slot)
                if shard is not None:
                    inline |= shard
                    ready.append(lane)
        return ready, inline

    def note(self, id: RowId, record: Record, slots: Collection[int], along: Along | None = None) -> None:
        """What was answered is settled next; of a rename both rows."""
        self.settler.add(id, record, slots)
        if along is not None:
            self.settler.add(along.id, along.record, slots)

    async def spread(self, view: View, version: Version) -> set[int]:
        """Put a committed row, and its shard, wherever it is missing; returns the slots that have it then. Key lock held."""
        record = version.record
        with self.pool.writes(record.write_ids):
            inline: dict[int, bytes] = {}
            ready: list[Lane] = []
            for lane in self.lacking(view, version):
                shared = record.kind not in DATA_KINDS or view.has_shards(lane.slot, record)
                shard = {} if shared else await self.remake(record, version.present, lane.slot)
                if shard is not None:
                    inline |= shard
                    ready.append(lane)
            return await self.place(view, version, ready, inline)

    def lacking(self, view: View, version: Version) -> list[Lane]:
        """The volumes that could have a row and do not."""
        return [lane for lane in self.pool.up() if lane.slot in view.rows and lane.slot not in version.present]

    async def place(self, view: View, version: Version, lanes: list[Lane], inline: Mapping[int, bytes] | None) -> set[int]:
        """Put a committed row on volumes that have its shards, or get them inline with it; returns the slots that have it then.
        Key lock held."""
        holders = set(version.present)
        if lanes:
            holders |= await self.placer.insert(
                version.id, version.record, self.placer.as_committed(version), lanes, inline, view, stored=version.stored
            )
        self.settler.add(version.id, version.record, await self.pairs.joint(version, holders))
        return holders

    async def remake(self, record: Record, rows: Mapping[int, Row], slot: int) -> dict[int, bytes] | None:
        """Rebuild a slot's shards from the others: {slot: inline bytes}, {} for files, None when that failed."""
        inline: dict[int, bytes] = {}
        try:
            for part in record.parts:
                shard = await rebuild_shard(self.pool, record, part, rows, slot)
                if shard is not None:
                    inline[slot] = shard
        except (VolumeError, DataLost) as error:
            lane = self.pool.lanes[slot]
            if lane is not None and isinstance(error, VolumeError):
                self.pool.lost(lane, error)
            return None
        return inline

    # ---- writing -----------------------------------------------------------------------------------------------------
    def quorum(self, view: View, k: int) -> int:
        """W: how many volumes must hold a new row of this key before it is answered."""
        return max(k, self.pool.quorum.h, 1 + view.highest_m)

    async def admit(self, space: bytes, key: bytes, k: int, few: bool = False) -> View:
        """Unavailable when a write of this key would be refused for lack of volumes; asked before the body is read. `few`: the
        newest rows will do, where they say enough."""
        view = await self._brief(space, key, k) if few else None
        if view is None:
            view = await self.view(space, key, lambda view: len(view.rows) >= self.quorum(view, k) and self._decided(view))
        if len(view.rows) < self.quorum(view, k) or view.vouching < self.pool.quorum.r:
            raise Unavailable(f"{len(view.rows)} volumes answer, {self.quorum(view, k)} are needed to write")
        return view

    async def _brief(self, space: bytes, key: bytes, k: int) -> View | None:
        """A view of the newest rows on which a further version can be put: the newest version is in no doubt, and the oldest row
        shown says which tolerance those below it have."""
        def enough(view: View) -> bool:
            return len(view.rows) >= self.quorum(view, k) and self._decided(view)

        rows, rest = self.asker.at_hand(space, key, few=True)
        view = await self.asker.rest(space, key, rows, rest, enough, few=True) if rest else self.asker.few(rows)
        if not view.brief:
            return view
        try:
            known = view.versions[-1].record.top >= 0 and newest(view) is not None
        except DataLost:
            return None
        return view if known and len(view.rows) >= self.quorum(view, k) else None

    async def commit(self, draft: Draft) -> Record:
        """Write a record. On return it is acknowledged. An error other than OutcomeUnknown means: not stored."""
        async with self.locks.exclusive(draft.space, draft.key):
            return await self.commit_locked(draft)

    async def commit_locked(self, draft: Draft) -> Record:
        """`commit` for a caller that holds the key lock."""
        view = await self.admit(draft.space, draft.key, draft.k, draft.few)
        settled = await self.settled(view, draft.of)
        found = self.pick(settled, False, draft.of)
        if settled is not view:
            view = await self.admit(draft.space, draft.key, draft.k, draft.few)
        draft.check(found)
        await self.pairs.vouch(view)
        w = self.quorum(view, draft.k)
        holders = found.rows if draft.holders is SAME and found is not None else draft.holders
        lanes = self.placer.takers(holders, w)
        if len(lanes) < w:
            raise refusal(self.pool.up(), f"{len(lanes)} volumes took the data, {w} are needed")
        record = unpaired(draft.build(self.clock.tick(view.newest_seq), w, found))
        if record.hides != "older":
            if view.brief and record.hides != "none":
                return await self.commit_locked(changed(draft, few=False))
            record = structs.replace(record, top=max(view.highest_m, -1 if record.layout is None else record.layout.m))
        await self.write(record, lanes, draft.inline, view)
        return record

    async def write(
        self, record: Record, lanes: list[Lane], inline: Mapping[int, bytes] | None, view: View, along: Along | None = None
    ) -> None:
        """Put a record on those volumes, the other one of a rename `along` with it. On return it is acknowledged."""
        id = RowId(record.space, record.key, record.seq, record.rev)
        done = await self.placer.insert(id, record, State.PENDING, lanes, inline, view, guard=True, along=along)
        await self.conclude(id, record, lanes, view, done, along)

    async def conclude(
        self, id: RowId, record: Record, lanes: list[Lane], view: View, done: Collection[int], along: Along | None = None
    ) -> None:
        """What follows once a row is on those of the volumes that took it. On return it is acknowledged."""
        if len(done) < record.w:
            await self._take_back(id, record, view, lanes, along)
        if not await self.confirm(id, record, view, done, along):
            self.settler.wake()
            raise OutcomeUnknown("the volumes have the write, and too few could note that it is answered")
        self.note(id, record, done, along)

    async def confirm(
        self, id: RowId, record: Record, view: View, slots: Collection[int], along: Along | None = None
    ) -> bool:
        """Before the answer, where it matters: when as many volumes as this key can lose may leave fewer copies than it takes to
        tell that the row was answered (W + m > N), they say so themselves. Whether enough do."""
        if record.kind in ALL_NEED:
            most = self.pool.n - 1
        else:
            most = max(view.highest_m, record.layout.m if record.layout is not None else 0)
        if along is not None:
            most = max(most, along.view.highest_m)
        others = () if along is None else (along.id,)
        return record.w + most <= self.pool.n or await self.placer.confirm(id, slots, most + 1, *others)

    async def _take_back(self, id: RowId, record: Record, view: View, lanes: list[Lane], along: Along | None) -> None:
        """A write that missed its quorum: abort it on every volume that can be reached, and raise."""
        error = refusal(lanes, "too few volumes answered; nothing was stored")
        aborted = await self.placer.insert(id, record, State.ABORTED, self.pool.up(), None, view, along=along)
        self.settler.wake()
        if len(aborted) < self.pool.n - record.w + 1:
            raise OutcomeUnknown("too few volumes answered to store or to take back the write")
        raise error
