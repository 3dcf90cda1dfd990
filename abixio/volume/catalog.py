"""The catalog of one volume: an SQLite database in WAL mode. Connections, syncing and checkpoints; `catalog_read` asks,
`catalog_write` changes, `catalog_schema` lays out.

A commit only appends to the WAL. Moving its pages into the database is the work of a thread of its own, so that no commit
waits for it, unless the WAL has reached its limit: then the writer does it, and whoever writes waits.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Final, TypeVar

import apsw

from abixio import _catalog, _sqlio
from abixio.errors import VolumeError, VolumeFull
from abixio.volume import catalog_schema
from abixio.volume.catalog_errors import volume_error
from abixio.volume.catalog_read import Reader
from abixio.volume.catalog_write import Answer, Writer
from abixio.volume.interface import Change

T = TypeVar("T")

CHECKPOINT_PAGES: Final = 1000
"""Pages of 4 KiB in the WAL before they are moved: SQLite's own default."""
WAL_LIMIT: Final = 64 << 20
"""Bytes, sixteen times the above: reached when the disk takes commits faster than checkpoints."""
_WAL_LIMIT_PAGES: Final = WAL_LIMIT // catalog_schema.PAGE_SIZE
_SHRINK_LEAST: Final = 256
"""Pages, 1 MiB: less is not worth a checkpoint."""
_BUSY_MS: Final = 5000
"""The writer and the checkpoints are the only ones that ever wait for each other, for the length of one checkpoint."""
_WRITER_CACHE_KIB: Final = 8192
"""What a full group commit may change before its pages go to the WAL ahead of the commit."""
_READER_CACHE_KIB: Final = 1024
"""Per thread and volume; SQLite empties it whenever another connection has written."""


def create(path: str, volume: str, vfs: str) -> None:
    """A new, empty catalog; whoever formats the volume syncs it. VolumeError."""
    connection: apsw.Connection | None = None
    try:
        flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
        connection = apsw.Connection(path, flags=flags, vfs=vfs or None)
        _persist_wal(connection)
        connection.execute("PRAGMA synchronous = OFF")
        catalog_schema.create(connection, volume)
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    except apsw.Error as error:
        raise volume_error(error, connection, path) from error
    finally:
        if connection is not None:
            connection.close(True)


