"""One request head: from its bytes to method, target, headers, and how the body is framed. No I/O.

httptools (llhttp in its strict mode) does the grammar: it refuses spaces before a colon, folded lines, bare CR or LF,
control characters, unknown methods, two Content-Length or one beside Transfer-Encoding. What it lets pass and a proxy in
front of us might read differently is refused here; whoever disagrees about where a request ends can be made to smuggle one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from httptools import HttpParserCallbackError, HttpParserError, HttpParserUpgrade, HttpRequestParser

from abixio._http import Collector
from abixio.config import KIB
from abixio.errors import BadRequest, HeadTooLarge, UnsupportedExpectation
from abixio.http.limits import Limits

END: Final = b"\r\n\r\n"
_SINGLE: Final = frozenset({"host", "content-length", "transfer-encoding", "expect", "authorization", "content-type", "range"})
"""Headers whose meaning is lost, or an attacker's choice, when two lines of them are joined."""
_ABSOLUTE: Final = re.compile(rb"https?://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)
MAX_LENGTH: Final = 2**63 - 1
"""A longer Content-Length is no length; everything behind us counts in signed 64 bits."""


@dataclass(slots=True)
class Head:
    """What a request says before its body."""

    method: str
    target: bytes
    headers: dict[str, str]
    length: int | None
    """Of the body; None: chunked."""
    keep_alive: bool
    """Whether the client will reuse the connection."""
    modern: bool
    """HTTP/1.1: persistence is the default. HTTP/1.0: it has to be said."""
    expects: bool
    """The client waits for `100 Continue` before it sends the body."""
    raw: bytes = b""
    """All of it, as it came."""


class _Spare:
    """A parser that waits for the next head, of whatever connection. To make one takes as long as to parse with it, and one that
    has read a request, behind which the connection lives on, is as it was before."""

    def __init__(self) -> None:
        self._kept: tuple[HttpRequestParser, Collector] | None = None

    def take(self) -> tuple[HttpRequestParser, Collector]:
        kept, self._kept = self._kept, None
        if kept is not None:
            return kept
        collector = Collector(_SINGLE)
        return HttpRequestParser(collector), collector

    def give_back(self, parser: HttpRequestParser, collector: Collector, length: int) -> None:
        """What has read a head without complaint. Behind it comes a body of that length, and this reads another one, which costs
        nothing: it only counts bytes."""
        if not collector.ended and length <= len(_FILLER):
            parser.feed_data(_FILLER[:length])
        if collector.ended and parser.should_keep_alive():
            collector.reset()
            self._kept = parser, collector


_FILLER: Final = memoryview(bytes(16 * KIB))
"""As long as the bodies that are worth it: with a longer one a new parser is no matter."""
_spare: Final = _Spare()


def parse_head(raw: bytes, limits: Limits) -> Head:
    """`raw` is a head with the empty line that ends it. BadRequest, HeadTooLarge, UnsupportedExpectation."""
    if len(raw) > limits.head_bytes:
        raise HeadTooLarge(f"a request head of more than {limits.head_bytes} bytes")
    if raw.count(b"\n") - 2 > limits.header_lines:
        raise HeadTooLarge(f"more than {limits.header_lines} header lines")
    parser, collector = _spare.take()
    plain = _feed(parser, raw)
    method, target, headers = parser.get_method(), collector.target, collector.headers
    if not collector.whole:
        raise BadRequest("the head ends before its end")
    if len(target) > limits.target_bytes:
        raise HeadTooLarge(f"a request target of more than {limits.target_bytes} bytes")
    # The parser knows other versions, and forgives spaces in the request line; here these make up its first bytes.
    end = len(method) + 1 + len(target)
    modern = raw.startswith(b" HTTP/1.1\r\n", end)
    if not modern and not raw.startswith(b" HTTP/1.0\r\n", end):
        raise BadRequest("not a request line of HTTP/1.1 or HTTP/1.0")
    if modern and "host" not in headers:
        raise BadRequest("HTTP/1.1 without Host")
    if target[:1] != b"/":
        target = _origin_form(method, target, headers)
    length = _length(headers, modern) if "content-length" in headers or "transfer-encoding" in headers else 0
    if plain and length is not None and "connection" not in headers and "upgrade" not in headers:
        _spare.give_back(parser, collector, length)
    keep_alive = _keep_alive(headers["connection"], modern) if "connection" in headers else modern
    expects = "expect" in headers and _expects(headers["expect"], modern)
    if expects and length == 0:
        # Nothing to continue with. But the AWS CLI takes an answer without a 100 for that to its next request, too, unless
        # the connection ends here, and then waits a minute for the rest of it.
        expects = keep_alive = False
    return Head(method.decode("ascii"), target, headers, length, keep_alive, modern, expects, raw)


def _feed(parser: HttpRequestParser, raw: bytes) -> bool:
    """False when the parser is of no further use."""
    try:
        parser.feed_data(raw)
        return True
    except HttpParserUpgrade:
        # CONNECT, and offers to speak another protocol, which a server is free to ignore: the head was read to its end.
        return False
    except HttpParserError as error:
        if isinstance(error, HttpParserCallbackError) and error.__context__ is not None:
            raise error.__context__ from None
        raise BadRequest(str(error)) from None


def _origin_form(method: bytes, target: bytes, headers: dict[str, str]) -> bytes:
    """The path of an absolute URI, as a client behind a proxy sends it. Its authority has to be the Host header's."""
    if target == b"*" and method == b"OPTIONS":
        return target
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        raise BadRequest("the request target is neither a path nor an absolute URI")
    authority, rest = match.groups()
    if authority.decode("latin-1").lower() != headers.get("host", "").lower():
        raise BadRequest("the request target names another host than the Host header")
    return rest if rest[:1] == b"/" else b"/" + rest


def _length(headers: dict[str, str], modern: bool) -> int | None:
    """Of a body that is announced in one way or the other."""
    if "transfer-encoding" in headers:
        if "content-length" in headers:
            raise BadRequest("Content-Length beside Transfer-Encoding")
        if not modern:
            raise BadRequest("Transfer-Encoding in HTTP/1.0")
        if headers["transfer-encoding"].lower() != "chunked":
            raise BadRequest("the only transfer coding known here is chunked")
        return None
    announced = headers["content-length"]
    if not (announced.isascii() and announced.isdigit()) or len(announced) > 19 or int(announced) > MAX_LENGTH:
        raise BadRequest("Content-Length is not a number of bytes")
    return int(announced)


def _keep_alive(connection: str, modern: bool) -> bool:
    options = {option.strip(" \t") for option in connection.lower().split(",")}
    return "close" not in options and (modern or "keep-alive" in options)


def _expects(expectation: str, modern: bool) -> bool:
    """HTTP/1.0 knows no interim answers; what it expects is ignored, as RFC 9110 10.1.1 says."""
    if not modern:
        return False
    if expectation.lower() != "100-continue":
        raise UnsupportedExpectation(expectation)
    return True
