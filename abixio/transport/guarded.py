"""A copy of memory that may be the map of a file, without the signal that kills where the disk cannot give a page any more.

A plain socket write of such memory fails with EFAULT. TLS encrypts in user space, where the same touch is a SIGBUS; so what it
gets is copied by the kernel first, which says EFAULT too.
"""

from __future__ import annotations

import ctypes
import os
from typing import Final

from abixio.errors import DataLost
from abixio.message import Buffer


class _PyBuffer(ctypes.Structure):
    """CPython's Py_buffer; the only way to the address of a read-only object."""

    _fields_ = (
        ("buf", ctypes.c_void_p), ("obj", ctypes.c_void_p), ("len", ctypes.c_ssize_t), ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int), ("ndim", ctypes.c_int), ("format", ctypes.c_void_p), ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p), ("suboffsets", ctypes.c_void_p), ("internal", ctypes.c_void_p),
    )


class _Span(ctypes.Structure):
    """struct iovec."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.process_vm_readv.restype = ctypes.c_ssize_t
_libc.process_vm_readv.argtypes = [
    ctypes.c_int, ctypes.POINTER(_Span), ctypes.c_ulong, ctypes.POINTER(_Span), ctypes.c_ulong, ctypes.c_ulong,
]
_get: Final = ctypes.pythonapi["PyObject_GetBuffer"]  # not shared with whoever else declares its arguments
_get.argtypes = [ctypes.py_object, ctypes.POINTER(_PyBuffer), ctypes.c_int]
_release: Final = ctypes.pythonapi["PyBuffer_Release"]
_release.argtypes = [ctypes.POINTER(_PyBuffer)]
_release.restype = None


def copied(data: Buffer) -> Buffer:
    """The same bytes in memory of our own. DataLost where they cannot be read."""
    if not isinstance(data, memoryview) or not data.nbytes:
        return data
    copy, held = bytearray(data.nbytes), _PyBuffer()
    room = (ctypes.c_char * data.nbytes).from_buffer(copy)
    _get(data, ctypes.byref(held), 0)
    try:
        there, here = _Span(held.buf, held.len), _Span(ctypes.addressof(room), held.len)
        count = _libc.process_vm_readv(os.getpid(), ctypes.byref(here), 1, ctypes.byref(there), 1, 0)
    finally:
        _release(ctypes.byref(held))
    if count != data.nbytes:
        raise DataLost("verified bytes of a shard cannot be read any more")
    return copy
