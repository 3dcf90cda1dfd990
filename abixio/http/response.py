"""Response heads as bytes: status lines made once, the date once a second, the rest checked so that no value can add a line."""

from __future__ import annotations

import time
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

from abixio._http import join_lines
from abixio.message import ID, Repeated

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_STATUS_LINES: Final = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_KEEP: Final = b"Connection: keep-alive\r\n"
_CLOSE: Final = b"Connection: close\r\n"


class _Clock:
    """The Date line of this second."""

    __slots__ = ("_line", "_second")

    def __init__(self) -> None:
        self._second = -1
        self._line = b""

    def line(self) -> bytes:
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._line = f"Date: {formatdate(second, usegmt=True)}\r\n".encode()
        return self._line


_clock: Final = _Clock()


def bodiless(status: int, method: str) -> bool:
    """Whether the answer ends with its head (RFC 9112, 6.3)."""
    return method == "HEAD" or status in (204, 304) or status < 200


def render_head(
    status: int, headers: list[tuple[str, str]], length: int | None, *, close: bool = False, keep: bool = False
) -> bytes:
    """The head of a final answer. `length` None: no Content-Length is added. `keep` says to an HTTP/1.0 client that the
    connection stays open. ValueError for what would not be one head: it is a defect of the handler.

    Values become latin-1, which gives back byte for byte what was received as latin-1; one with other characters becomes UTF-8.
    """
    if status < 200:
        raise ValueError(f"{status} is no final status")
    size = b"" if length is None else b"Content-Length: %d\r\n" % length
    connection = _CLOSE if close else _KEEP if keep else b""
    return b"".join((status_line(status), _clock.line(), header_lines(headers), size, connection, b"\r\n"))


def header_lines(headers: list[tuple[str, str]]) -> bytes:
    """Those lines of a head. ValueError as for `render_head`."""
    lines = join_lines(headers)
    return lines if isinstance(lines, bytes) else b"".join(_encode(line) for line in lines)


def render_again(answer: Repeated, *, close: bool, keep: bool) -> bytes:
    """The head of `answer.response()`, whose lines are made once. As often as it is given its body has the same length."""
    template = answer.template
    lines = template.lines
    if lines is None:
        behind = template.headers[template.place :]
        if not any(name.lower() == "content-length" for name, _ in template.headers):
            behind.append(("Content-Length", str(len(answer.body))))
        before = header_lines(template.headers[: template.place]) + f"{ID}: ".encode()
        lines = template.lines = status_line(template.status), before, b"\r\n" + header_lines(behind)
    id = answer.id.encode("ascii")
    return b"".join((lines[0], _clock.line(), lines[1], id, lines[2], _CLOSE if close else _KEEP if keep else b"", b"\r\n"))


def _encode(line: str) -> bytes:
    try:
        return line.encode("latin-1")
    except UnicodeEncodeError:
        return line.encode("utf-8")


def status_line(status: int) -> bytes:
    """ValueError for what can be none."""
    if status in _STATUS_LINES:
        return _STATUS_LINES[status]
    if not 200 <= status <= 999:
        raise ValueError(f"{status} is no status")
    return f"HTTP/1.1 {status} Unknown\r\n".encode()
