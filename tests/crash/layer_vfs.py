"""The SQLite VFS of a volume under attack. It reports to the same layer as the volume's `Files`."""

from __future__ import annotations

import errno
import os
import threading
from typing import TYPE_CHECKING, Any

import apsw

from tests.crash.layer import kind_of

if TYPE_CHECKING:
    from tests.crash.layer_files import LayerFiles


class Connection(apsw.Connection):
    """Closing a database never fails in SQLite: what its last checkpoint could not move stays in the log. But apsw raises the
    exceptions of a VFS written in Python although SQLite has taken no notice of them."""

    def close(self, force: bool = False) -> None:
        try:
            super().close(force)
        except apsw.Error as error:
            if not hasattr(error, "injected"):
                raise


def injected(error: type[apsw.Error], code: int, text: str) -> apsw.Error:
    """An error as SQLite knows it."""
    made = error(text)
    made.extendedresult = code  # type: ignore[attr-defined]
    made.injected = True  # type: ignore[attr-defined]
    return made


class LayerVFS(apsw.VFS):
    """SQLite's operating system on one volume."""

    def __init__(self, files: LayerFiles) -> None:
        self.files = files
        self.name = f"crash-{os.getpid()}-{id(files)}"
        self._failed = threading.local()
        super().__init__(self.name, "")

    def entered(self, what: str, path: str, error: type[apsw.Error], code: int) -> bool:
        """Count a call and raise what it fails with; True for a short write. The lock is held."""
        wrong = self.files.layer.enter(self.files.slot, f"{what} {kind_of(self.files.name(path))}")
        if wrong is None or wrong == "short":
            return wrong == "short"
        self.say(getattr(errno, wrong))
        if wrong == "ENOSPC" and what != "xOpen":
            error, code = apsw.FullError, apsw.SQLITE_FULL
        raise injected(error, code, f"{wrong} injected into {what}")

    def say(self, number: int) -> None:
        """What xGetLastError answers on this thread."""
        self._failed.errno = number

    def xGetLastError(self) -> tuple[int, str | None]:
        number = getattr(self._failed, "errno", None)
        if number is None:
            return super().xGetLastError()
        return number, os.strerror(number)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name or ""
        with self.files.layer.lock:
            self.entered("xOpen", path, apsw.CantOpenError, apsw.SQLITE_CANTOPEN)
            new = not os.path.exists(path)
            opened = _LayerFile(self, path, name, flags)
            relative = self.files.name(path)
            if new and os.path.exists(path):
                self.files.layer.note("link", self.files.slot, relative, self.files.inodes.create(relative))
                opened.new = True
            opened.inode = self.files.inodes.by_name.get(relative)
            return opened

    def xDelete(self, filename: str, syncdir: bool) -> None:
        with self.files.layer.lock:
            self.entered("xDelete", filename, apsw.IOError, apsw.SQLITE_IOERR_DELETE)
            super().xDelete(filename, syncdir)
            name = self.files.name(filename)
            self.files.inodes.by_name.pop(name, None)
            self.files.layer.note("unlink", self.files.slot, name)
            if syncdir:
                self.files.layer.note("syncdir", self.files.slot, os.path.dirname(name))

    def xAccess(self, pathname: str, flags: int) -> bool:
        with self.files.layer.lock:
            self.entered("xAccess", pathname, apsw.IOError, apsw.SQLITE_IOERR_ACCESS)
            return super().xAccess(pathname, flags)


class _LayerFile(apsw.VFSFile):
    """A database or a write-ahead log. Shared memory is not seen here: SQLite makes it anew after a crash."""

    def __init__(self, vfs: LayerVFS, path: str, name: Any, flags: list[int]) -> None:
        self._vfs = vfs
        self._path = path
        self._files = vfs.files
        self.inode: int | None = None
        self.new = False
        """SQLite's first sync of a log that it made also syncs the directory."""
        super().__init__("", name, flags)

    def xRead(self, amount: int, offset: int) -> bytes:
        with self._files.layer.lock:
            self._vfs.entered("xRead", self._path, apsw.IOError, apsw.SQLITE_IOERR_READ)
            return super().xRead(amount, offset)

    def xWrite(self, data: bytes, offset: int) -> None:
        with self._files.layer.lock:
            short = self._vfs.entered("xWrite", self._path, apsw.IOError, apsw.SQLITE_IOERR_WRITE)
            if short:
                data = bytes(data)[: len(data) // 2]
            super().xWrite(data, offset)
            self._files.layer.note("write", self._files.slot, self.inode, offset, bytes(data))
            if short:
                self._vfs.say(errno.ENOSPC)
                raise injected(apsw.FullError, apsw.SQLITE_FULL, "a short write was injected")

    def xTruncate(self, newsize: int) -> None:
        with self._files.layer.lock:
            self._vfs.entered("xTruncate", self._path, apsw.IOError, apsw.SQLITE_IOERR_TRUNCATE)
            super().xTruncate(newsize)
            self._files.layer.note("truncate", self._files.slot, self.inode, newsize)

    def xSync(self, flags: int) -> None:
        entry = ("sync", self._files.slot, self.inode)
        with self._files.layer.lock:
            try:
                self._vfs.entered("xSync", self._path, apsw.IOError, apsw.SQLITE_IOERR_FSYNC)
            except apsw.IOError:
                self._files.layer.note("lost", *entry)
                raise
            super().xSync(flags)
            self._files.layer.note(*entry)
            if self.new:
                self.new = False
                self._files.layer.note("syncdir", self._files.slot, os.path.dirname(self._files.name(self._path)))

    def xFileSize(self) -> int:
        with self._files.layer.lock:
            self._vfs.entered("xFileSize", self._path, apsw.IOError, apsw.SQLITE_IOERR_FSTAT)
            return super().xFileSize()
