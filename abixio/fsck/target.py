"""A catalog in the making, which takes the place of one that is lost or rotten. Until it does, the old one is not touched.

The swap: the old database goes aside first, so that a crash at any moment leaves either the old catalog, or none at all
(which a server refuses, and the next rebuild looks aside), or the new one. Never the new one with the old one's WAL.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from os.path import basename, join
from typing import Final

from abixio.codec.checksum import block_seed
from abixio.errors import DataLost, ShardCorrupt, VolumeError
from abixio.fsck.shards import check_file, check_inline
from abixio.fsck.volumes import Site
from abixio.fsck.walk import rows_of
from abixio.store.clock import Clock
from abixio.store.decoder import Decoder
from abixio.store.inline import InlineShard, pack_shard
from abixio.store.layout import shard_size, stripe_at
from abixio.store.record import Layout, Part, Record, unpack
from abixio.store.resolve import DATA_KINDS, LISTED_KINDS
from abixio.volume import catalog, names
from abixio.volume.catalog import Catalog
from abixio.volume.files import Files, volume_error
from abixio.volume.interface import Change, Head, Insert, Note, Op, Row, RowId, Settle, State

BATCH: Final = 500
"""Changes per transaction: some MiB at most, with inline shards."""
PARTS: Final = ("", "-wal", "-shm")

Inline = Mapping[int, bytes]
"""Shards that live in catalogs, by slot."""


class Target:
    """One of them."""

    def __init__(self, site: Site, files: Files) -> None:
        self.site = site
        self.slot = site.slot
        self._files = files
        self._path = names.successor(site.path)
        self._batch: list[Change] = []
        try:
            self._remove_successor()
        except OSError as error:
            raise volume_error(error, f"{site.path}: no catalog can be made") from error
        catalog.create(self._path, site.identity.volume, files.vfs)
        self._catalog = Catalog(self._path, site.identity.volume, files.vfs)

    # ---- filling it --------------------------------------------------------------------------------------------------
    def note(self, **notes: int) -> None:
        self.add([Note(name, value) for name, value in notes.items()])

    def add(self, change: Change) -> None:
        """Goes in with those before and behind it."""
        self._batch.append(change)
        if len(self._batch) >= BATCH:
            self.flush()

    def flush(self) -> None:
        if self._batch:
            batch, self._batch = self._batch, []
            self._catalog.apply(batch, False, None)

    def rows(self, space: bytes, key: bytes) -> list[Row]:
        """What has been added of a key."""
        self.flush()
        return self._catalog.read.rows(space, key)

    def named(self, write_id: bytes) -> bool:
        """Whether a row that was added needs that shard."""
        self.flush()
        return self._catalog.read.named(write_id)

    def shard(self, record: Record, others: Inline | None) -> bytes | bool:
        """This volume's shards of that record: True when it has them as files, every byte checked; the bytes of one that
        lives in the catalog; False when it lacks any. `others`: inline shards of other volumes; None: it has files."""
        layout = record.layout
        if record.kind not in DATA_KINDS or layout is None:
            return True
        if others is None:
            return all(
                not check_file(self._files, self.site.path, part, layout, self.slot, _ignore).defect for part in record.parts
            )
        (part,) = record.parts
        own = self.own_inline(record)
        if own is not None and not check_inline(own, part, layout, self.slot).defect:
            return own
        return _remade(layout, part, others, self.slot) or False

    def own_inline(self, record: Record) -> bytes | None:
        """What the old catalog still has of a record's inline shard."""
        if self.site.catalog is None:
            return None
        with suppress(VolumeError):
            for row in self.site.catalog.rows(record.space, record.key):
                if row.inline is not None and row.id == (record.space, record.key, record.seq, record.rev):
                    return self.site.catalog.inline(row.inline)
        return None

    def old_row(self, id: RowId) -> Row | None:
        """What the old catalog still shows of that row, unless it was taken back."""
        rows = rows_of(self.site, id.space, id.key)
        return next((row for row in rows if row.id == id and row.state is not State.ABORTED), None)

    def take(
        self, id: RowId, stored: bytes, shard: bytes | bool, to: int, settled: bool = False, state: State = State.COMMITTED
    ) -> None:
        """Add a row, which is the newest of its key so far. `settled`: every volume has it, so the journal need not know."""
        record = unpack(stored)
        inline = shard if isinstance(shard, bytes) else None
        change: list[Op] = [Insert(id, state, to, stored, record.write_ids, inline, guard=False)]
        if settled:
            change.append(Settle(id))
        change.append(Head(id.space, id.key, (id.seq, id.rev) if record.kind in LISTED_KINDS else None))
        self.add(change)

    # ---- putting it in place -----------------------------------------------------------------------------------------
    def abandon(self) -> None:
        """Leave the volume as it was. Harmless after `install`."""
        self._catalog.close()
        self._remove_successor()

    def install(self) -> str | None:
        """Make it the catalog; where the old one is kept, if there was one. VolumeError."""
        self.flush()
        self._catalog.close()
        home = names.home(self.site.path)
        try:
            self._sync()
            aside = self._set_old_aside()
            self._files.rename(self._path, names.catalog(self.site.path))
            self._files.rename(f"{self._path}-wal", names.wal(self.site.path))
            self._files.fsync_directory(home)
            self._remove_successor()
            if aside is None:
                return None
            kept = names.set_aside(self.site.path, Clock().tick())
            self._files.rename(aside, kept)
            self._files.fsync_directory(home)
        except OSError as error:
            raise volume_error(error, f"{self.site.path}: the new catalog cannot be put in place") from error
        return kept

    def _sync(self) -> None:
        """The new catalog, which must be whole without its WAL: that follows it into its place."""
        wal = self._files.open(f"{self._path}-wal")
        try:
            if self._files.size(wal):
                raise VolumeError(f"{self._path}: was not written whole")
        finally:
            self._files.close(wal)
        root = self._files.open(self.site.path)
        try:
            self._files.syncfs(root)
        finally:
            self._files.close(root)

    def _set_old_aside(self) -> str | None:
        if any(self._files.exists(names.catalog(self.site.path) + suffix) for suffix in PARTS):
            move_aside(self._files, self.site.path)
        return names.aside(self.site.path) if self._files.exists(names.aside(self.site.path)) else None

    def _remove_successor(self) -> None:
        for suffix in PARTS:
            if self._files.exists(self._path + suffix):
                self._files.unlink(self._path + suffix)


