"""Chunks with tags: where they lie, that they come back, and that none can be changed, moved or left away."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abixio.codec.aead import (
    BODY,
    CHUNK,
    TAG,
    Forged,
    Sealer,
    Unsealer,
    body_room,
    chunks,
    derive,
    sealed_size,
    unwrap,
    wrap,
)

KEY = bytes(range(32))
SIZES = (0, 1, TAG, BODY - 1, BODY, BODY + 1, 2 * BODY, 3 * BODY + 77)


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def seal(body: bytes, key: bytes = KEY, pieces: int = 1) -> bytearray:
    """Sealed in runs of `pieces` chunks, as stripes are."""
    sealer, found = Sealer(key), bytearray()
    for start in range(0, max(len(body), 1), pieces * BODY):
        run = body[start : start + pieces * BODY]
        room = bytearray(sealed_size(len(run)))
        room[: len(run)] = run
        sealer.seal(memoryview(room), len(run), start + len(run) == len(body))
        found += room
    return found


def unseal(stored: bytes | bytearray, size: int, first: int = 0, end: int | None = None, key: bytes = KEY) -> bytes:
    unsealer = Unsealer(key, size)
    end = chunks(0, size)[1] if end is None else end
    out = bytearray(unsealer.length(first, end)) if end > first else bytearray()
    unsealer.unseal([stored], first, memoryview(out))
    return bytes(out)


@pytest.mark.parametrize("size", SIZES)
def test_what_was_sealed_comes_back_whatever_the_runs_were(size: int) -> None:
    body = noise(size)
    stored = seal(body)
    assert len(stored) == sealed_size(size) == size + TAG * -(-size // BODY)
    assert unseal(stored, size) == body
    for pieces in (1, 2, 5):
        assert seal(body, pieces=pieces) == stored


def test_a_stripe_holds_whole_chunks() -> None:
    assert sealed_size(body_room(64 * CHUNK)) == 64 * CHUNK
    assert chunks(0, BODY) == (0, 1)
    assert chunks(BODY - 1, BODY + 1) == (0, 2)
    assert chunks(BODY, BODY + 1) == (1, 2)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 4 * CHUNK), max_size=6), st.integers(0, 3), st.integers(1, 4))
def test_pieces_may_be_cut_anywhere(cuts: list[int], first: int, count: int) -> None:
    size = 3 * BODY + 1000
    stored, body = seal(noise(size)), noise(size)
    end = min(first + count, 4)
    part = stored[first * CHUNK : end * CHUNK]
    at = sorted({0, len(part), *(cut for cut in cuts if cut < len(part))})
    pieces = [part[a:b] for a, b in pairwise(at)]
    unsealer = Unsealer(KEY, size)
    out = bytearray(unsealer.length(first, end))
    assert unsealer.stored(first, end) == len(part)
    unsealer.unseal(pieces, first, memoryview(out))
    assert out == body[first * BODY : end * BODY]


def test_every_change_is_found() -> None:
    size = 2 * BODY + 50
    body = noise(size)
    stored = seal(body)
    forged = {"a bit": bytearray(stored), "a tag": bytearray(stored), "the last byte": bytearray(stored)}
    forged["a bit"][5] ^= 1
    forged["a tag"][CHUNK - 1] ^= 128
    forged["the last byte"][-1] ^= 1
    forged["exchanged"] = stored[CHUNK : 2 * CHUNK] + stored[:CHUNK] + stored[2 * CHUNK :]
    forged["repeated"] = stored[:CHUNK] * 2 + stored[2 * CHUNK :]
    forged["of another body"] = seal(body, derive(KEY, b"part", b"other"))
    forged["too short"] = stored[:-1]
    for bytes_of in forged.values():
        with pytest.raises(Forged):
            unseal(bytes_of, size)


def test_a_body_can_be_made_neither_shorter_nor_longer() -> None:
    stored = seal(noise(3 * BODY))
    for size in (BODY, 2 * BODY):
        with pytest.raises(Forged):
            unseal(stored[: sealed_size(size)], size)
    longer = stored + seal(noise(BODY))
    with pytest.raises(Forged):
        unseal(longer, 4 * BODY)


def test_a_wrapped_key_opens_with_its_key_and_for_what_it_was_made() -> None:
    wrapped = wrap(KEY, b"secret", b"about")
    assert unwrap(KEY, wrapped, b"about") == b"secret"
    assert wrap(KEY, b"secret", b"about") != wrapped
    for key, what, about in (
        (bytes(32), wrapped, b"about"), (KEY, wrapped, b"other"), (KEY, wrapped[:-1], b"about"), (KEY, b"", b"about"),
        (KEY, bytes([wrapped[0] ^ 1]) + wrapped[1:], b"about"),
    ):
        with pytest.raises(Forged):
            unwrap(key, what, about)


def test_derived_keys_differ_by_purpose_and_salt() -> None:
    assert len({derive(KEY, b"part", b"a"), derive(KEY, b"wrap", b"a"), derive(KEY, b"part", b"b"), KEY}) == 4
