"""Refill: a blank or regressed volume is made whole while clients go on, and only then counts again."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from abixio.config import MIB
from abixio.errors import DataLost, NoSuchKey, Unavailable
from abixio.store import lacks
from abixio.store.lacks import Missing
from abixio.store.refill import Refill
from abixio.store.restore import Restorer
from abixio.store.store import Store
from abixio.store.types import Bucket, PartRef, PutSpec
from abixio.volume.interface import Change, Insert, Note, Row, RowId, State
from tests.store_local import Disks, get, put, rest
from tests.store_rig import BytesSource

SIZES = (0, 1, 1000, 60_000, 300_000, 5 * MIB + 77)


def rows(store: Store, slot: int) -> list[Row]:
    lane = store.pool.lanes[slot]
    assert lane is not None
    found, after = [], None
    while page := lane.volume.walk(after, 1000):
        found += page
        after = page[-1].id[:2]
    return found


def unsettled(store: Store) -> int:
    return sum(len(lane.volume.unsettled(None, 1000)) for lane in store.pool.up())


@asynccontextmanager
async def idle(
    disks: Disks, monkeypatch: pytest.MonkeyPatch, durability: str = "page-cache", missing: tuple[int, ...] = ()
) -> AsyncIterator[Store]:
    """A store whose refill only runs when the test says so."""
    with monkeypatch.context() as patch:
        patch.setattr(Refill, "start", lambda self: None)
        async with disks.store(durability, missing) as store:
            yield store


async def fill(store: Store, bucket: Bucket, tolerances: tuple[int, ...] = (1, 2)) -> dict[str, bytes]:
    bodies = {f"{ftt}/{size}": os.urandom(size) for ftt in tolerances for size in SIZES}
    for key, body in bodies.items():
        await put(store, bucket, key, body, ftt=int(key[0]))
    return bodies


@pytest.mark.parametrize("durability", ["fsync", "page-cache"])
async def test_a_blank_volume_gets_every_row_and_shard_and_then_replaces_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durability: str
) -> None:
    disks = Disks(tmp_path, 4)
    async with disks.store(durability) as store:
        bucket = await store.create_bucket("b", "me", {})
        bodies = await fill(store, bucket)
        await put(store, bucket, "deleted", b"x" * 100_000)
        await store.delete(bucket, "deleted")
        await rest(store)
    disks.empty(2)
    async with idle(disks, monkeypatch, durability) as store:
        assert store.pool.filling == {2}
        assert store.refill.status()[0].objects == 0
        assert await store.refill.run_once(2)
        assert store.pool.filling == set()
        assert store.refill.status() == []
        assert {row.id for row in rows(store, 2)} == {row.id for row in rows(store, 0)}
        assert all(row.state is State.COMMITTED for row in rows(store, 2))
        assert unsettled(store) == 0  # or the journal would look at each of them once more
        assert [lane.volume.notes().get("filling", 0) for lane in store.pool.up()] == [0, 0, 0, 0]
    disks.filling.clear()
    for lost in (0, 1, 3):
        async with disks.store(durability, missing=(lost,)) as store:
            assert store.pool.filling == set()
            for key, body in bodies.items():
                assert await get(store, bucket, key) == body
            with pytest.raises(NoSuchKey):
                await get(store, bucket, "deleted")
            assert {item.key for item in (await store.list(bucket, "", "", "", 100)).items} == set(bodies)


async def test_the_server_refills_by_itself_and_says_how_far_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    disks = Disks(tmp_path, 3)
    async with disks.store() as store:
        bucket = await store.create_bucket("b", "me", {})
        await fill(store, bucket, (1,))
    disks.empty(0)
    async with disks.store() as store:
        async with asyncio.timeout(20):
            while store.pool.filling:
                (status,) = store.refill.status()
                assert status.slot == 0
                await asyncio.sleep(0.01)
        assert "volume 0 is whole again: 7 keys compared, 7 put back" in caplog.text
    disks.filling.clear()
    async with disks.store() as store:
        assert store.pool.filling == set()


async def test_writes_and_deletes_during_the_comparison_are_neither_lost_nor_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lacks, "BATCH_KEYS", 8)
    disks = Disks(tmp_path, 4)
    bodies: dict[str, bytes | None] = {}
    async with disks.store() as store:
        bucket = await store.create_bucket("b", "me", {})
        for number in range(60):
            bodies[f"{number:02}"] = os.urandom(30_000 if number % 2 else 70_000)
            await put(store, bucket, f"{number:02}", bodies[f"{number:02}"] or b"")
        await rest(store)
    disks.empty(1)
    async with idle(disks, monkeypatch) as store:
        filled = asyncio.create_task(store.refill.run_once(1))
        number = 0
        while not filled.done():
            key = f"{number * 7 % 60:02}"
            if number % 3:
                bodies[key] = os.urandom(50_000)
                await put(store, bucket, key, bodies[key] or b"")
            else:
                bodies[key] = None
                await store.delete(bucket, key)
            number += 1
        assert number > 5
        for _ in range(5):
            if await filled:
                break
            filled = asyncio.create_task(store.refill.run_once(1))
        assert not store.pool.filling
        await rest(store)
        assert unsettled(store) == 0
        assert {row.id for row in rows(store, 1)} == {row.id for row in rows(store, 0)}
    disks.filling.clear()
    async with disks.store(missing=(0,)) as store:
        for key, body in bodies.items():
            if body is None:
                with pytest.raises(NoSuchKey):
                    await get(store, bucket, key)
            else:
                assert await get(store, bucket, key) == body


async def test_a_key_that_changes_while_its_shard_is_made_keeps_the_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disks = Disks(tmp_path, 3)
    async with disks.store() as store:
        bucket = await store.create_bucket("b", "me", {})
        await put(store, bucket, "k", b"a" * 200_000)
        await put(store, bucket, "gone", b"a" * 200_000)
        await rest(store)
    disks.empty(2)
    async with idle(disks, monkeypatch) as store:
        original = Restorer._enter
        entered = []

        async def late(self: Restorer, missing: Missing, inline: bytes | None) -> bool:
            if missing.id.key == b"k":
                await put(store, bucket, "k", b"b" * 200_000)
            elif missing.id.key == b"gone":
                await store.delete(bucket, "gone")
            entered.append(await original(self, missing, inline))
            return entered[-1]

        monkeypatch.setattr(Restorer, "_enter", late)
        await store.refill.run_once(2)
        assert entered.count(False) == 2
        await rest(store)
        assert await get(store, bucket, "k") == b"b" * 200_000
        with pytest.raises(NoSuchKey):
            await get(store, bucket, "gone")
        assert len(list((tmp_path / "v2/shards").glob("*/*"))) == 1


async def test_a_volume_does_not_count_again_before_enough_whole_peers_were_compared_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disks = Disks(tmp_path, 4)
    async with disks.store() as store:
        bucket = await store.create_bucket("b", "me", {})
        await put(store, bucket, "k", b"x" * 100_000, ftt=2)
        await rest(store)
    disks.empty(0)
    async with idle(disks, monkeypatch, missing=(1, 2)) as store:
        assert not await store.refill.run_once(0)
        assert "1 of the 2 whole volumes" in store.refill.why(0)
        assert store.pool.filling == {0}
    async with idle(disks, monkeypatch, missing=(1,)) as store:
        assert await store.refill.run_once(0)


async def test_an_undecided_key_keeps_the_volume_filling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FTT 1 on 4 volumes, written while volume 3 was away and acknowledged with W = 3; then one of the three is lost too. The row
    is on too few volumes to be served, and only the blank volume could tell whether it was acknowledged."""
    disks = Disks(tmp_path, 4)
    async with disks.store() as store:
        bucket = await store.create_bucket("b", "me", {})
        await put(store, bucket, "k", b"old" * 50_000, ftt=1)
        await rest(store)
    with monkeypatch.context() as patch:
        patch.setattr("abixio.store.settle.Settler.cycle", nothing)
        async with disks.store(missing=(3,)) as store:
            await put(store, bucket, "k", b"new" * 50_000, ftt=1)
    disks.empty(0)
    async with idle(disks, monkeypatch) as store:
        assert not await store.refill.run_once(0)
        assert store.pool.filling == {0}
        assert "b'k'" in store.refill.why(0)
        with pytest.raises(Unavailable):
            await get(store, bucket, "k")


