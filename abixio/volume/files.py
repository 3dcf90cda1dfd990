"""The operating system, as far as files go: the only module of abixio that calls it for them.

Everything is a method of `Files`, so that a test can hand a volume one that fails. Methods raise OSError; `volume_error`
says which error of the volume that is. SQLite makes its own calls; `Files.vfs` names the SQLite VFS to make them through.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
from collections.abc import Sequence
from typing import Final

from abixio.errors import Exhausted, VolumeError, VolumeFull, VolumeReadOnly, VolumeUnusable
from abixio.message import Buffer
from abixio.volume.filemap import FileMap

_IOV_MAX: Final = 1024
"""Linux takes no more buffers than that in one writev."""
_DIRECT: Final = 4096
"""Bytes of a read past the cache, and their alignment: no disk has larger sectors."""
_BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"
_FULL: Final = frozenset((errno.ENOSPC, errno.EDQUOT))
_EXHAUSTED: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM))
_READ_ONLY: Final = frozenset((errno.EROFS, errno.EACCES, errno.EPERM))
_GONE: Final = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ENODEV, errno.ENXIO, errno.ESTALE))

_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.syncfs.argtypes = [ctypes.c_int]
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]
_KEEP_SIZE: Final = 1
"""FALLOC_FL_KEEP_SIZE."""
_NO_ALLOCATE: Final = frozenset((errno.EOPNOTSUPP, errno.ENOSYS))
_OPENAT2: Final = 437
"""Number of the system call, the same on every processor; since Linux 5.6, and 5.12 for RESOLVE_CACHED."""
_AT_FDCWD: Final = -100
_RESOLVE_CACHED: Final = 0x20
_held: Final = ctypes.PyDLL(None, use_errno=True)
"""Keeps the GIL: for what takes 2 us, less than it takes to get the GIL back."""
_held.syscall.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t]
_held.syscall.restype = ctypes.c_long


class _OpenHow(ctypes.Structure):
    """struct open_how."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_CACHED: Final = _OpenHow(os.O_RDONLY | os.O_CLOEXEC | os.O_NOATIME | os.O_NONBLOCK, 0, _RESOLVE_CACHED)
"""Without the time of the access, which would have to be written, and without waiting for whoever writes to a pipe."""


def volume_error(error: OSError, doing: str) -> VolumeError:
    """What a failed call means for the volume, except a failed sync, which its caller must not mistake for this."""
    text = f"{doing}: {error.strerror or error}"
    if error.errno in _FULL:
        return VolumeFull(text)
    if error.errno in _EXHAUSTED:
        return Exhausted(text)
    if error.errno in _READ_ONLY:
        return VolumeReadOnly(text)
    if error.errno in _GONE:
        return VolumeUnusable(text)
    return VolumeError(text)


