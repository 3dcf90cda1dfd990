"""The one commit: how a record gets onto the volumes so that it is seen by all or by none, and how it is read back.

Reading needs no lock while the newest row is committed beyond doubt. Anything else takes the key lock, resolves, and
reads again. Writing goes: lock, look, resolve, condition, T1 (pending rows, synced), answer; T2 follows in `settle`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from abixio.errors import (
    AbixioError,
    DataLost,
    Exhausted,
    InsufficientStorage,
    OutcomeUnknown,
    Overloaded,
    Unavailable,
    VolumeError,
    VolumeFull,
)
from abixio.store.asking import Asker, Enough
from abixio.store.clock import Clock
from abixio.store.lane import Lane
from abixio.store.locks import KeyLocks
from abixio.store.pace import Pace
from abixio.store.pool import Pool, let_go
from abixio.store.rebuild import rebuild_shard
from abixio.store.record import Record, pack, unpack
from abixio.store.resolve import DATA_KINDS, LISTED_KINDS, Fate, Version, View, same_content
from abixio.store.settle import Settler
from abixio.volume.interface import Head, Insert, Row, RowId, State

STRAGGLER: Final = 2.0
"""Seconds to wait for the last volumes once W have answered: longer than a disk's usual hiccup."""
DEADLINE: Final = 30.0
"""Seconds after which a volume that has not answered counts as failed for this write."""


@dataclass(frozen=True, slots=True)
class Found:
    """The newest committed record of a key, and the rows that hold it by slot."""

    record: Record
    rows: Mapping[int, Row]
    certain: bool = True
    """False when so few volumes answer that a newer record cannot be ruled out."""


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


class _Doubt(Unavailable):
    """Only the holder of the key lock can tell what the newest version is."""


