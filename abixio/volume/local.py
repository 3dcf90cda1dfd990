"""`LocalVolume`: a volume over one directory. Puts catalog and shard files together, keeps the last bytes of the disk for
deletes, and goes out of service when a sync fails or its directory is no longer there."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from errno import ENOENT
from itertools import count
from typing import Final

from abixio import _sqlio
from abixio.errors import CatalogCorrupt, ShardMissing, VolumeError, VolumeFull, VolumeGone, VolumeUnusable
from abixio.volume import identity, names, shardfile
from abixio.volume.catalog import Catalog
from abixio.volume.catalog_write import Answer
from abixio.volume.company import Company
from abixio.volume.files import Files, volume_error
from abixio.volume.identity import Identity
from abixio.volume.interface import Aged, Change, Row, RowId
from abixio.volume.lock import VolumeLock

RESERVE_SHARE: Final = 100
"""A hundredth of the disk takes no new data, so that deletes and repair find room when it is full."""
RESERVE_MOST: Final = 16 << 30
"""A hundredth of a large disk is more than they ever need."""
RESERVE_LEAST: Final = 8 << 20
"""A hundredth of a tiny one is less: a delete needs room in the WAL and, until it is checkpointed, in the database too;
each takes 4 MiB between checkpoints."""
_ROOM_SECONDS: Final = 1.0
_ROOM_PLENTY: Final = 4 << 30
"""With so much above the reserve, an answer about free space is good for a second: more than a disk takes in that time."""
TOGETHER: Final = 32
"""Files unlinked in one turn, where other processes wait for theirs: some ms of a healthy disk."""
BOOT: Final = "boot"
_UNVERIFIED: Final = "unverified"
"""Where the boot id stands: no boot has it."""
CLOSED: Final = "closed"
_REMEMBERED: Final = "remembered "
"""In front of the names that callers give, which cannot be mistaken for ours then."""
YES: Final = "yes"
_NO: Final = "no"


def reserve(total: int) -> int:
    """Bytes of a disk of that size that are kept for deletes and repair."""
    return min(max(total // RESERVE_SHARE, min(RESERVE_LEAST, total // 4)), RESERVE_MOST)


def last(kept: int) -> int:
    """Bytes of that reserve that repair leaves for deletes, without which a full disk stays full."""
    return max(kept // 2, min(kept, RESERVE_LEAST))


class LocalVolume:
    """See `interface.Volume`."""

    def __init__(
        self, path: str, files: Files, lock: VolumeLock, who: Identity, cat: Catalog, company: Company | None = None
    ) -> None:
        self.path = path
        self.company = company
        """The other processes that use the volume, if any."""
        self.files = files
        self.identity = who
        self.slot = who.slot
        self.orderly = True
        """False when its last use did not end in good order."""
        self.clean = True
        """False after a boot without clean shutdown: then the files of unsettled rows may be torn. Whoever has verified them
        sets it."""
        self._lock = lock
        self._catalog = cat
        self._read = cat.read
        cat.failed = self._fail
        self._out: VolumeUnusable | None = None
        """Why the volume is out of service."""
        self._turn: AbstractContextManager[object] = nullcontext() if company is None else company.turn
        self._closed = False
        self._dirty = False
        self._marked: bool | None = None
        """With which `clean` the catalog says that the volume is in use; written ahead of the first change."""
        self._numbers = count()
        self._writers: set[shardfile.ShardFileWriter] = set()
        """Those that may be unfinished: of a volume that went out of service nobody finishes or aborts them."""
        self._room_until = 0.0
        self._full: str | None = None
        """Why it takes no new data."""
        self._spent: str | None = None
        """Why it does not even take what repair makes again."""
        self._inode = files.inode(names.catalog(path))
        self._index = self._find_index()
        """Where the header of the WAL's index is: found now, since `stamp` must not ask the disk."""
        self._root = files.open(path)

    @classmethod
    def open(cls, path: str, files: Files | None = None, company: Company | None = None) -> LocalVolume:
        """StartupError when the directory is none of ours, in use or not understood; CatalogCorrupt when only its catalog is
        bad; VolumeError when the disk does not work. A full or read-only disk opens."""
        files = files or Files()
        who = identity.read(files, path)
        with ExitStack() as undo:
            lock = VolumeLock(files, path, company.lock if company is not None else None)
            undo.callback(lock.release)
            try:
                if not files.exists(names.catalog(path)):
                    raise CatalogCorrupt(f"{names.catalog(path)}: is missing; restore it, or replace the volume")
                cat = Catalog(names.catalog(path), who.volume, files.vfs, None if company is None else company.turn)
                undo.callback(cat.close)
                volume = cls(path, files, lock, who, cat, company)
                undo.callback(files.close, volume._root)
                if company is not None and company.joins:
                    volume._join(company.worker)
                else:
                    volume._recover()
            except OSError as error:
                raise volume_error(error, path) from error
            undo.pop_all()
        return volume

    @property
    def device(self) -> int:
        """Number of the file system; two volumes on one share its fate."""
        return self._inode[0]

    @property
    def lock(self) -> VolumeLock:
        """What keeps other servers off."""
        return self._lock

    def set_identity(self, new: Identity) -> None:
        """Write volume.json anew: another epoch, other members."""
        self._usable()
        identity.write(self.files, self.path, new)
        self.identity = new

    # ---- rows --------------------------------------------------------------------------------------------------------
    def rows(self, space: bytes, key: bytes, wait: bool = True) -> list[Row]:
        if self._out is not None:
            self._usable()
        return self._read.rows(space, key, wait)

    def top(self, space: bytes, key: bytes, limit: int, wait: bool = True) -> list[Row]:
        if self._out is not None:
            self._usable()
        return self._read.top(space, key, limit, wait)

    def newest(self, space: bytes, key: bytes, shard: bool) -> tuple[Row, bytes | None] | None:
        if self._out is not None:
            self._usable()
        return self._read.newest(space, key, shard)

    def stamp(self) -> bytes | None:
        if self._out is not None or self._closed or not self._index:
            return None
        return _sqlio.stamp(self._index)

    def _find_index(self) -> int:
        """Of the WAL. It is mapped as long as the catalog is open, since its connections are; 0 where it is not mapped."""
        try:
            return _sqlio.index(*self.files.inode(names.catalog(self.path) + "-shm"))
        except OSError:
            return 0

    def scan(self, space: bytes, start: bytes, stop: bytes | None, limit: int) -> list[Row]:
        self._usable()
        return self._read.scan(space, start, stop, limit)

    def history(self, space: bytes, start: bytes, limit: int) -> list[Row]:
        self._usable()
        return self._read.history(space, start, limit)

    def walk(self, after: tuple[bytes, bytes] | None, limit: int) -> list[Row]:
        self._usable()
        return self._read.walk(after, limit)

    def skip(self, after: tuple[bytes, bytes] | None, count: int) -> tuple[bytes, bytes] | None:
        self._usable()
        return self._read.skip(after, count)

    def aged(self, space: bytes, after: int, until: int, limit: int) -> list[Aged]:
        self._usable()
        return self._read.aged(space, after, until, limit)

    def amended(self, space: bytes, after: int, until: int, limit: int) -> list[Aged]:
        self._usable()
        return self._read.amended(space, after, until, limit)

    def unsettled(self, after: RowId | None, limit: int) -> list[RowId]:
        self._usable()
        return self._read.unsettled(after, limit)

    def unsettled_keys(self, space: bytes, start: bytes, stop: bytes | None, limit: int) -> list[bytes]:
        self._usable()
        return self._read.unsettled_keys(space, start, stop, limit)

    def inline(self, where: int, wait: bool = True) -> bytes:
        self._usable()
        return self._read.inline(where, wait)

    def notes(self) -> Mapping[str, int]:
        self._usable()
        return self._read.notes()

    def remembered(self, name: str) -> str | None:
        self._usable()
        return self._read.meta().get(_REMEMBERED + name)

    def remember(self, name: str, text: str) -> None:
        self._usable()
        try:
            self._mark()
            self._catalog.set_meta({_REMEMBERED + name: text}, durable=False)
        except VolumeUnusable as error:
            self._fail(error)
            raise
        self._dirty = True

    def apply(self, changes: Sequence[Change], durable: bool) -> list[Answer]:
        self._usable()
        self._check_room()
        try:
            self._mark()
            answers = self._catalog.apply(changes, durable, self._full)
        except VolumeUnusable as error:
            self._fail(error)
            raise
        if not durable:
            self._dirty = True
        return answers

    def probe(self) -> None:
        self._usable()
        self._check_place()
        try:
            # Not of the catalog: to close a file that SQLite has open too would take away its locks on it (fcntl(2)).
            self.files.read_uncached(names.identity(self.path))
        except OSError as error:
            raise volume_error(error, f"{self.path}: cannot be read") from error

    def barrier(self) -> None:
        self._usable()
        if not self._dirty and self.company is None:
            return  # another process tells nobody what it wrote
        self._dirty = False
        try:
            self.files.syncfs(self._root)
        except OSError as error:
            raise self.sync_failed(error) from error

    # ---- shards ------------------------------------------------------------------------------------------------------
    def create_shard(self, write_id: bytes, repair: bool = False, expected: int = 0) -> shardfile.ShardFileWriter:
        self.admit(repair)
        self._mark()
        place = shardfile.Place(
            write_id,
            names.tmp_shard(self.path, write_id, next(self._numbers), 0 if self.company is None else self.company.worker),
            names.shard(self.path, write_id),
            names.shard_directory(self.path, write_id),
        )
        writer = shardfile.ShardFileWriter(self, place, repair, expected)
        self._writers = {other for other in self._writers if other.unfinished} | {writer}
        return writer

    def open_shard(self, write_id: bytes, wait: bool = True) -> shardfile.ShardFile:
        self._usable()
        try:
            return shardfile.open_shard(self.files, names.shard(self.path, write_id), write_id, wait)
        except ShardMissing:
            self._check_place()  # or all shards of a disk that was pulled out would pass for lost
            raise

    def peek_shard(self, write_id: bytes, room: memoryview) -> shardfile.ShardCopy:
        self._usable()
        return shardfile.peek_shard(self.files, names.shard(self.path, write_id), write_id, room)

    def shard_files(self, directory: int) -> list[bytes]:
        self._usable()
        try:
            found = self.files.names(names.shard_files(self.path, directory))
        except OSError as error:
            raise volume_error(error, f"{self.path}: cannot list shards/{directory:02x}") from error
        return [write_id for name in found if (write_id := names.write_id(name, directory)) is not None]

    def named(self, write_id: bytes) -> bool:
        self._usable()
        return self._read.named(write_id)

    def garbage(self, limit: int) -> list[bytes]:
        self._usable()
        return self._read.garbage(limit)

    def unlink(self, write_ids: Sequence[bytes], spared: Callable[[bytes], bool] | None = None) -> None:
        """A file that a row names stays, whatever the caller believes."""
        self._usable()
        if not write_ids or self.company is None:
            with self._turn:
                self._unlink(write_ids, spared)
            return
        for start in range(0, len(write_ids), TOGETHER):
            with self._turn:
                self._unlink(write_ids[start : start + TOGETHER], spared)

    def _unlink(self, write_ids: Sequence[bytes], spared: Callable[[bytes], bool] | None) -> None:
        """In turn, so that no row comes between the look whether one names the file, and its end."""
        if spared is not None:
            write_ids = [write_id for write_id in write_ids if not spared(write_id)]
        if not write_ids:
            return
        self._check_room()
        self._dirty = True
        for write_id in write_ids:
            if self._read.named(write_id):
                continue
            try:
                self.files.unlink(names.shard(self.path, write_id))
            except FileNotFoundError:
                continue
            except OSError as error:
                raise volume_error(error, f"shard {write_id.hex()}: cannot be removed") from error
        self._catalog.forget(write_ids)

    def close(self) -> None:
        """Make everything durable, say so in the catalog, and let go. Closing twice is harmless."""
        if self._closed:
            return
        self._closed = True
        for writer in self._writers:
            writer.abort()
        with ExitStack() as steps:
            steps.callback(self._lock.release)
            steps.callback(self.files.close, self._root)
            steps.callback(self._catalog.close)
            if self._marked is not None or self.company is not None:
                with suppress(VolumeError):  # out of service: then nobody may say that all is well
                    self.barrier()
                    if self.clean and (self.company is None or self.company.last):
                        self._catalog.set_meta({CLOSED: YES})
            self._fail(VolumeUnusable("it was closed"))

    # ---- what shard writers ask --------------------------------------------------------------------------------------
    def admit(self, repair: bool) -> None:
        """VolumeUnusable when out of service; VolumeFull when only the reserve is left, or for repair the last of it."""
        self._usable()
        self._check_room()
        refusal = self._spent if repair else self._full
        if refusal is not None:
            raise VolumeFull(refusal)

    def soil(self) -> None:
        """There is something now that only the next barrier makes durable."""
        self._dirty = True

    def sync_failed(self, error: OSError) -> VolumeUnusable:
        """Takes the volume out of service: what the kernel dropped is not known, and a second sync would say that all is well."""
        self._fail(VolumeUnusable(f"a sync failed: {error.strerror}"))
        return self._refusal()

    # ---- inside ------------------------------------------------------------------------------------------------------
    def _fail(self, error: VolumeError) -> None:
        """Out of service, for good unless the directory is gone and nothing worse happened."""
        if self._out is None or (isinstance(self._out, VolumeGone) and not isinstance(error, VolumeGone)):
            self._out = error if isinstance(error, VolumeUnusable) else VolumeUnusable(str(error))

    def _refusal(self) -> VolumeUnusable:
        kind = VolumeGone if isinstance(self._out, VolumeGone) else VolumeUnusable
        return kind(f"{self.path}: is out of service: {self._out}")

    def _usable(self) -> None:
        if self._out is not None:
            raise self._refusal() from self._out

    def _check_room(self) -> None:
        """Is the directory still ours, and is there room beyond the reserve?"""
        now = time.monotonic()
        if now < self._room_until:
            return
        free, kept = self._room()
        if free < kept and self._catalog.shrink():
            free, kept = self._room()
        self._full = f"{self.path}: only its reserve is left" if free < kept else None
        self._spent = f"{self.path}: only what deletes need is left" if free < last(kept) else None
        if free - kept > _ROOM_PLENTY:
            self._room_until = now + _ROOM_SECONDS

    def _room(self) -> tuple[int, int]:
        """Bytes that are free, and how many of them are kept."""
        self._check_place()
        try:
            free, total = self.files.room(self.path)
        except OSError as error:
            raise self._lost_place(error) from error
        return free, reserve(total)

    def _check_place(self) -> None:
        """VolumeGone when the directory is not there any more, or another one is in its place."""
        try:
            if self.files.inode(names.catalog(self.path)) != self._inode:
                raise FileNotFoundError(ENOENT, "another catalog is in its place")
        except OSError as error:
            raise self._lost_place(error) from error

    def _lost_place(self, error: OSError) -> VolumeError:
        failure = volume_error(error, f"{self.path}: is gone")
        if isinstance(failure, VolumeUnusable):
            failure = VolumeGone(str(failure))
            self._fail(failure)
        return failure

    def _mark(self) -> None:
        """Say in the catalog, ahead of the first change, that the volume is in use since this boot."""
        if self._marked is not self.clean:
            # What was not verified yet must not pass for clean, should this use be cut short too.
            self._catalog.set_meta({BOOT: self.files.boot_id() if self.clean else _UNVERIFIED, CLOSED: _NO})
            self._marked = self.clean

    def _recover(self) -> None:
        """Was the last use ended in good order, or by a kill that left the kernel's memory intact? Remove unfinished shards."""
        meta = self._read.meta()
        self.orderly = meta.get(CLOSED, YES) == YES
        self._dirty = not self.orderly  # what a process that was killed wrote may be in the kernel's memory only
        self.clean = self.orderly or meta.get(BOOT) == self.files.boot_id()
        if self._catalog.read_only:
            return
        if self.files.exists(names.formatting(self.path)):
            # Left by a crash behind the last step: were volume.json lost one day, this would pass for a blank volume.
            self.files.unlink(names.formatting(self.path))
            self.files.fsync_directory(names.home(self.path))
        self._clear(self.files.names(names.tmp(self.path)))

    def _join(self, worker: int) -> None:
        """Others use the volume, so whatever its catalog says of its last use is their doing. Remove what a process of the same
        number left unfinished when it died."""
        if not self._catalog.read_only:
            self._clear([name for name in self.files.names(names.tmp(self.path)) if names.tmp_worker(name) == worker])

    def _clear(self, unfinished: list[str]) -> None:
        for name in unfinished:
            self.files.unlink(names.tmp_file(self.path, name))
