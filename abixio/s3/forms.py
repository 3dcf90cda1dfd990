"""A multipart/form-data body (RFC 7578) as browsers send it: some fields, then a file, which is read while it comes in.

    form  = "--" boundary CRLF  *( head CRLF CRLF  value CRLF "--" boundary CRLF )  head CRLF CRLF  file CRLF "--" boundary ...

All in front of the file is small and held; the file is the rest of the body up to the next boundary. What follows it is ignored.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from abixio.config import KIB
from abixio.message import Body
from abixio.s3.errors import S3Error

MAX_FIELDS: Final = 20 * KIB
"""Bytes in front of the file, as S3."""
STEP: Final = 64 * KIB
"""Read and searched at once: some 20 us of the event loop."""
FILE: Final = "file"
_TYPE: Final = re.compile(r"multipart/form-data\s*;(.*)", re.IGNORECASE | re.DOTALL)
_BOUNDARY: Final = re.compile(r"""(?:^|;)\s*boundary=(?:"([^"\r\n]{1,70})"|([^\s;"]{1,70}))""", re.IGNORECASE)
_DISPOSITION: Final = re.compile(rb"^content-disposition:\s*form-data\s*(;.*)$", re.IGNORECASE | re.MULTILINE)
_PARAMETER: Final = re.compile(rb';\s*([a-zA-Z*]+)=(?:"((?:[^"\\]|\\.)*)"|([^;\s]*))')


class Form(NamedTuple):
    """The fields by lower-case name, the name of the file as the client gave it, and the file itself."""

    fields: dict[str, str]
    filename: str
    file: FileBody


def boundary(content_type: str) -> bytes | None:
    """What stands between the parts; None of a body that is no form."""
    found = _TYPE.fullmatch(content_type.strip())
    named = _BOUNDARY.search(found[1]) if found else None
    return None if named is None else (named[1] or named[2]).encode("latin-1")


def malformed() -> S3Error:
    return S3Error("MalformedPOSTRequest")


async def read_form(body: Body, boundary: bytes) -> Form:
    """Everything up to the file. MalformedPOSTRequest, MaxPostPreDataLengthExceededError, InvalidArgument."""
    return await _Reader(body, boundary).read()


class _Reader:
    """Reads the fields."""

    def __init__(self, body: Body, boundary: bytes) -> None:
        self._body = body
        self._delimiter = b"\r\n--" + boundary
        self._held = bytearray(b"\r\n")  # so that the first boundary looks like all others
        self._taken = 0
        """Bytes of fields so far."""
        self._fields: dict[str, str] = {}

    async def read(self) -> Form:
        if await self._until(self._delimiter):
            raise malformed()
        while True:
            if await self._take(2) != b"\r\n":
                raise _no_file()
            name, filename = _named(await self._until(b"\r\n\r\n"))
            if name == FILE:
                return Form(self._fields, filename, FileBody(self._body, self._held, self._delimiter))
            if name in self._fields:
                raise S3Error("InvalidArgument", "A field of the form comes twice.", ArgumentName=name)
            self._fields[name] = _text(await self._until(self._delimiter))

    async def _until(self, end: bytes) -> bytes:
        """What comes before the next `end`, which goes too."""
        start = 0
        while (at := self._held.find(end, start)) < 0:
            start = max(len(self._held) - len(end) + 1, 0)
            await self._more()
        found = bytes(self._held[:at])
        del self._held[: at + len(end)]
        self._count(at + len(end))
        return found

    async def _take(self, count: int) -> bytes:
        while len(self._held) < count:
            await self._more()
        found = bytes(self._held[:count])
        del self._held[:count]
        self._count(count)
        return found

    async def _more(self) -> None:
        """More of the body: all that is held belongs to the fields."""
        self._count(0, len(self._held))
        room = bytearray(MAX_FIELDS)
        count = await self._body.readinto(memoryview(room))
        if not count:
            raise malformed()
        self._held += memoryview(room)[:count]

    def _count(self, taken: int, held: int = 0) -> None:
        self._taken += taken
        if self._taken + held > MAX_FIELDS:
            raise S3Error("MaxPostPreDataLengthExceededError")


class FileBody:
    """The file of a form as a body of its own, which ends at the boundary."""

    length: int | None = None

    def __init__(self, body: Body, held: bytearray, delimiter: bytes) -> None:
        self._body = body
        self._held = held
        self._delimiter = delimiter
        self._safe = 0
        """So many bytes at the front of what is held are the file's."""
        self._ended = False
        self._room = bytearray(STEP)

    async def readinto(self, view: memoryview) -> int:
        """As `abixio.message.Body.readinto`; MalformedPOSTRequest when the boundary does not come."""
        at = 0
        while at < len(view):
            if not self._safe and not await self._search():
                break
            taken = min(self._safe, len(view) - at)
            with memoryview(self._held) as held:
                view[at : at + taken] = held[:taken]
            del self._held[:taken]
            self._safe -= taken
            at += taken
        return at

    async def readline(self, limit: int) -> bytes:
        """Nobody reads a file in lines."""
        raise malformed()

    def at_hand(self) -> bytes | None:
        """How long it is nobody knows before it ends."""
        return None

    async def _search(self) -> bool:
        """Find out how far the file goes in what is held, or in more; False at its end."""
        start = 0
        while not self._ended:
            found = self._held.find(self._delimiter, start)
            self._ended = found >= 0
            self._safe = found if self._ended else max(len(self._held) - len(self._delimiter) + 1, 0)
            if self._safe:
                return True
            if self._ended:
                break
            start = self._safe
            count = await self._body.readinto(memoryview(self._room))
            if not count:
                raise malformed()
            self._held += memoryview(self._room)[:count]
        return False


def _named(head: bytes) -> tuple[str, str]:
    """Name and file name of a part, from its head."""
    disposition = _DISPOSITION.search(head.replace(b"\r\n", b"\n"))
    if disposition is None:
        raise malformed()
    found = {name.lower(): _unquoted(quoted) if quoted else bare for name, quoted, bare in _PARAMETER.findall(disposition[1])}
    if not found.get(b"name"):
        raise malformed()
    return _text(found[b"name"]).lower(), _text(found.get(b"filename", b""))


def _unquoted(value: bytes) -> bytes:
    """Browsers write a quotation mark as %22; others put a backslash in front of it. A backslash alone is part of a path."""
    return value.replace(b'\\"', b'"').replace(b"%22", b'"')


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise malformed() from None


def _no_file() -> S3Error:
    return S3Error("InvalidArgument", "POST requires exactly one file upload per request.", ArgumentName=FILE, ArgumentValue="0")
