"""What a filling volume lacks of a key range, as far as that can be told without a lock: on executor threads, without I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from abixio.config import MIB
from abixio.errors import CatalogCorrupt
from abixio.store.layout import shard_size
from abixio.store.ranges import Key, Range
from abixio.store.record import Record, unpack
from abixio.store.resolve import DATA_KINDS
from abixio.store.versions import hides
from abixio.volume.interface import Row, RowId, State

BATCH_BYTES: Final = 16 * MIB
"""Of shards between two barriers: a tenth of a second of a hard disk's time, for which writes of clients wait there."""
BATCH_KEYS: Final = 256
"""Keys between two barriers: as many wait for the volume's thread at a time."""


@dataclass(frozen=True, slots=True)
class Missing:
    """A committed row that the volume lacks."""

    id: RowId
    record: Record
    rows: Mapping[int, Row]
    """Who has it."""
    stale: tuple[Row, ...]
    """What the volume has of this key instead: older rows that the record hides."""
    settled: bool
    """All slots had it once."""
    lost: bool
    """Too few shards are left in the pool: the row goes there alone, so that the key is known there too, and reading it is
    an error and not an older version or nothing."""

    @property
    def key(self) -> Key:
        return self.id[:2]

    @property
    def stored(self) -> bytes:
        return next(iter(self.rows.values())).record

    @property
    def has_shard(self) -> bool:
        return self.record.kind in DATA_KINDS and not self.lost

    @property
    def inline(self) -> bool:
        """Whether its shards live in the catalogs."""
        return any(row.inline is not None for row in self.rows.values())

    def bytes(self, slot: int) -> int:
        """Of its shards on that slot."""
        layout = self.record.layout
        if not self.has_shard or layout is None:
            return 0
        return sum(shard_size(layout, layout.slots.index(slot), part.stored) for part in self.record.parts)


def sort_out(found: Range, slot: int, regressed: bool, everybody: bool) -> tuple[list[Missing], list[Key]]:
    """Of a range, the rows that the volume lacks beyond doubt, and the keys that somebody must look into. `everybody`: every
    volume of the pool answered."""
    sure: list[Missing] = []
    doubtful: list[Key] = []
    for key, shown in found.keys.items():
        mine = shown.pop(slot, [])
        if _same(mine, shown, regressed):
            continue
        missing = _missing(mine, shown, found, everybody)
        if missing is None:
            doubtful.append(key)
        else:
            sure.append(missing)
    return sure, doubtful


def _same(mine: list[Row], others: dict[int, list[Row]], regressed: bool) -> bool:
    """Whether the volume has all that others show, and nothing is in the air."""
    if any(row.state is not State.COMMITTED for row in mine):
        return False
    have = {row.id: row.record for row in mine}
    seen = {row.id: row.record for rows in others.values() for row in rows}
    return have == seen if regressed else have.items() >= seen.items()


def _missing(mine: list[Row], others: dict[int, list[Row]], found: Range, everybody: bool) -> Missing | None:
    """The one row that all others agree on and say is committed; None when it is not as simple as that."""
    rows = {slot: shown[0] for slot, shown in others.items() if len(shown) == 1}
    first = next(iter(rows.values()), None)
    if first is None or len(rows) < len(others):
        return None
    if any(row.id != first.id or row.record != first.record or row.state is not State.COMMITTED for row in rows.values()):
        return None
    try:
        record = unpack(first.record)
    except CatalogCorrupt:
        return None
    if not all(row.state is State.COMMITTED and hides(record, row) for row in mine):
        return None
    lost = record.kind in DATA_KINDS and record.layout is not None and len(rows) < record.layout.k
    if lost and not everybody:
        return None
    return Missing(first.id, record, rows, tuple(mine), first.id not in found.open, lost)


def batches(missing: list[Missing], slot: int) -> Iterator[list[Missing]]:
    batch: list[Missing] = []
    size = 0
    for one in missing:
        batch.append(one)
        size += one.bytes(slot)
        if size >= BATCH_BYTES or len(batch) == BATCH_KEYS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
