"""Canonical requests: one text for all spellings of one request, and another for every other request. And what else `_sign` does,
against the same written with the standard library."""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable
from random import Random
from urllib.parse import quote, quote_from_bytes, unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abixio._sign import (
    Signer,
    canonical_path,
    canonical_query,
    canonical_request,
    decoded,
    is_sha256,
    query_pairs,
    uncovered,
)


@pytest.mark.parametrize(
    ("sent", "signed"),
    [
        (b"/", "/"),
        (b"/b/a-_.~/Z9", "/b/a-_.~/Z9"),
        (b"/b/a b", "/b/a%20b"),
        (b"/b/a+b", "/b/a%2Bb"),
        (b"/b/a%2bb", "/b/a%2Bb"),
        (b"/b/%61%7e", "/b/a~"),
        (b"/b/a%2Fb", "/b/a/b"),
        (b"/b/!*'()@:,;=&$", "/b/%21%2A%27%28%29%40%3A%2C%3B%3D%26%24"),
        (b"/b/..//./", "/b/..//./"),
        (b"/b/%252F", "/b/%252F"),
        ("/b/\u00e9".encode(), "/b/%C3%A9"),
    ],
)
def test_a_path_is_encoded_once_and_not_normalised(sent: bytes, signed: str) -> None:
    assert canonical_path(sent) == signed


@pytest.mark.parametrize(
    ("sent", "signed"),
    [
        (b"", ""),
        (b"uploads", "uploads="),
        (b"b=2&a=1", "a=1&b=2"),
        (b"a=2&a=1&a=", "a=&a=1&a=2"),
        (b"a-b=1&a=2", "a=2&a-b=1"),
        (b"a=x+y", "a=x%20y"),
        (b"a=x%2by", "a=x%2By"),
        (b"a=%41", "a=A"),
        (b"a=b=c", "a=b%3Dc"),
        (b"a=/b:c", "a=%2Fb%3Ac"),
        (b"&&a=1&", "a=1"),
        (b"a&b=1=2", "a=&b=1%3D2"),
        ("a=\u00e9".encode(), "a=%C3%A9"),
    ],
)
def test_a_query_is_sorted_and_encoded(sent: bytes, signed: str) -> None:
    assert canonical_query(sent) == signed


@pytest.mark.parametrize("escape", ["%{:02X}", "%{:02x}"])
def test_every_byte_has_one_spelling(escape: str) -> None:
    for byte in range(128):
        assert canonical_query(b"a=" + escape.format(byte).encode()) == "a=" + quote(bytes([byte]), safe="")
        assert canonical_path(b"/" + escape.format(byte).encode()) == "/" + quote(bytes([byte]), safe="/")


def test_the_signature_is_no_part_of_the_canonical_query() -> None:
    assert canonical_query(b"b=1&X-Amz-Signature=f&a=1", b"X-Amz-Signature") == "a=1&b=1"


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@given(st.lists(st.tuples(texts, texts), max_size=5), st.randoms())
def test_all_spellings_of_a_query_are_one(query: list[tuple[str, str]], random: Random) -> None:
    plain = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in query)
    shuffled = random.sample(query, len(query))
    odd = "&".join("".join(f"%{byte:02x}" for byte in name.encode()) + "=" + quote(value, safe="/:,") for name, value in shuffled)
    assert canonical_query(plain.encode()) == canonical_query(odd.encode())


def test_headers_come_in_the_order_of_the_list_with_blanks_folded() -> None:
    headers = {"host": "h", "a": "x   y \t z", "b": "1,2", "c": "not signed"}
    made = canonical_request("GET", "/", "", headers, ("b", "host", "a", "missing"), "UNSIGNED-PAYLOAD")
    assert made == "GET\n/\n\nb:1,2\nhost:h\na:x y z\n\nb;host;a;missing\nUNSIGNED-PAYLOAD"


def test_the_whole_request_has_six_parts() -> None:
    made = canonical_request("GET", "/b/k", "x=", {"host": "h"}, ("host",), "UNSIGNED-PAYLOAD")
    assert made == "GET\n/b/k\nx=\nhost:h\n\nhost\nUNSIGNED-PAYLOAD"


def test_a_header_value_keeps_every_byte() -> None:
    value = bytes(range(0x80, 0x100)).decode("latin-1")
    assert f"\nx:{value}\n" in canonical_request("PUT", "/", "", {"x": value}, ("x",), "p")


# ---- the same with the standard library ------------------------------------------------------------------------------
def decode(raw: bytes) -> str | None:
    if re.search(rb"%(?![0-9A-Fa-f]{2})", raw):
        return None
    try:
        return unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        return None


