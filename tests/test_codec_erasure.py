"""The erasure code: published values, every pattern of losses, every shape; views instead of copies."""

from __future__ import annotations

import csv
import itertools
import mmap
import random
from pathlib import Path

import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from abixio import codec
from abixio.codec.matrix import MAX_SHARDS, decoding_matrix, parity_matrix

SELF_TEST = Path(__file__).parent / "data/rs_selftest.tsv"
SEED = random.Random(21)


def published() -> list[tuple[int, int, int]]:
    with SELF_TEST.open() as file:
        return [(int(row["k"]), int(row["m"]), int(row["xxh64"], 16)) for row in csv.DictReader(file, delimiter="\t")]


@pytest.mark.parametrize(("k", "m", "xxh64"), published())
def test_shards_have_the_published_hashes(k: int, m: int, xxh64: int) -> None:
    hasher = xxhash.xxh64()
    for index, shard in enumerate(codec.encode(bytes(range(256)), k, m)):
        hasher.update(bytes([index]))
        hasher.update(shard)
    assert hasher.intdigest() == xxh64


def test_the_published_values_are_there() -> None:
    assert len(published()) == 30


def test_data_shards_are_the_data_padded_with_zeros() -> None:
    assert codec.encode(b"abcdefg", 3, 1)[:3] == [b"abc", b"def", b"g\0\0"]


def test_data_shorter_than_the_number_of_shards_is_padded() -> None:
    shards = codec.encode(b"ab", 4, 2)
    assert shards[:4] == [b"a", b"b", b"\0", b"\0"]
    assert codec.reconstruct([None, None, *shards[2:]], 4, 2) == shards


def test_no_data_makes_empty_shards() -> None:
    assert codec.encode(b"", 4, 2) == [b""] * 6
    assert codec.reconstruct([None, b"", b"", b"", None, b""], 4, 2) == [b""] * 6


def test_with_one_data_shard_parity_is_a_copy() -> None:
    assert codec.encode(b"abc", 1, 3) == [b"abc"] * 4


def test_without_parity_the_shards_are_the_data() -> None:
    assert codec.encode(b"abcd", 2, 0) == [b"ab", b"cd"]
    assert codec.reconstruct([b"ab", b"cd"], 2, 0) == [b"ab", b"cd"]


def losses(total: int, at_most: int) -> list[tuple[int, ...]]:
    return [lost for count in range(at_most + 1) for lost in itertools.combinations(range(total), count)]


@pytest.mark.parametrize("lost", losses(6, 2), ids=str)
def test_every_loss_pattern_of_four_and_two_is_rebuilt(lost: tuple[int, ...]) -> None:
    shards = codec.encode(SEED.randbytes(4 * 1000 + 3), 4, 2)
    assert codec.reconstruct([None if i in lost else shard for i, shard in enumerate(shards)], 4, 2) == shards


@pytest.mark.parametrize("lost", list(itertools.combinations(range(6), 3)), ids=str)
def test_three_losses_of_four_and_two_are_an_error(lost: tuple[int, ...]) -> None:
    shards = codec.encode(b"12345678", 4, 2)
    with pytest.raises(ValueError, match="3 shards are there, 4 are needed"):
        codec.reconstruct([None if i in lost else shard for i, shard in enumerate(shards)], 4, 2)


@pytest.mark.parametrize("n", range(1, 9))
def test_every_loss_pattern_of_every_code_of_up_to_eight_shards_is_rebuilt(n: int) -> None:
    for m in range(n):
        shards = codec.encode(SEED.randbytes(40), n - m, m)
        for lost in losses(n, m):
            assert codec.reconstruct([None if i in lost else shard for i, shard in enumerate(shards)], n - m, m) == shards


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=2000), k=st.integers(1, 40), m=st.integers(0, 20), random=st.randoms(use_true_random=False))
def test_any_data_comes_back_after_any_loss_the_code_allows(data: bytes, k: int, m: int, random: random.Random) -> None:
    shards = codec.encode(data, k, m)
    assert len({len(shard) for shard in shards}) == 1
    lost = random.sample(range(k + m), random.randint(0, m))
    rebuilt = codec.reconstruct([None if i in lost else shard for i, shard in enumerate(shards)], k, m)
    assert rebuilt == shards
    assert b"".join(rebuilt[:k])[: len(data)] == data