def move_aside(files: Files, volume: str) -> None:
    """The old catalog, as far as it is there; the database first, for a database without its WAL would be a lie. OSError."""
    aside = names.aside(volume)
    files.mkdir(aside)
    for suffix in PARTS:
        path = names.catalog(volume) + suffix
        kept = join(aside, basename(path))
        if files.exists(path) and not files.exists(kept):
            files.rename(path, kept)
            files.fsync_directory(names.home(volume))


def _ignore(_read: int) -> None:
    """The meter of a rebuild counts keys."""


def _remade(layout: Layout, part: Part, others: Inline, slot: int) -> bytes | None:
    """An inline shard, from those of the other volumes; None when they are too few."""
    openers = {}
    for index, other in enumerate(layout.slots):
        if other in others and other != slot:
            openers[index] = partial(_open, others[other], block_seed(part.write_id, part.number, other))
    index = layout.slots.index(slot)
    out = bytearray(shard_size(layout, index, part.stored))
    source = Decoder(layout, part, openers)
    try:
        if out:
            source.rebuild(stripe_at(layout, part.stored, 0), index, 0, memoryview(out))
    except DataLost:
        return None
    finally:
        source.close()
    return pack_shard(out, block_seed(part.write_id, part.number, slot))


def _open(stored: bytes, seed: int) -> InlineShard:
    try:
        return InlineShard(stored, seed, b"")
    except ValueError as error:
        raise ShardCorrupt("an inline shard is cut short") from error