def pairs(query: bytes) -> list[tuple[bytes, bytes]]:
    parts = query.replace(b"+", b" ").split(b"&")
    return [part.partition(b"=")[::2] for part in parts if part]


def encode(raw: bytes, safe: str = "") -> str:
    return quote_from_bytes(unquote_to_bytes(raw), safe)


def awkward(chance: Random) -> bytes:
    """Targets like those of clients, and like those of enemies."""
    pieces = [b"%", b"%%", b"%4", b"%41", b"%2f", b"%2B", b"%ff", b"%C3%A9", b"%zz", b"&", b"&&", b"=", b"==", b"+", b"/", b"a",
              b"Z9", b"-", b"~", b"\xc3\xa9", b"\xff", b"\x00", b"X-Amz-Signature", b"X%2dAmz-Signature", b"a-b=", b"a=", b"a!="]
    return b"".join(chance.choice(pieces) for _ in range(chance.choice([0, 1, 2, 3, 5, 8, 13, 200])))


def raised(function: Callable[[bytes], object], raw: bytes) -> tuple[object, ...]:
    """What its ValueError says."""
    try:
        function(raw)
    except ValueError as error:
        return error.args
    raise AssertionError(raw)


def test_targets_are_read_and_written_as_by_the_standard_library() -> None:
    chance = Random(4)
    refused = 0
    for _ in range(20_000):
        raw = awkward(chance)
        assert canonical_path(raw) == encode(raw, "/")
        plain = sorted((encode(name), encode(value)) for name, value in pairs(raw))
        assert canonical_query(raw) == "&".join(f"{name}={value}" for name, value in plain)
        rest = [pair for pair in plain if pair[0] != "X-Amz-Signature"]
        assert canonical_query(raw, b"X-Amz-Signature") == "&".join(f"{name}={value}" for name, value in rest)
        text = decode(raw)
        if text is None:
            assert raised(decoded, raw) == (raw,)
        else:
            assert decoded(raw) == text
        bad = [part for pair in pairs(raw) for part in pair if decode(part) is None]
        refused += bool(bad)
        if bad:
            assert raised(query_pairs, raw) == (bad[0],)
        else:
            assert query_pairs(raw) == [(decode(name), decode(value)) for name, value in pairs(raw)]
    assert 2_000 < refused < 18_000


def test_thousands_of_parameters_are_sorted_at_once() -> None:
    query = b"&".join(b"%d" % (number * 7919 % 8192) for number in range(8192))
    assert canonical_query(query) == "&".join(f"{each}=" for each in sorted(map(str, range(8192))))
    assert canonical_query(b"&" * 16384) == ""
    assert canonical_query(b"=" * 16384) == "=" + "%3D" * 16383


@pytest.mark.parametrize("size", [0, 1, 32, 63, 64, 65, 200])
def test_a_signer_is_an_hmac(size: int) -> None:
    signer = Signer(bytes(range(size)))
    for text in ("", "a", "b" * 1000, "\u00e9"):
        assert signer.sign(text) == hmac.new(bytes(range(size)), text.encode(), "sha256").hexdigest()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0123456789abcdefABCDEF" + "0" * 42, True), ("0" * 63, False), ("0" * 65, False), ("", False), ("0" * 63 + "g", False),
     ("0" * 63 + "@", False), ("0" * 63 + "`", False), ("0" * 63 + "/", False), ("0" * 63 + ":", False), ("0" * 63 + "\n", False),
     ("\u0660" * 64, False), ("\u3030" * 64, False), ("\u00e9" * 64, False), ("\x10" * 64, False), ("\x06" * 64, False)],
)
def test_a_hash_is_64_hex_digits(text: str, expected: bool) -> None:
    assert is_sha256(text) is expected


def test_what_is_not_signed_is_told() -> None:
    headers = {"host": "h", "x-amz-date": "d", "x-amz-content-sha256": "p", "x-amzn": "1", "range": "2"}
    assert uncovered(headers, ("host", "x-amz-date")) == []
    assert uncovered(headers, ("x-amz-date",)) == ["host"]
    assert uncovered(headers | {"x-amz-acl": "a"}, ("host", "range")) == ["x-amz-date", "x-amz-acl"]
    assert uncovered({}, ("host",)) == []


def test_nothing_but_bytes_and_text_is_read() -> None:
    for function, wrong in ((decoded, None), (query_pairs, "a"), (canonical_path, bytearray(b"/")), (canonical_query, None),
                            (is_sha256, None), (Signer, None)):
        with pytest.raises(TypeError):
            function(wrong)  # type: ignore[operator]
