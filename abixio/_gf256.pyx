"""Glue to _gf256.h: checks arguments, holds the buffers, drops the GIL, makes one call. See _gf256.pyi."""

import os

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport uint8_t, uintptr_t

cdef extern from "_gf256.h" nogil:
    ctypedef void gf256_kernel(const uint8_t *, int, int, const uint8_t **, uint8_t **, size_t)
    uint8_t gf256_power(uint8_t base, int exponent)
    int gf256_invert(uint8_t *a, uint8_t *out, int n)
    void gf256_init()
    gf256_kernel *gf256_find(const char *name)

KERNELS = ("gfni512", "gfni", "avx512", "avx2", "ssse3", "scalar")

cdef Py_ssize_t KEEP_GIL = 16384  # Bytes in all buffers: under 2 us of a vector kernel, less than a contended GIL costs.
cdef int MAX_SIDE = 255           # Distinct evaluation points in the field.
cdef gf256_kernel *chosen = NULL


cdef class _Buffers:
    """Holds buffers of one length. Released when it goes, whichever way the call ends."""

    cdef Py_buffer *held
    cdef uint8_t **start
    cdef int count
    cdef Py_ssize_t size

    def __cinit__(self, sequence, int flags):
        # A tuple of our own: whoever holds the sequence could make it longer while its items give us their buffers.
        cdef tuple objects = tuple(sequence)
        wanted = len(objects)
        if wanted > MAX_SIDE:
            raise ValueError(f"{wanted} buffers, at most {MAX_SIDE}")
        self.held = <Py_buffer *>PyMem_Calloc(wanted + 1, sizeof(Py_buffer))
        self.start = <uint8_t **>PyMem_Calloc(wanted + 1, sizeof(uint8_t *))
        if self.held == NULL or self.start == NULL:
            raise MemoryError
        for item in objects:
            PyObject_GetBuffer(item, &self.held[self.count], flags)
            self.start[self.count] = <uint8_t *>self.held[self.count].buf
            self.count += 1
            if self.held[self.count - 1].len != self.held[0].len:
                raise ValueError(f"buffers of {self.held[0].len} and {self.held[self.count - 1].len} bytes")
        self.size = self.held[0].len if self.count else 0

    def __dealloc__(self):
        cdef int i
        for i in range(self.count):
            PyBuffer_Release(&self.held[i])
        PyMem_Free(self.held)
        PyMem_Free(self.start)

    cdef bint meets(self, uint8_t *start, int count):
        """Whether one of the first `count` buffers overlaps the one of the same size that begins there."""
        cdef int i
        cdef uintptr_t a = <uintptr_t>start, b
        for i in range(count):
            b = <uintptr_t>self.start[i]
            if a < b + <uintptr_t>self.size and b < a + <uintptr_t>self.size:
                return True
        return False


cdef gf256_kernel *_find(str name) except NULL:
    cdef bytes raw = name.encode()
    cdef gf256_kernel *found = gf256_find(raw)
    if found == NULL:
        raise ValueError(f"kernel {name!r} cannot run on this processor; these can: {', '.join(kernels())}")
    return found


def kernels():
    return tuple(name for name in KERNELS if gf256_find(name.encode()) != NULL)


def kernel():
    return _name


def multiply(bytes matrix not None, sources, outputs, str kernel=None):
    cdef gf256_kernel *run = chosen if kernel is None else _find(kernel)
    cdef _Buffers src = _Buffers(sources, PyBUF_SIMPLE)
    cdef _Buffers dst = _Buffers(outputs, PyBUF_WRITABLE)
    cdef const uint8_t *coefficients = <const uint8_t *>PyBytes_AS_STRING(matrix)
    cdef int i
    if src.count == 0:
        raise ValueError("no sources")
    if len(matrix) != src.count * dst.count:
        raise ValueError(f"a matrix of {len(matrix)} bytes for {dst.count} rows of {src.count}")
    if dst.count and dst.size != src.size:
        raise ValueError(f"sources of {src.size} bytes, outputs of {dst.size}")
    for i in range(dst.count):
        if src.meets(dst.start[i], src.count) or dst.meets(dst.start[i], i):
            raise ValueError(f"output {i} overlaps another buffer")
    if src.size * (src.count + dst.count) < KEEP_GIL:
        run(coefficients, dst.count, src.count, <const uint8_t **>src.start, dst.start, src.size)
    else:
        with nogil:
            run(coefficients, dst.count, src.count, <const uint8_t **>src.start, dst.start, src.size)


def vandermonde(int rows, int cols):
    if not (0 < rows <= 256 and 0 < cols <= 256):
        raise ValueError(f"{rows} x {cols}")
    cdef bytes matrix = PyBytes_FromStringAndSize(NULL, rows * cols)
    cdef uint8_t *cell = <uint8_t *>PyBytes_AS_STRING(matrix)
    cdef int r, c
    for r in range(rows):
        for c in range(cols):
            cell[r * cols + c] = gf256_power(r, c)
    return matrix


def invert(bytes matrix not None, int n):
    if not 0 < n <= MAX_SIDE or len(matrix) != n * n:
        raise ValueError(f"a matrix of {len(matrix)} bytes is not {n} x {n}")
    cdef bytearray work = bytearray(matrix)
    cdef uint8_t *a = work
    cdef bytes inverse = PyBytes_FromStringAndSize(NULL, n * n)
    if gf256_invert(a, <uint8_t *>PyBytes_AS_STRING(inverse), n):
        raise ValueError("the matrix has no inverse")
    return inverse


gf256_init()
_name = os.environ.get("ABIXIO_GF256_KERNEL") or kernels()[0]
if _name not in kernels():
    raise ImportError(f"ABIXIO_GF256_KERNEL={_name}: not a kernel that can run here; these can: {', '.join(kernels())}")
chosen = _find(_name)
