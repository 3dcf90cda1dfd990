"""What the parser of request heads calls back, and the lines of response heads. See _http.pyi."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeLatin1
from libc.stdint cimport uint8_t

from abixio.errors import BadRequest

cdef extern from "Python.h":
    enum: PyUnicode_1BYTE_KIND
    int PyUnicode_KIND(object text)
    const uint8_t *PyUnicode_1BYTE_DATA(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)

cdef enum:
    NAMES = 256  # names of headers that are kept in lower case; more are only sent to fill memory
    LONGEST = 64

cdef dict _names = {}


cdef str _lower(bytes name):
    found = _names.get(name)
    if found is None:
        found = name.decode("latin-1").lower()
        if len(_names) < NAMES and len(name) <= LONGEST:
            _names[name] = found
    return <str>found


cdef str _text(bytes value):
    cdef const char *start = PyBytes_AS_STRING(value)
    cdef const char *end = start + PyBytes_GET_SIZE(value)
    while start < end and (start[0] == 32 or start[0] == 9):
        start += 1
    while start < end and (end[-1] == 32 or end[-1] == 9):
        end -= 1
    return PyUnicode_DecodeLatin1(start, end - start, NULL)


cdef class Collector:
    cdef public bytes target
    cdef public dict headers
    cdef public bint whole
    cdef public bint ended
    cdef readonly object single

    def __init__(self, frozenset single):
        self.single = single
        self.reset()

    cpdef reset(self):
        self.target = b""
        self.headers = {}
        self.whole = self.ended = False

    def on_url(self, bytes target):
        self.target = self.target + target if self.target else target

    def on_header(self, bytes name, bytes value):
        cdef str key = _lower(name)
        cdef str text = _text(value)
        if key not in self.headers:
            self.headers[key] = text
        elif key in self.single:
            raise BadRequest(f"more than one {key} header")
        else:
            self.headers[key] = f"{self.headers[key]},{text}"

    def on_headers_complete(self):
        self.whole = True

    def on_message_complete(self):
        self.ended = True


cdef Py_ssize_t _room(name, value):
    """Bytes of the line; 0 when it is not latin-1 for sure."""
    if type(name) is not str or type(value) is not str:
        return 0
    if PyUnicode_KIND(name) != PyUnicode_1BYTE_KIND or PyUnicode_KIND(value) != PyUnicode_1BYTE_KIND:
        return 0
    return PyUnicode_GET_LENGTH(name) + PyUnicode_GET_LENGTH(value) + 4


cdef uint8_t *_copied(uint8_t *out, str text, bint *ends):
    """Behind its bytes; `ends` when one of them ends a line."""
    cdef const uint8_t *data = PyUnicode_1BYTE_DATA(text)
    cdef Py_ssize_t at, size = PyUnicode_GET_LENGTH(text)
    cdef uint8_t found = 0
    for at in range(size):
        found |= (data[at] == 13) | (data[at] == 10) | (data[at] == 0)
        out[at] = data[at]
    ends[0] |= found
    return out + size


def join_lines(list headers not None):
    cdef tuple pair
    cdef Py_ssize_t room, total = 0
    cdef bint ends = False
    for pair in headers:
        name, value = pair
        room = _room(name, value)
        if room == 0:
            return _lines(headers)
        total += room
    cdef bytes found = PyBytes_FromStringAndSize(NULL, total)
    cdef uint8_t *out = <uint8_t *>PyBytes_AS_STRING(found)
    for pair in headers:
        out = _copied(out, <str>pair[0], &ends)
        out[0] = b":"
        out[1] = b" "
        out = _copied(out + 2, <str>pair[1], &ends)
        out[0] = b"\r"
        out[1] = b"\n"
        out += 2
    if ends:
        raise ValueError("a response header holds CR, LF or NUL")
    return found


cdef list _lines(list headers):
    lines = [f"{name}: {value}" for name, value in headers]
    for line in lines:
        if "\r" in line or "\n" in line or "\0" in line:
            raise ValueError("a response header holds CR, LF or NUL")
    return [f"{line}\r\n" for line in lines]
