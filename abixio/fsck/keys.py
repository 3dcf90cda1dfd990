"""One key on all volumes: whether rows, heads, references and journal agree with each other and with the rule *Resolve*."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from abixio.fsck.findings import Finding, Kind, Level
from abixio.fsck.volumes import Volumes
from abixio.fsck.walk import is_sound
from abixio.store.record import Record, unpack
from abixio.store.resolve import Fate, Version, View
from abixio.store.versions import FLEETING, hides, shown
from abixio.volume.catalog_check import Examiner, Mend
from abixio.volume.interface import Row, RowId, State


@dataclass
class Key:
    """What the catalogs say of a key."""

    space: bytes
    key: bytes
    name: str
    rows: dict[int, list[Row]]
    """By slot, for every catalog that can be trusted, and rows that others still show."""
    filling: frozenset[int]
    regressed: frozenset[int]
    n: int
    torn: set[int] = field(default_factory=set)
    """Slots where the next start drops a row: what LIST shows there is set right with it."""
    lost: list[RowId] = field(default_factory=list)
    """Rows whose record is sound nowhere."""

    @cached_property
    def view(self) -> View:
        return View(self.n, self.rows, self.filling, self.regressed)

    @cached_property
    def fates(self) -> list[tuple[Version, Fate]]:
        return [(version, self.view.judge(version)) for version in self.view.versions]

    @cached_property
    def living(self) -> list[Version]:
        """Committed versions that no newer one hides, newest first."""
        found: list[Version] = []
        for version, fate in self.fates:
            row = next(iter(version.copies.values()))
            if fate is Fate.COMMITTED and not any(hides(newer.record, row) for newer in found):
                found.append(version)
        return found


def examine(key: Key, volumes: Volumes) -> Iterator[Finding]:
    """Everything but the shards. Rows with rotten records are replaced in `key` by what they should be, or taken out."""
    yield from _records(key)
    for slot, rows in key.rows.items():
        catalog = volumes.sites[slot].catalog
        if volumes.sites[slot].sound and catalog is not None:
            yield from _refs(key, slot, rows, catalog)
            if slot not in key.torn:
                yield from _head(key, slot, rows, catalog)
    yield from _fates(key, volumes)


# ---- one volume ------------------------------------------------------------------------------------------------------
def _records(key: Key) -> Iterator[Finding]:
    sound = _sound_records(key.rows)
    for slot, rows in key.rows.items():
        kept: list[Row] = []
        for row in rows:
            good = sound.get(row.id)
            if good is None:
                key.lost.append(row.id)
                yield Finding(
                    Level.LOST, Kind.RECORD, f"{key.name}: the record of version {row.id.seq} is rotten and nowhere else", slot,
                    row.id,
                )
                continue
            if row.record != good:
                yield Finding(
                    Level.DAMAGE, Kind.RECORD, f"slot {slot}: {key.name}: the record of version {row.id.seq} is rotten", slot,
                    cures=(Mend("record", (good, *row.id)),),
                )
            kept.append(row._replace(record=good))
        rows[:] = kept


def _sound_records(rows: Mapping[int, list[Row]]) -> dict[RowId, bytes]:
    found: dict[RowId, bytes] = {}
    for own in rows.values():
        for row in own:
            if row.id not in found and is_sound(row):
                found[row.id] = row.record
    return found


def _refs(key: Key, slot: int, rows: list[Row], catalog: Examiner) -> Iterator[Finding]:
    for row in rows:
        for place, write_id in enumerate(unpack(row.record).write_ids):
            right = place, row.inline if place == 0 else None
            if catalog.ref(write_id, row.id) != right:
                text = f"slot {slot}: {key.name}: nothing keeps shard {write_id.hex()} alive"
                yield Finding(Level.DAMAGE, Kind.REF, text, slot, cures=(Mend("ref", (write_id, *row.id, *right)),))


def _head(key: Key, slot: int, rows: list[Row], catalog: Examiner) -> Iterator[Finding]:
    """What LIST shows. While the newest row is not committed, the journal speaks for the key, whatever the head says."""
    newest = next((row for row in rows if row.state is not State.ABORTED), None)
    if newest is not None and newest.state is not State.COMMITTED:
        return
    right = shown(rows)
    if catalog.head(key.space, key.key) == right:
        return
    cure = Mend("drop_head", (key.space, key.key)) if right is None else Mend("head", (key.space, key.key, *right))
    what = "is listed but deleted" if right is None else "is not listed, or as another version"
    yield Finding(Level.DAMAGE, Kind.HEAD, f"slot {slot}: {key.name}: {what}", slot, cures=(cure,))


# ---- all volumes -----------------------------------------------------------------------------------------------------
def _fates(key: Key, volumes: Volumes) -> Iterator[Finding]:
    for version, fate in key.fates:
        if fate is Fate.COMMITTED and version in key.living:
            yield from _spread(key, version, volumes)
        elif fate is Fate.COMMITTED:
            yield from _hidden(key, version, volumes)
        elif fate is Fate.OPEN:
            text = f"{key.name}: write {version.id.seq} can be neither completed nor taken back with these volumes"
            yield Finding(Level.DAMAGE, Kind.UNFINISHED, text, row=version.id)
        else:
            yield from _unfinished(key, version, volumes)


def _spread(key: Key, version: Version, volumes: Volumes) -> Iterator[Finding]:
    """A living version belongs on every volume, as committed; until then the journal has it."""
    trusted = [slot for slot in version.present if volumes.sites[slot].sound]
    journaled = [slot for slot in trusted if _journaled(volumes, slot, version.id)]
    lacking = ", ".join(str(slot) for slot in key.rows if slot not in version.present and slot not in key.filling)
    pending = [slot for slot in trusted if version.copies[slot].state is not State.COMMITTED and slot not in journaled]
    cure = (Mend("journal", version.id),)
    if not trusted:
        return
    if lacking and not journaled:
        text = f"{key.name}: version {version.id.seq} is missing on slot {lacking}, and no journal knows"
        yield Finding(Level.DAMAGE, Kind.ROW, text, trusted[0], version.id, cure)
    elif lacking:
        yield Finding(Level.NOTICE, Kind.UNFINISHED, f"{key.name}: the journal brings it to slot {lacking}")
    elif version.record.kind in FLEETING and not journaled:
        text = f"{key.name}: the delete {version.id.seq} is on all volumes and stays, for no journal knows"
        yield Finding(Level.DAMAGE, Kind.JOURNAL, text, trusted[0], cures=cure)
    else:
        for slot in pending:
            text = f"slot {slot}: {key.name}: version {version.id.seq} is not settled, and the journal lacks it"
            yield Finding(Level.DAMAGE, Kind.JOURNAL, text, slot, cures=cure)


def _hidden(key: Key, version: Version, volumes: Volumes) -> Iterator[Finding]:
    """A row that should have gone when the one above it was marked."""
    newest = key.living[0]
    for slot in version.copies:
        own = newest.copies.get(slot)
        if own is None or own.state is not State.COMMITTED or _journaled(volumes, slot, newest.id):
            continue
        if volumes.sites[slot].sound:
            text = f"slot {slot}: {key.name}: the old version {version.id.seq} was left behind"
            yield Finding(Level.DAMAGE, Kind.ROW, text, slot, cures=(Mend("journal", newest.id),))


def _unfinished(key: Key, version: Version, volumes: Volumes) -> Iterator[Finding]:
    """A write without an answer: the next start finishes it or takes it back, if the journal leads there."""
    if any(_journaled(volumes, slot, version.id) for slot in version.copies):
        text = f"{key.name}: write {version.id.seq} was not finished; the next start settles it"
        yield Finding(Level.NOTICE, Kind.UNFINISHED, text)
        return
    slot = min(version.copies)
    text = f"{key.name}: write {version.id.seq} was not finished, and no journal knows"
    yield Finding(Level.DAMAGE, Kind.JOURNAL, text, slot, cures=(Mend("journal", version.id),))


def _journaled(volumes: Volumes, slot: int, id: RowId) -> bool:
    site = volumes.sites[slot]
    return site.sound and site.catalog is not None and site.catalog.journaled(id)


def owner_of(record: Record) -> tuple[bytes, bytes] | None:
    """The space and key of the upload that a part belongs to."""
    return (record.upload[:16], record.upload[16:]) if record.kind == "part" else None
