"""Glue to _sqlio.h. See _sqlio.pyi."""

from libc.stdint cimport uintptr_t

cdef extern from "_sqlio.h" nogil:
    int sqlio_wanted
    int sqlio_refused
    void sqlio_begin()
    int sqlio_end()
    long sqlio_pread(int fd, void *buffer, size_t length, long offset)
    void *sqlio_mmap(void *address, size_t length, int protection, int flags, int fd, long offset)


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
    return {"pread64": <uintptr_t>&sqlio_pread, "mmap": <uintptr_t>&sqlio_mmap}
