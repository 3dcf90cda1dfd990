"""The Range header: which bytes of an object a GET or HEAD asks for (RFC 9110, section 14).

S3 serves one range. Several ranges, other units and anything malformed are as if the header were not there: the client
gets the whole object with a 200, which RFC 9110 allows and every client understands.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from abixio.s3.errors import S3Error

_ONE: Final = re.compile(r"\s*bytes\s*=\s*(\d*)\s*-\s*(\d*)\s*", re.IGNORECASE | re.ASCII)
_COPY: Final = re.compile(r"bytes=(\d+)-(\d+)", re.ASCII)
_DIGITS: Final = 18
"""10**18 is beyond any object, and Python refuses to convert more than 4,300 digits."""


class Span(NamedTuple):
    """Bytes [start, start + length)."""

    start: int
    length: int


def parse(header: str, size: int) -> Span | None:
    """The span that the header asks for, None when the whole object is to be sent; InvalidRange when no byte of it exists."""
    match = _ONE.fullmatch(header)
    if match is None:
        return None
    first, last = match.groups()
    if not first:
        return _suffix(last, size, header)
    start = _number(first)
    if last and _number(last) < start:
        return None
    if start >= size:
        raise unsatisfiable(header, size)
    stop = min(_number(last) + 1, size) if last else size
    return Span(start, stop - start)


def parse_copy(header: str, size: int) -> Span:
    """x-amz-copy-source-range: `bytes=first-last` and nothing else, and wholly inside the source."""
    match = _COPY.fullmatch(header)
    if match is None:
        raise _bad_copy(
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the "
            "zero-based offsets of the first and last bytes to copy", header)
    first, last = _number(match[1]), _number(match[2])
    if last < first or last >= size:
        raise _bad_copy(f"Range specified is not valid for source object of size: {size}", header)
    return Span(first, last + 1 - first)


def content_range(span: Span, size: int) -> str:
    return f"bytes {span.start}-{span.start + span.length - 1}/{size}"


def unsatisfiable(header: str, size: int) -> S3Error:
    """The 416, which says how large the object is."""
    return S3Error("InvalidRange", headers=[("Content-Range", f"bytes */{size}")], RangeRequested=header, ActualObjectSize=size)


def _suffix(last: str, size: int, header: str) -> Span | None:
    """`-n`: the last n bytes, or all there are. There is no last byte of nothing, and no last nothing of anything."""
    if not last:
        return None
    length = min(_number(last), size)
    if length == 0:
        raise unsatisfiable(header, size)
    return Span(size - length, length)


def _number(digits: str) -> int:
    digits = digits.lstrip("0")
    return int(digits or "0") if len(digits) <= _DIGITS else 10**_DIGITS


def _bad_copy(message: str, header: str) -> S3Error:
    return S3Error("InvalidArgument", message, ArgumentName="x-amz-copy-source-range", ArgumentValue=header)
