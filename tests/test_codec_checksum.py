"""Block checksums: each block's sum knows which block of which shard it belongs to."""

from __future__ import annotations

import mmap
import random
import struct
from array import array
from collections.abc import Callable
from pathlib import Path

import pytest
import xxhash

from abixio import _blocks
from abixio.codec.checksum import BLOCK, NATIVE, block_count, block_seed, block_sums, check_blocks
from abixio.message import Buffer

WRITE_ID = bytes(range(16))
SEED = block_seed(WRITE_ID, 1, 0)
DATA = random.Random(23).randbytes(3 * BLOCK + 1000)


def sums_of(data: bytes, seed: int = SEED) -> memoryview:
    return memoryview(array("Q", block_sums(data, seed)))


def test_the_seed_is_the_hash_of_write_id_part_and_slot() -> None:
    assert block_seed(WRITE_ID, 10_000, 15) == xxhash.xxh3_64_intdigest(WRITE_ID + struct.pack("<IH", 10_000, 15))


def test_write_id_part_and_slot_each_change_the_seed() -> None:
    others = {block_seed(WRITE_ID, 1, 0), block_seed(WRITE_ID, 2, 0), block_seed(WRITE_ID, 1, 1), block_seed(bytes(16), 1, 0)}
    assert len(others) == 4


def test_a_write_id_has_sixteen_bytes() -> None:
    with pytest.raises(ValueError, match="15 bytes"):
        block_seed(bytes(15), 1, 0)


@pytest.mark.parametrize(("length", "blocks"), [(0, 0), (1, 1), (BLOCK - 1, 1), (BLOCK, 1), (BLOCK + 1, 2), (3 * BLOCK, 3)])
def test_there_is_one_sum_for_each_started_block(length: int, blocks: int) -> None:
    assert block_count(length) == blocks
    assert len(block_sums(bytes(length), SEED)) == 8 * blocks


def test_block_b_is_hashed_with_the_seed_plus_b() -> None:
    expected = [xxhash.xxh3_64_intdigest(DATA[b * BLOCK : (b + 1) * BLOCK], SEED + b) for b in range(4)]
    assert block_sums(DATA, SEED) == struct.pack("<4Q", *expected)


def test_seeds_wrap_at_two_to_the_64() -> None:
    top = (1 << 64) - 1
    assert block_sums(DATA[: 2 * BLOCK], top)[8:] == block_sums(DATA[BLOCK : 2 * BLOCK], 0)
    assert check_blocks(DATA, sums_of(DATA, top), top, 0, 4) is None


def test_chunk_by_chunk_gives_the_sums_of_the_whole() -> None:
    assert block_sums(DATA[: 2 * BLOCK], SEED) + block_sums(memoryview(DATA)[2 * BLOCK :], SEED, 2) == block_sums(DATA, SEED)


def test_good_blocks_pass() -> None:
    assert check_blocks(DATA, sums_of(DATA), SEED, 0, 4) is None
    assert check_blocks(b"", sums_of(b""), SEED, 0, 0) is None


@pytest.mark.parametrize("position", [0, BLOCK - 1, BLOCK, 3 * BLOCK, len(DATA) - 1])
def test_a_flipped_bit_is_found_in_its_block(position: int) -> None:
    data = bytearray(DATA)
    data[position] ^= 0x10
    assert check_blocks(data, sums_of(DATA), SEED, 0, 4) == position // BLOCK


def test_only_the_named_blocks_are_looked_at() -> None:
    data = bytearray(DATA)
    data[BLOCK] ^= 1
    sums = sums_of(DATA)
    assert check_blocks(data, sums, SEED, 0, 1) is None
    assert check_blocks(data, sums, SEED, 2, 4) is None
    assert check_blocks(data, sums, SEED, 1, 1) is None
    assert check_blocks(data, sums, SEED, 0, 4) == 1


def test_an_intact_block_in_the_wrong_place_is_found() -> None:
    swapped = DATA[BLOCK : 2 * BLOCK] + DATA[:BLOCK] + DATA[2 * BLOCK :]
    sums = sums_of(DATA)
    assert check_blocks(swapped, sums, SEED, 0, 4) == 0
    exchanged = memoryview(array("Q", [sums[1], sums[0], sums[2], sums[3]]))
    assert check_blocks(swapped, exchanged, SEED, 0, 4) == 0
    assert check_blocks(DATA, sums, block_seed(WRITE_ID, 1, 1), 0, 4) == 0


@pytest.mark.parametrize(("first", "last"), [(-1, 2), (2, 1), (0, 5)])
def test_blocks_that_are_not_there_are_refused(first: int, last: int) -> None:
    with pytest.raises(ValueError, match="blocks"):
        check_blocks(DATA, sums_of(DATA), SEED, first, last)


def test_sums_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="3 sums"):
        check_blocks(DATA, sums_of(DATA)[:3], SEED, 0, 1)


def test_hashing_block_by_block_in_python_gives_the_same_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    spoilt = bytearray(DATA)
    spoilt[2 * BLOCK + 5] ^= 1
    for length in (0, 1, BLOCK, BLOCK + 1, 2 * BLOCK, len(DATA)):
        sums = block_sums(DATA[:length], SEED, 7)
        with monkeypatch.context() as patch:
            patch.setattr("abixio.codec.checksum.NATIVE", False)
            assert block_sums(DATA[:length], SEED, 7) == sums
            assert check_blocks(DATA, sums_of(DATA), SEED, 0, 4) is None
            assert check_blocks(spoilt, sums_of(DATA), SEED, 1, 4) == 2


def test_the_package_of_the_hash_lets_itself_be_called_from_c() -> None:
    assert NATIVE, "xxhash was built without its symbols: right, but slower"


# ---- memory ----------------------------------------------------------------------------------------------------------
def test_bytes_of_a_map_are_there_until_the_file_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "mapped"
    path.write_bytes(bytes(20 * BLOCK))
    with path.open("r+b") as file:
        view = memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))
        assert _blocks.resident(view)
        file.truncate(10 * BLOCK)
        assert not _blocks.resident(view)
        assert _blocks.resident(view[: 10 * BLOCK])


@pytest.mark.parametrize("ask", [_blocks.resident, _blocks.populated])
def test_memory_of_our_own_is_there(ask: Callable[[Buffer], bool]) -> None:
    assert ask(b"")
    assert all(ask(memoryview(bytearray(50 * BLOCK))[start:]) for start in (0, 1, 4095, 4096, 50 * BLOCK - 1))


def test_a_file_that_is_cut_off_while_it_was_not_written_to_the_disk_yet_ends_nobody(tmp_path: Path) -> None:
    """Of such pages the kernel may say that they are there, and to read them is a signal."""
    path = tmp_path / "mapped"
    for size in (5 * BLOCK, 10 * BLOCK + 5000):
        path.write_bytes(bytes(64 * BLOCK))
        with path.open("r+b") as file:
            view = memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))
            assert _blocks.populated(view)
            file.truncate(size)
            assert not _blocks.populated(view)
            assert not _blocks.populated(view[-BLOCK:])
            assert _blocks.populated(view[:size])