async def nothing(self: object) -> None:
    """The process dies before any settling."""


@pytest.mark.parametrize("alone", [False, True], ids=["in batches", "one by one"])
async def test_objects_that_are_lost_for_good_do_not_keep_the_volume_filling_and_stay_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alone: bool
) -> None:
    if alone:
        monkeypatch.setattr(lacks, "_missing", lambda *arguments: None)
    disks = Disks(tmp_path, 4)
    async with disks.store() as store:
        bucket = await store.create_bucket("b", "me", {})
        for size in (1000, 200_000):
            await put(store, bucket, f"lost{size}", os.urandom(size), ftt=0)
            await put(store, bucket, f"kept{size}", b"k" * size, ftt=1)
        await rest(store)
    disks.empty(3)
    async with idle(disks, monkeypatch) as store:
        assert await store.refill.run_once(3)
        await rest(store)
        assert unsettled(store) == 0
    disks.filling.clear()
    async with disks.store(missing=(0,)) as store:
        for size in (1000, 200_000):
            assert await get(store, bucket, f"kept{size}") == b"k" * size
            with pytest.raises((DataLost, Unavailable)):
                await get(store, bucket, f"lost{size}")
    async with disks.store() as store:
        await store.delete(bucket, "lost1000")
        await put(store, bucket, "lost200000", b"again", ftt=0)
        assert await get(store, bucket, "lost200000") == b"again"