class Catalog:
    """Open. `read` answers from any thread; the rest is for one thread at a time. `failed` is called from another one when
    a checkpoint finds the disk broken."""

    def __init__(self, path: str, volume: str, vfs: str, turn: AbstractContextManager[object] | None = None) -> None:
        """`turn`: entered for every change, where other processes have the catalog open too. They count the pages of the WAL each
        for itself, from its own commits: who counts too few, because others wrote, or too many, because others moved them, tries
        a checkpoint late or in vain, and whoever commits next puts it right."""
        self._path = path
        self._turn = nullcontext() if turn is None else turn
        self._vfs = vfs
        self.failed: Callable[[VolumeError], None] = _ignore
        self._pages = self._moved = 0
        self._synchronous: bool | None = None
        self._wake = threading.Event()
        self._closing = False
        self._connection = self._connect(_WRITER_CACHE_KIB, volume)
        self.read_only = self._connection.readonly("main")
        self._writer = Writer(self._connection)
        self.read = Reader(lambda: self._connect(_READER_CACHE_KIB), path)
        self._thread = threading.Thread(target=self._checkpoints, name=f"checkpoint {path}", daemon=True)
        self._thread.start()

    def apply(self, changes: Sequence[Change], durable: bool, full: str | None) -> list[Answer]:
        """All changes in one transaction, synced when `durable`; see `Writer.transact`."""
        return self._write(lambda: self._writer.transact(changes, full), durable)

    def forget(self, write_ids: Sequence[bytes]) -> None:
        """Delete entries of the garbage list. Not synced: an entry that comes back names a file that is gone."""
        self._write(lambda: self._writer.forget(write_ids), False)

    def set_meta(self, values: dict[str, str], durable: bool = True) -> None:
        """Remember these about the volume itself."""
        self._write(lambda: self._writer.set_meta(values), durable)

    def shrink(self) -> bool:
        """Give the disk up to 4 MiB of pages back that deletes left empty; False when there are too few to matter, or no
        way. They are not given back earlier, because inserts take them without a move."""
        if self.read_only:
            return False
        try:
            return self._write(self._shrink, False)
        except VolumeFull:
            return False

    def close(self) -> None:
        """The last connection moves what is left in the WAL. Closing twice is harmless."""
        self._closing = True
        self._wake.set()
        self._thread.join()
        self.read.close()
        self._writer.close()
        self._connection.close(True)

    # ---- writing -----------------------------------------------------------------------------------------------------
    def _write(self, call: Callable[[], T], durable: bool) -> T:
        try:
            with self._turn:
                done = self._in_turn(call, durable)
                self._look(self._writer.pages())
                return done
        except apsw.Error as error:
            raise volume_error(error, self._connection, self._path) from error

    def _in_turn(self, call: Callable[[], T], durable: bool) -> T:
        if durable is not self._synchronous:
            self._connection.pragma("synchronous", "FULL" if durable else "NORMAL")
            self._synchronous = durable
        if self._pages >= _WAL_LIMIT_PAGES:
            self._empty_wal()
        try:
            return call()
        except apsw.FullError:
            self._empty_wal()
            return call()

    def _shrink(self) -> bool:
        if self._connection.pragma("freelist_count") < _SHRINK_LEAST:
            return False
        self._connection.execute(f"PRAGMA incremental_vacuum({CHECKPOINT_PAGES})").fetchall()
        self._empty_wal()
        return True

    def _empty_wal(self) -> None:
        """Move all of it, so that the next commit overwrites it from its start and needs no room. When a reader keeps it in
        use for long, the next commit tries again."""
        with suppress(apsw.BusyError):
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
            self._writer.emptied()
            self._pages = 0

    def _look(self, pages: int) -> None:
        """So many are in the WAL after a commit: is it time to move some?"""
        if pages < self._pages:
            self._moved = 0
        self._pages = pages
        if pages - self._moved >= CHECKPOINT_PAGES:
            self._wake.set()

    # ---- connections -------------------------------------------------------------------------------------------------
    def _connect(self, cache_kib: int, volume: str | None = None) -> apsw.Connection:
        connection: apsw.Connection | None = None
        try:
            connection = apsw.Connection(self._path, flags=apsw.SQLITE_OPEN_READWRITE, vfs=self._vfs or None)
            connection.set_busy_timeout(_BUSY_MS)
            connection.wal_autocheckpoint(0)
            _persist_wal(connection)
            connection.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT}; PRAGMA cache_size = -{cache_kib}")
            connection.execute("PRAGMA temp_store = MEMORY; PRAGMA synchronous = NORMAL; PRAGMA cell_size_check = ON")
            if volume is not None:
                catalog_schema.check(connection, self._path, volume)
                catalog_schema.complete(connection)
            return connection
        except apsw.Error as error:
            failure = volume_error(error, connection, self._path)
            if connection is not None:
                connection.close(True)
            raise failure from error

    def _checkpoints(self) -> None:
        """The thread: wait, move pages, and again."""
        connection: apsw.Connection | None = None
        while True:
            self._wake.wait()
            self._wake.clear()
            if self._closing:
                break
            try:
                connection = connection or self._connect(_READER_CACHE_KIB)
                self._moved = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)[1]
            except (apsw.BusyError, apsw.FullError):
                continue  # the WAL keeps everything; the next commit wakes this thread again
            except apsw.Error as error:
                self.failed(volume_error(error, connection, self._path))
            except VolumeError as error:
                self.failed(error)
        if connection is not None:
            connection.close(True)


def _ignore(_error: VolumeError) -> None:
    """Nobody listens yet."""


def _persist_wal(connection: apsw.Connection) -> None:
    """Keep the -wal and -shm files when the last connection closes: without them a full disk or a read-only one would not
    let the catalog be opened again."""
    yes = ctypes.c_int(1)
    connection.file_control("main", apsw.SQLITE_FCNTL_PERSIST_WAL, ctypes.addressof(yes))


def _use_own_calls() -> None:
    """Put the calls of `_sqlio` into SQLite's table, for the whole process. Where SQLite was built to read in another way nothing
    is refused: then a read on the event loop may wait for a disk, and the store can only note how long that took."""
    vfs = apsw.VFS("abixio", "unix")
    for name, address in _sqlio.calls().items():
        with suppress(apsw.Error):
            vfs.xSetSystemCall(name, address)


def _use_own_statements() -> None:
    """Have SQLite hand its functions to `_catalog`, for the whole process."""
    major, minor, patch = map(int, apsw.sqlite_lib_version().split("."))
    connection = apsw.Connection(":memory:")
    _catalog.load(connection, "SELECT ?1, ?2, ?3, ?4", (major * 1000 + minor) * 1000 + patch)
    connection.close()


_use_own_calls()
_use_own_statements()
