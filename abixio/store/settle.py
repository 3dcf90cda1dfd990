"""What follows an answered write: T2 (mark committed, purge what the record hides), the journal entry, the second round
of purging, garbage files. Batched, in cycles, never waited for by a client.

A cycle begins with a barrier where one is needed: T2 waits until T1 would survive a power cut (mode page-cache), and a
tombstone goes only when every slot holds it and nothing that it hides, and that too would survive.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from abixio.errors import AbixioError, CatalogCorrupt
from abixio.store.asking import FEW
from abixio.store.background import Background
from abixio.store.lane import Lane
from abixio.store.pool import Pool
from abixio.store.record import Record, unpack
from abixio.store.versions import FLEETING, hides
from abixio.volume.interface import Change, Drop, Head, Mark, Note, Op, Row, RowId, Settle, State, Volume

_log = logging.getLogger(__name__)

INTERVAL: Final = {"fsync": 0.05, "page-cache": 1.0}
"""Seconds between cycles: with synced answers a cycle costs no sync, otherwise it costs one per volume."""
BATCH: Final = 256
"""Keys per transaction of a cycle: keeps the volume's thread free for writers in between."""
PATIENCE: Final = 30.0
"""Seconds that a cycle waits for one volume."""
PEERS: Final = 10.0
"""Seconds between barriers where answers are synced: so old is what a restored snapshot is recognised by."""
GARBAGE: Final = 1000
"""Files unlinked per cycle and volume."""


@dataclass(slots=True)
class _Entry:
    record: Record
    slots: set[int]
    """Where T1 is known to be done."""
    purged: set[int] = field(default_factory=set)
    """Where T2 is known to be done."""


