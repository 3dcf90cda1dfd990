"""What follows a commit and repairs it: settling, the journal of missed writes, and orders of events that once lost data."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from xxhash import xxh3_64_intdigest

from abixio.errors import (
    AbixioError,
    CatalogCorrupt,
    InsufficientStorage,
    NoSuchBucket,
    NoSuchKey,
    NoSuchUpload,
    Unavailable,
    VolumeError,
    VolumeFull,
    VolumeReadOnly,
    VolumeUnusable,
)
from abixio.store import journal, lane, mend, settle
from abixio.store.record import Record, pack, unpack
from abixio.store.store import Store
from abixio.store.types import Bucket, PartRef, PutSpec
from abixio.volume.interface import Drop, Head, Insert, RowId, State
from tests.store_local import Disks, files, get, put, quiet, rest
from tests.store_process import back, copy, down, process, restore, volume
from tests.store_rig import BytesSource, noise

BIG = 400_000


def truncate(root: Path, pattern: str) -> None:
    for path in root.glob(pattern):
        os.truncate(path, 100)


def contents(root: Path, pattern: str) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.glob(pattern)}


async def keys(store: Store, bucket: Bucket) -> list[tuple[str, int]]:
    return [(info.key, info.size) for info in (await store.list(bucket, "", "", "", 100)).items]


def unsettled(store: Store) -> list[int]:
    return [len(volume(store, slot).inner.unsettled(None, 10_000)) for slot in range(store.n)]


def rows(store: Store, space: bytes, key: bytes) -> list[int]:
    return [len(volume(store, slot).inner.rows(space, key)) for slot in range(store.n)]


# ---- the journal -----------------------------------------------------------------------------------------------------
async def missed(store: Store, bucket: Bucket, count: int, slot: int) -> None:
    """So many small objects that a volume missed, at rest as far as the others go."""
    down(store, slot)
    await asyncio.gather(*(put(store, bucket, f"k{n:05}", b"x" * 100) for n in range(count)))
    for _ in range(3):
        await store.settler.cycle()


async def test_a_volume_that_was_away_for_thousands_of_writes_is_brought_up_to_date_quickly(tmp_path: Path) -> None:
    async with process(disks := Disks(tmp_path, 4), "page-cache") as store:
        bucket = await store.create_bucket("b", "me", {})
        await rest(store)
        await missed(store, bucket, 1200, 3)
        assert await store.journal.run_once() == 0
        back(store, 3)
        start, passes = time.monotonic(), 0
        while any(unsettled(store)):
            await store.journal.run_once()
            await store.settler.cycle()
            passes += 1
            assert passes < 20
        seconds = time.monotonic() - start
        assert len(volume(store, 3).inner.history(bucket.space, b"", 10_000)) == 1200
        print(f"{1200 / seconds:.0f} keys/s")
        assert seconds < 60
    assert files(disks) == 0


async def test_while_a_volume_is_away_its_entries_cost_a_look_each_and_no_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with process(Disks(tmp_path, 4), "page-cache") as store:
        bucket = await store.create_bucket("b", "me", {})
        await rest(store)
        await missed(store, bucket, 200, 3)
        await store.delete(bucket, "k00001")
        await store.settler.cycle()
        await store.settler.cycle()
        worked = []
        real = store.mender.settle

        async def settled(*key: bytes) -> object:
            worked.append(key)
            return await real(*key)

        monkeypatch.setattr(store.mender, "settle", settled)
        for _ in range(5):
            await store.journal.run_once()
        assert worked == [] and store.journal.waiting == 0


async def change(store: Store, slot: int, *ops: Any) -> None:
    await store.pool.lanes[slot].apply(ops, False)  # type: ignore[union-attr]


async def stuck(store: Store, bucket: Bucket, name: str) -> None:
    """A write that a crash left on one of the four volumes it was meant for. With two of the others away nobody can say what
    became of it."""
    record = Record("tombstone", bucket.space, name.encode(), store.committer.clock.tick(), 3)
    await change(store, 0, Insert(RowId(bucket.space, name.encode(), record.seq, 0), State.PENDING, 15, pack(record)))


async def lost_row(store: Store, bucket: Bucket, name: str, slot: int) -> None:
    """An object that one volume has no row of, and whose entry says so."""
    record = (await put(store, bucket, name, b"x", 3)).record
    await store.settler.cycle()
    id = RowId(bucket.space, name.encode(), record.seq, 0)
    await change(store, slot, Drop(id, record.write_ids), Head(*id[:2], None))
    await change(store, 0, Insert(id, State.COMMITTED, 15, pack(record), record.write_ids, guard=False))


async def test_keys_that_cannot_be_settled_keep_no_others_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "PAGE", 10)
    async with process(Disks(tmp_path, 4), "page-cache") as store:
        bucket = await store.create_bucket("b", "me", {})
        await rest(store)
        for n in range(60):
            await stuck(store, bucket, f"stuck{n:02}")
        await lost_row(store, bucket, "well", 1)
        down(store, 2, 3)
        for _ in range(7):
            await store.journal.run_once()
        assert store.journal.waiting == 61  # "well" is on all volumes that are up, which is not all
        assert rows(store, bucket.space, b"well")[1] == 1
        tries = []
        real = store.mender.settle

        async def settled(*key: bytes) -> object:
            tries.append(key)
            return await real(*key)

        monkeypatch.setattr(store.mender, "settle", settled)
        for _ in range(7):
            await store.journal.run_once()
        assert not tries, "no pause before the next try"
        back(store, 2)
        for _ in range(8):
            await store.journal.run_once()
        assert len(tries) == 60, "all are tried when a volume comes back"
        await rest(store)
        assert store.journal.waiting == 0


async def test_the_journal_works_by_itself_and_brings_a_returned_volume_up_to_date(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 4)
    async with quiet(disks, "fsync") as store:
        bucket = await store.create_bucket("b", "me", {})
        store.pool.lanes[1].failed = VolumeUnusable("away")  # type: ignore[union-attr]
        for n in range(20):
            await put(store, bucket, f"k{n}", noise(BIG if n % 5 == 0 else 100), 1)
        await store.delete(bucket, "k3")
        store.pool.lanes[1].failed = None  # type: ignore[union-attr]
        async with asyncio.timeout(20):
            while any(lane.volume.unsettled(None, 10) for lane in store.pool.up()):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        for n in range(20):
            if n != 3:
                assert (await store.inspect(bucket, f"k{n}"))[0].whole


async def test_the_journal_of_a_volume_that_went_back_in_time_confuses_nobody(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 4)
    async with process(disks) as store:
        bucket = await store.create_bucket("b", "me", {})
        await put(store, bucket, "kept", b"old", 1)
        await put(store, bucket, "gone", noise(BIG), 1)
        keep = copy(disks, 0)  # with all its entries
        await rest(store)
        await store.delete(bucket, "gone")
        await put(store, bucket, "kept", b"new", 1)
        await put(store, bucket, "more", noise(BIG), 1)
        await rest(store)
        await store.settler.barrier()
    assert keep.exists()
    restore(disks, 0)
    async with process(disks) as store:
        assert store.pool.filling == store.pool.regressed == {0}
        await rest(store)
        assert await get(store, bucket, "kept") == b"new"
        assert await get(store, bucket, "more") == noise(BIG)
        with pytest.raises(NoSuchKey):
            await get(store, bucket, "gone")
        assert [key for key, _ in await keys(store, bucket)] == ["kept", "more"]
        worked = store.journal.waiting
        await put(store, bucket, "after", b"x", 1)
        await store.delete(bucket, "kept")
        await rest(store)
        assert await get(store, bucket, "after") == b"x"
        assert store.journal.waiting == worked == 0


# ---- orders of events that once lost data ----------------------------------------------------------------------------
async def test_a_tombstone_stays_where_the_barrier_of_its_second_round_failed(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 4)
    async with process(disks) as store:
        bucket = await store.create_bucket("b", "me", {})
        await put(store, bucket, "k", b"old", 3)
        await rest(store)
        await store.settler.barrier()
        await store.delete(bucket, "k")
        copy(disks, 3)  # T1 is synced there, T2 never will be
        await store.settler.cycle()
        volume(store, 3).fails("barrier", VolumeUnusable("a sync failed"))
        await store.settler.cycle()
        assert rows(store, bucket.space, b"k")[:3] == [1, 1, 1]
    restore(disks, 3)
    async with process(disks) as store:
        for _ in range(2):
            with pytest.raises(NoSuchKey):
                await get(store, bucket, "k")
            await rest(store)


async def test_an_entry_stays_while_a_volume_could_still_lose_the_row(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 4)
    async with process(disks, "page-cache") as store:
        bucket = await store.create_bucket("b", "me", {})
        await put(store, bucket, "k", b"old")
        await rest(store)
        await store.settler.barrier()
        copy(disks, 0)
        await put(store, bucket, "k", b"newer")
        await put(store, bucket, "k2", b"two")
        volume(store, 0).fails("barrier", VolumeUnusable("a sync failed"))
        await store.settler.cycle()
        await store.settler.cycle()
        assert all(unsettled(store)[1:])
    restore(disks, 0)
    async with process(disks, "page-cache") as store:
        await rest(store)
        assert await keys(store, bucket) == [("k", 5), ("k2", 3)]
        assert await get(store, bucket, "k") == b"newer"


async def test_a_power_cut_never_takes_both_generations(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 4)
    async with process(disks, "page-cache") as store:
        bucket = await store.create_bucket("b", "me", {})
        await put(store, bucket, "k", b"old")
        await rest(store)
        await store.settler.barrier()
        copy(disks, 2)
        down(store, 3)
        await put(store, bucket, "k", b"newer")
        volume(store, 2).fails("barrier", VolumeUnusable("a sync failed"))
        await store.settler.cycle()
    restore(disks, 2)
    async with process(disks, "page-cache") as store:
        await rest(store)
        assert await get(store, bucket, "k") in (b"old", b"newer")


async def test_an_object_that_too_few_volumes_can_read_can_be_overwritten_and_deleted(tmp_path: Path) -> None:
    async with process(Disks(tmp_path, 4)) as store:
        bucket = await store.create_bucket("b", "me", {})
        for key in ("k", "l"):
            await put(store, bucket, key, b"old", 0)
        await rest(store)
        down(store, 3)
        with pytest.raises(AbixioError):
            await get(store, bucket, "k")
        await put(store, bucket, "k", b"new", 1)
        assert await get(store, bucket, "k") == b"new"
        assert await store.delete(bucket, "l")


async def test_half_of_the_volumes_can_be_missing_when_a_page_has_unsettled_keys(tmp_path: Path) -> None:
    async with process(Disks(tmp_path, 4)) as store:
        bucket = await store.create_bucket("b", "me", {})
        for n in range(3):
            await put(store, bucket, f"a{n}", b"old", 2)
        await rest(store)
        down(store, 3)
        await put(store, bucket, "k", b"old", 1)
        await rest(store)
        down(store, 2)
        assert len(await keys(store, bucket)) == 4


async def test_a_torn_write_gives_the_list_back_what_was_there_before(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 4)
    async with process(disks, "page-cache") as store:
        bucket = await store.create_bucket("b", "me", {})
        await put(store, bucket, "k", noise(BIG))
        await rest(store)
        new = (await put(store, bucket, "k", noise(BIG + 1))).record.parts[0].write_id.hex()
    truncate(tmp_path, f"v*/shards/*/{new}")

    def unclean(volumes: Any) -> None:
        for each in volumes.values():
            each.clean = each.inner.clean = False

    async with process(disks, "page-cache", prepare=unclean) as store:
        await rest(store)
        assert await keys(store, bucket) == [("k", BIG)]
        assert await get(store, bucket, "k") == noise(BIG)


class Interrupting(BytesSource):
    """An upload during which something else happens."""

    def __init__(self, data: bytes, what: Callable[[], Any]) -> None:
        super().__init__(data)
        self.what: Callable[[], Any] | None = what

    async def readinto(self, view: memoryview) -> int:
        what, self.what = self.what, None
        if what is not None:
            await what()
        return await super().readinto(view)


async def test_uploads_that_lose_their_bucket_or_their_upload_leave_no_file(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 4)
    async with process(disks) as store:
        bucket = await store.create_bucket("b", "me", {})
        with pytest.raises(NoSuchBucket):
            await store.put(bucket, "k", PutSpec("me"), Interrupting(noise(BIG), lambda: store.delete_bucket("b")))
        bucket = await store.create_bucket("c", "me", {})
        upload = await store.create_upload(bucket, "k", PutSpec("me"))
        source = Interrupting(noise(BIG), lambda: store.abort_upload(bucket, "k", upload.id))
        with pytest.raises(NoSuchUpload):
            await store.put_part(bucket, "k", upload.id, 1, source)
        await rest(store)
        assert files(disks) == 0


async def test_uploads_of_a_bucket_go_with_it(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 4)
    async with process(disks) as store:
        bucket = await store.create_bucket("b", "me", {})
        upload = await store.create_upload(bucket, "k", PutSpec("me"))
        await store.put_part(bucket, "k", upload.id, 1, BytesSource(noise(BIG)))
        await store.delete_bucket("b")
        await rest(store)
        assert files(disks) == 0
        with pytest.raises(NoSuchUpload):
            await store.put_part(bucket, "k", upload.id, 2, BytesSource(noise(BIG)))


async def test_an_upload_of_high_tolerance_is_completed_and_aborted_with_a_volume_away(tmp_path: Path) -> None:
    async with process(Disks(tmp_path, 4)) as store:
        bucket = await store.create_bucket("b", "me", {})
        upload = await store.create_upload(bucket, "k", PutSpec("me", ftt="3"))
        other = await store.create_upload(bucket, "l", PutSpec("me", ftt="3"))
        part = await store.put_part(bucket, "k", upload.id, 1, BytesSource(noise(BIG)))
        await rest(store)
        down(store, 3)
        await store.complete_upload(bucket, "k", upload.id, [PartRef(1, part.etag)])
        assert await get(store, bucket, "k") == noise(BIG)
        await store.abort_upload(bucket, "l", other.id)


async def test_a_part_does_not_come_back_when_its_upload_ends_while_it_is_repaired(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disks = Disks(tmp_path, 4)
    async with process(disks) as store:
        bucket = await store.create_bucket("b", "me", {})
        upload = await store.create_upload(bucket, "k", PutSpec("me"))
        await rest(store)
        down(store, 3)
        await store.put_part(bucket, "k", upload.id, 1, BytesSource(noise(BIG)))
        await store.settler.cycle()
        back(store, 3)
        there, go = asyncio.Event(), asyncio.Event()
        real = mend.rebuild_shard

        async def slow(*args: Any) -> object:
            there.set()
            made = await real(*args)
            await go.wait()  # as for a part of 5 GiB
            return made

        monkeypatch.setattr(mend, "rebuild_shard", slow)
        repair = asyncio.create_task(store.journal.run_once())
        await there.wait()
        async with asyncio.timeout(5):
            await store.abort_upload(bucket, "k", upload.id)
        for _ in range(3):
            await store.settler.cycle()
        go.set()
        await repair
        await rest(store)
        assert rows(store, bytes.fromhex(upload.id), (1).to_bytes(4, "big")) == [0] * 4
        assert files(disks) == 0 and not any(unsettled(store))


async def test_a_part_whose_upload_is_gone_goes_wherever_it_turns_up(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 4)
    async with process(disks) as store:
        bucket = await store.create_bucket("b", "me", {})
        upload = await store.create_upload(bucket, "k", PutSpec("me"))
        await store.put_part(bucket, "k", upload.id, 1, BytesSource(noise(BIG)))
        space, key = bytes.fromhex(upload.id), (1).to_bytes(4, "big")
        await store.settler.cycle()
        (row,) = volume(store, 3).inner.rows(space, key)
        kept = contents(tmp_path, "v3/shards/*/*")
        await store.abort_upload(bucket, "k", upload.id)
        await rest(store)
        assert files(disks) == 0
        for path, data in kept.items():
            path.write_bytes(data)
        await change(store, 3, Insert(row.id, State.COMMITTED, 15, row.record, unpack(row.record).write_ids, guard=False))
        await rest(store)
        assert rows(store, space, key) == [0] * 4
        assert files(disks) == 0 and not any(unsettled(store))


@pytest.mark.parametrize("what", ["an unreadable journal", "a torn shard on a read-only disk", "back in time and read-only"])
async def test_a_start_goes_on_without_a_volume_that_cannot_be_checked(tmp_path: Path, what: str) -> None:
    disks = Disks(tmp_path, 4)
    async with process(disks, "page-cache") as store:
        bucket = await store.create_bucket("b", "me", {})
        await rest(store)
        copy(disks, 0)
        await put(store, bucket, "k", noise(BIG))
        if "time" in what:
            await rest(store)
            await store.settler.barrier()
    if "time" in what:
        restore(disks, 0)
    if "torn" in what:
        truncate(tmp_path, "v0/shards/*/*")

    def prepare(volumes: Any) -> None:
        if "time" not in what:
            volumes[0].clean = volumes[0].inner.clean = False
        if "unreadable" in what:
            volumes[0].fails("unsettled", CatalogCorrupt("malformed page"))
        else:
            volumes[0].fails("apply", VolumeReadOnly("read-only file system"))

    async with process(disks, "page-cache", prepare=prepare) as store:
        assert await get(store, bucket, "k") == noise(BIG)


async def test_a_volume_restored_after_two_good_ends_is_recognised(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 4)
    async with disks.store("fsync") as store:
        bucket = await store.create_bucket("b", "me", {})
        await put(store, bucket, "k", b"old")
    copy(disks, 0)
    async with disks.store("fsync") as store:
        await put(store, bucket, "k", b"newer")
        await put(store, bucket, "k2", b"two")
    restore(disks, 0)
    async with disks.store("fsync") as store:
        assert 0 in store.pool.regressed or not store.pool.filling  # or is filled again already
        assert await get(store, bucket, "k") == b"newer"
        assert len((await store.list(bucket, "", "", "", 10)).items) == 2


async def test_a_write_that_is_taken_back_leaves_the_old_object_in_the_list(tmp_path: Path) -> None:
    """A volume could not be read when the writer looked, and can when he takes his write back."""
    async with process(Disks(tmp_path, 4)) as store:
        bucket = await store.create_bucket("b", "me", {})
        await put(store, bucket, "k", b"old")
        await rest(store)
        sick, full = volume(store, 0), volume(store, 1)
        sick.fails("rows", VolumeError("a read failed"))
        sick.fails("apply", VolumeError("a write failed"))
        calls = []

        def first_full(changes: object, durable: bool) -> None:
            calls.append(changes)
            if len(calls) == 1:
                sick.before.clear()
                raise VolumeFull("full")

        full.before["apply"] = first_full
        with suppress(AbixioError):
            await put(store, bucket, "k", b"newer")
        back(store, 0)
        await rest(store)
        shown = await get(store, bucket, "k")
        assert shown in (b"old", b"newer")
        assert await keys(store, bucket) == [("k", len(shown))]
        assert not any(unsettled(store))


async def test_files_beyond_what_one_cycle_unlinks_go_in_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settle, "GARBAGE", 3)
    disks = Disks(tmp_path, 2)
    async with process(disks) as store:
        bucket = await store.create_bucket("b", "me", {})
        for n in range(10):
            await put(store, bucket, f"k{n}", noise(60_000))
        for n in range(10):
            await store.delete(bucket, f"k{n}")
        for _ in range(3):
            await rest(store)
        assert files(disks) == 0


async def test_a_full_disk_of_yesterday_is_no_reason_today(tmp_path: Path) -> None:
    async with process(Disks(tmp_path, 4)) as store:
        bucket = await store.create_bucket("b", "me", {})
        store.pool.lanes[0].trouble = VolumeFull("yesterday")  # type: ignore[union-attr]
        await put(store, bucket, "a", b"x")
        for slot in (1, 2):
            volume(store, slot).fails("apply", VolumeReadOnly("read-only"))
        with pytest.raises(AbixioError) as error:
            await put(store, bucket, "a", b"y")
        assert not isinstance(error.value, InsufficientStorage)


async def test_repair_copies_a_record_byte_for_byte_with_fields_of_later_versions(tmp_path: Path) -> None:
    async with process(Disks(tmp_path, 4)) as store:
        bucket = await store.create_bucket("b", "me", {})
        await put(store, bucket, "k", b"x")
        await store.delete(bucket, "k")
        row = volume(store, 0).inner.rows(bucket.space, b"k")[0]
        fields = msgspec.msgpack.decode(row.record[:-8])
        fields |= {"later": 7, "compat": ["later"], "seq": fields["seq"] + 1}
        body = msgspec.msgpack.encode(fields)
        stored = body + xxh3_64_intdigest(body).to_bytes(8, "little")
        id = RowId(bucket.space, b"k", fields["seq"], 0)
        for slot in range(3):
            await change(store, slot, Insert(id, State.PENDING, 15, stored, guard=False))
        await store.mender.settle(bucket.space, b"k")
        found = {row.record for slot in range(4) for row in volume(store, slot).inner.rows(bucket.space, b"k") if row.id == id}
        assert found == {stored}


async def test_a_rotten_row_stops_neither_reads_nor_writes_nor_lists(tmp_path: Path) -> None:
    async with process(Disks(tmp_path, 4)) as store:
        bucket = await store.create_bucket("b", "me", {})
        for key in ("k", "l"):
            await put(store, bucket, key, b"old")
        await rest(store)
        for slot in (0, 3):
            connection = volume(store, slot).inner._catalog._connection
            record = bytearray(volume(store, slot).inner.rows(bucket.space, b"k")[0].record)
            record[5] ^= 0xFF
            values = (bytes(record), bucket.space, b"k")
            text = "UPDATE row SET record = ? WHERE space = ? AND key = ?"
            connection.execute(text, values)
            assert await get(store, bucket, "k") == b"old"
            assert [key for key, _ in await keys(store, bucket)] == ["k", "l"]
            await put(store, bucket, "k", b"new")
            await rest(store)
            assert rows(store, bucket.space, b"k") == [1] * 4
            await put(store, bucket, "k", b"old")
            await rest(store)
        connection.execute(text, values)
        assert await store.delete(bucket, "k")
        await rest(store)
        assert rows(store, bucket.space, b"k") == [0] * 4


async def test_a_store_that_is_overloaded_closes_its_volumes_all_the_same(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 2)
    async with disks.store("page-cache") as store:
        bucket = await store.create_bucket("b", "me", {})
        await put(store, bucket, "k", b"x")
        store.pool.lanes[0]._waiting = lane.MAX_WAITING  # type: ignore[union-attr]
    async with disks.store("page-cache") as store:
        assert await get(store, bucket, "k") == b"x"


async def test_a_repair_on_a_volume_that_hangs_lets_go_of_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Collecting an aborted row waits for every volume; a writer of the key must not wait with it for ever."""
    monkeypatch.setattr(mend, "DEADLINE", 0.2)
    monkeypatch.setattr(settle, "PATIENCE", 0.2)
    async with process(Disks(tmp_path, 3)) as store:
        bucket = await store.create_bucket("b", "me", {})
        await rest(store)
        record = Record("tombstone", bucket.space, b"k", store.committer.clock.tick(), 2)
        id = RowId(bucket.space, b"k", record.seq, 0)
        for slot in range(3):
            await change(store, slot, Insert(id, State.ABORTED, 7, pack(record)))
        hang = threading.Event()

        def when_it_is_dropped(changes: Any, durable: bool) -> None:
            if any(isinstance(op, Drop) for change in changes for op in change):
                hang.wait(20)

        volume(store, 2).before["apply"] = when_it_is_dropped
        async with asyncio.timeout(10):
            await store.mender.settle(bucket.space, b"k")
        assert not store.pool.lanes[2].up  # type: ignore[union-attr]
        async with asyncio.timeout(10):
            await put(store, bucket, "k", b"x", 1)
        hang.set()
        with suppress(Unavailable):
            await rest(store)
