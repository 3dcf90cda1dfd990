"""Glue to _md5.h and _md5_lanes.h: holds the buffer, drops the GIL for big ones, makes one call. See _md5.pyi."""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t

cdef extern from "_md5.h" nogil:
    ctypedef struct md5_state:
        pass
    void md5_init(md5_state *s)
    void md5_update(md5_state *s, const uint8_t *data, size_t len)
    void md5_digest(const md5_state *s, uint8_t *out)

cdef extern from "_md5_lanes.h" nogil:
    enum: MD5_LANES
    void md5_many(md5_state **states, const uint8_t **data, size_t *lengths, int count)

LANES = MD5_LANES
cdef Py_ssize_t KEEP_GIL = 8192  # Bytes: 12 us of hashing, more than an uncontended drop of the GIL costs.


@cython.final
cdef class MD5:
    cdef md5_state state
    cdef bint busy
    name = "md5"
    digest_size = 16
    block_size = 64

    def __cinit__(self, data=b""):
        md5_init(&self.state)
        self.update(data)

    def update(self, data):
        cdef Py_buffer view
        self._check()
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            if view.len < KEEP_GIL:
                md5_update(&self.state, <const uint8_t *>view.buf, view.len)
            else:
                self.busy = True
                with nogil:
                    md5_update(&self.state, <const uint8_t *>view.buf, view.len)
                self.busy = False
        finally:
            PyBuffer_Release(&view)

    def digest(self):
        self._check()
        cdef bytes out = PyBytes_FromStringAndSize(NULL, 16)
        md5_digest(&self.state, <uint8_t *>PyBytes_AS_STRING(out))
        return out

    def hexdigest(self):
        return self.digest().hex()

    def copy(self):
        self._check()
        cdef MD5 other = MD5()
        other.state = self.state
        return other

    cdef int _check(self) except -1:
        if self.busy:
            raise RuntimeError("another thread is updating this MD5")
        return 0


def update_many(hashes, buffers):
    cdef MD5 running
    cdef md5_state *states[MD5_LANES]
    cdef const uint8_t *data[MD5_LANES]
    cdef size_t lengths[MD5_LANES]
    cdef Py_buffer views[MD5_LANES]
    cdef int count = len(hashes), held = 0, i
    if count > MD5_LANES or count != len(buffers) or len(set(map(id, hashes))) != count:
        raise ValueError(f"{count} hashes and {len(buffers)} buffers; at most {MD5_LANES}, each hash once, a buffer for each")
    for running in hashes:
        running._check()
    try:
        for i in range(count):
            PyObject_GetBuffer(buffers[i], &views[i], PyBUF_SIMPLE)
            held += 1
            states[i] = &(<MD5>hashes[i]).state
            data[i], lengths[i] = <const uint8_t *>views[i].buf, views[i].len
        for running in hashes:
            running.busy = True
        with nogil:
            md5_many(states, data, lengths, count)
        for running in hashes:
            running.busy = False
    finally:
        for i in range(held):
            PyBuffer_Release(&views[i])
