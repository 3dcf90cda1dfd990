"""The digests that S3 names: known answers, and the same whatever the cut of the body."""

from __future__ import annotations

import hashlib
import random
import zlib

import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from abixio.codec.digest import COMBINERS, MAKERS, Digests, combine

# The CRC catalogue's check values, of the nine digits; those of RFC 1321, RFC 3174, FIPS 180 and xxHash's own program.
CHECK = b"123456789"
KNOWN = {
    "crc32": "cbf43926",
    "crc32c": "e3069283",
    "crc64nvme": "ae8b14860a799888",
    "md5": "25f9e794323b453885f5181f1b624d0b",
    "sha1": "f7c3bc1d808e04732adf679965ccc34ca7ae3441",
    "sha256": "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
    "sha512": (
        "d9e6762dd1c8eaf6d61b3c6192fc408d4d6d5f1176d0c29169bc24e71c3f274ad27fcd5811b313d681f7e55ec02d73d499c95455b6b5bb503acf574fba8ffe85"
    ),
    "xxh64": "8cb841db40e6ae83",
    "xxhash64": "8cb841db40e6ae83",
    "xxhash3": "72dcb18b67a17dff",
    "xxhash128": "33119477ede5dcd5e9716427681d5860",
}
EMPTY = {"crc32": "00000000", "crc32c": "00000000", "crc64nvme": "0" * 16, "xxh64": "ef46db3751d8e999"}


def digests(names: list[str], pieces: list[bytes]) -> dict[str, bytes]:
    running = Digests(names)
    for piece in pieces:
        running.update(piece)
    return running.digests()


def test_known_answers() -> None:
    assert {name: value.hex() for name, value in digests(list(KNOWN), [CHECK]).items()} == KNOWN
    assert KNOWN.keys() == MAKERS.keys()


def test_of_nothing() -> None:
    assert {name: value.hex() for name, value in digests(list(EMPTY), []).items()} == EMPTY
    assert {name: value.hex() for name, value in digests(list(EMPTY), [b""]).items()} == EMPTY


@settings(max_examples=100, deadline=None)
@given(pieces=st.lists(st.binary(max_size=300), max_size=12))
def test_any_cut_of_the_body_gives_the_same_digests(pieces: list[bytes]) -> None:
    assert digests(list(MAKERS), pieces) == digests(list(MAKERS), [b"".join(pieces)])


def test_big_pieces_at_odd_borders_agree_with_the_standard_library() -> None:
    data = random.Random(24).randbytes(5_000_003)
    found = digests(["crc32", "md5", "sha1", "sha256", "xxh64"], [data[:3], data[3:1_000_001], data[1_000_001:]])
    assert found == {
        "crc32": zlib.crc32(data).to_bytes(4, "big"),
        "md5": hashlib.md5(data).digest(),
        "sha1": hashlib.sha1(data).digest(),
        "sha256": hashlib.sha256(data).digest(),
        "xxh64": xxhash.xxh64(data).digest(),
    }


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("buffer", [bytearray(CHECK), memoryview(b"x" + CHECK)[1:]], ids=["bytearray", "unaligned view"])
def test_all_kinds_of_buffers(name: str, buffer: bytearray | memoryview) -> None:
    running = Digests([name])
    running.update(buffer)
    assert running.digests()[name].hex() == KNOWN[name]


@pytest.mark.parametrize("name", COMBINERS)
@pytest.mark.parametrize("cut", [0, 1, 5, 9])
def test_a_crc_follows_from_those_of_its_pieces(name: str, cut: int) -> None:
    first, second = (digests([name], [piece])[name] for piece in (CHECK[:cut], CHECK[cut:]))
    assert combine(name, first, second, len(CHECK) - cut).hex() == KNOWN[name]


def test_only_the_named_digests_are_computed() -> None:
    assert digests(["sha1", "crc32"], [CHECK]).keys() == {"sha1", "crc32"}
    assert digests([], [CHECK]) == {}


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match="no such digest: md4"):
        Digests(["md5", "md4"])


def test_more_may_follow_the_digests() -> None:
    running = Digests(list(MAKERS))
    running.update(CHECK[:4])
    running.digests()
    running.update(CHECK[4:])
    assert {name: value.hex() for name, value in running.digests().items()} == KNOWN