class Settler(Background):
    """Takes answered writes and brings them to rest."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self._fresh: dict[RowId, _Entry] = {}
        self._round_two: dict[RowId, Record] = {}
        self._running: set[RowId] = set()
        self._wake = asyncio.Event()
        self._last_barrier = 0.0
        self._owes = False

    def add(self, id: RowId, record: Record, slots: Iterable[int]) -> None:
        """A row that is on W volumes at least."""
        self._fresh[id] = _Entry(record, set(slots))
        self._wake.set()

    def wake(self) -> None:
        """There may be something to collect."""
        self._wake.set()

    def owe(self) -> None:
        """Something was answered that is at rest already, and may not survive a power cut before the next barrier."""
        if not self._owes and not self.pool.durable:
            self._owes = True
            self._wake.set()

    def busy(self, id: RowId) -> bool:
        """Whether a cycle will still see to that row; the journal leaves it alone until then."""
        return id in self._fresh or id in self._running or id in self._round_two

    async def stop(self) -> None:
        """End after what is known now is settled."""
        await super().stop()
        await self.cycle()
        await self.cycle()
        await self.barrier()

    async def _work(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            await asyncio.sleep(INTERVAL[self.pool.config.durability])
            try:
                await self.cycle()
            except AbixioError as error:
                _log.warning("settling goes on later: %s", error)

    # ---- one cycle ---------------------------------------------------------------------------------------------------
    async def cycle(self) -> None:
        """Settle all that was added before."""
        fresh, self._fresh = self._fresh, {}
        second, self._round_two = self._round_two, {}
        self._running = {*fresh, *second}
        everybody = set(range(self.pool.n))
        try:
            now = self.pool.loop.time()
            if second or self._owes or (fresh and (not self.pool.durable or now - self._last_barrier > PEERS)):
                self._last_barrier = now
                self._owes = False
                safe = await self.barrier()
                if safe != everybody:
                    second = {}
                if not self.pool.durable:
                    for entry in fresh.values():
                        entry.slots &= safe
                    fresh = {id: entry for id, entry in fresh.items() if len(entry.slots) >= entry.record.w}
            await self._each(lambda lane: self._settle_lane(lane, fresh))
            if second:
                await self._each(lambda lane: self._collect_lane(lane, second))
            for id, entry in fresh.items():
                if entry.record.kind in FLEETING and entry.purged == everybody:
                    self._round_two[id] = entry.record
        finally:
            self._running = set()
        if self._round_two:
            self._wake.set()

    async def barrier(self) -> set[int]:
        """Every volume that is up: sync, and tell the others how far its commit counter is now safe. Returns the slots where
        that was done."""
        safe: dict[int, int] = {}

        async def one(lane: Lane) -> None:
            try:
                safe[lane.slot] = await lane.run(partial(_sync, lane.volume))
            except AbixioError as error:
                self.pool.lost(lane, error)

        await self._each(one)
        done = set(safe)
        notes: Change = [Note(f"peer{slot}", commits) for slot, commits in safe.items()]

        async def tell(lane: Lane) -> None:
            await self._apply(lane, [notes])

        await self._each(tell)
        return done

    async def _each(self, work: Callable[[Lane], Coroutine[Any, Any, None]]) -> None:
        """On every volume that is up, at the same time. One that takes too long is left behind, and down until it is done."""
        tasks = {self.pool.loop.create_task(work(lane)): lane for lane in self.pool.up()}
        if not tasks:
            return
        done, late = await asyncio.wait(tasks, timeout=PATIENCE)
        for task in late:
            tasks[task].overdue(task)
            task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        for task in done:
            task.result()

    async def _settle_lane(self, lane: Lane, fresh: dict[RowId, _Entry]) -> None:
        """T2 on one volume, and the unlinking that it allows."""
        ids = [id for id, entry in fresh.items() if lane.slot in entry.slots]
        for start in range(0, len(ids), BATCH):
            batch = ids[start : start + BATCH]
            try:
                changes = await lane.run(partial(self._t2_all, lane, {id: fresh[id] for id in batch}))
            except AbixioError as error:
                self.pool.lost(lane, error)
                return
            if await self._apply(lane, changes):
                for id in batch:
                    fresh[id].purged.add(lane.slot)
        await self._unlink(lane)

    def _t2_all(self, lane: Lane, entries: dict[RowId, _Entry]) -> list[Change]:
        return [self._t2(lane, id, entry) for id, entry in entries.items()]

    def _t2(self, lane: Lane, id: RowId, entry: _Entry) -> list[Op]:
        """Mark the row committed and drop what it hides, unless a newer row took its place; on the volume's thread."""
        rows = lane.volume.top(id.space, id.key, FEW) if entry.record.hides == "none" and not id.rev else []
        if not any(row.id == id for row in rows):  # such a row hides none, and is mostly among the newest
            rows = lane.volume.rows(id.space, id.key)
        if not any(row.id == id and row.state is not State.ABORTED for row in rows):
            return []
        ops: list[Op] = [Mark(id, State.COMMITTED), *(drop(row) for row in rows if hides(entry.record, row))]
        if entry.record.pair:
            other = id._replace(key=entry.record.pair)
            known = lane.volume.rows(other.space, other.key)
            ops += [Mark(other, State.COMMITTED) for row in known if row.id == other and row.state is not State.ABORTED]
        if entry.record.kind == "tombstone" and entry.record.upload:
            ops += self._parts(lane, entry.record.upload)
        if len(entry.slots) == self.pool.n and entry.record.kind not in FLEETING:
            ops.append(Settle(id))
        return ops

    @staticmethod
    def _parts(lane: Lane, upload: bytes) -> list[Op]:
        """All rows of a finished upload: the space is never used again."""
        ops: list[Op] = []
        start = b""
        while rows := lane.volume.history(upload, start, GARBAGE):
            ops += [drop(row) for row in rows]
            ops += [Head(upload, key, None) for key in dict.fromkeys(row.id.key for row in rows)]
            start = rows[-1].id.key + b"\0"
        return ops

    async def _collect_lane(self, lane: Lane, second: dict[RowId, Record]) -> None:
        """Round two: tombstones that every slot holds, with nothing left below them."""
        changes: list[Change] = [[Drop(id)] for id in second]
        for start in range(0, len(changes), BATCH):
            await self._apply(lane, changes[start : start + BATCH])

    async def _unlink(self, lane: Lane) -> None:
        """Remove files that no row names and no reader holds."""
        def work() -> int:
            pool = self.pool
            found = [id for id in lane.volume.garbage(GARBAGE) if id not in pool.pins and not pool.read_elsewhere(id)]
            if found:
                lane.volume.unlink(found, pool.read_elsewhere)
            return len(found)

        try:
            if await lane.run(work) == GARBAGE:
                self._wake.set()
        except AbixioError as error:
            self.pool.lost(lane, error)

    async def _apply(self, lane: Lane, changes: Iterable[Change]) -> bool:
        """Whether all of them are done."""
        try:
            futures = [lane.apply(change, durable=False) for change in changes]
        except AbixioError as error:
            self.pool.lost(lane, error)
            return False
        answers = await asyncio.gather(*futures, return_exceptions=True)
        for answer in answers:
            if isinstance(answer, AbixioError):
                self.pool.lost(lane, answer)
            elif answer is not None:
                raise answer
        return not any(answers)


def _sync(volume: Volume) -> int:
    """A barrier; returns the commit counter that it covers."""
    commits = volume.notes().get("commits", 0)
    volume.barrier()
    return commits


def drop(row: Row) -> Drop:
    """Delete that row and let go of its shards."""
    try:
        return Drop(row.id, unpack(row.record).write_ids)
    except CatalogCorrupt:
        return Drop(row.id)  # what it named is for the scanner

