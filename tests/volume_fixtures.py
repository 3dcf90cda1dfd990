"""Volumes for the tests of this layer: formatted in a temporary directory, and an operating system that fails on demand."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from abixio.message import Buffer
from abixio.volume.filemap import FileMap
from abixio.volume.files import Files
from abixio.volume.formatting import format_volume
from abixio.volume.identity import Identity, Member


def new_identity(slot: int = 0, slots: int = 1) -> Identity:
    members = tuple(Member(number, os.urandom(16).hex()) for number in range(slots))
    mine = members[slot].volume
    return Identity(deployment=os.urandom(16).hex(), slot=slot, volume=mine, epoch=1, members=members, created=1_700_000_000_000)


class Unsynced(Files):
    """For volumes that need not survive a power cut: formatting one takes a tenth of the time."""

    def fdatasync(self, fd: int) -> None: ...
    def syncfs(self, fd: int) -> None: ...
    def fsync_directory(self, path: str) -> None: ...


def formatted(path: Path) -> str:
    format_volume(str(path), new_identity(), Unsynced())
    return str(path)


class FaultyFiles(Files):
    """Calls named in `faults` raise that errno; `before` looks at every call; `most` bytes are written at a time."""

    def __init__(self) -> None:
        self.faults: dict[str, int] = {}
        self.calls: list[tuple[str, Any]] = []
        self.most: int | None = None
        self.hook: Callable[[str, Any], None] | None = None

    def _call(self, name: str, argument: Any) -> None:
        self.calls.append((name, argument))
        if self.hook is not None:
            self.hook(name, argument)
        if name in self.faults:
            raise OSError(self.faults[name], os.strerror(self.faults[name]))

    def create(self, path: str, mode: int = 0o600) -> int:
        self._call("create", path)
        return super().create(path, mode)

    def open(self, path: str) -> int:
        self._call("open", path)
        return super().open(path)

    def size(self, fd: int) -> int:
        self._call("size", fd)
        return super().size(fd)

    def pread(self, fd: int, length: int, offset: int) -> bytes:
        self._call("pread", length)
        return super().pread(fd, length, offset)

    def open_now(self, path: str) -> int:
        raise BlockingIOError(errno.EAGAIN, "files are opened here, so that it can fail", path)

    def read_uncached(self, path: str) -> None:
        self._call("read_uncached", path)
        super().read_uncached(path)

    def writev(self, fd: int, buffers: Sequence[Buffer]) -> int:
        self._call("writev", sum(map(len, buffers)))
        if self.most is not None:
            return os.write(fd, memoryview(buffers[0])[: self.most])
        return super().writev(fd, buffers)

    def allocate(self, fd: int, offset: int, length: int) -> bool:
        self._call("allocate", (offset, length))
        return super().allocate(fd, offset, length)

    def fdatasync(self, fd: int) -> None:
        self._call("fdatasync", fd)
        super().fdatasync(fd)

    def syncfs(self, fd: int) -> None:
        self._call("syncfs", fd)
        super().syncfs(fd)

    def map(self, fd: int, length: int) -> FileMap:
        self._call("map", length)
        return super().map(fd, length)

    def rename(self, old: str, new: str) -> None:
        self._call("rename", (old, new))
        super().rename(old, new)

    def unlink(self, path: str) -> None:
        self._call("unlink", path)
        super().unlink(path)

    def fsync_directory(self, path: str) -> None:
        self._call("fsync_directory", path)
        super().fsync_directory(path)

    def room(self, path: str) -> tuple[int, int]:
        self._call("room", path)
        return super().room(path)

    def replace(self, path: str, data: bytes, mode: int = 0o600) -> None:
        self._call("replace", path)
        super().replace(path, data, mode)
