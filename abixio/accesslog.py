"""The access log: one line for each request, once its answer has ended. Where there is none, nothing of this runs.

A thread writes the lines, several times a second: a pipe that nobody reads, or a full disk, costs lines and never a
request. What a URL holds of a signature is masked, since a presigned one is as good as a password.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import deque
from typing import Final
from urllib.parse import unquote_to_bytes

import msgspec

from abixio.errors import StartupError
from abixio.message import Request
from abixio.volume.files import Files, write_all

_log = logging.getLogger(__name__)

FLUSH_SECONDS: Final = 0.2
"""Between two writes: short for who looks on, and at 10,000 requests a second one call for 2,000 lines."""
MAX_LINES: Final = 100_000
"""That wait to be written: some 20 MiB, ten busy seconds. Beyond it lines are lost, and counted."""
STANDARD_OUTPUT: Final = 1
_SECRETS: Final = (b"signature", b"security-token", b"customer-key")
"""In the name of a parameter, they make its value one that nobody should read."""
_KEY: Final = re.compile(r"(?:Credential=|AWS )([^/:,\s]+)")
_KEY_IN_URL: Final = re.compile(rb"[?&](?:X-Amz-Credential|AWSAccessKeyId)=([^&/%]+)")
_LOUD: Final = re.compile(rb"[^!#-\[\]-~]")
"""What could end a word or a line of the log, or talk to a terminal: all but visible ASCII, and quotes and backslashes."""


class Line(msgspec.Struct):
    """What is said of one request."""

    time: float
    """When it came, in seconds since 1970."""
    peer: str
    access_key: str
    """As the request names it, whether or not the secret was right too; empty without one."""
    method: str
    target: str
    status: int
    bytes: int
    """Of the body of the answer that were handed to the connection."""
    ms: float
    """From the end of the head to the end of the answer."""
    request_id: str


def line_of(request: Request, began: float, status: int, sent: int) -> Line:
    """`began`: time.time() when the request came."""
    ms = round((time.time() - began) * 1000, 3)
    return Line(
        began, request.peer, _access_key(request), request.method, masked(request.target), status, sent, ms, request.id
    )  # fmt: skip


def masked(target: bytes) -> str:
    """A request target without its secrets, as one word of visible ASCII."""
    path, mark, query = target.partition(b"?")
    if query:
        query = b"&".join(map(_masked, query.split(b"&")))
    return _quiet(path + mark + query)


def _masked(part: bytes) -> bytes:
    name, equals, _ = part.partition(b"=")
    plain = unquote_to_bytes(name).lower()
    return name + b"=***" if equals and any(secret in plain for secret in _SECRETS) else part


def _access_key(request: Request) -> str:
    header = request.headers.get("authorization")
    if header is not None:
        found = _KEY.search(header)
        return _quiet(found[1].encode()) if found else ""
    in_url = _KEY_IN_URL.search(request.target)
    return _quiet(in_url[1]) if in_url else ""


def _quiet(text: bytes) -> str:
    return _LOUD.sub(_escaped, text).decode("ascii")


def _escaped(found: re.Match[bytes]) -> bytes:
    return b"%%%02X" % ord(found[0])


class AccessLog:
    """Writes lines to a file, or to standard output."""

    def __init__(self, path: str, as_json: bool, files: Files | None = None) -> None:
        """`-` is standard output. StartupError when the file cannot be written."""
        self._path = path
        self._form = _json if as_json else _plain
        self._files = files or Files()
        self._fd = self._open()
        self._lines: deque[Line] = deque()
        self._lost = 0
        self._failing = False
        self._renewed = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="access-log", daemon=True)
        self._thread.start()

    def add(self, line: Line) -> None:
        if len(self._lines) < MAX_LINES:
            self._lines.append(line)
        else:
            self._lost += 1

    def renew(self) -> None:
        """Open the file anew: somebody has renamed it."""
        self._renewed = True

    def close(self, seconds: float) -> None:
        """Write what is left, unless that takes longer."""
        self._ended.set()
        self._thread.join(seconds)

    # ---- the thread --------------------------------------------------------------------------------------------------
    def _work(self) -> None:
        while not self._ended.wait(FLUSH_SECONDS):
            self._flush()
        self._flush()
        if self._fd != STANDARD_OUTPUT:
            self._files.close(self._fd)

    def _flush(self) -> None:
        try:
            if self._renewed and self._fd != STANDARD_OUTPUT:
                self._renewed = False
                fd, self._fd = self._fd, self._open()
                self._files.close(fd)
            lines = [self._lines.popleft() for _ in range(len(self._lines))]
            if lines:
                write_all(self._files, self._fd, [b"".join(map(self._form, lines))])
                self._failing = False
        except (OSError, StartupError) as error:
            if not self._failing:
                self._failing = True
                _log.error("the access log loses lines: %s", error)
        if self._lost:
            lost, self._lost = self._lost, 0
            _log.error("the access log lost %d lines: they are written too slowly", lost)

    def _open(self) -> int:
        if self._path == "-":
            return STANDARD_OUTPUT
        try:
            return self._files.append(self._path)
        except OSError as error:
            raise StartupError(f"--access-log {self._path!r}: cannot be written: {error.strerror}") from error


def _moment(seconds: float) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{int(seconds % 1 * 1000):03d}Z"


def _plain(line: Line) -> bytes:
    text = (
        f"{_moment(line.time)} {line.peer or '-'} {line.access_key or '-'} {line.method} {line.target} "
        f"{line.status} {line.bytes} {line.ms:.1f} {line.request_id}\n"
    )
    return text.encode("ascii", "backslashreplace")


def _json(line: Line) -> bytes:
    content = msgspec.structs.asdict(line) | {"time": _moment(line.time)}
    return msgspec.json.encode(content) + b"\n"
