"""`Files` for a volume under attack: every call counted, failed where the fault says so, and written down."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from abixio.message import Buffer
from abixio.volume.filemap import FileMap
from abixio.volume.files import Files
from tests.crash.layer import Layer, kind_of
from tests.crash.layer_vfs import LayerVFS


class Inodes:
    """Which file a name stands for: the journal speaks of inodes, so that a rename or unlink can be undone."""

    def __init__(self, names: Sequence[str]) -> None:
        self.by_name = {name: number for number, name in enumerate(sorted(names))}
        self._next = len(self.by_name)

    def create(self, name: str) -> int:
        self.by_name[name] = self._next
        self._next += 1
        return self.by_name[name]


class LayerFiles(Files):
    """A volume's operating system."""

    def __init__(self, layer: Layer, slot: int, root: str, names: Sequence[str] = ()) -> None:
        self.slot = slot
        self.root = root
        self.layer = layer
        self.inodes = Inodes(names)
        self._open: dict[int, tuple[str, int | None, int]] = {}
        """Descriptor -> name, inode, position."""
        self._vfs = LayerVFS(self)
        self.vfs = self._vfs.name

    def name(self, path: str) -> str:
        """Relative to the volume; what lies elsewhere (/proc, the parent) stays absolute."""
        return os.path.relpath(path, self.root) if path.startswith(self.root) else path

    @contextmanager
    def call(self, what: str, name: str | None = None) -> Iterator[str | None]:
        """One call: counted, failed, or let through; nothing else happens on any volume meanwhile."""
        with self.layer.lock:
            wrong = self.layer.enter(self.slot, what if name is None else f"{what} {kind_of(name)}")
            if wrong is not None and wrong != "short":
                number = getattr(errno, wrong)
                raise OSError(number, os.strerror(number))
            yield wrong

    def _name(self, fd: int) -> str:
        return self._open[fd][0] if fd in self._open else "?"

    # ---- descriptors -------------------------------------------------------------------------------------------------
    def create(self, path: str, mode: int = 0o600) -> int:
        name = self.name(path)
        with self.call("create", name):
            fd = super().create(path, mode)
            inode = self.inodes.create(name)
            self.layer.note("link", self.slot, name, inode)
            self._open[fd] = name, inode, 0
            return fd

    def open(self, path: str) -> int:
        name = self.name(path)
        with self.call("open", name):
            fd = super().open(path)
            self._open[fd] = name, self.inodes.by_name.get(name), 0
            return fd

    def close(self, fd: int) -> None:
        with self.call("close"):
            self._open.pop(fd, None)
            super().close(fd)

    def size(self, fd: int) -> int:
        with self.call("size", self._name(fd)):
            return super().size(fd)

    def pread(self, fd: int, length: int, offset: int) -> bytes:
        with self.call("pread", self._name(fd)):
            return super().pread(fd, length, offset)

    def open_now(self, path: str) -> int:
        raise BlockingIOError(errno.EAGAIN, "no file is in memory here", path)

    def pread_now(self, fd: int, buffers: Sequence[bytearray | memoryview], offset: int) -> int:
        raise BlockingIOError(errno.EAGAIN, "no file is in memory here")

    def allocate(self, fd: int, offset: int, length: int) -> bool:
        with self.call("allocate", self._name(fd)):
            return super().allocate(fd, offset, length)

    def read_uncached(self, path: str) -> None:
        with self.call("read_uncached", self.name(path)):
            super().read_uncached(path)

    def writev(self, fd: int, buffers: Sequence[Buffer]) -> int:
        name, inode, position = self._open[fd]
        with self.call("writev", name) as wrong:
            if wrong == "short":
                data = b"".join(bytes(buffer) for buffer in buffers)
                written = os.write(fd, data[: max(1, len(data) // 2)])
            else:
                written = super().writev(fd, buffers)
            if self.layer.journal is not None:
                self.layer.note("write", self.slot, inode, position, b"".join(bytes(b) for b in buffers)[:written])
            self._open[fd] = name, inode, position + written
            return written

    def fdatasync(self, fd: int) -> None:
        name, inode, _ = self._open[fd]
        with self._syncing("fdatasync", name, ("sync", self.slot, inode)):
            super().fdatasync(fd)

    def syncfs(self, fd: int) -> None:
        with self._syncing("syncfs", self._name(fd), ("syncfs", self.slot)):
            super().syncfs(fd)

    @contextmanager
    def _syncing(self, what: str, name: str, entry: tuple[Any, ...]) -> Iterator[None]:
        """A sync that fails has dropped what it was asked for: the next one would say that all is well."""
        try:
            with self.call(what, name):
                yield
                self.layer.note(*entry)
        except OSError:
            self.layer.note("lost", *entry)
            raise

    def map(self, fd: int, length: int) -> FileMap:
        with self.call("map", self._name(fd)):
            return super().map(fd, length)

    # ---- names -------------------------------------------------------------------------------------------------------
    def rename(self, old: str, new: str) -> None:
        source, target = self.name(old), self.name(new)
        with self.call("rename", target):
            super().rename(old, new)
            inode = self.inodes.by_name.pop(source)
            self.inodes.by_name[target] = inode
            self.layer.note("rename", self.slot, source, target, inode)

    def unlink(self, path: str) -> None:
        name = self.name(path)
        with self.call("unlink", name):
            super().unlink(path)
            self.inodes.by_name.pop(name, None)
            self.layer.note("unlink", self.slot, name)

    def mkdir(self, path: str) -> None:
        with self.call("mkdir", self.name(path)):
            if not os.path.isdir(path):
                super().mkdir(path)
                self.layer.note("mkdir", self.slot, self.name(path))

    def names(self, path: str) -> list[str]:
        with self.call("names", self.name(path)):
            return super().names(path)

    def exists(self, path: str) -> bool:
        with self.call("exists", self.name(path)):
            return super().exists(path)

    def fsync_directory(self, path: str) -> None:
        name = self.name(path)
        fd = self.open(path)
        try:
            with self._syncing("fsync_directory", name, ("syncdir", self.slot, name)):
                os.fsync(fd)
        finally:
            self.close(fd)

    def inode(self, path: str) -> tuple[int, int]:
        with self.call("inode", self.name(path)):
            return super().inode(path)

    def device(self, path: str) -> int:
        with self.call("device", self.name(path)):
            return super().device(path)

    def is_mount(self, path: str) -> bool:
        with self.call("is_mount", self.name(path)):
            return super().is_mount(path)

    def room(self, path: str) -> tuple[int, int]:
        with self.call("room", self.name(path)):
            return super().room(path)

    def lock(self, path: str) -> int | None:
        with self.call("lock", self.name(path)):
            if not os.path.exists(path):
                self.layer.note("link", self.slot, self.name(path), self.inodes.create(self.name(path)))
            return super().lock(path)

    def boot_id(self) -> str:
        return self.layer.boot


NOT_OF_VOLUMES: Final = frozenset(("read", "replace", "read_line", "append", "mode"))
"""Methods of Files that only call others of it, and those that open log files and look at key files."""
