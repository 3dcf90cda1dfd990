"""The last resort: what the footers of shard files tell of objects that no catalog knows any more.

A footer holds the record as it was when the upload had been received: name, metadata, layout and ETag are right; seq and
quorum were decided later, and so were tags, deletes, and what became of a multipart upload. So the newest of several
finished uploads of a key is taken by that provisional seq, and multipart uploads come back as open uploads. The footer of
a shard that repair has made again holds the final record.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from msgspec.structs import replace

from abixio.errors import CatalogCorrupt, VolumeError
from abixio.fsck.outcome import Rebuilt
from abixio.fsck.progress import Meter
from abixio.fsck.shards import check_file
from abixio.fsck.target import Target
from abixio.fsck.volumes import Volumes
from abixio.fsck.walk import rows_of
from abixio.store.clock import Clock
from abixio.store.multipart import uploads_space
from abixio.store.pool import Quorum
from abixio.store.record import ROOT, Layout, Part, Record, pack, unpack
from abixio.store.resolve import DATA_KINDS
from abixio.store.types import Bucket
from abixio.volume import names, shardfile
from abixio.volume.interface import Drop, Row, RowId

GUESSED: Final = 0
"""The slots addressed, of a row made from a footer: no writer has that, so these rows are told from others."""
RECOVERED: Final = "recovered-"
"""Before the id of a bucket whose name is lost; with it 42 characters, a legal bucket name."""


class _Found(NamedTuple):
    record: Record
    stored: bytes


class Spaces(NamedTuple):
    """What is known of buckets."""

    used: dict[bytes, str]
    """Where there are objects, and whose."""
    named: set[bytes]
    """Where a bucket leads."""

    def take(self, record: Record) -> None:
        """Learn from a record that is there."""
        if record.kind == "object":
            self.used.setdefault(record.space, record.owner)
        elif record.kind == "bucket":
            self.named.add(bytes.fromhex(record.settings["id"]))

    def of_uploads(self) -> set[bytes]:
        """The spaces of these buckets' uploads."""
        return {uploads_space(_bucket(space)) for space in (*self.used, *self.named)}


