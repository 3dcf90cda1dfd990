"""What the parser of request heads calls back. See _http.pyi."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeLatin1

from abixio.errors import BadRequest

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
