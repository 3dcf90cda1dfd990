"""Response heads as bytes: status lines made once, the date once a second, the rest checked so that no value can add a line."""

from __future__ import annotations

import time
from collections.abc import Iterable
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_STATUS_LINES: Final = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}
_KEEP: Final = "Connection: keep-alive\r\n"
_CLOSE: Final = "Connection: close\r\n"


class _Clock:
    """The Date line of this second."""

    __slots__ = ("_line", "_second")

    def __init__(self) -> None:
        self._second = -1
        self._line = ""

    def line(self) -> str:
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._line = f"Date: {formatdate(second, usegmt=True)}\r\n"
        return self._line


_clock: Final = _Clock()


def bodiless(status: int, method: str) -> bool:
    """Whether the answer ends with its head (RFC 9112, 6.3)."""
    return method == "HEAD" or status in (204, 304) or status < 200


def render_head(
    status: int, headers: Iterable[tuple[str, str]], length: int | None, *, close: bool = False, keep: bool = False
) -> bytes:
    """The head of a final answer. `length` None: no Content-Length is added. `keep` says to an HTTP/1.0 client that the
    connection stays open. ValueError for what would not be one head: it is a defect of the handler.

    Values become latin-1, which gives back byte for byte what was received as latin-1; one with other characters becomes UTF-8.
    """
    if status < 200:
        raise ValueError(f"{status} is no final status")
    lines = [f"{name}: {value}\r\n" for name, value in headers]
    expected = len(lines) + 2
    if length is not None:
        lines.append(f"Content-Length: {length}\r\n")
        expected += 1
    if close or keep:
        lines.append(_CLOSE if close else _KEEP)
        expected += 1
    head = f"{_STATUS_LINES.get(status) or _unnamed(status)}{_clock.line()}{''.join(lines)}"
    if head.count("\n") != expected or head.count("\r") != expected or "\0" in head:
        raise ValueError("a response header holds CR, LF or NUL")
    try:
        return head.encode("latin-1") + b"\r\n"
    except UnicodeEncodeError:
        return b"\n".join(_encode(line) for line in head.split("\n")) + b"\r\n"


def _encode(line: str) -> bytes:
    try:
        return line.encode("latin-1")
    except UnicodeEncodeError:
        return line.encode("utf-8")


def _unnamed(status: int) -> str:
    if not 200 <= status <= 999:
        raise ValueError(f"{status} is no status")
    return f"HTTP/1.1 {status} Unknown\r\n"
