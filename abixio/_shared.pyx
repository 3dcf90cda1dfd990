"""Memory and locks that several processes share. See _shared.pyi."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.errno cimport EACCES, EAGAIN, EINTR, errno
from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.string cimport memcpy

cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <errno.h>
    #include <fcntl.h>
    #include <stdint.h>
    #include <stdio.h>
    #include <string.h>
    #include <sys/mman.h>
    #include <unistd.h>

    #define SHARED_TABLE 65536

    static int64_t shared_load(int64_t *cell) { return __atomic_load_n(cell, __ATOMIC_SEQ_CST); }
    static void shared_store(int64_t *cell, int64_t value) { __atomic_store_n(cell, value, __ATOMIC_SEQ_CST); }
    static int64_t shared_add(int64_t *cell, int64_t more) { return __atomic_add_fetch(cell, more, __ATOMIC_SEQ_CST); }

    /* At least `least`, and more than before: by compare-and-swap, so no two callers get the same. */
    static int64_t shared_advance(int64_t *cell, int64_t least)
    {
        int64_t old = __atomic_load_n(cell, __ATOMIC_SEQ_CST), new_;
        do {
            new_ = old < least ? least : old + 1;
        } while (!__atomic_compare_exchange_n(cell, &old, new_, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
        return new_;
    }

    static void shared_count(int32_t *cell, int32_t more) { __atomic_add_fetch(cell, more, __ATOMIC_SEQ_CST); }
    static int32_t shared_counted(int32_t *cell) { return __atomic_load_n(cell, __ATOMIC_SEQ_CST); }

    static int shared_lock(int fd, int command, short type, int64_t byte)
    {
        struct flock lock;
        memset(&lock, 0, sizeof lock);
        lock.l_type = type;
        lock.l_whence = SEEK_SET;
        lock.l_start = byte;
        lock.l_len = 1;
        return fcntl(fd, command, &lock);
    }

    /* Through /proc the same file is opened once more; a duplicate would share its locks. */
    static int shared_reopen(int fd)
    {
        char path[64];
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        return open(path, O_RDWR | O_CLOEXEC);
    }
    """
    enum: F_OFD_SETLK
    enum: F_OFD_SETLKW
    enum: F_RDLCK
    enum: F_WRLCK
    enum: F_UNLCK
    enum: MFD_CLOEXEC
    enum: PROT_READ
    enum: PROT_WRITE
    enum: MAP_SHARED
    enum: SHARED_TABLE
    int64_t shared_load(int64_t *cell) nogil
    void shared_store(int64_t *cell, int64_t value) nogil
    int64_t shared_add(int64_t *cell, int64_t more) nogil
    int64_t shared_advance(int64_t *cell, int64_t least) nogil
    void shared_count(int32_t *cell, int32_t more) nogil
    int32_t shared_counted(int32_t *cell) nogil
    int shared_lock(int fd, int command, short type, int64_t byte) nogil
    int shared_reopen(int fd) nogil
    int memfd_create(const char *name, unsigned int flags) nogil
    int ftruncate(int fd, int64_t length) nogil
    int close(int fd) nogil
    void *mmap(void *address, size_t length, int protection, int flags, int fd, int64_t offset) nogil
    int munmap(void *address, size_t length) nogil

CELLS = 512
"""Of 8 bytes: one page in front of the tables."""
cdef size_t _HEAD = 512 * 8
cdef size_t _TABLE = SHARED_TABLE * 4


def create(size_t tables):
    cdef int fd = memfd_create("abixio", MFD_CLOEXEC)
    if fd < 0:
        raise OSError(errno, "no shared memory: memfd_create")
    if ftruncate(fd, _HEAD + tables * _TABLE) != 0:
        failed = errno
        close(fd)
        raise OSError(failed, "no shared memory: ftruncate")
    return fd


cdef class Memory:
    cdef unsigned char *_base
    cdef size_t _size
    cdef readonly size_t tables

    def __cinit__(self, int fd, size_t tables):
        self._size = _HEAD + tables * _TABLE
        self.tables = tables
        cdef void *found = mmap(NULL, self._size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
        if found == <void *> -1:
            raise OSError(errno, "cannot map the shared memory")
        self._base = <unsigned char *> found

    def __dealloc__(self):
        if self._base != NULL:
            munmap(self._base, self._size)

    cdef int64_t *_cell(self, size_t index) except NULL:
        if index >= 512:
            raise IndexError(index)
        return <int64_t *> (self._base + 8 * index)

    cdef int32_t *_place(self, size_t table, bytes id) except NULL:
        cdef uint64_t mixed
        if table >= self.tables:
            raise IndexError(table)
        if PyBytes_GET_SIZE(id) < 8:
            raise ValueError("an id has 8 bytes at least")
        memcpy(&mixed, PyBytes_AS_STRING(id) + PyBytes_GET_SIZE(id) - 8, 8)
        return <int32_t *> (self._base + _HEAD + table * _TABLE) + (mixed & (SHARED_TABLE - 1))

    def load(self, size_t index):
        return shared_load(self._cell(index))

    def store(self, size_t index, int64_t value):
        shared_store(self._cell(index), value)

    def add(self, size_t index, int64_t more):
        return shared_add(self._cell(index), more)

    def advance(self, size_t index, int64_t least):
        return shared_advance(self._cell(index), least)

    def count(self, size_t table, ids, int32_t more):
        for id in ids:
            shared_count(self._place(table, id), more)

    def counted(self, size_t table, bytes id):
        return shared_counted(self._place(table, id))

    def clear(self, size_t table):
        cdef size_t index
        cdef int32_t *first
        if table >= self.tables:
            raise IndexError(table)
        first = <int32_t *> (self._base + _HEAD + table * _TABLE)
        for index in range(SHARED_TABLE):
            if first[index] != 0:
                first[index] = 0


cdef class Locks:
    cdef int _fd

    def __cinit__(self, int fd):
        self._fd = shared_reopen(fd)
        if self._fd < 0:
            raise OSError(errno, "cannot open the shared memory once more through /proc")

    def __dealloc__(self):
        if self._fd >= 0:
            close(self._fd)

    def hold(self, int64_t byte, bint exclusive):
        if shared_lock(self._fd, F_OFD_SETLK, F_WRLCK if exclusive else F_RDLCK, byte) == 0:
            return True
        if errno == EAGAIN or errno == EACCES:
            return False
        raise OSError(errno, "cannot lock")

    def wait(self, int64_t byte):
        cdef int result, failed
        while True:
            with nogil:
                result = shared_lock(self._fd, F_OFD_SETLKW, F_WRLCK, byte)
                failed = errno
            if result == 0:
                return
            if failed != EINTR:
                raise OSError(failed, "cannot wait for a lock")

    def free(self, int64_t byte):
        if shared_lock(self._fd, F_OFD_SETLK, F_UNLCK, byte) != 0:
            raise OSError(errno, "cannot let go of a lock")
