"""One XXH3 per 64 KiB of a buffer in one call, by the hash function of the xxhash package; and whether a buffer is in memory.
See _blocks.pyi."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.errno cimport EINVAL, errno
from libc.stdint cimport uint8_t, uint64_t, uintptr_t
from posix.dlfcn cimport RTLD_LAZY, dlopen, dlsym

from xxhash import _xxhash

cdef extern from "<sys/mman.h>" nogil:
    int mincore(void *start, size_t length, unsigned char *pages)
    int madvise(void *start, size_t length, int advice)

cdef extern from "<unistd.h>" nogil:
    int getpagesize()

ctypedef uint64_t (*xxh3_t)(const void *, size_t, uint64_t) noexcept nogil

cdef enum:
    SIZE = 65536
    PAGES = 512  # asked for in one call
    POPULATE_READ = 22  # MADV_POPULATE_READ, since Linux 5.14
    KEEP_GIL = 131072  # Bytes: up to 6 us, less than a contended GIL costs.

BLOCK = SIZE
cdef xxh3_t xxh3 = NULL


cdef inline Py_ssize_t _count(Py_ssize_t length) noexcept nogil:
    """Started blocks."""
    return (length + SIZE - 1) // SIZE


cdef inline uint64_t _sum(const uint8_t *data, Py_ssize_t length, uint64_t seed, Py_ssize_t block) noexcept nogil:
    return xxh3(data + block * SIZE, min(<Py_ssize_t>SIZE, length - block * SIZE), seed + <uint64_t>block)


cdef void _sums(const uint8_t *data, Py_ssize_t length, uint64_t seed, uint64_t *out) noexcept nogil:
    """In the machine's own byte order."""
    cdef Py_ssize_t block
    for block in range(_count(length)):
        out[block] = _sum(data, length, seed, block)


cdef Py_ssize_t _first_bad(const uint8_t *data, Py_ssize_t length, uint64_t seed, const uint64_t *sums) noexcept nogil:
    cdef Py_ssize_t block
    for block in range(_count(length)):
        if _sum(data, length, seed, block) != sums[block]:
            return block
    return -1


def sums(view, uint64_t seed):
    cdef Py_buffer data
    cdef bytes found
    cdef uint64_t *out
    PyObject_GetBuffer(view, &data, PyBUF_SIMPLE)
    try:
        found = PyBytes_FromStringAndSize(NULL, _count(data.len) * <Py_ssize_t>sizeof(uint64_t))
        out = <uint64_t *>PyBytes_AS_STRING(found)
        if data.len <= KEEP_GIL:
            _sums(<const uint8_t *>data.buf, data.len, seed, out)
        else:
            with nogil:
                _sums(<const uint8_t *>data.buf, data.len, seed, out)
    finally:
        PyBuffer_Release(&data)
    return found


def first_bad(view, expected, uint64_t seed):
    cdef Py_buffer data, sums
    cdef Py_ssize_t bad
    PyObject_GetBuffer(view, &data, PyBUF_SIMPLE)
    try:
        PyObject_GetBuffer(expected, &sums, PyBUF_SIMPLE)
        try:
            if sums.len != _count(data.len) * <Py_ssize_t>sizeof(uint64_t):
                raise ValueError(f"{sums.len} bytes of sums for {data.len} bytes")
            if data.len <= KEEP_GIL:
                bad = _first_bad(<const uint8_t *>data.buf, data.len, seed, <const uint64_t *>sums.buf)
            else:
                with nogil:
                    bad = _first_bad(<const uint8_t *>data.buf, data.len, seed, <const uint64_t *>sums.buf)
        finally:
            PyBuffer_Release(&sums)
    finally:
        PyBuffer_Release(&data)
    return None if bad < 0 else bad


def available():
    return xxh3 != NULL


cdef xxh3_t _find():
    """The first chooses the vector instructions at run time; it is not built everywhere."""
    cdef void *library = dlopen(_xxhash.__file__.encode(), RTLD_LAZY)
    cdef void *found = NULL
    if library != NULL:
        found = dlsym(library, "XXH3_64bits_withSeed_dispatch")
        if found == NULL:
            found = dlsym(library, "XXH3_64bits_withSeed")
    return <xxh3_t>found


xxh3 = _find()


cdef bint _resident(uintptr_t start, uintptr_t stop) noexcept nogil:
    cdef unsigned char pages[PAGES]
    cdef uintptr_t page = getpagesize()
    cdef uintptr_t count, each
    start -= start % page
    while start < stop:
        count = min((stop - start + page - 1) // page, <uintptr_t>PAGES)
        if mincore(<void *>start, count * page, pages) != 0:
            return False
        for each in range(count):
            if not pages[each] & 1:
                return False
        start += count * page
    return True


def resident(view):
    cdef Py_buffer data
    PyObject_GetBuffer(view, &data, PyBUF_SIMPLE)
    try:
        return _resident(<uintptr_t>data.buf, <uintptr_t>data.buf + data.len)
    finally:
        PyBuffer_Release(&data)


cdef bint _populated(uintptr_t start, uintptr_t stop) noexcept nogil:
    if not _resident(start, stop):
        return False
    start -= start % <uintptr_t>getpagesize()
    return madvise(<void *>start, stop - start, POPULATE_READ) == 0 or errno == EINVAL


def populated(view):
    cdef Py_buffer data
    PyObject_GetBuffer(view, &data, PyBUF_SIMPLE)
    try:
        return data.len == 0 or _populated(<uintptr_t>data.buf, <uintptr_t>data.buf + data.len)
    finally:
        PyBuffer_Release(&data)
