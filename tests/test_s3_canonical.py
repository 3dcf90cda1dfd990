"""Canonical requests: one text for all spellings of one request, and another for every other request."""

from __future__ import annotations

from random import Random
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abixio.s3.canonical import canonical_headers, canonical_path, canonical_query, canonical_request


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
    assert canonical_headers(headers, ["b", "host", "a", "missing"]) == "b:1,2\nhost:h\na:x y z\n"


def test_the_whole_request_has_six_parts() -> None:
    made = canonical_request("GET", "/b/k", "x=", {"host": "h"}, ["host"], "UNSIGNED-PAYLOAD")
    assert made == "GET\n/b/k\nx=\nhost:h\n\nhost\nUNSIGNED-PAYLOAD"
