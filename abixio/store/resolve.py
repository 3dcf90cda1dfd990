"""The rule *Resolve* (docs/design.md, Commit): what became of a row, judged from what the volumes show. No I/O.

Counts: c copies pending or committed, a copies aborted, x slots that the writer addressed and that are silent, g all
silent slots. A slot is silent when its volume is down, or is filling and shows no row: an empty disk is no evidence of what
was there before it. Of rows that were written since it joined its silence counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from types import MappingProxyType

from msgspec import structs

from abixio.errors import CatalogCorrupt, DataLost
from abixio.store.record import Record, unpack, unpaired
from abixio.volume.interface import Row, RowId, State

DATA_KINDS = frozenset({"object", "part"})
LISTED_KINDS = frozenset({"object", "part", "bucket", "upload", "setting"})


class Fate(Enum):
    """Of one row in the whole pool."""

    COMMITTED = "committed: serve it"
    ABORTED = "aborted on so many volumes that it can never commit"
    NEVER = "never committed and cannot any more: abort it"
    FINISH = "may have been answered, and can be completed"
    OPEN = "may have been answered, and cannot be completed now"


@dataclass(frozen=True)
class Version:
    """One row id with its copies by slot."""

    id: RowId
    copies: dict[int, Row]

    @cached_property
    def record(self) -> Record:
        """DataLost when no copy of it is sound."""
        try:
            return unpack(next(iter(self.copies.values())).record)
        except CatalogCorrupt as error:
            raise DataLost(f"the record of {self.id.key!r}: {error}") from error

    @property
    def stored(self) -> bytes:
        """The record byte for byte, with fields that this version does not know."""
        return next(iter(self.copies.values())).record

    @property
    def present(self) -> dict[int, Row]:
        """The copies that are not aborted."""
        return {slot: row for slot, row in self.copies.items() if row.state is not State.ABORTED}

    @property
    def k(self) -> int:
        """Copies that are needed to serve it; of a row of a rename, to serve what was renamed."""
        record = self.record
        return record.layout.k if record.layout is not None and (record.kind in DATA_KINDS or record.pair) else 1

    @property
    def other(self) -> RowId | None:
        """The other row of a rename."""
        try:
            pair = self.record.pair
        except DataLost:
            return None
        return self.id._replace(key=pair) if pair else None


def _sound(row: Row) -> bool:
    try:
        unpack(row.record)
    except CatalogCorrupt:
        return False
    return True


@dataclass(frozen=True)
class View:
    """What the volumes say of one key at one moment."""

    n: int
    rows: dict[int, list[Row]]
    """By slot, for every volume that answered."""
    filling: frozenset[int]
    regressed: frozenset[int] = frozenset()
    """Filling volumes that went back in time: what only they show may have been deleted since."""
    heard: dict[int, list[Row]] = field(default_factory=dict)
    """The same with the rows of volumes that count as silent for an unsound record."""
    since: Mapping[int, int] = field(default_factory=dict)
    """Filling volumes that took part in every write with a seq above that: of those their silence says that they have no row."""
    brief: bool = False
    """There are older rows than these."""

    @classmethod
    def of(
        cls, n: int, rows: dict[int, list[Row]], filling: frozenset[int], regressed: frozenset[int] = frozenset(),
        since: Mapping[int, int] = MappingProxyType({}),
    ) -> View:
        """A view in which a volume that shows an unsound record counts as silent, unless all do.

        Records of which several volumes show the same bytes, and no volume others, are not looked at: that costs time.
        """
        copies: dict[RowId, list[bytes]] = {}
        heard = rows
        for own in rows.values():
            for row in own:
                copies.setdefault(row.id, []).append(row.record)
        doubtful = {id for id, found in copies.items() if len(found) < min(2, len(rows)) or any(r != found[0] for r in found)}
        if doubtful:
            sound = {slot: own for slot, own in rows.items() if all(row.id not in doubtful or _sound(row) for row in own)}
            rows = sound or rows
        return cls(n, rows, filling, regressed, heard, since)

    @cached_property
    def versions(self) -> list[Version]:
        """All row ids heard of, newest first."""
        found: dict[RowId, dict[int, Row]] = {}
        for slot, rows in self.rows.items():
            for row in rows:
                found.setdefault(row.id, {})[slot] = row
        return [Version(id, found[id]) for id in sorted(found, key=lambda id: (id.seq, id.rev), reverse=True)]

    @property
    def vouching(self) -> int:
        """Volumes whose silence counts."""
        return sum(slot not in self.filling for slot in self.rows)

    @property
    def highest_m(self) -> int:
        """The greatest fault tolerance among the key's rows, -1 without any data row. In a brief view it may be that of a row
        which is gone."""
        highest = -1
        for version in self.versions:
            with suppress(DataLost):  # a rotten old row must not stop all writes of its key
                if version.record.kind in DATA_KINDS and version.record.layout is not None:
                    highest = max(highest, version.record.layout.m)
                if self.brief:
                    highest = max(highest, version.record.top)
        return highest

    @property
    def newest_seq(self) -> int:
        return self.versions[0].id.seq if self.versions else 0

    def has_shards(self, slot: int, record: Record) -> bool:
        """Whether another rev of that version keeps the same shards there."""
        others = (version for version in self.versions if version.id.seq == record.seq and slot in version.present)
        return any(version.record.write_ids == record.write_ids for version in others)

    def keeps(self, slot: int, write_ids: tuple[bytes, ...]) -> bool:
        """Whether a row of the key keeps those shards there."""
        for version in self.versions:
            with suppress(DataLost):
                if slot in version.present and version.record.write_ids == write_ids:
                    return True
        return False

    def judge(self, version: Version) -> Fate:
        """The fate of a row, if no living writer works on it."""
        copies, w = version.copies, version.record.w
        if self.regressed.issuperset(copies):
            denied = sum(slot not in self.filling for slot in self.rows)
            return Fate.NEVER if denied >= self.n - w + 1 else Fate.OPEN
        aborted = sum(row.state is State.ABORTED for row in copies.values())
        present = len(copies) - aborted
        if aborted >= self.n - w + 1:  # ahead of any mark: a volume that was away may not know what was discarded meanwhile
            return Fate.ABORTED
        if present >= w or any(row.state.stands for row in copies.values()):
            return Fate.COMMITTED
        silent = [s for s in range(self.n) if s not in copies and not self._denies(s, version.id)]
        addressed = 0
        for row in copies.values():
            addressed |= row.to
        if present + sum(addressed >> slot & 1 for slot in silent) < w:
            return Fate.NEVER
        may_abort = aborted + len(silent) >= self.n - w + 1
        if present >= version.k and len(self.rows) >= w and not may_abort:
            return Fate.FINISH
        return Fate.OPEN

    def _denies(self, slot: int, id: RowId) -> bool:
        """Whether that a volume shows no such row means that it has none. (A rev does not tell when it was made.)"""
        if slot not in self.rows:
            return False
        return slot not in self.filling or (id.rev == 0 and id.seq > self.since.get(slot, id.seq))


def same_content(a: Record, b: Record) -> bool:
    """Whether two records of one version show the same to every client, and differ in their layout at most."""
    plain = [
        structs.replace(x, w=0, rev=0, top=-1, layout=None, parts=tuple(structs.replace(part, write_id=b"") for part in x.parts))
        for x in (unpaired(a), unpaired(b))
    ]
    return plain[0] == plain[1]
