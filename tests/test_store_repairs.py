"""The queue of bad shards that reads met: worked off, for ever, and never a burden."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest

from abixio.errors import VolumeUnusable
from abixio.store import repairs
from abixio.store.store import Store
from abixio.store.types import Bucket, PartRef, PutSpec
from tests.store_local import Disks, files, get, put, quiet, rest
from tests.store_rig import FILE, BytesSource, noise


def shard(disks: Disks, slot: int, write_id: bytes) -> Path:
    return disks.root / f"v{slot}" / "shards" / write_id.hex()[-2:] / write_id.hex()


async def damaged(disks: Disks, store: Store, bucket: Bucket, key: str, ftt: int = 1) -> Path:
    """An object whose first data shard is cut to nothing; reading it puts that into the queue."""
    info = await put(store, bucket, key, noise(FILE), ftt)
    await rest(store)
    layout = info.record.layout
    assert layout is not None
    path = shard(disks, layout.slots[0], info.record.parts[0].write_id)
    os.truncate(path, 0)
    assert await get(store, bucket, key) == noise(FILE)
    return path


async def test_what_a_read_found_bad_is_made_again(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 4)
    async with quiet(disks) as store:
        bucket = await store.create_bucket("b", "me", {})
        paths = [await damaged(disks, store, bucket, f"k{n}") for n in range(6)]
        assert len(store.pool.bad) == 6
        assert (await store.repair_status()).bad == 6
        assert await store.repairs.run_once() == 6
        assert store.pool.bad == {}
        assert all(path.stat().st_size > 300_000 for path in paths)
        for n in range(6):
            assert (await store.inspect(bucket, f"k{n}"))[0].whole


async def test_the_worker_does_it_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repairs, "PAUSE", 0.02)
    disks = Disks(tmp_path, 3)
    async with quiet(disks) as store:
        store.repairs.start()
        bucket = await store.create_bucket("b", "me", {})
        path = await damaged(disks, store, bucket, "k")
        for _ in range(500):
            if not store.pool.bad:
                break
            await repairs.asyncio.sleep(0.01)
        assert path.stat().st_size > 300_000


async def test_only_what_was_reported_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One bad shard of one part must not cost reading an object of thousands."""
    disks = Disks(tmp_path, 3)
    async with quiet(disks) as store:
        bucket = await store.create_bucket("b", "me", {})
        upload = await store.create_upload(bucket, "k", PutSpec("me"))
        sizes = (5 << 20, 5 << 20, 300_000)
        parts = [await store.put_part(bucket, "k", upload.id, n, BytesSource(noise(size))) for n, size in enumerate(sizes, 1)]
        info = await store.complete_upload(bucket, "k", upload.id, [PartRef(part.number, part.etag) for part in parts])
        await rest(store)
        layout = info.record.layout
        assert layout is not None
        shard(disks, layout.slots[0], info.record.parts[1].write_id).unlink()
        assert await get(store, bucket, "k") == b"".join(noise(size) for size in sizes)
        assert list(store.pool.bad) == [(info.record.parts[1].write_id, layout.slots[0])]
        looked = []
        real = store.healer.heal_key

        async def heal_key(*args: object, **kwargs: object) -> object:
            looked.append(await real(*args, **kwargs))  # type: ignore[arg-type]
            return looked[-1]

        monkeypatch.setattr(store.healer, "heal_key", heal_key)
        await store.repairs.run_once()
        (healed,) = looked
        assert (healed.examined_shards, healed.rebuilt_shards) == (1, 1)


async def test_entries_of_objects_that_are_gone_go(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 4)
    async with quiet(disks) as store:
        bucket = await store.create_bucket("b", "me", {})
        for n in range(5):
            await damaged(disks, store, bucket, f"k{n}")
        for n in range(4):
            await store.delete(bucket, f"k{n}")
        await put(store, bucket, "k4", b"new")
        await rest(store)
        assert await store.repairs.run_once() == 5
        assert store.pool.bad == {}
        await rest(store)
        assert files(disks) == 0


async def test_what_cannot_be_repaired_now_waits_longer_each_time_and_keeps_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disks = Disks(tmp_path, 4)
    async with quiet(disks) as store:
        bucket = await store.create_bucket("b", "me", {})
        stuck = await damaged(disks, store, bucket, "stuck", 1)
        info = await store.head(bucket, "stuck")
        layout = info.record.layout
        assert layout is not None
        os.truncate(shard(disks, layout.slots[1], info.record.parts[0].write_id), 0)
        await damaged(disks, store, bucket, "fine", 1)
        now = 1000.0
        monkeypatch.setattr(store.pool.loop, "time", lambda: now, raising=False)
        assert await store.repairs.run_once() == 1
        assert {record.key for record in store.pool.bad.values()} == {b"stuck"}
        tries = []
        real = store.healer.heal_key

        async def heal_key(*args: object, **kwargs: object) -> object:
            tries.append(now)
            return await real(*args, **kwargs)  # type: ignore[arg-type]

        monkeypatch.setattr(store.healer, "heal_key", heal_key)
        for _ in range(700):
            now += 1.0
            await store.repairs.run_once()
        pauses = [round(b - a) for a, b in itertools.pairwise(tries)]
        assert pauses == [2, 4, 8, 16, 32, 64, 128, 256]
        assert stuck.stat().st_size == 0
        store.pool.bad.clear()
        await store.repairs.run_once()
        assert not store.repairs._later


async def test_a_shard_on_a_volume_that_is_away_waits_for_it(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 4)
    async with quiet(disks) as store:
        bucket = await store.create_bucket("b", "me", {})
        path = await damaged(disks, store, bucket, "k", 2)
        ((_, slot),) = store.pool.bad
        lane = store.pool.lanes[slot]
        assert lane is not None
        lane.failed = VolumeUnusable("away")
        assert await store.repairs.run_once() == 0
        assert store.pool.bad
        lane.failed = None
        store.repairs._later.clear()
        assert await store.repairs.run_once() == 1
        assert path.stat().st_size > 300_000
