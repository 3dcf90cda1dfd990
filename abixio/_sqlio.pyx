"""Glue to _sqlio.h. See _sqlio.pyi."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uintptr_t

cdef extern from "_sqlio.h" nogil:
    enum: SQLIO_HEADER
    int sqlio_wanted
    int sqlio_refused
    void sqlio_begin()
    int sqlio_end()
    long sqlio_pread(int fd, void *buffer, size_t length, long offset)
    void *sqlio_mmap(void *address, size_t length, int protection, int flags, int fd, long offset)
    int sqlio_munmap(void *address, size_t length)
    long sqlio_pwrite(int fd, const void *buffer, size_t length, long offset)
    ctypedef struct sqlio_frames:
        pass
    void sqlio_gather(void *frames)
    int sqlio_scatter()
    void *sqlio_index(unsigned long device, unsigned long inode)
    int sqlio_header(const void *start, void *header)


def begin():
    sqlio_begin()


def end():
    return sqlio_end() != 0


def wanted():
    return sqlio_wanted != 0


def refuse():
    global sqlio_refused
    sqlio_refused = 1


def calls():
    return {
        "pread64": <uintptr_t>&sqlio_pread, "pwrite64": <uintptr_t>&sqlio_pwrite, "mmap": <uintptr_t>&sqlio_mmap,
        "munmap": <uintptr_t>&sqlio_munmap,
    }


def gates():
    return {
        "begin": <uintptr_t>&sqlio_begin, "end": <uintptr_t>&sqlio_end, "gather": <uintptr_t>&sqlio_gather,
        "scatter": <uintptr_t>&sqlio_scatter, "room": sizeof(sqlio_frames),
    }


def index(unsigned long device, unsigned long inode):
    return <uintptr_t>sqlio_index(device, inode)


def stamp(uintptr_t where):
    header = PyBytes_FromStringAndSize(NULL, SQLIO_HEADER)
    if not sqlio_header(<const void *>where, PyBytes_AS_STRING(header)):
        return None
    return header
