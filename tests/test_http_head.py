"""Request heads: what is understood, and that whatever two readers could read differently is refused."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abixio.errors import BadRequest, HeadTooLarge, RequestError, UnsupportedExpectation
from abixio.http.head import Head, _spare, parse_head
from abixio.http.limits import Limits

LIMITS = Limits()


def head(*lines: str, start: str = "GET /b/k?x=1 HTTP/1.1", host: bool = True) -> Head:
    return parse_head(raw(*lines, start=start, host=host), LIMITS)


def raw(*lines: str, start: str = "GET /b/k?x=1 HTTP/1.1", host: bool = True) -> bytes:
    return "\r\n".join([start, *(["Host: h"] if host else []), *lines, "", ""]).encode("latin-1")


def test_gives_method_target_and_headers_as_received() -> None:
    found = head("X-Amz-Date: 2026", "x-amz-meta-A:  two words \t", start="DELETE /b/a%2Fb+c?x&y=%20 HTTP/1.1")
    assert (found.method, found.target) == ("DELETE", b"/b/a%2Fb+c?x&y=%20")
    assert found.headers == {"host": "h", "x-amz-date": "2026", "x-amz-meta-a": "two words"}
    assert (found.length, found.keep_alive, found.modern, found.expects) == (0, True, True, False)


def test_keeps_every_byte_of_a_value_as_latin_1() -> None:
    value = bytes(range(0x80, 0x100))
    found = parse_head(b"GET / HTTP/1.1\r\nHost: h\r\nx-amz-meta-a: a" + value + b"z\r\n\r\n", LIMITS)
    assert found.headers["x-amz-meta-a"].encode("latin-1") == b"a" + value + b"z"


def test_joins_repeated_headers_with_a_comma() -> None:
    assert head("X-A: 1", "x-b: q", "x-a: 2").headers["x-a"] == "1,2"


def test_takes_an_empty_value() -> None:
    assert head("x-a:").headers["x-a"] == ""


@pytest.mark.parametrize(
    ("lines", "length"),
    [
        ((), 0),
        (("Content-Length: 0",), 0),
        (("Content-Length: 5",), 5),
        (("Content-Length: 5 ",), 5),
        (("Content-Length: 007",), 7),
        (("Content-Length: 9223372036854775807",), 2**63 - 1),
        (("Transfer-Encoding: chunked",), None),
        (("Transfer-Encoding: Chunked",), None),
    ],
)
def test_finds_the_length_of_the_body(lines: tuple[str, ...], length: int | None) -> None:
    assert head(*lines, start="PUT /b/k HTTP/1.1").length == length


@pytest.mark.parametrize(
    "lines",
    [
        ("Content-Length: 5", "Content-Length: 5"),
        ("Content-Length: 5", "Content-Length: 6"),
        ("Content-Length: 5, 5",),
        ("Content-Length: +5",),
        ("Content-Length: -5",),
        ("Content-Length: 0x5",),
        ("Content-Length: 5_0",),
        ("Content-Length: 5 0",),
        ("Content-Length:",),
        ("Content-Length: \xb2",),
        ("Content-Length: 9223372036854775808",),
        ("Content-Length: 99999999999999999999999999",),
        ("Content-Length: 5", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: chunked", "Content-Length: 5"),
        ("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: chunked, chunked",),
        ("Transfer-Encoding: gzip, chunked",),
        ("Transfer-Encoding: chunked, identity",),
        ("Transfer-Encoding: identity",),
        ("Transfer-Encoding: xchunked",),
        ("Transfer-Encoding: \x0bchunked",),
        ("Transfer-Encoding:",),
        ("Transfer-Encoding : chunked",),
        ("Content-Length : 5",),
        (" Content-Length: 5",),
        ("X-A: 1", " folded"),
        ("X-A: 1", "\tfolded"),
        ("X-A: 1\x00",),
        ("X-A: 1\x7f",),
        ("X-A: 1\x1b",),
        ("X-A: 1\rX-B: 2",),
        ("X-A: 1\nX-B: 2",),
        ("X-A: 1\n",),
        ("X A: 1",),
        ("X\xe4: 1",),
        (": 1",),
        ("nocolon",),
        ("Host: other",),
        ("Authorization: a", "Authorization: b"),
    ],
)
def test_refuses_what_could_be_read_in_two_ways(lines: tuple[str, ...]) -> None:
    with pytest.raises(BadRequest):
        head(*lines, start="PUT /b/k HTTP/1.1")


@pytest.mark.parametrize(
    "start",
    [
        "GET /", "GET / HTTP/0.9", "GET / HTTP/1.2", "GET / HTTP/2.0", "GET / http/1.1", "GET / HTTP/1.1 ", "GET  / HTTP/1.1",
        "GET /  HTTP/1.1", " GET / HTTP/1.1", "GET / x HTTP/1.1", "GET\t/ HTTP/1.1", "FETCH / HTTP/1.1", "get / HTTP/1.1",
        "GET x HTTP/1.1", "GET /\x01 HTTP/1.1", "GET /\x00 HTTP/1.1", "CONNECT h:1 HTTP/1.1", "GET * HTTP/1.1", "PRI * HTTP/2.0",
        "DESCRIBE / HTTP/1.1", "GET ftp://h/ HTTP/1.1", "GET http://other/ HTTP/1.1", "GET http://u@h/ HTTP/1.1", "", "HELO h",
    ],
)  # fmt: skip
def test_refuses_a_bad_request_line(start: str) -> None:
    with pytest.raises(BadRequest):
        head(start=start)


def test_refuses_http_1_1_without_host() -> None:
    with pytest.raises(BadRequest):
        head(host=False)


def test_http_1_0_needs_no_host_and_closes_unless_it_says_otherwise() -> None:
    assert head(start="GET / HTTP/1.0", host=False).keep_alive is False
    found = head("Connection: Keep-Alive", start="GET / HTTP/1.0", host=False)
    assert (found.keep_alive, found.modern) == (True, False)


def test_refuses_transfer_encoding_in_http_1_0() -> None:
    with pytest.raises(BadRequest):
        head("Transfer-Encoding: chunked", start="PUT / HTTP/1.0")


@pytest.mark.parametrize(
    ("value", "keep"), [("close", False), ("Close", False), ("x, close", False), ("keep-alive, close", False), ("x", True)]
)
def test_connection_options_decide_about_the_next_request(value: str, keep: bool) -> None:
    assert head(f"Connection: {value}").keep_alive is keep


def test_ignores_an_offer_of_another_protocol() -> None:
    found = head("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")
    assert (found.target, found.keep_alive, found.length) == (b"/b/k?x=1", True, 0)


def test_takes_the_path_of_an_absolute_uri_of_the_same_host() -> None:
    assert head(start="GET HTTP://H/b/k?q HTTP/1.1").target == b"/b/k?q"
    assert head(start="GET http://h?q HTTP/1.1").target == b"/?q"
    assert head(start="GET http://h HTTP/1.1").target == b"/"


def test_takes_the_asterisk_of_options() -> None:
    assert head(start="OPTIONS * HTTP/1.1").target == b"*"


def test_knows_who_waits_for_100_continue() -> None:
    put = "PUT / HTTP/1.1"
    assert head("Expect: 100-Continue", "Content-Length: 5", start=put).expects is True
    assert head("Expect: 100-continue", "Transfer-Encoding: chunked", start=put).expects is True
    empty = head("Expect: 100-continue", "Content-Length: 0", start=put)
    assert (empty.expects, empty.keep_alive) == (False, False)
    assert head("Expect: 100-continue", "Content-Length: 5", start="PUT / HTTP/1.0").expects is False


def test_refuses_an_expectation_it_does_not_know() -> None:
    with pytest.raises(UnsupportedExpectation):
        head("Expect: 200-ok", "Content-Length: 5")


def test_limits_bytes_lines_and_target() -> None:
    limits = Limits(head_bytes=2000, header_lines=4, target_bytes=100)
    parse_head(raw("a: 1", "b: 1", "c: 1"), limits)
    with pytest.raises(HeadTooLarge):
        parse_head(raw("a: 1", "b: 1", "c: 1", "d: 1"), limits)
    with pytest.raises(HeadTooLarge):
        parse_head(raw("a: " + "x" * 2000), limits)
    parse_head(raw(start="GET /" + "x" * 99 + " HTTP/1.1"), limits)
    with pytest.raises(HeadTooLarge):
        parse_head(raw(start="GET /" + "x" * 100 + " HTTP/1.1"), limits)


TOKEN = st.text("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=1, max_size=20)
VALUE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=40)


@given(st.dictionaries(TOKEN.map(lambda name: "x-" + name.lower()), VALUE, max_size=8))
def test_any_legal_header_comes_back(fields: dict[str, str]) -> None:
    found = head(*(f"{name}: {value}" for name, value in fields.items()))
    assert found.headers == {"host": "h"} | {name: value.strip(" \t") for name, value in fields.items()}


@given(st.binary(max_size=200))
def test_garbage_is_refused_or_understood_but_never_breaks(data: bytes) -> None:
    for before, after in ((b"", b""), (b"GET / HTTP/1.1\r\nHost: h\r\n", b""), (b"PUT ", b" HTTP/1.1\r\nHost: h")):
        try:
            found = parse_head(before + data + after + b"\r\n\r\n", LIMITS)
        except RequestError:
            continue
        assert found.target[:1] in (b"/", b"*")
        assert "\n" not in "".join(found.headers.values())


def test_what_is_read_never_depends_on_the_heads_before() -> None:
    chance = random.Random(5)
    heads = [
        raw(), raw("Connection: close"), raw("Content-Length: 7"), raw("Transfer-Encoding: chunked"),
        raw("Expect: 100-continue"), raw("Upgrade: h2c", "Connection: upgrade"), raw("a: 1", "A: 2"), raw("a : 1"),
        raw("Range: a", "Range: b"), raw(host=False), raw(start="GET / HTTP/1.0"), raw(start="CONNECT h:1 HTTP/1.1"),
        raw("Connection: keep-alive", start="HEAD /k HTTP/1.0"), raw(start="PUT /k HTTP/1.1"), raw("Content-Length: 0"),
        raw("Content-Length: 1", "Content-Length: 2"), raw("x: \x01"), raw(start="OPTIONS * HTTP/1.1"),
        b"GET / HTTP/1.1\r\nHost: h\r\n\r\n\r\n\r\n", b"garbage\r\n\r\n",
    ]

    def read(data: bytes) -> object:
        try:
            return parse_head(data, LIMITS)
        except RequestError as error:
            return type(error), str(error)

    alone = []
    for data in heads:
        _spare._kept = None
        alone.append(read(data))
    kept = 0
    for _ in range(2000):
        at = chance.randrange(len(heads))
        assert read(heads[at]) == alone[at], heads[at]
        kept += _spare._kept is not None
    assert kept > 500


@pytest.mark.parametrize(
    ("lines", "kept"),
    [((), True), (("Content-Length: 0",), True), (("Content-Length: 16384",), True), (("Content-Length: 16385",), False),
     (("Transfer-Encoding: chunked",), False), (("Content-Length: 7", "Connection: close"), False),
     (("Content-Length: 7", "Expect: 100-continue"), True)],
)
def test_a_parser_reads_the_next_head_also_behind_a_small_body(lines: tuple[str, ...], kept: bool) -> None:
    _spare._kept = None
    for _ in range(3):
        found = head("x-a: 1", *lines, start="PUT /k HTTP/1.1")
        assert (found.method, found.headers["x-a"]) == ("PUT", "1")
        assert (_spare._kept is not None) is kept
    assert head().headers == {"host": "h"}
