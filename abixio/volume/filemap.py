"""A read-only map of a file that holds no descriptor, and the preparation of its pages without signals.

`mmap.mmap(fd, ...)` keeps a duplicate of the descriptor for as long as the map lives, so a thousand readers of objects
on four volumes would take four thousand. Here an anonymous map is made first, which has none and whose memory Python
returns when the last slice is gone, and the file is mapped over it: 8 us more, measured, and no descriptor.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from contextlib import suppress
from functools import cache
from typing import Final

_MADV_POPULATE_READ: Final = 22
"""Since Linux 5.14. Faults pages in and returns an error where touching them would raise SIGBUS."""
_MAP_FIXED: Final = 0x10
_SCRATCH: Final = 1 << 20
"""Bytes read at a time by kernels that lack MADV_POPULATE_READ."""

_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_libc.mmap.restype = ctypes.c_void_p
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


class _PyBuffer(ctypes.Structure):
    """CPython's Py_buffer; the only way to the address of a read-only object."""

    _fields_ = (
        ("buf", ctypes.c_void_p), ("obj", ctypes.c_void_p), ("len", ctypes.c_ssize_t), ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int), ("ndim", ctypes.c_int), ("format", ctypes.c_void_p), ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p), ("suboffsets", ctypes.c_void_p), ("internal", ctypes.c_void_p),
    )


_get_buffer: Final = ctypes.pythonapi.PyObject_GetBuffer
_get_buffer.argtypes = [ctypes.py_object, ctypes.POINTER(_PyBuffer), ctypes.c_int]
_release_buffer: Final = ctypes.pythonapi.PyBuffer_Release
_release_buffer.argtypes = [ctypes.POINTER(_PyBuffer)]
_release_buffer.restype = None


def _address(owner: mmap.mmap) -> int:
    buffer = _PyBuffer()
    _get_buffer(owner, ctypes.byref(buffer), 0)
    address = int(buffer.buf)
    _release_buffer(ctypes.byref(buffer))
    return address


def _raise_errno() -> None:
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number))


@cache
def can_populate() -> bool:
    """Whether this kernel knows MADV_POPULATE_READ."""
    page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ)
    known: bool = _libc.madvise(_address(page), mmap.PAGESIZE, _MADV_POPULATE_READ) == 0
    page.close()
    return known


class FileMap:
    """The first bytes of a file. `view` and its slices stay valid after `close`, until the last of them is gone."""

    def __init__(self, fd: int, length: int) -> None:
        self.length = length
        self._fd: int | None = None
        self._map: mmap.mmap | None = None
        self.view = memoryview(b"")
        if length:
            self._map = mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ)
            self._address = _address(self._map)
            if _libc.mmap(self._address, length, mmap.PROT_READ, mmap.MAP_SHARED | _MAP_FIXED, fd, 0) != self._address:
                _raise_errno()
            self.view = memoryview(self._map)
            if not can_populate():
                self._fd = os.dup(fd)

    def populate(self, offset: int, length: int) -> None:
        """Bring those bytes into memory, GIL released; OSError where the disk cannot read them."""
        if offset < 0 or length < 0 or offset + length > self.length:
            raise ValueError(f"populate({offset}, {length}) of a map of {self.length} bytes")
        if self._map is None or not length:
            return
        start = offset - offset % mmap.PAGESIZE
        if self._fd is not None:
            self._read(self._fd, start, offset + length)
        elif _libc.madvise(self._address + start, offset + length - start, _MADV_POPULATE_READ) != 0:
            _raise_errno()

    @staticmethod
    def _read(fd: int, start: int, end: int) -> None:
        """Leave the pages in the page cache, where the map finds them. One that is evicted before it is touched is read
        again by the fault: a sector that goes bad in between still kills the process on such old kernels."""
        scratch = bytearray(min(_SCRATCH, end - start))
        with memoryview(scratch) as view:
            while start < end:
                count = os.preadv(fd, [view[: end - start]], start)
                if count == 0:
                    raise OSError(errno.EIO, "the file is shorter than it was")
                start += count

    def close(self) -> None:
        """Let go. Closing twice is harmless."""
        owner, self._map = self._map, None
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)
        if owner is not None:
            self.view.release()
            with suppress(BufferError):  # somebody still holds a slice: the memory is returned with the last one
                owner.close()