async def test_objects_that_only_await_a_missing_volume_are_not_taken_for_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disks = Disks(tmp_path, 4)
    async with disks.store() as store:
        bucket = await store.create_bucket("b", "me", {})
        await put(store, bucket, "k", b"k" * 200_000, ftt=1)
        await rest(store)
    disks.empty(3)
    async with idle(disks, monkeypatch, missing=(0,)) as store:
        assert not await store.refill.run_once(3)
        assert store.pool.filling == {3}
    async with idle(disks, monkeypatch) as store:
        assert await store.refill.run_once(3)
    disks.filling.clear()
    async with disks.store(missing=(0,)) as store:
        assert await get(store, bucket, "k") == b"k" * 200_000


async def test_parts_of_open_uploads_are_put_back_and_those_of_ended_ones_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disks = Disks(tmp_path, 3)
    body = os.urandom(5 * MIB)
    async with disks.store() as store:
        bucket = await store.create_bucket("b", "me", {})
        upload = await store.create_upload(bucket, "k", PutSpec("me"))
        part = await store.put_part(bucket, "k", upload.id, 1, BytesSource(body))
        ended = await store.create_upload(bucket, "other", PutSpec("me"))
        await store.put_part(bucket, "other", ended.id, 1, BytesSource(body))
        await store.abort_upload(bucket, "other", ended.id)
        await rest(store)
    disks.empty(1)
    async with idle(disks, monkeypatch) as store:
        assert await store.refill.run_once(1)
        assert {row.id for row in rows(store, 1)} == {row.id for row in rows(store, 0)}
        await store.complete_upload(bucket, "k", upload.id, [PartRef(1, part.etag)])
        await rest(store)
    disks.filling.clear()
    async with disks.store(missing=(0,)) as store:
        assert await get(store, bucket, "k") == body


async def test_no_row_is_on_the_disk_ahead_of_its_file_and_the_end_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lacks, "BATCH_KEYS", 3)
    disks = Disks(tmp_path, 3)
    async with disks.store() as store:
        bucket = await store.create_bucket("b", "me", {})
        for number in range(10):
            await put(store, bucket, f"{number}", os.urandom(100_000))
        await rest(store)
    disks.empty(2)
    async with idle(disks, monkeypatch) as store:
        lane = store.pool.lanes[2]
        assert lane is not None
        volume = lane.volume
        synced: set[bytes] = set()
        ends: list[bool] = []
        apply, barrier = volume.apply, volume.barrier

        def sync() -> None:
            synced.update(write_id for directory in range(256) for write_id in volume.shard_files(directory))
            barrier()

        def checked(changes: Sequence[Change], durable: bool) -> object:
            for op in (op for change in changes for op in change):
                if isinstance(op, Insert):
                    assert synced.issuperset(op.shards)
                if op == Note("filling", 0):
                    ends.append(durable)
            return apply(changes, durable)

        monkeypatch.setattr(volume, "barrier", sync)
        monkeypatch.setattr(volume, "apply", checked)
        assert await store.refill.run_once(2)
        assert len(synced) == 10
        assert ends == [True]


