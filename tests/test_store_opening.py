"""Opening a pool after something happened to its volumes: a snapshot restored, the power cut, a process killed half way."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from abixio.errors import NoSuchKey, Unavailable
from abixio.store.settle import Settler
from tests.store_local import Disks, get, put, rest


def shard_files(root: Path, write_id: str) -> list[Path]:
    return list(root.glob(f"v*/shards/*/{write_id}"))


def tear(paths: list[Path]) -> None:
    """As a power cut leaves files that no sync covered."""
    assert paths
    for path in paths:
        path.write_bytes(path.read_bytes()[:-100])


async def test_a_volume_restored_from_an_older_state_is_filling_and_its_silence_does_not_count(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 3)
    async with disks.store("fsync") as store:
        bucket = await store.create_bucket("b", "me", {})
        await put(store, bucket, "gone", b"x", ftt=2)
        await rest(store)
    shutil.copytree(tmp_path / "v0", tmp_path / "snapshot")
    async with disks.store("fsync") as store:
        await put(store, bucket, "k", b"new", ftt=2)
        await store.delete(bucket, "gone")
        await rest(store)
    shutil.rmtree(tmp_path / "v0")
    shutil.move(tmp_path / "snapshot", tmp_path / "v0")
    async with disks.store("fsync", missing=(1,)) as store:
        assert store.pool.filling == {0}
        assert await get(store, bucket, "k") == b"new"
        with pytest.raises(Unavailable):
            await get(store, bucket, "gone")
    async with disks.store("fsync") as store:
        with pytest.raises(NoSuchKey):
            await get(store, bucket, "gone")


async def test_volumes_that_lost_nothing_are_not_taken_for_older(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 3)
    for durability in ("fsync", "page-cache", "fsync"):
        async with disks.store(durability) as store:
            assert store.pool.filling == set()
            bucket = await store.create_bucket(f"b-{len(await store.buckets())}", "me", {})
            for n in range(5):
                await put(store, bucket, f"k{n}", b"x" * 100_000)
                await store.delete(bucket, f"k{n}")


async def test_the_clock_starts_above_every_seq_that_was_ever_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disks = Disks(tmp_path, 2)
    async with disks.store() as store:
        bucket = await store.create_bucket("b", "me", {})
        before = (await put(store, bucket, "k", b"x")).record.seq
        await store.delete(bucket, "k")
    monkeypatch.setattr("time.time_ns", lambda: 1_000_000_000)
    async with disks.store() as store:
        after = await put(store, bucket, "k", b"back in time")
        assert after.record.seq > before
        assert await get(store, bucket, "k") == b"back in time"


async def test_shards_that_a_power_cut_tore_do_not_serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disks = Disks(tmp_path, 3)
    body = os.urandom(300_000)

    async def nothing(self: Settler) -> None:
        """The process dies before any settling."""

    monkeypatch.setattr(Settler, "cycle", nothing)
    async with disks.store() as store:
        bucket = await store.create_bucket("b", "me", {})
        await put(store, bucket, "old", body, ftt=1)
        await put(store, bucket, "torn", body, ftt=1)
        torn = (await store.head(bucket, "torn")).record.parts[0].write_id.hex()
    tear([path for path in shard_files(tmp_path, torn) if path.parents[2].name in ("v0", "v1")])
    monkeypatch.undo()
    disks.clean = False
    async with disks.store() as store:
        assert await get(store, bucket, "old") == body
        with pytest.raises(NoSuchKey):
            await get(store, bucket, "torn")
        assert [item.key for item in (await store.list(bucket, "", "", "", 10)).items] == ["old"]
        await rest(store)
        assert not shard_files(tmp_path, torn)
