"""Bringing one key to rest: its fate resolved, rows and shards put where they are missing, what was aborted collected.

Rows and small shards go under the key lock. Shard files are made without it, for that can take minutes and writers wait for
no repair: then the lock is taken again, and the row follows its files if its version is still there, or the files go too.
One repair at a time works on a key, whoever asks for it: the claim, which no reader or writer knows, sees to that.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Final, NamedTuple

from abixio.errors import AbixioError, CatalogCorrupt, DataLost, Overloaded, VolumeError
from abixio.store.bytelocks import ByteLocks
from abixio.store.commit import Committer
from abixio.store.examine import examine
from abixio.store.health import Healed
from abixio.store.lane import Lane
from abixio.store.layout import shard_size
from abixio.store.locks import KeyLocks
from abixio.store.placing import DEADLINE
from abixio.store.rebuild import rebuild_shard
from abixio.store.record import Part, Record, unpack
from abixio.store.resolve import DATA_KINDS, LISTED_KINDS, Fate, Version, View
from abixio.store.settle import Settler, drop
from abixio.store.sources import Copies
from abixio.store.versions import EVERY, walk
from abixio.volume.interface import Change, Drop, Head, Insert, Op, Row, RowId, State

BIG: Final = 4
"""Keys whose shard files are made at the same time: enough to keep disks busy while others sync, and 4 x 2 pieces of at most
4 MiB are little of the memory budget."""
JOURNALED: Final = 100
"""Entries of one key in a journal: more are there after a long absence only, and then all versions are looked at."""
PART_KEY: Final = 4
"""Bytes of a part's key, its number: other keys need not be looked up to see that they are no parts."""


class Rest(NamedTuple):
    """What became of a key."""

    settled: bool
    """Nothing is left to do."""
    done: Healed


