"""Versions, and what crashes and lost volumes do to them: what was deleted stays deleted, what was not stays readable."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from abixio.errors import AbixioError, NoSuchVersion, Unavailable, VolumeReadOnly
from abixio.fsck.volumes import Site
from abixio.fsck.walk import in_order
from abixio.store.record import Record
from abixio.store.store import Store
from abixio.store.types import Bucket, PutSpec
from abixio.volume.files import Files
from abixio.volume.interface import Insert, Row, RowId, State
from abixio.volume.local import LocalVolume
from tests.store_local import Disks, files, get, put, quiet, rest
from tests.test_store_model import Text, Walk
from tests.test_store_versions import listed, versioning
from tests.volume_fixtures import formatted


@asynccontextmanager
async def still(tmp_path: Path, n: int) -> AsyncIterator[Walk]:
    """A pool that does nothing by itself, can be killed at any moment and lose any volume."""
    with ThreadPoolExecutor(2) as executor:
        walk = Walk(0, executor, tmp_path)
        for disk in walk.disks:
            disk.close()
        walk.n = n
        walk.disks = [walk.blank(slot) for slot in range(n)]
        await walk.boot()
        try:
            yield walk
        finally:
            await walk.halt()


async def bucket_of(walk: Walk, *states: str) -> Bucket:
    bucket = await walk.store.create_bucket("b", "me", {})
    for state in states:
        bucket = await versioning(walk.store, state)
    return bucket


# ---- what a deleted version hid ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("states", [("Enabled", "Suspended"), ()], ids=["suspended", "unversioned"])
@pytest.mark.parametrize("marker", [False, True], ids=["object", "marker"])
async def test_a_null_version_does_not_come_back_when_the_one_that_replaced_it_is_deleted(
    states: tuple[str, ...], marker: bool, tmp_path: Path
) -> None:
    disks = Disks(tmp_path, 4)
    async with disks.store() as store:
        bucket = await store.create_bucket("b", "me", {})
        for state in states:
            bucket = await versioning(store, state)
        await put(store, bucket, "k", b"1" * 100_000)
        await rest(store)
    async with disks.store(missing={0}) as store:
        if marker and states:
            await store.delete(bucket, "k")
        else:
            await put(store, bucket, "k", b"2" * 100_000)
        await rest(store)
        if not states:
            bucket = await versioning(store, "Enabled")
        assert await store.delete(bucket, "k", version="null") is not None
        await rest(store)
    for away in ({1}, {2}, set[int]()):
        async with disks.store(missing=away) as store:
            with pytest.raises(NoSuchVersion):
                await store.head(bucket, "k", "null")
            assert await listed(store, bucket) == []
            await rest(store)
    assert files(disks) == 0


async def test_a_version_between_null_versions_survives_their_deletion(tmp_path: Path) -> None:
    async with Disks(tmp_path, 4).store() as store:
        bucket = await store.create_bucket("b", "me", {})
        await put(store, bucket, "k", b"old")
        bucket = await versioning(store, "Enabled")
        kept = await put(store, bucket, "k", b"kept")
        bucket = await versioning(store, "Suspended")
        await put(store, bucket, "k", b"new")
        assert await store.delete(bucket, "k", version="null") is not None
        await rest(store)
        assert await listed(store, bucket) == [("k", kept.version, False, True)]
        assert await get(store, bucket, "k") == b"kept"


# ---- deletes that nobody has settled yet -------------------------------------------------------------------------------
@pytest.mark.parametrize("states", [("Enabled", "Suspended"), ("Enabled",)], ids=["suspended", "enabled"])
async def test_an_acknowledged_delete_of_a_version_holds_after_a_kill_and_a_lost_volume(
    states: tuple[str, ...], tmp_path: Path
) -> None:
    async with still(tmp_path, 4) as walk:
        bucket = await bucket_of(walk, *states)
        info = await walk.store.put(bucket, "k", PutSpec("me", ftt="1"), Text("data"))
        await walk.store.settler.cycle()
        walk.set_away(3, True)
        assert await walk.store.delete(bucket, "k", version=info.version) is not None
        await walk.crash()
        walk.set_away(3, False)
        walk.set_away(0, True)
        with pytest.raises(NoSuchVersion):
            await walk.store.head(bucket, "k", info.version)


async def test_a_delete_that_cannot_be_settled_does_not_serve_an_older_layout_of_what_it_deletes(tmp_path: Path) -> None:
    def refuse(changes: object, durable: bool) -> None:
        raise VolumeReadOnly("it takes nothing")

    async with still(tmp_path, 4) as walk:
        bucket = await bucket_of(walk, "Enabled")
        info = await walk.store.put(bucket, "k", PutSpec("me", ftt="1"), Text("data"))
        await walk.store.reencode(bucket, "k", "0")
        walk.set_away(3, True)
        assert await walk.store.delete(bucket, "k", version=info.version) is not None
        await walk.crash()
        walk.set_away(3, False)
        walk.set_away(0, True)
        for volume in walk.volumes:
            volume.apply = refuse  # type: ignore[method-assign,assignment]
        for version in (info.version, None):
            with pytest.raises(Unavailable):
                await walk.store.head(bucket, "k", version)


# ---- page-cache: nothing outlives the rows it stands for ---------------------------------------------------------------
class Counting(Files):
    """Counts what makes all of a volume durable."""

    syncs = 0

    def syncfs(self, fd: int) -> None:
        self.syncs += 1
        super().syncfs(fd)


def row(seq: int) -> list[list[Insert]]:
    return [[Insert(RowId(b"s" * 16, b"k", seq, 0), State.PENDING, 1, b"record")]]


def test_the_first_barrier_after_a_kill_covers_what_was_written_before_it(tmp_path: Path) -> None:
    path = formatted(tmp_path / "volume")
    volume = LocalVolume.open(path)
    volume.apply(row(1), durable=False)
    shutil.copytree(path, tmp_path / "killed")
    volume.close()
    counting = Counting()
    again = LocalVolume.open(str(tmp_path / "killed"), counting)
    assert again.rows(b"s" * 16, b"k") and not again.orderly
    again.barrier()
    assert counting.syncs == 1
    again.barrier()
    assert counting.syncs == 1
    again.close()


async def test_a_row_that_repair_brings_is_not_marked_ahead_of_the_barrier(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 4)
    async with quiet(disks) as store:
        await store.journal.stop()
        bucket = await store.create_bucket("b", "me", {})
        await rest(store)
        lane = store.pool.lanes[3]
        assert lane is not None
        store.pool.lanes[3] = None
        for key, size in (("small", 10), ("large", 100_000)):
            await put(store, bucket, key, b"x" * size)
        store.settler._fresh.clear()  # as after a kill
        store.pool.lanes[3] = lane
        for key in ("small", "large"):
            await store.mender.settle(bucket.space, key.encode())
            assert [row.state for row in lane.volume.rows(bucket.space, key.encode())] == [State.ANSWERED]
        await rest(store)
        for key in ("small", "large"):
            assert [row.state for row in lane.volume.rows(bucket.space, key.encode())] == [State.COMMITTED]


@pytest.mark.parametrize("clean", [True, False])
def test_fsck_believes_an_answered_row_only_where_no_power_was_cut(clean: bool) -> None:
    class Catalog:
        def walk(self) -> Iterator[list[Row]]:
            yield [Row(RowId(b"s" * 16, b"k", seq, 0), state, 1, b"", None) for seq, state in enumerate(State)]

    [found] = in_order([Site(0, "", None, Catalog(), clean=clean)], lambda site, error: None)  # type: ignore[arg-type]
    shown = [row.state for row in found.rows[0]]
    assert shown == [State.PENDING, State.COMMITTED, State.ABORTED, State.ANSWERED if clean else State.PENDING]


async def test_an_answered_row_can_be_inspected(tmp_path: Path) -> None:
    async with quiet(Disks(tmp_path, 2)) as store:
        bucket = await store.create_bucket("b", "me", {})
        await put(store, bucket, "k", b"data")
        [health] = await store.inspect(bucket, "k")
        assert set(health.row_states.values()) == {"answered"} and health.readable and health.whole


# ---- clocks ------------------------------------------------------------------------------------------------------------
async def test_a_clock_that_went_back_gives_no_rev_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with still(tmp_path, 3) as walk:
        bucket = await bucket_of(walk)
        await walk.store.put(bucket, "k", PutSpec("me", ftt="1"), Text("data"))
        await walk.store.settler.cycle()
        monkeypatch.setattr("abixio.store.clock.time.time_ns", lambda: 0)
        await walk.crash()
        walk.fuse.left = 1  # the next change reaches one volume, then the process dies
        with pytest.raises(AbixioError):
            await walk.store.amend(bucket, "k", None, lambda record: replace(record, tags={"n": "1"}))
        await walk.crash()
        [away] = [slot for slot, disk in enumerate(walk.disks) if any(row.id.rev for row in disk.rows(bucket.space, b"k"))]
        walk.set_away(away, True)
        await walk.store.amend(bucket, "k", None, lambda record: replace(record, tags={"n": "2"}))
        await walk.crash()
        walk.set_away(away, False)
        records: dict[tuple[int, int], set[bytes]] = {}
        for disk in walk.disks:
            for found in disk.rows(bucket.space, b"k"):
                records.setdefault(found.id[2:], set()).add(found.record)
        assert all(len(told) == 1 for told in records.values())
        await asyncio.sleep(0)


# ---- what repair costs -------------------------------------------------------------------------------------------------
async def test_a_version_that_was_missed_is_settled_without_the_others_of_its_key(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 4)
    async with disks.store() as store:
        bucket = await versioning_bucket(store)
        for number in range(20):
            await put(store, bucket, "k", b"%d" % number)
        await rest(store)
    async with disks.store(missing={2}) as store:
        await put(store, bucket, "k", b"missed")
    async with quiet(disks) as store:
        await store.journal.stop()
        added: list[int] = []
        add = store.settler.add

        def noted(id: RowId, record: Record, slots: Iterable[int]) -> None:
            added.append(id.seq)
            add(id, record, slots)

        store.settler.add = noted  # type: ignore[method-assign]
        assert (await store.mender.settle(bucket.space, b"k")).settled
        assert len(added) == 1
        await rest(store)
        assert len(await listed(store, bucket)) == 21
        assert all(not lane.volume.unsettled(None, 10) for lane in store.pool.up())


async def versioning_bucket(store: Store) -> Bucket:
    await store.create_bucket("b", "me", {})
    return await versioning(store, "Enabled")