class Committer:
    """Reads and writes records by the rules of design.md, *Commit*."""

    def __init__(self, pool: Pool, locks: KeyLocks, clock: Clock, settler: Settler) -> None:
        self.pool = pool
        self.asker = Asker(pool)
        self.locks = locks
        self.clock = clock
        self.settler = settler

    # ---- reading -----------------------------------------------------------------------------------------------------
    def look(self, space: bytes, key: bytes, pace: Pace, enough: Enough | None = None) -> View:
        """`view` on a thread, which may wait for the volumes."""
        return self.asker.blocking(space, key, enough or self._decided, pace)

    async def view(self, space: bytes, key: bytes, enough: Enough | None = None) -> View:
        """What the volumes say of a key. Slow ones are asked only when the others do not decide it, or are not `enough`."""
        rows, rest = self.asker.at_hand(space, key)
        return await self.asker.rest(space, key, rows, rest, enough or self._decided) if rest else self.asker.view(rows)

    def _decided(self, view: View) -> bool:
        """Whether other volumes could not change what follows from the view."""
        if view.vouching < self.pool.quorum.r:
            return False
        try:
            return not view.versions or view.judge(view.versions[0]) is Fate.COMMITTED
        except DataLost:
            return False

    async def current(self, space: bytes, key: bytes, reading: bool = True) -> Found | None:
        """The newest committed record; None when there is none, or it is a delete. Unavailable when that cannot be told."""
        try:
            return await self.seen(space, key, reading)
        except _Doubt:
            pass
        async with self.locks.exclusive(space, key):
            try:
                return await self.resolve(await self.view(space, key), reading)
            except Unavailable:
                if (found := self._as_before(await self.view(space, key), reading)) is None:
                    raise
                return found

    async def seen(self, space: bytes, key: bytes, reading: bool = True) -> Found | None:
        """`current` without the lock: Unavailable also when only the lock could tell."""
        rows, rest = self.asker.at_hand(space, key)
        found = self._agreed(rows)
        if found is not None:
            return found
        view = self.asker.view(rows)
        if rest and (any(lane.prompt for lane in rest) or not self._tells(view, reading)):
            view = await self.asker.rest(space, key, rows, rest, lambda view: self._tells(view, reading))
        return self._tell(view, reading)

    def _as_before(self, view: View, reading: bool) -> Found | None:
        """Nobody can tell now whether the newest row was committed; but when it only gives its version another layout, what was
        there before is served, which is the same."""
        newest = view.versions[0] if view.versions else None
        for version in view.versions[1:]:
            if newest is None or version.id.seq != newest.id.seq:
                break
            if view.judge(version) is Fate.COMMITTED and same_content(version.record, newest.record):
                return self.serve(view, version, reading)
        return None

    def _tells(self, view: View, reading: bool) -> bool:
        try:
            self._tell(view, reading)
        except (Unavailable, DataLost):
            return False
        return True

    def _tell(self, view: View, reading: bool) -> Found | None:
        if not view.versions:
            self._nothing(view)
            return None
        if view.judge(view.versions[0]) is Fate.COMMITTED:
            return self.serve(view, view.versions[0], reading)
        raise _Doubt("the newest write of this key is not settled yet")

    def _agreed(self, rows: dict[int, list[Row]]) -> Found | None:
        """The common case without a view (20 us less): every volume answers with one and the same row, and one says that it
        is committed."""
        if len(rows) < self.pool.n or self.pool.filling:
            return None
        copies: dict[int, Row] = {}
        first: Row | None = None
        committed = False
        for slot, own in rows.items():
            if len(own) != 1:
                return None
            row = copies[slot] = own[0]
            if first is None:
                first = row
            elif row.record != first.record or row.id != first.id:
                return None
            if row.state is State.ABORTED:
                return None
            committed = committed or row.state is State.COMMITTED
        if first is None or not committed:
            return None
        record = unpack(first.record)
        return Found(record, copies) if record.kind in LISTED_KINDS else None

    def _nothing(self, view: View) -> None:
        """Unavailable unless a negative answer is allowed."""
        if view.vouching < self.pool.quorum.r:
            raise Unavailable(f"only {view.vouching} volumes can tell what is not there")

    def serve(self, view: View, version: Version, reading: bool = True) -> Found | None:
        """A committed version as an answer; `reading`: its bytes are wanted, not only its record."""
        record, present = version.record, version.present
        if record.kind not in LISTED_KINDS:
            self._nothing(view)
            return None
        if record.kind in DATA_KINDS:
            if reading and len(present) < version.k:
                raise Unavailable(f"{len(present)} of the {version.k} volumes needed hold this version")
            return Found(record, present)
        return Found(record, present, certain=view.vouching >= self.pool.quorum.r)

    # ---- resolving (under the key lock) ------------------------------------------------------------------------------
    async def resolve(self, view: View, reading: bool = True) -> Found | None:
        """Settle the fate of every row from the newest down to the first committed one, which is returned."""
        for version in view.versions:
            fate = view.judge(version)
            if fate is Fate.FINISH:
                await self._finish(view, version)
                return await self.resolve(await self.view(version.id.space, version.id.key), reading)
            if fate is Fate.COMMITTED:
                return self.serve(view, version, reading)
            if fate is Fate.OPEN:
                raise Unavailable("an unfinished write can be neither completed nor taken back with these volumes")
            if fate is Fate.NEVER:
                await self._abort(view, version)
        self._nothing(view)
        return None

    async def _abort(self, view: View, version: Version) -> None:
        """A write that never committed: say so where the volumes can be reached."""
        w = version.record.w
        if len(view.rows) >= self.pool.n - w + 1:
            await self.insert(version.id, version.record, State.ABORTED, self.pool.up(), None, view, stored=version.stored)
        elif view.vouching < self.pool.quorum.r:
            raise Unavailable("too few volumes answer to take an unfinished write back")

    async def _finish(self, view: View, version: Version) -> None:
        """A write that may have been answered: complete it on W volumes at least."""
        record, present = version.record, version.present
        with self.pool.writes(record.write_ids):
            ready = list(present)
            inline: dict[int, bytes] = {}
            for lane in self.pool.up():
                if lane.slot in present or lane.slot not in view.rows:
                    continue
                if record.kind not in DATA_KINDS:
                    ready.append(lane.slot)
                    continue
                shard = await self.remake(record, present, lane.slot)
                if shard is not None:
                    inline |= shard
                    ready.append(lane.slot)
            lanes = [lane for lane in self.pool.up() if lane.slot in ready]
            everybody = (1 << self.pool.n) - 1
            done = await self.insert(version.id, record, State.PENDING, lanes, inline, view, everybody, stored=version.stored)
            if len(done) < record.w:
                raise Unavailable("an unfinished write could not be completed")
            self.settler.add(version.id, record, done)

    async def spread(self, view: View, version: Version) -> set[int]:
        """Put a committed row, and its shard, wherever it is missing; returns the slots that have it then. Key lock held."""
        record = version.record
        with self.pool.writes(record.write_ids):
            inline: dict[int, bytes] = {}
            ready: list[Lane] = []
            for lane in self.lacking(view, version):
                shard = await self.remake(record, version.present, lane.slot) if record.kind in DATA_KINDS else {}
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
            holders |= await self.insert(
                version.id, version.record, State.COMMITTED, lanes, inline, view, stored=version.stored
            )
        self.settler.add(version.id, version.record, holders)
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

    async def admit(self, space: bytes, key: bytes, k: int) -> View:
        """Unavailable when a write of this key would be refused for lack of volumes; asked before the body is read."""
        view = await self.view(space, key, lambda view: len(view.rows) >= self.quorum(view, k) and self._decided(view))
        if len(view.rows) < self.quorum(view, k) or view.vouching < self.pool.quorum.r:
            raise Unavailable(f"{len(view.rows)} volumes answer, {self.quorum(view, k)} are needed to write")
        return view

    async def commit(self, draft: Draft) -> Record:
        """Write a record. On return it is acknowledged. An error other than OutcomeUnknown means: not stored."""
        async with self.locks.exclusive(draft.space, draft.key):
            return await self.commit_locked(draft)

    async def commit_locked(self, draft: Draft) -> Record:
        """`commit` for a caller that holds the key lock."""
        view = await self.admit(draft.space, draft.key, draft.k)
        found = await self.resolve(view, reading=False)
        if view.versions and view.judge(view.versions[0]) is not Fate.COMMITTED:
            view = await self.admit(draft.space, draft.key, draft.k)
        draft.check(found)
        w = self.quorum(view, draft.k)
        lanes = self._takers(draft.holders, w)
        if len(lanes) < w:
            raise _refusal(self.pool.up(), f"{len(lanes)} volumes took the data, {w} are needed")
        record = draft.build(self.clock.tick(view.newest_seq), w, found)
        id = RowId(draft.space, draft.key, record.seq, record.rev)
        done = await self.insert(id, record, State.PENDING, lanes, draft.inline, view, guard=True)
        if len(done) < w:
            await self._take_back(id, record, view, lanes)
        self.settler.add(id, record, done)
        return record

    def _takers(self, holders: Collection[int] | None, w: int) -> list[Lane]:
        """Where to put a row: on all volumes that are up, but not behind a slow one's backlog when there are W others."""
        lanes = [lane for lane in self.pool.up() if holders is None or lane.slot in holders]
        prompt = [lane for lane in lanes if not lane.behind]
        return prompt if len(prompt) >= w else lanes

    async def _take_back(self, id: RowId, record: Record, view: View, lanes: list[Lane]) -> None:
        """A write that missed its quorum: abort it on every volume that can be reached, and raise."""
        refusal = _refusal(lanes, "too few volumes answered; nothing was stored")
        aborted = await self.insert(id, record, State.ABORTED, self.pool.up(), None, view)
        self.settler.wake()
        if len(aborted) < self.pool.n - record.w + 1:
            raise OutcomeUnknown("too few volumes answered to store or to take back the write")
        raise refusal

    async def insert(
        self, id: RowId, record: Record, state: State, lanes: list[Lane], inline: Mapping[int, bytes] | None,
        view: View, to: int | None = None, guard: bool = False, stored: bytes | None = None,
    ) -> set[int]:
        """Put a row on those lanes; return the slots that have it. `guard`: not where a newer row is."""
        stored = pack(record) if stored is None else stored
        mask = sum(1 << lane.slot for lane in lanes) if to is None else to
        futures: dict[asyncio.Future[None], Lane] = {}
        for lane in lanes:
            shard = inline.get(lane.slot) if inline else None
            row = Insert(id, state, mask, stored, record.write_ids, shard, guard)
            try:
                futures[lane.apply((row, self.head(id, record, state, view, lane.slot)), self.pool.durable)] = lane
            except (VolumeError, Overloaded) as error:
                self.pool.lost(lane, error)
        deadline = self.pool.loop.time() + DEADLINE
        await self._wait(futures, record.w, deadline)
        return {lane.slot for future, lane in futures.items() if self._took(future, lane, record.write_ids, deadline)}

    @staticmethod
    def head(id: RowId, record: Record, state: State, view: View, slot: int) -> Head:
        """What LIST shows of the key on that volume once the row is there: the newest that did commit. (After an abort not the
        newest pending one: that may be aborted next, and a head that points to nothing hides the key.)"""
        shown, kind = (None, record.kind) if state is State.ABORTED else (id[2:], record.kind)
        for version in view.versions:
            other = version.id[2:] > id[2:] if shown else version.id != id and slot in version.present
            if other and view.judge(version) is Fate.COMMITTED:
                shown, kind = version.id[2:], version.record.kind
                break
        return Head(id.space, id.key, shown if kind in LISTED_KINDS else None)

    async def _wait(self, futures: Mapping[asyncio.Future[None], Lane], w: int, deadline: float) -> None:
        """Until all are done; not for stragglers once W are, and not at all for slow volumes when the others are W."""
        if not futures:
            return
        prompt = [future for future, lane in futures.items() if lane.well]
        _, late = await asyncio.wait(prompt if len(prompt) >= w else futures, timeout=STRAGGLER)
        while waiting := [future for future in futures if not future.done()]:
            left = deadline - self.pool.loop.time()
            if sum(future.done() and future.exception() is None for future in futures) >= w:
                for future in late & set(waiting):
                    futures[future].breaker.slow(f"a commit takes longer than {STRAGGLER:.0f} s, and other volumes are done")
                return
            if left <= 0:
                return
            await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)

    def _took(self, future: asyncio.Future[None], lane: Lane, write_ids: tuple[bytes, ...], deadline: float) -> bool:
        """Whether the row is there for sure; what a straggler does later is found by the journal."""
        if not future.done():
            self.pool.writing.update(write_ids)
            future.add_done_callback(partial(self._late, write_ids))
            self.pool.loop.call_at(deadline, self._give_up, future, lane)
            return False
        error = future.exception()
        if error is None:
            lane.trouble = None
            return True
        if not isinstance(error, VolumeError):
            raise error
        lane.trouble = error
        self.pool.lost(lane, error)
        return False

    def _late(self, write_ids: tuple[bytes, ...], late: asyncio.Future[None]) -> None:
        """Until now that row could still come to be, and need its files."""
        let_go(self.pool.writing, write_ids)
        if not late.cancelled():
            late.exception()

    @staticmethod
    def _give_up(future: asyncio.Future[None], lane: Lane) -> None:
        """Past its deadline a volume counts as not answering."""
        if not future.done():
            lane.overdue(future)


def _refusal(lanes: Collection[Lane], why: str) -> AbixioError:
    """The error of a write that too few volumes took: their want of room or of descriptors, if that was it."""
    if any(isinstance(lane.trouble, Exhausted) for lane in lanes):
        return Overloaded("no descriptors or no memory for another write")
    if any(isinstance(lane.trouble, VolumeFull) for lane in lanes):
        return InsufficientStorage("too few volumes have room")
    return Unavailable(why)