class Mender:
    """Repairs one key as far as the volumes allow."""

    def __init__(self, committer: Committer, settler: Settler) -> None:
        self.committer = committer
        self.pool = committer.pool
        self.settler = settler
        self._claims = KeyLocks(None if self.pool.crew is None else ByteLocks(self.pool.crew, b"mend"))
        self._big = asyncio.Semaphore(BIG)

    def claim(self, space: bytes, key: bytes) -> AbstractAsyncContextManager[None]:
        """Inside, nobody else repairs that key. Overloaded."""
        return self._claims.exclusive(space, key)

    async def settle(self, space: bytes, key: bytes) -> Rest:
        """Bring a key to rest. Unavailable when its fate cannot be told now."""
        async with self.claim(space, key):
            return await self.settle_claimed(space, key)

    async def settle_claimed(self, space: bytes, key: bytes) -> Rest:
        """`settle` for the holder of the claim."""
        wanting: list[tuple[Version, list[Lane]]] = []
        settled = True
        journaled = await self._journaled(space, key)
        async with self.locked(space, key) as alive:
            if not alive:
                return Rest(await self._orphan(await self.view(space, key)), Healed())
            view, done = await self._resolved(space, key)
            versions = list(walk(view))
            if len(versions) < len(view.versions):
                journaled = None  # what is hidden goes when the row that hides it is settled, whichever that is
            for version, fate in versions:
                lanes = self.committer.lacking(view, version)
                if journaled is not None and version.id not in journaled and not lanes and at_peace(version, fate):
                    settled &= len(version.present) == self.pool.n
                elif fate in (Fate.OPEN, Fate.FINISH):
                    settled = False  # since the look before
                elif fate is not Fate.COMMITTED:
                    await self._collect(view, version)
                elif lanes and in_files(version):
                    wanting.append((version, lanes))
                else:
                    # A fresh look after each change: what LIST shows of a key depends on the versions that a volume just got.
                    view = await self.view(space, key) if done.rows else view
                    holders = await self.committer.spread(view, version)
                    placed = len(holders) - len(version.present)
                    done += Healed(rows=placed, rebuilt_shards=placed * len(version.record.parts))
                    settled &= len(holders) == self.pool.n
        for version, lanes in wanting:
            rest = await self._supply(version, lanes)
            done, settled = done + rest.done, settled and rest.settled
        return Rest(settled, done)

    async def view(self, space: bytes, key: bytes) -> View:
        """What all volumes that are up show, slow ones too."""
        return await self.committer.view(space, key, lambda view: False)

    async def _journaled(self, space: bytes, key: bytes) -> set[RowId] | None:
        """The rows of a key that any journal names: of a key with many versions most are long at rest, and settling each of them
        again would cost the square of their number. None: more than a look shows, or not known. Entries made meanwhile belong to
        writes that are settled anyway."""
        try:
            asked = [lane.ask(partial(lane.volume.unsettled, RowId(space, key, -1, 0), JOURNALED)) for lane in self.pool.up()]
        except Overloaded:
            return None
        found: set[RowId] = set()
        for ids in await asyncio.gather(*asked, return_exceptions=True):
            if isinstance(ids, BaseException) or (len(ids) == JOURNALED and ids[-1][:2] == (space, key)):
                return None  # an error is told by the look that follows
            found.update(id for id in ids if id[:2] == (space, key))
        return found

    @asynccontextmanager
    async def locked(self, space: bytes, key: bytes) -> AsyncIterator[bool]:
        """Under the key lock; False when the key is a part whose upload has ended. Unavailable when that cannot be told."""
        committer = self.committer
        owner = upload_of(await committer.view(space, key)) if len(key) == PART_KEY else None
        async with AsyncExitStack() as held:
            if owner is not None:
                await held.enter_async_context(committer.locks.shared(*owner))
            await held.enter_async_context(committer.locks.exclusive(space, key))
            yield owner is None or await committer.seen(*owner) is not None

    # ---- rows --------------------------------------------------------------------------------------------------------
    async def _resolved(self, space: bytes, key: bytes) -> tuple[View, Healed]:
        """What the volumes show once fates are settled and rotten rows replaced."""
        seen = await self.view(space, key)
        view = seen if await self.committer.settled(seen, EVERY) is seen else await self.view(space, key)
        rows = 0
        for slot in view.heard.keys() - view.rows.keys():
            rows += await self._replace(view, slot)
        return (await self.view(space, key) if rows else view), Healed(rows=rows)

    async def _replace(self, view: View, slot: int) -> int:
        """Put the sound copies of its peers in place of a volume's rotten rows; returns how many. What nobody else has, and
        cannot have been answered, goes. The shards stay: the rows that name them are the same."""
        lane = self.pool.lanes[slot]
        versions = {version.id: version for version in view.versions}
        ops: list[Op] = []
        kept: set[RowId] = set()
        for row in view.heard[slot]:
            version = versions.get(row.id)
            if sound(row):
                kept.add(row.id)
            elif version is not None:
                committed = view.judge(version) is Fate.COMMITTED
                state = self.committer.placer.as_committed(version) if committed else State.ABORTED
                record = version.record
                ops += [Drop(row.id), Insert(row.id, state, row.to, version.stored, record.write_ids, guard=False)]
                kept.add(row.id)
            elif self._stray(row.id, view.heard):
                ops.append(Drop(row.id))
        if lane is None or not ops:
            return 0
        shown = next((v for v in view.versions if v.id in kept and view.judge(v) is Fate.COMMITTED), None)
        listed = shown is not None and shown.record.kind in LISTED_KINDS
        ops.append(Head(*view.heard[slot][0].id[:2], shown.id[2:] if shown is not None and listed else None))
        return sum(isinstance(op, Drop) for op in ops) if await self._apply(lane, ops, self.pool.durable) else 0

    def _stray(self, id: RowId, heard: Mapping[int, Sequence[Row]]) -> bool:
        """Whether so few volumes can have that row, of which no copy is sound, that it never was committed or is long hidden:
        rule 3 of Resolve with the least W there is."""
        copies = sum(any(row.id == id for row in rows) for rows in heard.values())
        silent = sum(slot not in heard or slot in self.pool.filling for slot in range(self.pool.n))
        return copies + silent < self.pool.quorum.h

    async def _orphan(self, view: View) -> bool:
        """A part of an upload that has ended goes, wherever it is."""
        owner = upload_of(view)
        if owner is not None and not await self._ended_for_good(*owner):
            return False
        gone = True
        for lane in self.pool.up():
            for row in view.rows.get(lane.slot, []):
                gone &= await self._apply(lane, (drop(row), Head(row.id.space, row.id.key, None)))
        self.settler.wake()
        return gone

    async def _ended_for_good(self, space: bytes, key: bytes) -> bool:
        """Whether the end of an upload would survive a power cut: if not, its parts are needed again. A row is marked behind a
        barrier, and gone behind a further one."""
        if self.pool.durable:
            return True
        view = await self.view(space, key)
        end = next((version for version in view.versions if view.judge(version) is Fate.COMMITTED), None)
        return end is None or any(row.state is State.COMMITTED for row in end.copies.values())

    async def _collect(self, view: View, version: Version) -> None:
        """An aborted row: goes once every slot holds it as aborted, in a way that survives a power cut."""
        if len(view.rows) < self.pool.n or (version.other is not None and view.judge(version) is not Fate.ABORTED):
            return
        rows = version.copies
        if len(rows) < self.pool.n or any(row.state is not State.ABORTED for row in rows.values()):
            lanes, stored = self.pool.up(), version.stored
            await self.committer.placer.insert(version.id, version.record, State.ABORTED, lanes, None, view, stored=stored)
            return
        if len(await self.settler.barrier()) < self.pool.n:
            return
        for lane in self.pool.up():
            head = self.committer.placer.head(version.id, version.record, State.ABORTED, view, lane.slot)
            await self._apply(lane, (drop(rows[lane.slot]), head))
        self.settler.wake()

    async def _apply(self, lane: Lane, change: Change, durable: bool = False) -> bool:
        """Whether it is done. A volume that takes too long counts as down from then on: key locks are held meanwhile."""
        try:
            future = lane.apply(change, durable)
            done, _ = await asyncio.wait((future,), timeout=DEADLINE)
            if done:
                future.result()
                return True
        except (VolumeError, Overloaded) as error:
            self.pool.lost(lane, error)
            return False
        lane.overdue(future)
        future.add_done_callback(lambda late: late.cancelled() or late.exception())
        return False

    # ---- shard files -------------------------------------------------------------------------------------------------
    async def _supply(self, version: Version, lanes: list[Lane]) -> Rest:
        """Make the shard files that volumes miss, then put the row there."""
        space, key = version.id[:2]
        ids = version.record.write_ids
        async with self._big:
            with self.pool.reads(ids), self.pool.writes(ids):
                done, ready = Healed(), list[Lane]()
                for lane in lanes:
                    made = await self._make(version, lane)
                    done += made
                    if not made.failed:
                        ready.append(lane)
                async with self.locked(space, key) as alive:
                    view = await self.view(space, key)
                    now = next((v for v in standing(view) if alive and v.id == version.id), None)
                    if now is None or view.judge(now) is not Fate.COMMITTED:
                        await self._take_back(ids, ready)
                        return Rest(True, Healed())
                    still = {lane.slot for lane in self.committer.lacking(view, now)}
                    holders = await self.committer.place(view, now, [lane for lane in ready if lane.slot in still], None)
        return Rest(len(holders) == self.pool.n, done + Healed(rows=len(holders) - len(now.present)))

    async def _make(self, version: Version, lane: Lane) -> Healed:
        """All shards of a version on one volume. What a repair that was cut short has left there is used."""
        record, done = version.record, Healed()
        assert record.layout is not None
        anyone = next(iter(version.present.values()))
        copies = Copies(record, record.layout, {**version.present, lane.slot: anyone})
        index = record.layout.slots.index(lane.slot)
        try:
            # Files that are being unlinked just now, on that thread or by another process, do not count as there.
            await asyncio.wait_for(lane.run(partial(lane.volume.unlink, ())), DEADLINE)
            for part in record.parts:
                found = await examine(self.pool, copies, part, index)
                if found.state != "ok":
                    done += await self.rebuild(record, part, version.present, lane.slot)
        except (VolumeError, Overloaded, TimeoutError) as error:
            done += Healed(failed=(f"volume {lane.slot}: {error}",))
        return done

    async def rebuild(self, record: Record, part: Part, rows: Mapping[int, Row], slot: int) -> Healed:
        """One shard file, made again."""
        assert record.layout is not None
        try:
            await rebuild_shard(self.pool, record, part, rows, slot)
        except (VolumeError, DataLost, Overloaded) as error:
            return Healed(failed=(f"part {part.number}, volume {slot}: {error}",))
        return Healed(rebuilt_shards=1, rebuilt_bytes=shard_size(record.layout, record.layout.slots.index(slot), part.stored))

    async def _take_back(self, write_ids: Sequence[bytes], lanes: Sequence[Lane]) -> None:
        """Files of a version that went while they were made. A volume keeps those that a row names all the same."""
        for lane in lanes:
            with suppress(AbixioError):
                await asyncio.wait((lane.run(partial(lane.volume.unlink, write_ids)),), timeout=DEADLINE)


def sound(row: Row) -> bool:
    """Whether a record matches its hash, and its row."""
    try:
        record = unpack(row.record)
    except CatalogCorrupt:
        return False
    return (record.space, record.key, record.seq, record.rev) == row.id


def at_peace(version: Version, fate: Fate) -> bool:
    """Whether every copy says that it is committed for good."""
    return fate is Fate.COMMITTED and all(row.state is State.COMMITTED for row in version.copies.values())


def standing(view: View) -> list[Version]:
    """Versions that no newer committed one hides for good, newest first."""
    return [version for version, _ in walk(view)]


def in_files(version: Version) -> bool:
    """Whether a version's shards are files."""
    record = version.record
    return record.kind in DATA_KINDS and bool(record.parts) and all(row.inline is None for row in version.present.values())


def upload_of(view: View) -> tuple[bytes, bytes] | None:
    """The space and key of the upload that a part belongs to."""
    for version in view.versions:
        with suppress(DataLost):
            return (version.record.upload[:16], version.record.upload[16:]) if version.record.kind == "part" else None
    return None
