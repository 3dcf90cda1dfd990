"""A disk that takes its time: every call of `Files` and every read, write and sync of SQLite sleeps while it is slow.

What needs no disk does not sleep: locks, and reads that ask for nothing but what is in memory, which are refused as the kernel
does when it is not.
"""

from __future__ import annotations

import errno
import itertools
import os
import threading
from collections.abc import Sequence
from typing import Any

import apsw

from abixio import _sqlio
from abixio.message import Buffer
from abixio.volume.filemap import FileMap
from abixio.volume.files import Files

_numbers = itertools.count()


class Sleeper:
    """`naps` counts the calls that slept; `wake` ends all sleep, now and later."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.naps = 0
        self._awake = threading.Event()

    def sleep(self, seconds: float) -> None:
        """From now on each call takes that long."""
        self._awake = threading.Event()
        self.seconds = seconds

    def wake(self) -> None:
        self.seconds = 0.0
        self._awake.set()

    def nap(self) -> None:
        if self.seconds:
            self.naps += 1
            self._awake.wait(self.seconds)


class SlowMap(FileMap):
    def __init__(self, fd: int, length: int, sleeper: Sleeper) -> None:
        super().__init__(fd, length)
        self._sleeper = sleeper

    def populate(self, offset: int, length: int) -> None:
        self._sleeper.nap()
        super().populate(offset, length)


class SlowFiles(Files):
    """Sleeps in every call that can reach the disk."""

    def __init__(self) -> None:
        self.sleeper = Sleeper()
        self._vfs = SlowVFS(self.sleeper)
        self.vfs = self._vfs.name

    def create(self, path: str, mode: int = 0o600) -> int:
        self.sleeper.nap()
        return super().create(path, mode)

    def open(self, path: str) -> int:
        self.sleeper.nap()
        return super().open(path)

    def pread(self, fd: int, length: int, offset: int) -> bytes:
        self.sleeper.nap()
        return super().pread(fd, length, offset)

    def open_now(self, path: str) -> int:
        raise BlockingIOError(errno.EAGAIN, "nothing of a slow disk is in memory", path)

    def read_uncached(self, path: str) -> None:
        self.sleeper.nap()
        super().read_uncached(path)

    def writev(self, fd: int, buffers: Sequence[Buffer]) -> int:
        self.sleeper.nap()
        return super().writev(fd, buffers)

    def allocate(self, fd: int, offset: int, length: int) -> bool:
        self.sleeper.nap()
        return super().allocate(fd, offset, length)

    def fdatasync(self, fd: int) -> None:
        self.sleeper.nap()
        super().fdatasync(fd)

    def syncfs(self, fd: int) -> None:
        self.sleeper.nap()
        super().syncfs(fd)

    def map(self, fd: int, length: int) -> FileMap:
        self.sleeper.nap()
        return SlowMap(fd, length, self.sleeper)

    def rename(self, old: str, new: str) -> None:
        self.sleeper.nap()
        super().rename(old, new)

    def unlink(self, path: str) -> None:
        self.sleeper.nap()
        super().unlink(path)

    def names(self, path: str) -> list[str]:
        self.sleeper.nap()
        return super().names(path)

    def exists(self, path: str) -> bool:
        self.sleeper.nap()
        return super().exists(path)

    def fsync_directory(self, path: str) -> None:
        self.sleeper.nap()
        super().fsync_directory(path)

    def inode(self, path: str) -> tuple[int, int]:
        self.sleeper.nap()
        return super().inode(path)

    def room(self, path: str) -> tuple[int, int]:
        self.sleeper.nap()
        return super().room(path)


class SlowVFS(apsw.VFS):
    def __init__(self, sleeper: Sleeper) -> None:
        self.name = f"slow{next(_numbers)}"
        self.sleeper = sleeper
        super().__init__(self.name, "")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        self.sleeper.nap()
        return _File(self, name, flags)

    def xDelete(self, name: str, sync: bool) -> None:
        self.sleeper.nap()
        super().xDelete(name, sync)


class _File(apsw.VFSFile):
    def __init__(self, vfs: SlowVFS, name: Any, flags: list[int]) -> None:
        self._sleeper = vfs.sleeper
        super().__init__("", name, flags)

    def xRead(self, amount: int, offset: int) -> bytes:
        if self._sleeper.seconds and _sqlio.wanted():
            _sqlio.refuse()
            refused = apsw.IOError(os.strerror(11))
            refused.extendedresult = apsw.SQLITE_IOERR_READ  # type: ignore[attr-defined]
            raise refused
        self._sleeper.nap()
        return super().xRead(amount, offset)

    def xWrite(self, data: bytes, offset: int) -> None:
        self._sleeper.nap()
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:
        self._sleeper.nap()
        super().xSync(flags)

    def xTruncate(self, size: int) -> None:
        self._sleeper.nap()
        super().xTruncate(size)
