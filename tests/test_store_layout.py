"""Geometry of objects: every byte has one place, and every stored byte belongs to one."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abixio.codec import encode
from abixio.config import KIB, MAX_VOLUMES, MIB
from abixio.errors import InvalidFaultTolerance
from abixio.store.layout import (
    MIN_CHUNK,
    STRIPE,
    STRIPE_BUFFER,
    choose,
    shard_size,
    stripe_at,
    stripe_size,
    stripes,
)
from abixio.store.record import Layout

SPACE = bytes(16)
SMALL = {(k, m): Layout(k, m, tuple(range(k + m)), 8) for k in range(1, 7) for m in range(4)}
"""Layouts with tiny chunks, so that every border can be tried."""


@pytest.mark.parametrize("n", range(1, MAX_VOLUMES + 1))
def test_every_layout_fits_its_buffer_and_its_chunks_are_whole_checksum_blocks(n: int) -> None:
    for ftt in range(n):
        layout = choose(n, ftt, SPACE, b"key")
        assert (layout.k, layout.m) == (n - ftt, ftt)
        assert sorted(layout.slots) == list(range(n))
        assert layout.chunk % MIN_CHUNK == 0
        assert layout.chunk & (layout.chunk - 1) == 0
        assert stripe_size(layout) <= STRIPE
        assert n * layout.chunk <= STRIPE_BUFFER


@pytest.mark.parametrize(("n", "ftt", "chunk"), [
    (1, 0, 4 * MIB), (4, 1, MIB), (4, 2, 2 * MIB), (4, 3, 2 * MIB), (16, 15, 512 * KIB),
])
def test_the_chunk_is_the_largest_that_fits(n: int, ftt: int, chunk: int) -> None:
    assert choose(n, ftt, SPACE, b"key").chunk == chunk


@pytest.mark.parametrize("ftt", [-1, 4, 5])
def test_a_fault_tolerance_out_of_range_is_refused(ftt: int) -> None:
    with pytest.raises(InvalidFaultTolerance):
        choose(4, ftt, SPACE, b"key")


def test_the_name_rotates_the_slots_evenly() -> None:
    first = Counter(choose(4, 1, SPACE, b"key%d" % i).slots[0] for i in range(4000))
    assert all(800 < first[slot] < 1200 for slot in range(4))


def test_the_same_name_gets_the_same_slots_and_another_bucket_may_not() -> None:
    assert choose(4, 1, SPACE, b"a") == choose(4, 1, SPACE, b"a")
    assert len({choose(16, 1, bytes([i]) * 16, b"a").slots for i in range(50)}) > 1


@pytest.mark.parametrize("layout", SMALL.values(), ids=str)
def test_cutting_by_the_geometry_gives_the_shards_of_the_codec(layout: Layout) -> None:
    full = stripe_size(layout)
    for size in {0, 1, 2, full - 1, full, full + 1, 2 * full, 2 * full + layout.k // 2 + 1, 3 * full - 1}:
        data = bytes(i % 251 + 1 for i in range(size))
        shards = [bytearray() for _ in layout.slots]
        for stripe in stripes(layout, size, 0, size):
            pieces = encode(data[stripe.start : stripe.start + stripe.length], layout.k, layout.m)
            for index, piece in enumerate(pieces):
                assert len(piece) == stripe.piece
                shards[index] += piece[: stripe.stored(index, layout.k)]
                assert not any(piece[stripe.stored(index, layout.k) :])
        assert [shard_size(layout, index, size) for index in range(len(shards))] == [len(shard) for shard in shards]


@given(st.sampled_from(sorted(SMALL)), st.integers(1, 200), st.data())
def test_a_range_is_found_byte_for_byte_in_the_shards(shape: tuple[int, int], size: int, data: st.DataObject) -> None:
    layout = SMALL[shape]
    start = data.draw(st.integers(0, size - 1))
    stop = data.draw(st.integers(start + 1, size))
    body = bytes(i % 256 for i in range(size))
    shards = [bytearray() for _ in range(layout.k)]
    for stripe in stripes(layout, size, 0, size):
        for index in range(layout.k):
            low = stripe.start + index * stripe.piece
            shards[index] += body[low : low + stripe.stored(index, layout.k)]
    found = bytearray()
    for stripe in stripes(layout, size, start, stop):
        low, high = max(start, stripe.start), min(stop, stripe.start + stripe.length)
        for piece in stripe.pieces(low, high):
            assert piece.offset + piece.length <= len(shards[piece.shard])
            found += shards[piece.shard][piece.offset : piece.offset + piece.length]
    assert found == body[start:stop]


def test_stripes_of_an_object_cover_it_without_gaps() -> None:
    layout = choose(4, 1, SPACE, b"key")
    size = 2 * stripe_size(layout) + 12345
    at = 0
    for number, stripe in enumerate(stripes(layout, size, 0, size)):
        assert stripe == stripe_at(layout, size, number)
        assert stripe.start == at
        at += stripe.length
    assert at == size