class Files:
    """The real thing."""

    vfs: str = ""
    """Name of the SQLite VFS for the catalog; empty for SQLite's own."""

    # ---- descriptors -------------------------------------------------------------------------------------------------
    def create(self, path: str, mode: int = 0o600) -> int:
        """A new file, open for writing; FileExistsError."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)

    def append(self, path: str, mode: int = 0o640) -> int:
        """A log file, made when it is not there, open for writing at its end."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, mode)

    def open(self, path: str) -> int:
        """A file or directory, open for reading."""
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def open_now(self, path: str) -> int:
        """As `open`, if no disk has to be asked for that. BlockingIOError where one has to be, or the system cannot tell; also
        for a file that is not there, and for one of another user, of which the kernel says that all is in memory (mincore(2))."""
        fd = int(_held.syscall(_OPENAT2, _AT_FDCWD, os.fsencode(path), ctypes.byref(_CACHED), ctypes.sizeof(_CACHED)))
        if fd < 0:
            raise BlockingIOError(errno.EAGAIN, os.strerror(ctypes.get_errno()), path)
        return fd

    def close(self, fd: int) -> None:
        os.close(fd)

    def size(self, fd: int) -> int:
        return os.fstat(fd).st_size

    def pread(self, fd: int, length: int, offset: int) -> bytes:
        """Exactly `length` bytes; fewer only at the end of the file."""
        data = os.pread(fd, length, offset)
        while 0 < len(data) < length:
            more = os.pread(fd, length - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data

    def pread_now(self, fd: int, buffers: Sequence[bytearray | memoryview], offset: int) -> int:
        """Read into the buffers if no disk has to be asked for that; fewer bytes where the file ends, or where the rest is not in
        memory. BlockingIOError where a disk has to be asked, or the system cannot tell."""
        try:
            return os.preadv(fd, buffers, offset, os.RWF_NOWAIT)
        except OSError as error:
            raise BlockingIOError(errno.EAGAIN, os.strerror(error.errno or 0)) from error

    def read_uncached(self, path: str) -> None:
        """Have the disk itself read the start of that file; a file system that cannot read past its cache reads as it can."""
        with mmap.mmap(-1, _DIRECT, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as page:
            try:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECT)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                fd = self.open(path)
            try:
                os.preadv(fd, [page], 0)
            finally:
                self.close(fd)

    def writev(self, fd: int, buffers: Sequence[Buffer]) -> int:
        """As the system call: may write less than all of it."""
        return os.writev(fd, buffers[:_IOV_MAX])

    def allocate(self, fd: int, offset: int, length: int) -> bool:
        """Give bytes behind the end of a file their places on the disk; its size stays as it is. False where the file system
        knows no such thing."""
        while _libc.fallocate(fd, _KEEP_SIZE, offset, length) != 0:
            number = ctypes.get_errno()
            if number in _NO_ALLOCATE:
                return False
            if number != errno.EINTR:
                raise OSError(number, os.strerror(number))
        return True

    def fdatasync(self, fd: int) -> None:
        os.fdatasync(fd)

    def syncfs(self, fd: int) -> None:
        """Everything on the file system of `fd`, GIL released. Reports write errors since `fd` was opened."""
        if _libc.syncfs(fd) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def map(self, fd: int, length: int) -> FileMap:
        """The first `length` bytes of a file, read-only."""
        return FileMap(fd, length)

    # ---- names -------------------------------------------------------------------------------------------------------
    def rename(self, old: str, new: str) -> None:
        os.rename(old, new)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def mkdir(self, path: str) -> None:
        """With its parents; one that is there is no error."""
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            return
        except FileNotFoundError:
            os.makedirs(path, mode=0o700)

    def names(self, path: str) -> list[str]:
        return os.listdir(path)

    def exists(self, path: str) -> bool:
        """Other failures than "not there" are raised, so that a sick disk is not taken for an empty one."""
        try:
            os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def fsync_directory(self, path: str) -> None:
        fd = self.open(path)
        try:
            os.fsync(fd)
        finally:
            self.close(fd)

    def mode(self, path: str) -> int:
        """Who may do what with it."""
        return os.stat(path).st_mode & 0o777

    def inode(self, path: str) -> tuple[int, int]:
        """(device, inode): which file that name stands for."""
        status = os.stat(path)
        return status.st_dev, status.st_ino

    def device(self, path: str) -> int:
        """Number of the file system where that is, or would be made."""
        while not self.exists(path):
            path = os.path.dirname(os.path.abspath(path))
        return os.stat(path).st_dev

    def is_mount(self, path: str) -> bool:
        return os.path.ismount(path)

    def room(self, path: str) -> tuple[int, int]:
        """Bytes that are free for us, and bytes in all."""
        status = os.statvfs(path)
        return status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize

    # ---- small whole files -------------------------------------------------------------------------------------------
    def read(self, path: str) -> bytes:
        fd = self.open(path)
        try:
            return self.pread(fd, self.size(fd), 0)
        finally:
            self.close(fd)

    def replace(self, path: str, data: bytes, mode: int = 0o600) -> None:
        """Write a file so that at any moment, also after a power cut, the old or the new one is there, whole."""
        new = f"{path}.new"
        if self.exists(new):
            self.unlink(new)
        fd = self.create(new, mode)
        try:
            write_all(self, fd, (data,))
            self.fdatasync(fd)
        finally:
            self.close(fd)
        self.rename(new, path)
        self.fsync_directory(os.path.dirname(path))

    def lock(self, path: str) -> int | None:
        """A descriptor that holds the lock until it is closed, or None when somebody else does. On a read-only disk the
        file must be there already."""
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if error.errno not in _READ_ONLY:
                raise
            fd = self.open(path)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close(fd)
            return None
        return fd

    def boot_id(self) -> str:
        """Another one after every start of the kernel."""
        return self.read_line(_BOOT_ID)

    def read_line(self, path: str) -> str:
        """Of a file in /proc, whose size is unknown."""
        fd = self.open(path)
        try:
            return os.read(fd, 4096).decode().strip()
        finally:
            self.close(fd)


def write_all(files: Files, fd: int, buffers: Sequence[Buffer]) -> int:
    """Append all of them, however little the system takes at a time; returns how many bytes that were."""
    rest = [memoryview(buffer).cast("B") for buffer in buffers if len(buffer)]
    total = 0
    while rest:
        written = files.writev(fd, rest)
        if written <= 0:
            raise OSError(errno.EIO, "the disk takes no more bytes and gives no reason")
        total += written
        while rest and written >= len(rest[0]):
            written -= len(rest.pop(0))
        if written:
            rest[0] = rest[0][written:]
    return total
