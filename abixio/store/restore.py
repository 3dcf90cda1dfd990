"""Putting back what one volume lost, many keys at a time: the work of refill where nothing is in doubt.

One key alone costs a sync for its file and one for its row. Here the files of a batch are written first, then one barrier makes
them durable, then their rows go in together. The rows need no sync of their own: until the last of them has one, the
volume is filling, and is compared again after a crash. But no row may be on the disk ahead of its file, or the comparison would
take a torn shard for a whole one.

Shards are made without the key's lock, which is taken for the row only; whoever changed the key meanwhile wins.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack, ExitStack
from functools import partial
from typing import Final, NamedTuple

from blake3 import blake3

from abixio.codec.checksum import block_seed, block_sums
from abixio.config import MIB
from abixio.errors import (
    AbixioError,
    DataLost,
    Overloaded,
    Unavailable,
    VolumeError,
    VolumeFull,
    VolumeReadOnly,
    VolumeUnusable,
)
from abixio.message import Buffer
from abixio.store.budget import Manners
from abixio.store.commit import Committer
from abixio.store.decoder import Decoder
from abixio.store.errand import done_by
from abixio.store.inline import pack_shard
from abixio.store.lacks import Missing
from abixio.store.lane import HUNG, Lane
from abixio.store.layout import shard_size, stripe_at, stripes
from abixio.store.openpart import OpenPart
from abixio.store.rebuild import rebuild_shard
from abixio.store.record import Part, Record
from abixio.store.resolve import Fate, View
from abixio.store.settle import drop
from abixio.store.sources import Copies, decoder, report
from abixio.store.versions import FLEETING
from abixio.volume.interface import Insert, Op, RowId, Settle, State, Volume

WHOLE: Final = 4 * MIB
"""Shards up to here are made in memory as a whole, with one hand-over to a thread; larger ones piece by piece."""
MAKING: Final = 4
"""Shards made at a time: two for two cores, and two that wait for a disk. 16 MiB of memory at most."""
INLINE_GROUP: Final = 16
"""Inline shards made per hand-over to a thread: 3 ms, less than the interval at which threads of Python take turns."""


class _Made(NamedTuple):
    """A shard, and what its footer says."""

    shard: Buffer
    sums: bytes
    digest: bytes
    record: bytes | None


class Restorer:
    """Works on one volume."""

    def __init__(self, committer: Committer, lane: Lane, manners: Manners) -> None:
        self._committer = committer
        self._pool = committer.pool
        self._lane = lane
        self._manners = manners
        self._making = asyncio.Semaphore(MAKING)
        self._trouble: VolumeError | None = None
        """What the volume said when it did not take a file."""

    async def restore(self, batch: list[Missing]) -> list[Missing]:
        """Put them there; returns those that are to be looked at one by one. VolumeError when the volume does not take it."""
        with ExitStack() as held:
            for missing in batch:
                held.enter_context(self._pool.writes(missing.record.write_ids))
            files, inline = await self._make(batch)
            if isinstance(self._trouble, VolumeFull | VolumeReadOnly | VolumeUnusable):
                raise self._trouble
            if files:
                await done_by(self._lane, self._lane.run(self._lane.volume.barrier))
            ready = [missing for missing in batch if missing.id in files or missing.id in inline or not missing.has_shard]
            entered = await asyncio.gather(*(self._enter(m, inline.get(m.id)) for m in ready), return_exceptions=True)
            for error in entered:
                if isinstance(error, BaseException):
                    raise error
            done = {missing.id for missing, took in zip(ready, entered, strict=True) if took}
            unused = [write_id for m in batch if m.id in files and m.id not in done for write_id in m.record.write_ids]
            if unused:
                # Not those that a row names by now.
                await done_by(self._lane, self._lane.run(partial(self._lane.volume.unlink, unused)))
        return [missing for missing in batch if missing.id not in done]

    # ---- shards ------------------------------------------------------------------------------------------------------
    async def _make(self, batch: list[Missing]) -> tuple[set[RowId], dict[RowId, bytes]]:
        """The rows whose files are there now, and the inline shards of the others. What cannot be made is in neither."""
        data = [missing for missing in batch if missing.has_shard]
        small = [missing for missing in data if missing.inline]
        groups = [small[at : at + INLINE_GROUP] for at in range(0, len(small), INLINE_GROUP)]
        large = [missing for missing in data if not missing.inline]
        async with asyncio.TaskGroup() as tasks:
            files = [(missing.id, tasks.create_task(self._files(missing))) for missing in large]
            packed = [tasks.create_task(self._inline(group)) for group in groups]
        return {id for id, task in files if task.result()}, {id: s for task in packed for id, s in task.result().items()}

    async def _inline(self, group: list[Missing]) -> dict[RowId, bytes]:
        async with self._making, self._manners.turn():
            sources = {missing.id: self._decoder(self._copies(missing)) for missing in group}
            job = self._pool.loop.run_in_executor(self._pool.executor, _pack_all, sources, self._lane.slot)
            await asyncio.wait((job,), timeout=HUNG)
            if not job.done():
                self._pool.spare_thread(job)
                job.add_done_callback(lambda late: late.cancelled() or late.exception())
                return {}
        for missing in group:
            report(self._pool, self._copies(missing), sources[missing.id])
        return job.result()

    def _decoder(self, copies: Copies) -> Decoder:
        return decoder(self._pool, copies, copies.record.parts[0], without=copies.layout.slots.index(self._lane.slot))

    @staticmethod
    def _copies(missing: Missing) -> Copies:
        assert missing.record.layout is not None
        return Copies(missing.record, missing.record.layout, missing.rows)

    async def _files(self, missing: Missing) -> bool:
        """Every shard file of that row; not synced, unless it is a large one."""
        copies, slot = self._copies(missing), self._lane.slot
        index = copies.layout.slots.index(slot)
        for part in missing.record.parts:
            async with self._making, self._manners.turn():
                try:
                    if shard_size(copies.layout, index, part.stored) > WHOLE:
                        await rebuild_shard(self._pool, missing.record, part, missing.rows, slot)
                    elif not await self._file(copies, part, index):
                        return False
                except VolumeError as error:
                    self._trouble = error
                    return False
                except (DataLost, Overloaded, Unavailable):
                    return False
        return True

    async def _file(self, copies: Copies, part: Part, index: int) -> bool:
        """False when somebody else makes it right now."""
        shard = (part.write_id, self._lane.slot)
        if shard in self._pool.making:
            return False
        self._pool.making[shard] = ours = self._pool.loop.create_future()
        try:
            source = OpenPart(self._pool, copies, part, without=index)
            try:
                made = await source.run(_make_whole, index)
            finally:
                source.close()
            stored = made.record or next(iter(copies.rows.values())).record
            async with self._pool.makes(*shard):
                await done_by(self._lane, self._lane.run(partial(_write, self._lane.volume, part.write_id, made, stored)))
        finally:
            ours.cancel()  # and not done: it is not synced, so others must not build on it
            del self._pool.making[shard]
        return True

    # ---- rows --------------------------------------------------------------------------------------------------------
    async def _enter(self, missing: Missing, inline: bytes | None) -> bool:
        """The row, if the key still is as it was; False when not."""
        committer, slot, r = self._committer, self._lane.slot, self._pool.quorum.r
        async with AsyncExitStack() as held:
            try:
                if not await lock(committer, missing.record, held):
                    return False
                view = await committer.view(*missing.key, lambda view: slot in view.rows and view.vouching >= r)
            except AbixioError:
                return False
            if not _unchanged(view, missing, slot, r):
                return False
            everybody, record = (1 << self._pool.n) - 1, missing.record
            ops: list[Op] = [
                Insert(missing.id, State.COMMITTED, everybody, missing.stored, record.write_ids, inline, guard=False),
                *map(drop, missing.stale),
                committer.placer.head(missing.id, record, State.COMMITTED, view, slot),
            ]
            if missing.settled and record.kind not in FLEETING:
                ops.append(Settle(missing.id))
            await done_by(self._lane, self._lane.apply(ops, durable=False))
        return True


async def lock(committer: Committer, record: Record, held: AsyncExitStack) -> bool:
    """Take the lock of that record's key, of a part also its upload's, which then cannot end. False when it has ended."""
    if record.kind == "part":
        owner = record.upload[:16], record.upload[16:]
        await held.enter_async_context(committer.locks.shared(*owner))
        if await committer.seen(*owner) is None:
            return False
    await held.enter_async_context(committer.locks.exclusive(record.space, record.key))
    return True


def _unchanged(view: View, missing: Missing, slot: int, r: int) -> bool:
    """Whether that row is still the newest for sure, committed, and the volume has what it had."""
    if not view.versions or slot not in view.rows or view.vouching < r:
        return False
    newest = view.versions[0]
    if newest.id != missing.id or newest.stored != missing.stored or view.judge(newest) is not Fate.COMMITTED:
        return False
    return [row.id for row in view.rows[slot]] == [row.id for row in missing.stale]


# ---- on executor threads ---------------------------------------------------------------------------------------------
def _make_whole(source: Decoder, index: int) -> _Made:
    layout, part = source.layout, source.part
    shard = bytearray(shard_size(layout, index, part.stored))
    room = memoryview(shard)
    for stripe in stripes(layout, part.stored, 0, part.stored):
        length = stripe.stored(index, layout.k)
        if length:
            source.rebuild(stripe, index, 0, room[stripe.offset : stripe.offset + length])
    seed = block_seed(part.write_id, part.number, layout.slots[index])
    return _Made(shard, block_sums(shard, seed), blake3(shard).digest(), source.footer())


def _pack_all(sources: Mapping[RowId, Decoder], slot: int) -> dict[RowId, bytes]:
    """Inline shards; those that cannot be made are left out."""
    packed: dict[RowId, bytes] = {}
    for id, source in sources.items():
        index = source.layout.slots.index(slot)
        shard = bytearray(shard_size(source.layout, index, source.part.stored))
        try:
            if shard:
                source.rebuild(stripe_at(source.layout, source.part.stored, 0), index, 0, memoryview(shard))
        except DataLost:
            continue
        finally:
            source.close()
        packed[id] = pack_shard(shard, block_seed(source.part.write_id, source.part.number, slot))
    return packed


# ---- on the volume's thread ------------------------------------------------------------------------------------------
def _write(volume: Volume, write_id: bytes, made: _Made, record: bytes) -> None:
    writer = volume.create_shard(write_id, repair=True)
    try:
        writer.write((made.shard,))
        writer.finish(made.sums, record, made.digest, False)
    finally:
        writer.abort()
