"""Shard files that are damaged on disk, through the whole store: reads are right, or an error when too many are damaged."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from abixio.errors import DataLost
from abixio.store.store import Store
from tests.store_local import Disks, get, put
from tests.store_rig import noise

SIZE = 9 * (1 << 20) + 4321


def flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at, os.SEEK_SET if at >= 0 else os.SEEK_END)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 0x40]))


def first_byte(path: Path) -> None:
    flip(path, 0)


def last_data_block(path: Path) -> None:
    flip(path, 2_000_000)


def magic(path: Path) -> None:
    flip(path, -1)


def checksums(path: Path) -> None:
    flip(path, -900)


def cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 8)


def cut_to_nothing(path: Path) -> None:
    os.truncate(path, 0)


def grown(path: Path) -> None:
    with path.open("ab") as file:
        file.write(bytes(8))


def removed(path: Path) -> None:
    path.unlink()


DAMAGES = (first_byte, last_data_block, magic, checksums, cut_short, cut_to_nothing, grown, removed)


def shard(disks: Disks, slot: int) -> Path:
    """The only shard file of a volume."""
    (path,) = (path for path in (disks.root / f"v{slot}" / "shards").glob("*/*"))
    return path


async def reads_right(store: Store) -> None:
    bucket = await store.bucket("b")
    assert await get(store, bucket, "key") == noise(SIZE)
    assert await get(store, bucket, "key", 3_000_000, 3_000_000) == noise(3_000_000, 3_000_000)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("ftt", [1, 3])
async def test_damage_up_to_the_fault_tolerance_is_made_good_and_reported_and_one_more_is_data_lost(
    tmp_path: Path, damage: Callable[[Path], None], ftt: int,
) -> None:
    disks = Disks(tmp_path, 4)
    async with disks.store() as store:
        bucket = await store.create_bucket("b", "me", {})
        info = await put(store, bucket, "key", noise(SIZE), ftt)
        layout = info.record.layout
        assert layout is not None
        for slot in layout.slots[:ftt]:
            damage(shard(disks, slot))
            await reads_right(store)
            assert (info.record.parts[0].write_id, slot) in store.pool.bad
        damage(shard(disks, layout.slots[ftt]))
        with pytest.raises(DataLost):
            await get(store, bucket, "key")


async def test_a_single_volume_gives_an_error_and_never_wrong_bytes(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 1)
    async with disks.store() as store:
        bucket = await store.create_bucket("b", "me", {})
        await put(store, bucket, "key", noise(SIZE))
        flip(shard(disks, 0), 5_000_000)
        with pytest.raises(DataLost):
            await get(store, bucket, "key")
        assert await get(store, bucket, "key", 0, 4_000_000) == noise(4_000_000)
