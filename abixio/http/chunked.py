"""The chunked transfer coding, decoded around the payload: it reads sizes, line ends and trailers, and says how many
payload bytes may be received next, straight into their place. No I/O, no copy.

    chunked = *( size [extension] CRLF payload CRLF ) 1*"0" [extension] CRLF *( trailer CRLF ) CRLF     (RFC 9112, 7.1)

Extensions and trailers are checked for form, counted and dropped; S3's own trailers stand inside the payload.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import Final

from abixio.errors import IncompleteBody

MAX_LINE: Final = 256
"""A size line: 16 hex digits and an extension. Clients send none; the longest known is a 64-digit signature."""
MAX_TRAILER: Final = 8 * 1024
"""All trailer lines together, as common servers limit a whole head."""
_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?")
"""15 digits stay below 2**60; int() alone would also take signs, underscores, spaces and 0x."""
_FIELD: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*")


class _Expects(Enum):
    """What comes next that is not payload."""

    SIZE = auto()
    PAYLOAD_END = auto()
    TRAILER = auto()
    NOTHING = auto()


class Chunked:
    """Follows one chunked body (a `Framing`)."""

    __slots__ = ("_expects", "_trailer", "payload")

    def __init__(self) -> None:
        self.payload = 0
        self._expects = _Expects.SIZE
        self._trailer = 0

    @property
    def done(self) -> bool:
        return self._expects is _Expects.NOTHING

    def took(self, count: int) -> None:
        self.payload -= count

    def feed(self, data: bytes | bytearray) -> int:
        """Stops where payload begins, where the body ends, or where a line is not whole yet."""
        used = 0
        while self.payload == 0 and self._expects is not _Expects.NOTHING:
            step = self._line(data, used)
            if step == 0:
                break
            used += step
        return used

    def _line(self, data: bytes | bytearray, start: int) -> int:
        end = data.find(b"\n", start, start + MAX_LINE + 1)
        if end < 0:
            if len(data) - start > MAX_LINE:
                raise IncompleteBody("a line of the chunked coding is too long")
            return 0
        line = bytes(data[start : end + 1])
        if line[-2:] != b"\r\n":
            raise IncompleteBody("a line of the chunked coding does not end with CRLF")
        self._take(line[:-2])
        return len(line)

    def _take(self, line: bytes) -> None:
        if self._expects is _Expects.SIZE:
            match = _SIZE.fullmatch(line)
            if match is None:
                raise IncompleteBody("not a chunk size")
            self.payload = int(match[1], 16)
            self._expects = _Expects.PAYLOAD_END if self.payload else _Expects.TRAILER
        elif self._expects is _Expects.PAYLOAD_END:
            if line:
                raise IncompleteBody("a chunk is longer than its size")
            self._expects = _Expects.SIZE
        elif line:
            self._trailer += len(line)
            if self._trailer > MAX_TRAILER or _FIELD.fullmatch(line) is None:
                raise IncompleteBody("not a trailer, or too many of them")
        else:
            self._expects = _Expects.NOTHING