async def test_deletes_are_forgotten_while_a_volume_is_still_filling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a refill of days would leave a tombstone in every listing for each of them."""
    disks = Disks(tmp_path, 3)
    async with disks.store() as store:
        bucket = await store.create_bucket("b", "me", {})
        for key in ("old", "older"):
            await put(store, bucket, key, b"x" * 100_000)
        await rest(store)
    disks.empty(0)
    async with idle(disks, monkeypatch) as store:
        await put(store, bucket, "new", b"x" * 100_000)
        for key in ("old", "older", "new"):
            await store.delete(bucket, key)
        await rest(store)
        assert store.pool.filling == {0}
        assert unsettled(store) == 0
        assert not any(row.id.space == bucket.space for slot in range(3) for row in rows(store, slot))


# ---- volumes that went back in time --------------------------------------------------------------------------------------
async def regressed(disks: Disks, root: Path, slot: int) -> tuple[Bucket, bytes]:
    """A volume whose snapshot lacks a write, holds an object deleted since and one overwritten since."""
    async with disks.store("fsync") as store:
        bucket = await store.create_bucket("b", "me", {})
        for key in ("deleted", "overwritten", "kept"):
            await put(store, bucket, key, b"old" * 40_000)
            await put(store, bucket, key + " small", b"old")
        await rest(store)
    shutil.copytree(root / f"v{slot}", root / "snapshot")
    async with disks.store("fsync") as store:
        body = os.urandom(120_000)
        for key in ("overwritten", "new"):
            await put(store, bucket, key, body)
            await put(store, bucket, key + " small", body[:100])
        await store.delete(bucket, "deleted")
        await store.delete(bucket, "deleted small")
        await rest(store)
        assert not any(row.id.key.startswith(b"deleted") for row in rows(store, 0))
    shutil.rmtree(root / f"v{slot}")
    shutil.move(root / "snapshot", root / f"v{slot}")
    return bucket, body


async def test_a_regressed_volume_learns_what_is_new_and_forgets_what_was_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disks = Disks(tmp_path, 3)
    bucket, body = await regressed(disks, tmp_path, 1)
    async with idle(disks, monkeypatch, "fsync") as store:
        assert store.pool.regressed == {1}
        original, inserted = store.committer.placer.insert, []

        async def insert(id: RowId, record: object, state: State, *arguments: Any, **more: Any) -> set[int]:
            inserted.append(state)
            return await original(id, record, state, *arguments, **more)  # type: ignore[arg-type]

        monkeypatch.setattr(store.committer.placer, "insert", insert)
        assert await store.refill.run_once(1)
        assert store.pool.regressed == store.pool.filling == set()
        assert State.ABORTED not in inserted  # on all volumes, and collected with a sync for each key
        await rest(store)
        assert unsettled(store) == 0
        assert {row.id for row in rows(store, 1)} == {row.id for row in rows(store, 0)}
        names = {row.id.key for row in rows(store, 1)}
        assert b"deleted" not in names and b"new" in names
        assert len(list((tmp_path / "v1/shards").glob("*/*"))) == 3
    async with disks.store("fsync", missing=(0,)) as store:
        assert store.pool.filling == set()
        for key in ("overwritten", "new"):
            assert await get(store, bucket, key) == body
            assert await get(store, bucket, key + " small") == body[:100]
        for key in ("deleted", "deleted small"):
            with pytest.raises(NoSuchKey):
                await get(store, bucket, key)
        assert len((await store.list(bucket, "", "", "", 100)).items) == 6


async def test_a_regressed_volume_keeps_what_too_few_others_deny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disks = Disks(tmp_path, 5)
    await regressed(disks, tmp_path, 1)
    async with idle(disks, monkeypatch, "fsync", missing=(0, 2)) as store:
        before = {row.id for row in rows(store, 1)}
        assert not await store.refill.run_once(1)
        assert {row.id for row in rows(store, 1)} >= {id for id in before if id.key.startswith(b"deleted")}
        assert store.pool.regressed == {1}
    async with idle(disks, monkeypatch, "fsync") as store:
        assert store.pool.regressed == {1}
        assert await store.refill.run_once(1)


async def test_a_volume_that_was_filled_is_not_taken_for_older_by_a_peer_that_was_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disks = Disks(tmp_path, 4)
    async with disks.store("fsync") as store:
        bucket = await store.create_bucket("b", "me", {})
        for number in range(30):
            await put(store, bucket, f"{number}", b"x", ftt=2)
        await rest(store)
        await store.settler.barrier()
    disks.empty(1)
    async with idle(disks, monkeypatch, "fsync", missing=(3,)) as store:
        assert await store.refill.run_once(1)
        await store.settler.barrier()
    disks.filling.clear()
    async with idle(disks, monkeypatch, "fsync") as store:
        assert store.pool.filling == set()


async def test_a_snapshot_of_a_volume_that_was_still_filling_is_found_out_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disks = Disks(tmp_path, 3)
    async with disks.store("fsync") as store:
        bucket = await store.create_bucket("b", "me", {})
    disks.empty(1)
    async with idle(disks, monkeypatch, "fsync") as store:
        await put(store, bucket, "deleted", b"x")
        await rest(store)
    shutil.copytree(tmp_path / "v1", tmp_path / "snapshot")
    disks.filling.clear()
    async with idle(disks, monkeypatch, "fsync") as store:
        await store.delete(bucket, "deleted")
        await rest(store)
        assert not any(row.id.key == b"deleted" for row in rows(store, 0))
    shutil.rmtree(tmp_path / "v1")
    shutil.move(tmp_path / "snapshot", tmp_path / "v1")
    disks.filling = {1}  # as its note says
    async with idle(disks, monkeypatch, "fsync") as store:
        assert store.pool.regressed == {1}
        assert await store.refill.run_once(1)
        with pytest.raises(NoSuchKey):
            await get(store, bucket, "deleted")
        assert not any(row.id.key == b"deleted" for row in rows(store, 1))
