"""Shards byte by byte: what is only seen by one of the checksums that cover them."""

from __future__ import annotations

from pathlib import Path

import pytest
from blake3 import blake3

from abixio.codec.checksum import BLOCK, block_seed, block_sums
from abixio.fsck.shards import Verdict, check_file, check_inline, readable
from abixio.store.inline import pack_shard
from abixio.store.record import Layout, Part, Record, pack
from abixio.volume import names, shardfile
from abixio.volume.files import Files
from tests.store_rig import noise

WRITE_ID = bytes(range(16))
LAYOUT = Layout(2, 1, (2, 0, 1), 1 << 20)
SIZE = 5 * BLOCK + 100
PART = Part(WRITE_ID, 1, 2 * SIZE, 2 * SIZE)
RECORD = Record("object", b"s" * 16, b"key", 1, 2, size=2 * SIZE, layout=LAYOUT, parts=(PART,))


def write(volume: Path, data: bytes, record: Record = RECORD, digest: bytes | None = None, slot: int = 0) -> None:
    path = Path(names.shard(str(volume), WRITE_ID))
    path.parent.mkdir(parents=True, exist_ok=True)
    sums = block_sums(data, block_seed(WRITE_ID, 1, slot))
    path.write_bytes(data + shardfile.footer(WRITE_ID, len(data), sums, pack(record), digest or blake3(data).digest()))


def verdict(volume: Path) -> Verdict:
    read = []
    found = check_file(Files(), str(volume), PART, LAYOUT, 0, read.append)
    assert sum(read) == found.read
    return found


def test_a_sound_shard_is_read_whole(tmp_path: Path) -> None:
    write(tmp_path, noise(SIZE))
    assert verdict(tmp_path) == Verdict("", frozenset(), SIZE)


def test_a_shard_that_only_its_blake3_gives_away_is_bad_everywhere(tmp_path: Path) -> None:
    write(tmp_path, noise(SIZE), digest=bytes(32))
    assert verdict(tmp_path) == Verdict("does not match its BLAKE3", None, SIZE)


def test_a_shard_of_another_slot_has_no_good_block(tmp_path: Path) -> None:
    write(tmp_path, noise(SIZE), slot=1)
    assert verdict(tmp_path).blocks == frozenset(range(6))


def test_a_footer_about_another_object_is_a_defect_and_the_bytes_still_count(tmp_path: Path) -> None:
    other = Part(bytes(16), 1, 2 * SIZE, 2 * SIZE)
    write(tmp_path, noise(SIZE), Record("object", b"s" * 16, b"key", 1, 2, layout=LAYOUT, parts=(other,)))
    assert verdict(tmp_path) == Verdict("its footer is about another object", frozenset(), 0)


@pytest.mark.parametrize("size", [SIZE - 1, SIZE + 1, BLOCK])
def test_a_shard_of_another_length_is_bad_though_it_agrees_with_itself(tmp_path: Path, size: int) -> None:
    write(tmp_path, noise(size))
    assert verdict(tmp_path) == Verdict(f"has {size} bytes instead of {SIZE}", None)


def test_a_disk_that_cannot_read_some_blocks_loses_those_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(shard: shardfile.ShardFile, offset: int, length: int) -> None:
        if offset <= 3 * BLOCK < offset + length:
            raise shardfile.ShardCorrupt("bad sector")

    write(tmp_path, noise(SIZE))
    monkeypatch.setattr(shardfile.ShardFile, "populate", failing)
    assert verdict(tmp_path).blocks == frozenset({3})


def test_an_inline_shard_is_checked_for_its_sum_its_place_and_its_length() -> None:
    small = Part(WRITE_ID, 1, 100, 100)
    good = pack_shard(noise(50), block_seed(WRITE_ID, 1, 0))
    assert not check_inline(good, small, LAYOUT, 0).defect
    assert check_inline(good, small, LAYOUT, 2).defect
    assert check_inline(None, small, LAYOUT, 0).defect == "the catalog lacks its bytes"
    short = pack_shard(noise(49), block_seed(WRITE_ID, 1, 0))
    assert check_inline(short, small, LAYOUT, 0).defect == "has 49 bytes instead of 50"


@pytest.mark.parametrize(("blocks", "can"), [
    ([{0}, {1}, {2}], True), ([{0}, {0}, set()], False), ([{0}, None, set()], False), ([{0}, None], False),
    ([set(), set()], True),
])
def test_a_part_can_be_read_where_every_block_is_good_in_k_shards(blocks: list[set[int] | None], can: bool) -> None:
    found = {slot: Verdict("bad" if bad is None or bad else "", None if bad is None else frozenset(bad))
             for slot, bad in enumerate(blocks)}
    assert readable(found, RECORD, PART) is can