class Footers:
    """Adds to the targets what they do not know yet."""

    def __init__(
        self, volumes: Volumes, targets: Sequence[Target], result: Rebuilt, spaces: Spaces, meter: Meter
    ) -> None:
        self._volumes = volumes
        self._targets = targets
        self._result = result
        self._meter = meter
        self._clock = Clock()
        self._least = Quorum(volumes.n).h
        self._spaces = spaces
        self._upload_spaces: set[bytes] = set()
        self._uploads: dict[bytes, Record] = {}
        """Records of the open uploads that were made, by id."""
        self._parts: dict[bytes, list[bytes]] = {}
        """Write ids of parts by upload."""
        self._passed = 0

    def run(self) -> None:
        """Objects first: they tell which buckets there were."""
        self._meter.phase("footers of shard files", 256)
        for directory in range(256):
            for write_id in self._files(directory):
                self._file(write_id)
            self._meter.step(1)
        self._upload_spaces = self._spaces.of_uploads()
        for upload, parts in self._parts.items():
            self._upload(upload, parts)
        self._buckets()
        self._tell()

    def _files(self, directory: int) -> list[bytes]:
        found: set[bytes] = set()
        for site in self._volumes.sites.values():
            try:
                listed = self._volumes.files.names(names.shard_files(site.path, directory))
            except OSError as error:
                raise VolumeError(f"{site.path}: {error.strerror}") from error
            found.update(write_id for name in listed if (write_id := names.write_id(name, directory)) is not None)
        return sorted(found)

    def _file(self, write_id: bytes) -> None:
        if any(target.named(write_id) for target in self._targets) or self._known(write_id):
            return
        found = self._footer(write_id)
        if found is None:
            return
        if found.record.kind == "part":
            self._parts.setdefault(found.record.space, []).append(write_id)
        elif not self._object(found):
            self._passed += 1

    def _known(self, write_id: bytes) -> bool:
        """Whether a sound catalog names that shard."""
        sites = self._volumes.sites.values()
        return any(site.sound and site.catalog is not None and site.catalog.named(write_id) for site in sites)

    def _footer(self, write_id: bytes) -> _Found | None:
        """The best record that the files of that id show: a final one rather than a provisional one, the newest of those."""
        best: _Found | None = None
        for site in self._volumes.sites.values():
            try:
                shard = shardfile.open_shard(self._volumes.files, names.shard(site.path, write_id), write_id)
                found = _Found(unpack(shard.record), shard.record)
                shard.close()
            except (VolumeError, CatalogCorrupt):
                continue
            if found.record.kind in DATA_KINDS and found.record.layout is not None and write_id in found.record.write_ids:
                best = found if best is None else max(best, found, key=_rank)
        return best

    # ---- objects -----------------------------------------------------------------------------------------------------
    def _object(self, found: _Found) -> bool:
        """Take it, unless a catalog knows better or too few shards are sound."""
        record, stored = self._final(found)
        there = self._rows(record.space, record.key)
        if any(row.to != GUESSED for row in there) or any(row.id[2:] >= (record.seq, record.rev) for row in there):
            return False
        holders = self._holders(record)
        if holders is None:
            return False
        id = RowId(record.space, record.key, record.seq, record.rev)
        for target in self._targets:
            for row in target.rows(record.space, record.key):
                target.add([Drop(row.id, unpack(row.record).write_ids)])
            if target.slot in holders:
                target.take(id, stored, True, GUESSED)
        self._spaces.take(record)
        self._result.from_footers += not there
        return True

    def _final(self, found: _Found) -> _Found:
        """With a quorum, where the footer was written before there was one."""
        record = found.record
        if record.w:
            return found
        layout = record.layout
        assert layout is not None
        final = replace(record, w=max(layout.k, self._least, 1 + layout.m))
        return _Found(final, pack(final))

    def _rows(self, space: bytes, key: bytes) -> list[Row]:
        """What any catalog, old or new, shows of a key."""
        found = [row for site in self._volumes.sites.values() for row in rows_of(site, space, key)]
        return found + [row for target in self._targets for row in target.rows(space, key)]

    def _holders(self, record: Record) -> set[int] | None:
        """The slots with all its shards, every byte checked; None when fewer than k have one of them. Where no slot has all, all
        slots: the rest is made again."""
        layout = record.layout
        assert layout is not None
        common = set(layout.slots)
        for part in record.parts:
            sound = {slot for slot in layout.slots if self._sound(slot, part, layout)}
            if len(sound) < layout.k:
                return None
            common &= sound
        return common or set(layout.slots)

    def _sound(self, slot: int, part: Part, layout: Layout) -> bool:
        site = self._volumes.sites.get(slot)
        if site is None:
            return False
        verdict = check_file(
            self._volumes.files, site.path, part, layout, slot, lambda read: self._meter.step(0, read)
        )
        return not verdict.defect

    # ---- uploads -----------------------------------------------------------------------------------------------------
    def _upload(self, id: bytes, write_ids: list[bytes]) -> None:
        """An upload comes back as an open one: nothing says whether it was completed, or with which of these parts."""
        for write_id in write_ids:
            if any(target.named(write_id) for target in self._targets):
                continue
            found = self._footer(write_id)
            if found is None or not self._part(id, found):
                self._passed += 1

    def _part(self, id: bytes, found: _Found) -> bool:
        if len(found.record.upload) < 16 or self._ended(found.record):
            return False
        upload = self._uploads.get(id) or self._opened(id, found.record)
        record, stored = self._final(_Found(replace(found.record, upload=upload.space + upload.key), found.stored))
        there = self._rows(record.space, record.key)
        holders = self._holders(record)
        if holders is None or any(row.id[2:] >= (record.seq, record.rev) for row in there):
            return False
        if id not in self._uploads:
            self._uploads[id] = upload
            if not self._rows(upload.space, upload.key):
                self._everywhere(upload)
                self._result.uploads += 1
        for target in self._targets:
            for row in target.rows(record.space, record.key):
                target.add([Drop(row.id, unpack(row.record).write_ids)])
            if target.slot in holders:
                target.take(RowId(record.space, record.key, record.seq, 0), stored, True, GUESSED)
        return True

    def _ended(self, part: Record) -> bool:
        """Whether a catalog knows that the upload was completed or aborted."""
        rows = self._rows(part.upload[:16], part.upload[16:])
        return bool(rows) and unpack(max(rows, key=lambda row: row.id).record).kind == "tombstone"

    def _opened(self, id: bytes, part: Record) -> Record:
        """The upload's record: the one that a catalog has, or a new one in a bucket that can be reached."""
        space, key = part.upload[:16], part.upload[16:]
        rows = self._rows(space, key)
        if rows:
            return unpack(max(rows, key=lambda row: row.id).record)
        if space not in self._upload_spaces:
            # Which bucket that was cannot be told from its number: a new one.
            self._spaces.used.setdefault(space, part.owner)
            space = uploads_space(_bucket(space))
        return Record("upload", space, key, self._clock.tick(), self._least, modified=part.modified, owner=part.owner,
                      layout=part.layout, upload=id, encryption=part.encryption, incompat=part.incompat)

    def _everywhere(self, record: Record) -> None:
        for target in self._targets:
            target.take(RowId(record.space, record.key, record.seq, 0), pack(record), True, GUESSED)

    # ---- buckets -----------------------------------------------------------------------------------------------------
    def _buckets(self) -> None:
        """A bucket for every space that none leads to."""
        for space, owner in self._spaces.used.items():
            if space in self._spaces.named:
                continue
            name, seq = RECOVERED + space.hex(), self._clock.tick()
            self._everywhere(Record(
                "bucket", ROOT, name.encode(), seq, self._least, modified=seq // 1000, owner=owner, settings={"id": space.hex()}
            ))
            self._result.buckets.append(name)

    def _tell(self) -> None:
        say = self._result.unknown.append
        say("which objects of these had been deleted: those whose shard files were still there are back")
        say("small objects, tags and deletes that only the lost catalogs knew: they are not in shard files")
        if self._result.from_footers:
            say("which of several uploads of a key was the last: the one that ended last was taken for it")
        if self._result.uploads:
            say(f"which of {self._result.uploads} multipart uploads had been completed: all are open uploads again, without "
                "their metadata; complete those that were")
        if self._result.buckets:
            say("the names of buckets whose records are lost: they are called after their number")
        if self._passed:
            say(f"what {self._passed} uploads were whose shard files are too few, or older than what a catalog knows; the next "
                "scan removes these files")


def _rank(found: _Found) -> tuple[bool, int, int]:
    return found.record.w > 0, found.record.seq, found.record.rev


def _bucket(space: bytes) -> Bucket:
    return Bucket("", space, 0, "", {})
