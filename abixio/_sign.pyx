"""What is hashed of a request, and the hash. Glue to _sign.h: holds the bytes and makes the room. See _sign.pyi."""

import re
from hashlib import sha256

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.unicode cimport PyUnicode_DecodeLatin1, PyUnicode_DecodeUTF8
from libc.stdint cimport SIZE_MAX, uint8_t
from libc.string cimport memchr

cdef extern from "_sign.h" nogil:
    ctypedef struct sign_pair:
        pass
    bint sign_plain(const uint8_t *start, size_t size, bint plus)
    size_t sign_decode(const uint8_t *start, size_t size, uint8_t *out, bint plus)
    size_t sign_recode(const uint8_t *start, size_t size, uint8_t *out, bint plus, bint slash)
    size_t sign_query(
        const uint8_t *query, size_t size, const uint8_t *skip, size_t skip_size, uint8_t *room, sign_pair *pairs
    )
    size_t sign_length(const sign_pair *pairs, size_t count)
    void sign_join(const sign_pair *pairs, size_t count, uint8_t *out)
    bint sign_is_sha256(const uint8_t *start, size_t size)

cdef extern from "Python.h":
    object PyUnicode_New(Py_ssize_t size, Py_UCS4 maxchar)
    void *PyUnicode_DATA(object text)
    bint PyUnicode_IS_ASCII(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)

cdef enum:
    BLOCK = 64  # bytes that SHA-256 takes at a time

cdef object _fold = re.compile("[ \t]+").sub
cdef bytes _INNER = bytes([each ^ 0x36 for each in range(256)])
cdef bytes _OUTER = bytes([each ^ 0x5C for each in range(256)])


cdef void *_room(size_t size) except NULL:
    cdef void *room = PyMem_Malloc(size)
    if room == NULL:
        raise MemoryError
    return room


# ---- targets ---------------------------------------------------------------------------------------------------------
cdef str _decoded(const uint8_t *start, size_t size, bint plus):
    cdef uint8_t *room
    cdef size_t written
    if sign_plain(start, size, plus):
        return PyUnicode_DecodeLatin1(<const char *>start, size, NULL)
    room = <uint8_t *>_room(size)
    try:
        written = sign_decode(start, size, room, plus)
        if written != SIZE_MAX:
            return PyUnicode_DecodeUTF8(<const char *>room, written, NULL)
    except UnicodeDecodeError:
        pass
    finally:
        PyMem_Free(room)
    cdef bytes raw = start[:size]
    raise ValueError(raw.replace(b"+", b" ") if plus else raw)


def decoded(bytes raw not None):
    return _decoded(<const uint8_t *>PyBytes_AS_STRING(raw), PyBytes_GET_SIZE(raw), False)


def query_pairs(bytes query not None):
    cdef const uint8_t *at = <const uint8_t *>PyBytes_AS_STRING(query)
    cdef const uint8_t *end = at + PyBytes_GET_SIZE(query)
    cdef const uint8_t *stop
    cdef const uint8_t *equals
    cdef list found = []
    while at < end:
        stop = <const uint8_t *>memchr(at, b"&", end - at)
        if stop == NULL:
            stop = end
        if stop > at:
            equals = <const uint8_t *>memchr(at, b"=", stop - at)
            if equals == NULL:
                found.append((_decoded(at, stop - at, True), ""))
            else:
                found.append((_decoded(at, equals - at, True), _decoded(equals + 1, stop - equals - 1, True)))
        at = stop + 1
    return found


# ---- canonical requests ----------------------------------------------------------------------------------------------
cpdef str canonical_path(bytes path):
    cdef size_t size = len(path)
    cdef uint8_t *room = <uint8_t *>_room(3 * size)
    try:
        size = sign_recode(<const uint8_t *>PyBytes_AS_STRING(path), size, room, False, True)
        return PyUnicode_DecodeLatin1(<const char *>room, size, NULL)
    finally:
        PyMem_Free(room)


cpdef str canonical_query(bytes query, bytes skip=None):
    cdef size_t size = len(query)
    cdef size_t count = query.count(b"&") + 1
    cdef uint8_t *room = NULL
    cdef sign_pair *pairs = NULL
    cdef bytes left_out = b"" if skip is None else skip
    cdef str found
    if not size:
        return ""
    try:
        room = <uint8_t *>_room(3 * size)
        pairs = <sign_pair *>_room(count * sizeof(sign_pair))
        count = sign_query(
            <const uint8_t *>PyBytes_AS_STRING(query), size, <const uint8_t *>PyBytes_AS_STRING(left_out),
            SIZE_MAX if skip is None else PyBytes_GET_SIZE(left_out), room, pairs,
        )
        found = PyUnicode_New(sign_length(pairs, count), 127)
        sign_join(pairs, count, <uint8_t *>PyUnicode_DATA(found))
        return found
    finally:
        PyMem_Free(room)
        PyMem_Free(pairs)


cpdef str canonical_request(str method, str path, str query, dict headers, tuple signed, str payload):
    cdef list lines = [method, "\n", path, "\n", query, "\n"]
    cdef str name, value
    for name in signed:
        found = headers.get(name)
        if found is not None:
            value = <str?>found
            if "  " in value or "\t" in value:
                value = _fold(" ", value)
            lines += (name, ":", value, "\n")
    lines += ("\n", ";".join(signed), "\n", payload)
    return "".join(lines)


def uncovered(dict headers not None, tuple signed not None):
    cdef list loose = []
    cdef str name
    for name in headers:
        if name.startswith("x-amz-") and name not in signed and name != "x-amz-content-sha256":
            loose.append(name)
    if "host" not in signed:
        loose.append("host")
    return loose


# ---- hashes ----------------------------------------------------------------------------------------------------------
def is_sha256(str text not None):
    return PyUnicode_IS_ASCII(text) and sign_is_sha256(<const uint8_t *>PyUnicode_DATA(text), PyUnicode_GET_LENGTH(text))


@cython.final
cdef class Signer:
    cdef object inner, outer

    def __init__(self, bytes key not None):
        cdef bytes padded = (sha256(key).digest() if len(key) > BLOCK else key).ljust(BLOCK, b"\0")
        self.inner = sha256(padded.translate(_INNER))
        self.outer = sha256(padded.translate(_OUTER))

    cpdef str sign(self, str text):
        inner, outer = self.inner.copy(), self.outer.copy()
        inner.update(text.encode())
        outer.update(inner.digest())
        return outer.hexdigest()

    def sign_request(
        self, str before not None, str method not None, bytes path not None, bytes query not None, bytes skip,
        dict headers not None, tuple signed not None, str payload not None,
    ):
        cdef str text = canonical_request(method, canonical_path(path), canonical_query(query, skip), headers, signed, payload)
        return self.sign(before + <str>sha256(text.encode("latin-1")).hexdigest())