def test_the_largest_code_works() -> None:
    data = SEED.randbytes(2000)
    shards = codec.encode(data, 200, 55)
    lost = set(SEED.sample(range(255), 55))
    assert codec.reconstruct([None if i in lost else shard for i, shard in enumerate(shards)], 200, 55) == shards


def test_parity_of_unaligned_slices_of_one_map_is_that_of_copies() -> None:
    size = 70_001
    with mmap.mmap(-1, 8 * size) as area, memoryview(area) as view:
        view[: 4 * size] = SEED.randbytes(4 * size)
        slices = [view[i * size : (i + 1) * size] for i in range(6)]
        codec.parity_into(slices[:4], slices[4:])
        assert [bytes(piece) for piece in slices] == codec.encode(bytes(view[: 4 * size]), 4, 2)
        for piece in slices:
            piece.release()


def test_what_an_output_held_before_does_not_matter() -> None:
    clean, dirty = bytearray(5000), bytearray(b"\xff" * 5000)
    for output in (clean, dirty):
        codec.parity_into([bytes(range(250)) * 20] * 3, [output])
    assert clean == dirty


def test_only_the_named_missing_shards_are_rebuilt_in_any_order() -> None:
    shards = codec.encode(SEED.randbytes(500), 3, 4)
    left: list[bytes | None] = [None, shards[1], None, None, shards[4], None, shards[6]]
    outputs = {5: bytearray(len(shards[0])), 0: bytearray(len(shards[0]))}
    codec.reconstruct_into(left, 3, 4, outputs)
    assert outputs == {5: shards[5], 0: shards[0]}
    codec.reconstruct_into(left, 3, 4, {})


@pytest.mark.parametrize(("k", "m"), [(0, 1), (-1, 2), (1, -1), (255, 1), (128, 128)])
def test_codes_that_do_not_exist_are_refused(k: int, m: int) -> None:
    with pytest.raises(ValueError, match="shards"):
        codec.encode(b"abc", k, m)
    with pytest.raises(ValueError, match="shards"):
        codec.reconstruct([b"a"] * max(k + m, 0), k, m)
    with pytest.raises(ValueError, match="shards"):
        parity_matrix(k, m)


def test_buffers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="0 data"):
        codec.parity_into([], [bytearray(1)])
    with pytest.raises(ValueError, match="bytes"):
        codec.parity_into([b"ab", b"a"], [bytearray(2)])
    with pytest.raises(ValueError, match="bytes"):
        codec.parity_into([b"ab", b"ab"], [bytearray(3)])
    with pytest.raises(ValueError, match="4 shards, not 2"):
        codec.reconstruct([b"ab", b"ab", b"ab", None], 2, 1)
    with pytest.raises(ValueError, match="bytes"):
        codec.reconstruct([b"ab", b"a", None], 2, 1)


@pytest.mark.parametrize("index", [-1, 1, 3])
def test_a_shard_that_is_not_missing_is_not_rebuilt(index: int) -> None:
    with pytest.raises(ValueError, match=f"shard {index} is not a missing one"):
        codec.reconstruct_into([None, b"ab", b"cd"], 2, 1, {index: bytearray(2)})


def test_outputs_may_not_overlap_sources() -> None:
    area = memoryview(bytearray(100))
    with pytest.raises(ValueError, match="overlaps"):
        codec.parity_into([area[:50], area[50:]], [area[25:75]])


def test_decoding_with_all_data_shards_is_the_parity_matrix() -> None:
    assert decoding_matrix(4, 2, (0, 1, 2, 3), (4, 5)) == parity_matrix(4, 2)
    assert len(parity_matrix(200, MAX_SHARDS - 200)) == 200 * 55


def test_the_kernel_in_use_has_a_name() -> None:
    assert codec.kernel() in {"scalar", "ssse3", "avx2", "avx512", "gfni", "gfni512"}
