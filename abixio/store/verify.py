"""What the scanner looks at in a range of keys: shards, read whole by their volumes in loads of some MiB; keys of which the
volumes tell different stories; parts whose upload has ended."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import Final, NamedTuple

from abixio.config import MIB
from abixio.errors import AbixioError, CatalogCorrupt, ShardCorrupt, ShardMissing
from abixio.store.commit import Committer
from abixio.store.examine import check_now
from abixio.store.lane import Lane
from abixio.store.layout import shard_size
from abixio.store.ranges import Key, Range
from abixio.store.record import Part, Record, unpack
from abixio.store.resolve import DATA_KINDS
from abixio.store.sources import Copies
from abixio.volume.interface import Row, State

LOAD: Final = 4 * MIB
"""Bytes read with one hand-over to a thread: 2 ms of arithmetic, and a tenth of a second of a slow disk. Longer shards are
read in steps of that."""
ITEMS: Final = 50
"""Shards in one load: each may want a seek, half a second in all on a spinning disk."""


class Item(NamedTuple):
    """One shard of one part of a version, and where it should be."""

    key: Key
    row: Row
    copies: Copies
    part: Part
    size: int

    @property
    def record(self) -> Record:
        return self.copies.record


class Load(NamedTuple):
    """Shards of one volume; more than one only if they are `LOAD` bytes together at most."""

    items: list[Item]
    size: int

    @property
    def big(self) -> bool:
        return self.size > LOAD


def loads(found: Range, slot: int) -> Iterator[Load]:
    """All shards that a volume should hold of a range of keys."""
    items: list[Item] = []
    size = 0
    for item in _items(found, slot):
        if items and (size + item.size > LOAD or len(items) == ITEMS):
            yield Load(items, size)
            items, size = [], 0
        items.append(item)
        size += item.size
    if items:
        yield Load(items, size)


def _items(found: Range, slot: int) -> Iterator[Item]:
    for key, shown in found.keys.items():
        for row in shown.get(slot, ()):
            if row.state is not State.COMMITTED:
                continue
            with suppress(CatalogCorrupt):  # the rows of the volumes differ then, which is found by comparing them
                record = unpack(row.record)
                if record.kind in DATA_KINDS and record.layout is not None:
                    rows = {other: copy for other, rows in shown.items() for copy in rows if copy.id == row.id}
                    copies, index = Copies(record, record.layout, rows), record.layout.slots.index(slot)
                    for part in record.parts:
                        yield Item(key, row, copies, part, shard_size(record.layout, index, part.stored))


def verify(lane: Lane, load: Load) -> tuple[list[Item], float]:
    """On a thread: those that are missing or corrupt, and the processor time that this took. Other VolumeErrors pass."""
    start = time.thread_time()
    bad = []
    for item in load.items:
        try:
            check_now(lane, item.copies, item.part, lane.slot, item.row)
        except (ShardMissing, ShardCorrupt):
            bad.append(item)
    return bad, time.thread_time() - start


# ---- rows ------------------------------------------------------------------------------------------------------------
def differing(found: Range, filling: Collection[int]) -> list[Key]:
    """Keys whose rows are not the same on all volumes, though no journal mentions those that differ."""
    slots = [slot for slot in found.slots if slot not in filling]
    keys = []
    for key, shown in found.keys.items():
        told = [{row.id: row.record for row in shown.get(slot, ())} for slot in slots]
        if any(one != told[0] for one in told):
            odd = {id for one in told for id in one if any(other.get(id) != one[id] for other in told)}
            if not odd & found.open:
                keys.append(key)
    return keys


async def ended_uploads(found: Range, committer: Committer) -> list[Key]:
    """Parts of uploads that are not there any more."""
    ended: dict[bytes, bool] = {}
    keys = []
    for key, shown in found.keys.items():
        with suppress(CatalogCorrupt):
            record = unpack(next(iter(shown.values()))[0].record)
            if record.kind != "part":
                continue
            if record.upload not in ended:
                ended[record.upload] = await _has_ended(committer, record.upload)
            if ended[record.upload]:
                keys.append(key)
    return keys


async def _has_ended(committer: Committer, upload: bytes) -> bool:
    """Beyond doubt."""
    try:
        return await committer.seen(upload[:16], upload[16:]) is None
    except AbixioError:
        return False
