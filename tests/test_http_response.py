"""Response heads: exact bytes, and nothing that a value could smuggle in."""

from __future__ import annotations

import random
import time
from email.utils import parsedate_to_datetime

import pytest

from abixio.http.response import bodiless, header_lines, render_head


def lines(head: bytes) -> list[bytes]:
    assert head.endswith(b"\r\n\r\n")
    return head[:-4].split(b"\r\n")


def test_starts_with_the_status_line_and_a_date_of_now() -> None:
    first, date, *rest = lines(render_head(206, [("ETag", '"x"')], 7))
    assert first == b"HTTP/1.1 206 Partial Content"
    name, value = date.decode().split(": ", 1)
    assert name == "Date"
    assert value.endswith(" GMT")
    assert abs(parsedate_to_datetime(value).timestamp() - time.time()) < 3
    assert rest == [b'ETag: "x"', b"Content-Length: 7"]


def test_the_date_moves_on(monkeypatch: pytest.MonkeyPatch) -> None:
    dates = []
    for now in (1_000_000_000.0, 1_000_000_000.9, 1_000_000_001.0):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        dates.append(lines(render_head(200, [], 0))[1])
    assert dates == [b"Date: Sun, 09 Sep 2001 01:46:40 GMT"] * 2 + [b"Date: Sun, 09 Sep 2001 01:46:41 GMT"]


def test_says_what_becomes_of_the_connection() -> None:
    assert lines(render_head(200, [], None, close=True))[2:] == [b"Connection: close"]
    assert lines(render_head(200, [], None, keep=True))[2:] == [b"Connection: keep-alive"]
    assert lines(render_head(200, [], None))[2:] == []


def test_gives_back_latin_1_byte_for_byte() -> None:
    value = bytes(range(0x80, 0x100))
    assert b"x-amz-meta-a: " + value in lines(render_head(200, [("x-amz-meta-a", value.decode("latin-1"))], 0))


def test_writes_other_characters_as_utf_8_and_leaves_the_other_values_alone() -> None:
    found = lines(render_head(200, [("a", "\xe4\x85"), ("b", "\u20ac\xe4"), ("c", "\u2028")], 0))
    assert found[2:] == [b"a: \xe4\x85", b"b: " + "\u20ac\xe4".encode(), b"c: " + "\u2028".encode(), b"Content-Length: 0"]


@pytest.mark.parametrize("text", ["a\r\nSet-Cookie: x", "a\nb", "a\rb", "\r\n", "a\0b", "\u20ac\nb"])
def test_refuses_a_value_or_name_that_is_more_than_one_line(text: str) -> None:
    with pytest.raises(ValueError, match="CR, LF or NUL"):
        render_head(200, [("x", text)], 0)
    with pytest.raises(ValueError, match="CR, LF or NUL"):
        render_head(200, [(text, "x")], 0)


@pytest.mark.parametrize("status", [0, 99, 100, 101, 199, 1000, -200])
def test_refuses_a_status_that_ends_no_request(status: int) -> None:
    with pytest.raises(ValueError, match="status"):
        render_head(status, [], 0)


def test_knows_no_name_for_an_odd_status() -> None:
    assert lines(render_head(599, [], 0))[0] == b"HTTP/1.1 599 Unknown"


@pytest.mark.parametrize(
    ("status", "method", "expected"),
    [(200, "GET", False), (200, "HEAD", True), (204, "DELETE", True), (304, "GET", True), (404, "GET", False)],
)
def test_knows_which_answers_have_no_body(status: int, method: str, expected: bool) -> None:
    assert bodiless(status, method) is expected


def encoded(headers: list[tuple[str, str]]) -> bytes:
    """The same in Python."""
    found = b""
    for line in (f"{name}: {value}\r\n" for name, value in headers):
        try:
            found += line.encode("latin-1")
        except UnicodeEncodeError:
            found += line.encode()
    return found


def test_any_names_and_values_come_out_as_they_are_or_are_refused() -> None:
    chance = random.Random(7)
    refused = 0
    for _ in range(5000):
        letters = chance.choice(
            ["ab", "a\xff\x80", "a\u0100", "a\U0001f600\xe4", "ab\r", "a\n\u20ac", "abcdefghijklm\0", "\x01\x7f\t"]
        )
        words = ["".join(chance.choices(letters, k=chance.randrange(40))) for _ in range(chance.randrange(12))]
        headers = list(zip(words[::2], words[1::2], strict=False))
        try:
            lines = header_lines(headers)
        except ValueError:
            refused += 1
            assert any(sign in name + value for name, value in headers for sign in "\r\n\0")
        else:
            assert lines == encoded(headers)
            assert not any(sign in name + value for name, value in headers for sign in "\r\n\0")
    assert 1000 < refused < 2500
