"""All volumes together: one walk over all keys, in the order of the catalogs, with every shard of every living version read.

The walk runs in this thread; shards are read by one thread for each volume, a batch of keys at a time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from abixio.errors import VolumeError
from abixio.fsck import keys
from abixio.fsck.findings import Finding, Kind, Level, Report
from abixio.fsck.keys import Key
from abixio.fsck.progress import Meter
from abixio.fsck.shards import Verdict, check_file, check_inline, readable
from abixio.fsck.volumes import Site, Volumes
from abixio.fsck.walk import in_order, is_sound, rows_of
from abixio.fsck.words import name_of
from abixio.store.multipart import uploads_space
from abixio.store.opening import REGRESSED
from abixio.store.record import ROOT, Part, unpack
from abixio.store.resolve import DATA_KINDS, LISTED_KINDS, Version
from abixio.store.types import Bucket
from abixio.volume.catalog_check import Mend
from abixio.volume.interface import Row

BATCH: Final = 128
"""Keys whose shards are read together: enough for every disk to have work, and 32 MiB of inline shards at most on 16 volumes."""

@dataclass
class _Shard:
    """One to be read."""

    part: Part
    slot: int
    stored: bytes | None
    """Its bytes, when it lives in the catalog."""
    inline: bool
    verdict: Verdict = field(default_factory=Verdict)


@dataclass
class _Work:
    """A version and its shards, by part."""

    key: Key
    version: Version
    parts: list[tuple[Part, list[_Shard]]]


class Cross:
    """The walk."""

    def __init__(self, volumes: Volumes, report: Report, meter: Meter, executor: ThreadPoolExecutor) -> None:
        self._volumes = volumes
        self._report = report
        self._meter = meter
        self._executor = executor
        self._spaces: dict[bytes, tuple[str, bool]] = {}
        self._stray: Counter[bytes] = Counter()
        self._owners: dict[tuple[bytes, bytes], bool] = {}

    def run(self) -> None:
        """Add everything found to the report."""
        batch: list[_Work] = []
        for key in self._keys():
            for finding in keys.examine(key, self._volumes):
                self._report.add(finding)
            self._belongs(key)
            batch += self._works(key)
            self._meter.step(1)
            if len(batch) >= BATCH:
                self._read(batch)
                batch = []
        self._read(batch)
        for space, count in self._stray.items():
            text = f"space {space.hex()}: {count} keys, and no bucket leads there"
            self._report.add(Finding(Level.DAMAGE, Kind.BUCKET, text))

    # ---- keys --------------------------------------------------------------------------------------------------------
    def _keys(self) -> Iterator[Key]:
        sites = self._volumes.sites.values()
        for space, key, rows in in_order(sites, self._failed):
            rows |= {site.slot: [] for site in sites if site.sound and site.slot not in rows}
            torn = {site.slot: self._torn(site, rows[site.slot]) for site in sites if site.sound and not site.clean}
            filling = frozenset(site.slot for site in sites if site.filling or not site.sound)
            regressed = frozenset(site.slot for site in sites if site.filling == REGRESSED)
            name = name_of(self._spaces, space, key)
            yield Key(space, key, name, rows, filling, regressed, self._volumes.n, {slot for slot in torn if torn[slot]})

    def _torn(self, site: Site, rows: list[Row]) -> bool:
        """Take out the rows that the next start drops; whether there were any."""
        torn = [row for row in rows if self._is_torn(site, row)]
        for row in torn:
            rows.remove(row)
        return bool(torn)

    def _is_torn(self, site: Site, row: Row) -> bool:
        """Whether the machine went down before a sync had covered a shard file of that row."""
        if row.inline is not None or site.catalog is None or not site.catalog.journaled(row.id) or not is_sound(row):
            return False
        record = unpack(row.record)
        if record.kind not in DATA_KINDS or record.layout is None:
            return False
        for part in record.parts:
            if check_file(self._volumes.files, site.path, part, record.layout, site.slot, lambda read: None).defect:
                name = name_of(self._spaces, *row.id[:2])
                text = f"slot {site.slot}: {name}: a write that no sync covered is taken back at the next start"
                self._report.add(Finding(Level.NOTICE, Kind.UNFINISHED, text, site.slot))
                return True
        return False

    def _failed(self, site: Site, error: VolumeError) -> None:
        if site.sound:
            site.defects.append(str(error))
            self._report.add(Finding(Level.DAMAGE, Kind.CATALOG, f"slot {site.slot}: {error}", site.slot))

    def _belongs(self, key: Key) -> None:
        """Does a bucket, or an open upload, lead to that key? Buckets come first in the walk."""
        if not key.living or key.living[0].record.kind not in LISTED_KINDS:
            return
        record = key.living[0].record
        if record.kind == "bucket":
            space = bytes.fromhex(record.settings["id"])
            bucket = Bucket(record.key.decode(), space, record.modified, record.owner, record.settings)
            self._spaces[space] = bucket.name, False
            self._spaces[uploads_space(bucket)] = bucket.name, True
        elif (owner := keys.owner_of(record)) is not None:
            self._part(key, owner)
        elif key.space not in self._spaces and key.space != ROOT:
            self._stray[key.space] += 1

    def _part(self, key: Key, owner: tuple[bytes, bytes]) -> None:
        if owner not in self._owners:
            rows = [row for site in self._volumes.sites.values() for row in rows_of(site, *owner)]
            newest = max(rows, key=lambda row: row.id, default=None)
            known = newest is None and not self._volumes.vouching()
            self._owners = {owner: known or (newest is not None and _open(newest))}
        if self._owners[owner]:
            return
        id = key.living[0].id
        sites = [self._volumes.sites[slot] for slot in key.living[0].copies]
        if not any(site.sound and site.catalog is not None and site.catalog.journaled(id) for site in sites):
            slot = min(key.living[0].copies)
            text = f"{key.name}: was left behind when its upload ended"
            self._report.add(Finding(Level.DAMAGE, Kind.JOURNAL, text, slot, cures=(Mend("journal", id),)))

    # ---- shards ------------------------------------------------------------------------------------------------------
    def _works(self, key: Key) -> Iterator[_Work]:
        for version in key.living:
            record = version.record
            self._report.versions += record.kind in DATA_KINDS
            if record.kind not in DATA_KINDS or record.layout is None:
                continue
            inline = any(row.inline is not None for row in version.copies.values())
            parts = [(part, [self._shard(version, part, slot, inline) for slot in self._holders(version, inline)])
                     for part in record.parts]
            yield _Work(key, version, parts)

    def _holders(self, version: Version, inline: bool) -> list[int]:
        """The slots where a shard is to be looked for: where the row is, and where a file may be without it."""
        return [slot for slot in self._volumes.sites if slot in version.present or not inline]

    def _shard(self, version: Version, part: Part, slot: int, inline: bool) -> _Shard:
        stored = None
        row = version.present.get(slot)
        catalog = self._volumes.sites[slot].catalog
        if inline and row is not None and row.inline is not None and catalog is not None:
            try:
                stored = catalog.inline(row.inline)
            except VolumeError:
                stored = None  # then it is a shard that is lost
        return _Shard(part, slot, stored, inline)

    def _read(self, batch: list[_Work]) -> None:
        """Every volume's shards on a thread of its own, then the findings in order."""
        by_slot: dict[int, list[tuple[_Work, _Shard]]] = {}
        for work in batch:
            for _, shards in work.parts:
                for shard in shards:
                    by_slot.setdefault(shard.slot, []).append((work, shard))
        list(self._executor.map(self._read_volume, by_slot.values()))
        for work in batch:
            self._judge(work)

    def _read_volume(self, shards: list[tuple[_Work, _Shard]]) -> None:
        for work, shard in shards:
            layout = work.version.record.layout
            assert layout is not None
            if shard.inline:
                shard.verdict = check_inline(shard.stored, shard.part, layout, shard.slot)
                continue
            shard.verdict = check_file(
                self._volumes.files, self._volumes.sites[shard.slot].path, shard.part, layout, shard.slot,
                lambda read: self._meter.step(0, read),
            )

    def _judge(self, work: _Work) -> None:
        lost: list[str] = []
        for part, shards in work.parts:
            self._report.shards += sum(shard.slot in work.version.present for shard in shards)
            self._report.bytes += sum(shard.verdict.read for shard in shards)
            if not readable({shard.slot: shard.verdict for shard in shards}, work.version.record, part):
                good = sum(not shard.verdict.defect for shard in shards)
                lost.append(f"part {part.number}, {good}" if len(work.parts) > 1 else f"{good}")
            for shard in shards:
                if shard.verdict.defect and shard.slot in work.version.present and self._volumes.sites[shard.slot].sound:
                    which = "inline shard" if shard.inline else f"shard {part.write_id.hex()}"
                    text = f"slot {shard.slot}: {work.key.name}: {which} {shard.verdict.defect}"
                    self._report.add(Finding(Level.DAMAGE, Kind.SHARD, text, shard.slot, work.version.id))
        if lost:
            self._lost(work, lost)

    def _lost(self, work: _Work, lost: list[str]) -> None:
        layout = work.version.record.layout
        assert layout is not None
        away = f"; slot {', '.join(map(str, self._volumes.missing))} is not here" if self._volumes.missing else ""
        more = f", and {len(lost) - 1} parts more" if len(lost) > 1 else ""
        text = f"{work.key.name}: {lost[0]} of the {layout.k} shards that it needs are sound{more}{away}"
        self._report.add(Finding(Level.LOST, Kind.DATA, text, row=work.version.id))


def _open(row: Row) -> bool:
    return unpack(row.record).kind == "upload"
