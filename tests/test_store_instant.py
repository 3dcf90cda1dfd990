"""Small writes that are decided in the call that brings them: they leave what the general way leaves, or are left to it."""

from __future__ import annotations

import asyncio
import os
import threading
from asyncio import Future
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import pytest
from msgspec import structs

from abixio.config import KIB, MIB, Config
from abixio.errors import (
    AbixioError,
    DigestMismatch,
    InsufficientStorage,
    InvalidFaultTolerance,
    NoSuchBucket,
    NoSuchKey,
    ObjectLocked,
    OutcomeUnknown,
    Overloaded,
    PreconditionFailed,
    Unavailable,
    VolumeError,
    VolumeFull,
)
from abixio.store import breaker, instant, lane, locks, placing
from abixio.store.buffers import BufferPool
from abixio.store.pool import Pool
from abixio.store.record import ROOT, pack, unpack
from abixio.store.store import Store
from abixio.store.types import Bucket, Condition, Deleted, ObjectInfo, PutSpec, Says, Seal, always
from abixio.volume.interface import Change, Row, State
from tests.store_local import Disks, get
from tests.store_memvolume import MemVolume
from tests.store_rig import SPACE, BytesSource, noise

AS_IT_IS: Final[Says[Any, Any]] = Says(lambda result: result, lambda error: error)
ALGORITHMS: Final = ("crc32", "crc32c", "crc64nvme", "sha1", "sha256", "sha512", "md5", "xxhash64", "xxhash3", "xxhash128")


class Given(BytesSource):
    """An upload whose bytes are at hand."""

    def __init__(self, data: bytes, algorithms: tuple[str, ...] = ()) -> None:
        super().__init__(data, algorithms=algorithms)
        self.saw_end = True


class Wrong(Given):
    def verify(self, digests: Mapping[str, bytes]) -> dict[str, str]:
        raise DigestMismatch("md5")


class Broken(Given):
    def verify(self, digests: Mapping[str, bytes]) -> dict[str, str]:
        raise KeyError("a defect")


class Volume(MemVolume):
    """Fails, hangs or answers each change as a test wants it."""

    def __init__(self, slot: int) -> None:
        super().__init__(slot)
        self.error: Exception | None = None
        self.although = False
        """It fails although it has done what it was asked."""
        self.gate = threading.Event()
        self.gate.set()
        self.batches: list[list[Change]] = []

    def apply(self, changes: Any, durable: bool) -> list[Any]:
        self.gate.wait(20)
        self.batches.append(list(changes))
        if self.error is not None and not self.although:
            raise self.error
        answers = super().apply(changes, durable)
        if self.error is not None:
            raise self.error
        return answers


@asynccontextmanager
async def serving(n: int, durability: str = "fsync", **settings: Any) -> AsyncIterator[tuple[Store, list[Volume], Bucket]]:
    """A store without background tasks, with a bucket at rest."""
    volumes = [Volume(slot) for slot in range(n)]
    config = Config(durability=durability, **settings)  # type: ignore[arg-type]
    with ThreadPoolExecutor(2) as executor:
        loop = asyncio.get_running_loop()
        pool = Pool(dict(enumerate(volumes)), n, set(), config, executor, BufferPool(64 * MIB), loop)
        store = Store(pool, 0)
        try:
            with patch.object(os, "urandom", return_value=SPACE):  # its space, and so the order of its slots
                bucket = await store.create_bucket("bucket", "me", {})
            await rest(store)
            for volume in volumes:
                volume.batches.clear()
            yield store, volumes, bucket
        finally:
            for volume in volumes:
                volume.gate.set()
                volume.error = None
            await store.aclose()
            assert not store.committer.locks._entries
            assert not store._instant._flying


async def rest(store: Store) -> None:
    for _ in range(3):
        await store.settler.cycle()


def put(
    store: Store, bucket: Bucket, key: str, data: bytes, spec: PutSpec | None = None, algorithms: tuple[str, ...] = ()
) -> Future[Any] | None:
    return store.put_at_once(bucket, key, spec or PutSpec("me"), Given(data, algorithms), data, AS_IT_IS)


def delete(store: Store, bucket: Bucket, key: str, condition: Condition = always, bypass: bool = False) -> Future[Any] | None:
    return store.delete_at_once(bucket, key, condition, bypass, AS_IT_IS)


async def made(store: Store, bucket: Bucket, key: str, data: bytes, **spec: Any) -> ObjectInfo:
    """An object, made in the general way and at rest."""
    info = await store.put(bucket, key, PutSpec("me", **spec), BytesSource(data))
    await rest(store)
    return info


async def ended(future: Future[Any] | None) -> Any:
    """The end of a write that was begun at once."""
    assert future is not None
    return await asyncio.wait_for(future, 20)


def rows(volumes: list[Volume], bucket: Bucket, key: str) -> list[list[Row]]:
    return [volume.rows(bucket.space, key.encode()) for volume in volumes]


def unlocked(store: Store) -> bool:
    return not store.committer.locks._entries


# ---- the same as the general way -------------------------------------------------------------------------------------
SPECS: Final = [
    PutSpec("me"),
    PutSpec("you", headers={"content-type": "a/b"}, meta={"a": "b"}, tags={"c": "d"}, real_md5=True),
    PutSpec("me", ftt="0", lock={"hold": "OFF"}, checksum_type="FULL_OBJECT"),
    PutSpec("me", ftt="1"),
]
SIZES: Final = (0, 1, 4097, 16 * KIB, 16 * KIB + 1, 48 * KIB + 1, 64 * KIB, 64 * KIB + 1)


def same(record: Any) -> Any:
    """A record without what each write has of its own."""
    parts = tuple(structs.replace(part, write_id=b"") for part in record.parts)
    return structs.replace(record, space=b"", seq=0, modified=0, parts=parts)


def left(store: Store, volumes: list[Volume], space: bytes) -> list[Any]:
    """All that the volumes have, without what each write has of its own."""
    found = []
    for volume in volumes:
        own = volume.history(space, b"", 1000)
        shards = [None if row.inline is None else len(volume.inline(row.inline)) for row in own]
        listed = [row.id.key for row in volume.scan(space, b"", None, 1000)]
        kept = [(same(unpack(row.record)), row.state, row.to, shard) for row, shard in zip(own, shards, strict=True)]
        found.append((kept, listed, len(volume.unsettled(None, 100)), len(volume.garbage(100))))
    return found


@pytest.mark.parametrize("durability", ["fsync", "page-cache"])
@pytest.mark.parametrize(("n", "etag"), [(1, "auto"), (3, "md5"), (4, "xxh64"), (4, "auto")])
async def test_it_leaves_what_the_general_way_leaves(n: int, durability: str, etag: str) -> None:
    at_once = 0
    async with serving(n, durability, etag=etag) as (one, ours, mine), serving(n, durability, etag=etag) as (two, theirs, yours):
        for number, size in enumerate(SIZES):
            data, algorithms = noise(size), ALGORITHMS[: number + 2]
            for at, spec in enumerate(SPECS):
                key = f"key {at if number % 2 else number * 10 + at}"
                try:
                    future = put(one, mine, key, data, spec, algorithms)
                    source = BytesSource(data, algorithms=algorithms)
                    info = await (one.put(mine, key, spec, source) if future is None else future)
                except InvalidFaultTolerance:
                    with pytest.raises(InvalidFaultTolerance):
                        await two.put(yours, key, spec, BytesSource(data))
                    continue
                at_once += future is not None
                other = await two.put(yours, key, spec, BytesSource(data, algorithms=algorithms))
                assert same(info.record) == same(other.record)
                assert (info.key, info.size, info.etag) == (other.key, other.size, other.etag)
                assert await get(one, mine, key) == data
                assert not any(row.state is State.ABORTED for own in rows(ours, mine, key) for row in own)
            await rest(one)
            await rest(two)
        assert at_once > 10
        assert left(one, ours, mine.space) == left(two, theirs, yours.space)
        for key in sorted({info.key for info in (await one.list(mine, "", "", "", 1000)).items}):
            future = delete(one, mine, key)
            gone = await (one.delete(mine, key) if future is None else future)
            assert gone == await two.delete(yours, key) == Deleted("null", False)
            with pytest.raises(NoSuchKey):
                await one.head(mine, key)
        for store in (one, two):
            await rest(store)
        assert left(one, ours, mine.space) == left(two, theirs, yours.space)
        assert [left[0] for left in left(one, ours, mine.space)] == [[]] * n


@pytest.mark.parametrize("n", [1, 4])
async def test_to_delete_what_is_not_there_writes_nothing(n: int) -> None:
    async with serving(n) as (store, volumes, bucket):
        assert await ended(delete(store, bucket, "nothing")) is None
        assert not any(volume.batches for volume in volumes)
        assert unlocked(store)


@pytest.mark.parametrize("durability", ["fsync", "page-cache"])
async def test_it_is_synced_before_the_answer_where_answers_are(durability: str) -> None:
    async with serving(1, durability) as (store, volumes, bucket):
        before = volumes[0].syncs
        await ended(put(store, bucket, "k", b"data"))
        assert volumes[0].syncs - before == (durability == "fsync")


@pytest.mark.parametrize("n", [1, 4])
async def test_the_writes_of_one_turn_are_one_transaction_of_each_volume(n: int) -> None:
    async with serving(n) as (store, volumes, bucket):
        futures = [put(store, bucket, f"key {number}", b"data") for number in range(20)]
        await asyncio.gather(*(ended(future) for future in futures))
        assert [list(map(len, volume.batches)) for volume in volumes] == [[20]] * n


@pytest.mark.parametrize("n", [1, 4])
async def test_of_two_writes_of_one_key_in_one_turn_the_second_waits_for_the_first(n: int) -> None:
    def absent(current: ObjectInfo | None) -> None:
        if current is not None:
            raise PreconditionFailed("If-None-Match")

    async with serving(n) as (store, _, bucket):
        first = put(store, bucket, "k", b"first", PutSpec("me", condition=absent))
        assert put(store, bucket, "k", b"second", PutSpec("me", condition=absent)) is None
        assert delete(store, bucket, "k") is None
        with pytest.raises(PreconditionFailed):
            await store.put(bucket, "k", PutSpec("me", condition=absent), BytesSource(b"second"))
        await ended(first)
        assert await get(store, bucket, "k") == b"first"


# ---- writes of one key at the same time ------------------------------------------------------------------------------
@pytest.mark.parametrize("n", [1, 4])
async def test_puts_that_wait_for_their_key_are_one_write(n: int) -> None:
    async with serving(n) as (store, volumes, bucket):
        futures = [put(store, bucket, "k", b"data %d" % number) for number in range(50)]
        infos = [await ended(future) for future in futures]
        assert len({info.etag for info in infos}) == 50 and [info.record.meta for info in infos] == [{}] * 50
        assert await get(store, bucket, "k") == b"data 49"
        assert (await store.head(bucket, "k")).record == infos[-1].record
        assert [list(map(len, volume.batches)) for volume in volumes] == [[1, 1]] * n
        await rest(store)
        assert [len(own) for own in rows(volumes, bucket, "k")] == [1] * n


async def test_each_of_them_is_checked_by_itself() -> None:
    async with serving(4) as (store, _, bucket):
        first = put(store, bucket, "k", b"first")
        good = put(store, bucket, "k", b"good")
        bad = store.put_at_once(bucket, "k", PutSpec("me"), Wrong(b"bad"), b"bad", AS_IT_IS)
        broken = store.put_at_once(bucket, "k", PutSpec("me"), Broken(b"bad"), b"bad", AS_IT_IS)
        assert isinstance(await ended(bad), DigestMismatch)
        with pytest.raises(KeyError):
            await ended(broken)
        assert (await ended(first)).size == 5 and (await ended(good)).size == 4
        assert await get(store, bucket, "k") == b"good" and unlocked(store)


async def test_those_that_are_all_bad_leave_the_key_as_it_is() -> None:
    async with serving(4) as (store, _, bucket):
        first = put(store, bucket, "k", b"first")
        bad = store.put_at_once(bucket, "k", PutSpec("me"), Wrong(b"bad"), b"bad", AS_IT_IS)
        assert isinstance(await ended(bad), DigestMismatch)
        assert (await ended(first)).size == 5
        assert await get(store, bucket, "k") == b"first" and unlocked(store)


async def test_what_waited_and_is_not_plain_any_more_takes_the_long_way() -> None:
    async with serving(4) as (store, volumes, bucket):
        first = put(store, bucket, "k", b"first")
        second, third = put(store, bucket, "k", b"second"), put(store, bucket, "k", b"third")
        await asyncio.sleep(0)
        volumes[1].cold = True
        assert [(await ended(future)).size for future in (first, second, third)] == [5, 6, 5]
        volumes[1].cold = False
        assert await get(store, bucket, "k") in (b"second", b"third")


async def test_what_waited_for_a_bucket_that_is_gone_is_refused() -> None:
    async with serving(4) as (store, _, bucket):
        async with store.committer.locks.exclusive(bucket.space, b"k"):
            futures = [put(store, bucket, "k", b"data") for _ in range(3)]
            await store.delete_bucket("bucket")
            again = await store.create_bucket("bucket", "me", {})
        assert [type(await ended(future)) for future in futures] == [NoSuchBucket] * 3
        assert (await store.list(again, "", "", "", 10)).items == []
        assert unlocked(store)


async def test_what_waited_while_the_bucket_got_versions_is_a_version() -> None:
    async with serving(4) as (store, _, bucket):
        async with store.committer.locks.exclusive(bucket.space, b"k"):
            futures = [put(store, bucket, "k", b"data") for _ in range(3)]
            await store.change_bucket("bucket", lambda settings: {**settings, "versioning": "Enabled"})
        infos = [await ended(future) for future in futures]
        assert len({info.version for info in infos}) == 3 and "null" not in {info.version for info in infos}
        assert unlocked(store)


@pytest.mark.parametrize(("n", "enough"), [(1, 1), (4, 2)])
async def test_what_waited_is_refused_with_the_one_that_stood_for_all(n: int, enough: int) -> None:
    async with serving(n) as (store, volumes, bucket):
        async with store.committer.locks.exclusive(bucket.space, b"k"):
            futures = [put(store, bucket, "k", b"data") for _ in range(3)]
            for volume in volumes[:enough]:
                volume.error = VolumeFull("full")
        answers = [await ended(future) for future in futures]
        assert len(set(map(type, answers))) == 1 and isinstance(answers[0], InsufficientStorage | OutcomeUnknown)
        assert unlocked(store)


async def test_only_so_many_wait_and_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instant, "BEHIND", 3)
    monkeypatch.setattr(locks, "WAIT", 0.05)
    async with serving(4) as (store, _, bucket):
        async with store.committer.locks.exclusive(bucket.space, b"k"):
            futures = [put(store, bucket, "k", b"data") for _ in range(4)]
            assert futures[3] is None
            assert [type(await ended(future)) for future in futures[:3]] == [Overloaded] * 3
        assert unlocked(store)
        assert (await ended(put(store, bucket, "k", b"data"))).size == 4


async def test_a_rotten_bucket_keeps_nobody_waiting_for_ever() -> None:
    async with serving(1) as (store, (volume,), bucket):
        async with store.committer.locks.exclusive(bucket.space, b"k"):
            future = put(store, bucket, "k", b"data")
            there = volume._tables.clone()
            own = volume._tables.rows[ROOT, b"bucket"]
            own[:] = [row._replace(record=row.record[:-1] + b"?") for row in own]
            assert store.bucket_at_hand("bucket") is None
        assert isinstance(await ended(future), AbixioError)
        assert unlocked(store)
        volume._tables = there


@pytest.mark.parametrize("n", [1, 4])
async def test_nor_does_a_look_that_fails(n: int) -> None:
    def fail(name: str) -> Bucket:
        raise Unavailable("not now")

    async with serving(n) as (store, _, bucket):
        async with store.committer.locks.exclusive(bucket.space, b"k"):
            future = put(store, bucket, "k", b"data")
            store._instant._bucket = fail
        assert (await ended(future)).size == 4  # on the long way
        assert unlocked(store)


async def test_who_came_before_them_goes_first_and_who_came_later_waits_for_them() -> None:
    async with serving(4) as (store, _, bucket):
        async with store.committer.locks.exclusive(bucket.space, b"k"):
            before = asyncio.ensure_future(store.put(bucket, "k", PutSpec("me"), BytesSource(b"before")))
            await asyncio.sleep(0.01)
            future = put(store, bucket, "k", b"data")
            after = asyncio.ensure_future(store.delete(bucket, "k"))
            await asyncio.sleep(0.01)
        seqs = [(await before).record.seq, (await ended(future)).record.seq]
        assert seqs == sorted(seqs) and await after == Deleted("null", False)
        with pytest.raises(NoSuchKey):
            await store.head(bucket, "k")


# ---- one volume ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("durability", ["fsync", "page-cache"])
async def test_on_one_volume_nothing_is_left_to_settle(durability: str) -> None:
    async with serving(1, durability) as (store, (volume,), bucket):
        for data in (b"first", b"second"):
            await ended(put(store, bucket, "k", data))
            (row,) = volume.rows(bucket.space, b"k")
            assert (row.state, row.to) == (State.COMMITTED, 1)
            assert not volume.unsettled(None, 10) and not store.settler.busy(row.id)
            assert len(volume._tables.inline) == 1
        assert store.settler._owes is (durability == "page-cache")  # a barrier, for the next power cut
        seq = row.id.seq
        await ended(delete(store, bucket, "k"))
        assert volume.rows(bucket.space, b"k") == [] and volume.unsettled(None, 10) == [] and not volume._tables.inline
        assert (await store.list(bucket, "", "", "", 10)).items == []
        assert volume.notes()["seq"] > seq


async def test_a_barrier_follows_what_is_at_rest_and_could_be_lost() -> None:
    async with serving(1, "page-cache") as (store, (volume,), bucket):
        await ended(put(store, bucket, "k", b"data"))
        volume.calls.clear()
        await store.settler.cycle()
        assert volume.calls.count("barrier") == 1
        await store.settler.cycle()
        assert volume.calls.count("barrier") == 1


@pytest.mark.parametrize("durability", ["fsync", "page-cache"])
async def test_what_has_files_is_overwritten_and_deleted_as_everywhere(durability: str) -> None:
    async with serving(1, durability) as (store, (volume,), bucket):
        for end in (lambda: put(store, bucket, "k", b"small"), lambda: delete(store, bucket, "k")):
            await made(store, bucket, "k", noise(100_000))
            assert len(volume.shards) == 1
            await ended(end())
            states = [row.state for row in volume.rows(bucket.space, b"k")]
            assert states == [State.PENDING, State.COMMITTED]
            assert len(volume.unsettled(None, 10)) == 1 and len(volume.shards) == 1
            await rest(store)
            assert not volume.shards and not volume.unsettled(None, 10)


async def patiently(begin: Callable[[], Future[Any] | None]) -> Any:
    """A real volume may have something else to do for a moment."""
    for _ in range(100):
        if (future := begin()) is not None:
            return await ended(future)
        await asyncio.sleep(0.05)
    raise AssertionError("it is never done at once")


@pytest.mark.parametrize("durability", ["fsync", "page-cache"])
async def test_the_clock_does_not_go_back_when_a_deleted_key_left_nothing(tmp_path: Path, durability: str) -> None:
    disks = Disks(tmp_path, 1)
    async with disks.store(durability) as store:
        bucket = await store.create_bucket("bucket", "me", {})
        store.committer.clock._last += 3_600_000_000  # as after an hour's setting back of the wall clock
        await patiently(lambda: put(store, bucket, "k", b"data"))
        await patiently(lambda: delete(store, bucket, "k"))
        last = store.committer.clock._last
    async with disks.store(durability) as store:
        assert store.committer.clock.tick() > last
        (volume,) = [lane.volume for lane in store.pool.lanes if lane is not None]
        assert volume.history(bucket.space, b"", 10) == [] and volume.unsettled(None, 10) == []
        assert await patiently(lambda: delete(store, bucket, "k")) is None


# ---- what is left to others ------------------------------------------------------------------------------------------
def seal() -> Seal:
    return Seal(bytes(32), {}, False)


async def test_what_is_not_plain_is_left_to_the_general_way() -> None:
    async with serving(4) as (store, volumes, bucket):
        assert put(store, bucket, "k", b"data", PutSpec("me", seal=seal())) is None
        assert put(store, bucket, "k", noise(64 * KIB + 1)) is None
        assert put(store, bucket, "k", noise(20 * KIB), PutSpec("me", ftt="3")) is None
        for state in ("Enabled", "Suspended"):
            other = replace(bucket, settings={**bucket.settings, "versioning": state})
            assert put(store, other, "k", b"data") is None and delete(store, other, "k") is None
        assert put(store, bucket, "k", b"data", PutSpec("me", ftt="2")) is None  # W + m > N: its rows have more to say
        await made(store, bucket, "two", b"data", ftt="2")
        assert put(store, bucket, "two", b"data", PutSpec("me", ftt="0")) is None and delete(store, bucket, "two") is None
        assert not any(len(batch) > 4 for volume in volumes for batch in volume.batches) and unlocked(store)


Trouble = Callable[[Store, list[Volume], Bucket], None]


def filling(store: Store, volumes: list[Volume], bucket: Bucket) -> None:
    store.pool.filling.add(0)


def cold(store: Store, volumes: list[Volume], bucket: Bucket) -> None:
    volumes[-1].cold = True


def slow(store: Store, volumes: list[Volume], bucket: Bucket) -> None:
    found = store.pool.lanes[0]
    assert found is not None
    found.well = False


def gone(store: Store, volumes: list[Volume], bucket: Bucket) -> None:
    store.pool.lanes[0] = None


def out(store: Store, volumes: list[Volume], bucket: Bucket) -> None:
    found = store.pool.lanes[-1]
    assert found is not None
    found.failed = VolumeError("out")  # type: ignore[assignment]


def crowded(store: Store, volumes: list[Volume], bucket: Bucket) -> None:
    found = store.pool.lanes[-1]
    assert found is not None
    found._waiting = lane.MAX_WAITING


def rotten(store: Store, volumes: list[Volume], bucket: Bucket) -> None:
    for volume in volumes:
        for own in (volume._tables.rows[bucket.space, b"k"],):
            own[:] = [row._replace(record=row.record[:-1] + b"?") for row in own]


def denied(store: Store, volumes: list[Volume], bucket: Bucket) -> None:
    """One volume has another row than the others."""
    (row,) = volumes[-1].rows(bucket.space, b"k")
    volumes[-1]._tables.rows[bucket.space, b"k"] = [row._replace(state=State.ABORTED)]


def blank(store: Store, volumes: list[Volume], bucket: Bucket) -> None:
    volumes[-1]._tables.rows[bucket.space, b"k"] = []


def paired(store: Store, volumes: list[Volume], bucket: Bucket) -> None:
    for volume in volumes:
        (row,) = volume.rows(bucket.space, b"k")
        record = pack(structs.replace(unpack(row.record), pair=b"other"))
        volume._tables.rows[bucket.space, b"k"] = [row._replace(record=record)]


def buried(store: Store, volumes: list[Volume], bucket: Bucket) -> None:
    """So many rows that those below are not known."""
    for volume in volumes:
        (row,) = volume.rows(bucket.space, b"k")
        older = [row._replace(id=row.id._replace(seq=row.id.seq - number)) for number in range(1, 8)]
        volume._tables.rows[bucket.space, b"k"] = [row, *older]


@pytest.mark.parametrize("n", [1, 4])
@pytest.mark.parametrize("trouble", [filling, cold, slow, gone, out, crowded, rotten, denied, blank, paired, buried])
async def test_what_is_not_in_order_is_left_to_the_general_way(n: int, trouble: Trouble) -> None:
    async with serving(n) as (store, volumes, bucket):
        await made(store, bucket, "k", b"data")
        lanes, tables = list(store.pool.lanes), [volume._tables.clone() for volume in volumes]
        volumes[0].batches.clear()
        trouble(store, volumes, bucket)
        if n > 1 or trouble not in (blank, buried):  # a sole volume is believed, and asked for all its rows
            assert put(store, bucket, "k", b"new") is None and delete(store, bucket, "k") is None
            if trouble in (filling, cold, slow, gone, out, crowded):
                assert put(store, bucket, "nothing", b"new") is None and delete(store, bucket, "nothing") is None
            assert unlocked(store)
            await asyncio.sleep(0.01)
            assert not volumes[0].batches
        store.pool.filling.clear()
        store.pool.lanes[:] = lanes
        for volume, own, there in zip(volumes, lanes, tables, strict=True):
            assert own is not None
            volume._tables, volume.cold, own.well, own.failed, own._waiting = there, False, True, None, 0


async def test_a_deleted_key_is_written_again_when_its_tombstone_is_gone() -> None:
    async with serving(4) as (store, _, bucket):
        await made(store, bucket, "k", b"data")
        await ended(delete(store, bucket, "k"))
        assert put(store, bucket, "k", b"new") is None and delete(store, bucket, "k") is None
        await rest(store)
        await ended(put(store, bucket, "k", b"new"))


@pytest.mark.parametrize("exclusive", [True, False])
async def test_it_goes_past_nobody_who_waits_for_the_key_or_the_bucket(exclusive: bool) -> None:
    async with serving(4) as (store, _, bucket):
        key_locks = store.committer.locks
        async with key_locks.exclusive(bucket.space, b"k"):
            assert delete(store, bucket, "k") is None
            behind = put(store, bucket, "k", b"new")
            await ended(put(store, bucket, "another", b"new"))
            assert behind is not None and not behind.done()
        await ended(behind)
        held = key_locks.exclusive if exclusive else key_locks.shared
        async with held(ROOT, b"bucket"):
            waits = asyncio.ensure_future(store.change_bucket("bucket", dict))
            await asyncio.sleep(0.01)
            assert put(store, bucket, "k", b"new") is None and delete(store, bucket, "k") is None
            assert key_locks._entries.keys() == {(ROOT, b"bucket")}
        await waits


async def test_a_bucket_that_is_being_deleted_takes_nothing_and_one_that_is_gone_is_not_at_hand() -> None:
    async with serving(4) as (store, volumes, bucket):
        for volume in volumes:
            volume.gate.clear()
        going = asyncio.ensure_future(store.delete_bucket("bucket"))
        await asyncio.sleep(0.02)
        assert put(store, bucket, "k", b"new") is None
        for volume in volumes:
            volume.gate.set()
        await going
        assert store.bucket_at_hand("bucket") is None
        again = await store.create_bucket("bucket", "me", {})
        found = store.bucket_at_hand("bucket")
        assert found is not None and found.space == again.space != bucket.space
        changed = await store.change_bucket("bucket", lambda settings: {**settings, "versioning": "Enabled"})
        found = store.bucket_at_hand("bucket")
        assert found == changed and put(store, found, "k", b"new") is None


async def test_a_bucket_waits_for_the_writes_under_way_before_it_is_deleted() -> None:
    async with serving(4) as (store, volumes, bucket):
        for volume in volumes:
            volume.gate.clear()
        write = put(store, bucket, "k", b"new")
        going = asyncio.ensure_future(store.delete_bucket("bucket"))
        await asyncio.sleep(0.02)
        for volume in volumes:
            volume.gate.set()
        await ended(write)
        with pytest.raises(AbixioError, match="bucket"):
            await going
        assert await get(store, bucket, "k") == b"new"


# ---- what stops a write ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("n", [1, 4])
async def test_what_the_caller_refuses_is_raised_and_nothing_is_done(n: int) -> None:
    seen: list[ObjectInfo | None] = []

    def never(current: ObjectInfo | None) -> None:
        seen.append(current)
        raise PreconditionFailed("If-Match")

    async with serving(n) as (store, volumes, bucket):
        info = await made(store, bucket, "k", b"data", lock={"hold": "ON"})
        volumes[0].batches.clear()
        for key in ("k", "nothing"):
            with pytest.raises(PreconditionFailed):
                put(store, bucket, key, b"new", PutSpec("me", condition=never))
            with pytest.raises(PreconditionFailed):
                delete(store, bucket, key, never)
            with pytest.raises(DigestMismatch):
                store.put_at_once(bucket, key, PutSpec("me"), Wrong(b"new"), b"new", AS_IT_IS)
        with pytest.raises(PreconditionFailed):  # first what needs no body, as everywhere
            store.put_at_once(bucket, "k", PutSpec("me", condition=never), Wrong(b"new"), b"new", AS_IT_IS)
        with pytest.raises(ObjectLocked):
            delete(store, bucket, "k")
        with pytest.raises(InvalidFaultTolerance):
            put(store, bucket, "k", b"new", PutSpec("me", ftt=str(n)))
        assert seen == [info, info, None, None, info]
        assert unlocked(store)
        await asyncio.sleep(0.01)
        assert not volumes[0].batches
        assert await get(store, bucket, "k") == b"data"


@pytest.mark.parametrize("n", [1, 4])
async def test_what_the_caller_makes_of_the_end_may_fail_and_what_waits_may_go_away(n: int) -> None:
    """Neither must reach the others of the same transaction."""
    def fail(result: object) -> object:
        raise KeyError("a defect")

    async with serving(n) as (store, _, bucket):
        bad = store.put_at_once(bucket, "a", PutSpec("me"), Given(b"a"), b"a", Says(fail, fail))
        left = put(store, bucket, "b", b"b")
        good = put(store, bucket, "c", b"c")
        assert bad is not None and left is not None
        left.cancel()
        assert (await ended(good)).key == "c"
        with pytest.raises(KeyError):
            await bad
        assert [await get(store, bucket, key) for key in "abc"] == [b"a", b"b", b"c"]
        assert unlocked(store)


async def test_what_the_caller_makes_of_a_refusal_may_fail() -> None:
    def fail(result: object) -> object:
        raise KeyError("a defect")

    async with serving(4) as (store, volumes, bucket):
        for volume in volumes:
            volume.error = VolumeFull("full")
        bad = store.put_at_once(bucket, "a", PutSpec("me"), Given(b"a"), b"a", Says(fail, fail))
        with pytest.raises(KeyError):
            await ended(bad)
        assert unlocked(store)


# ---- volumes that fail -----------------------------------------------------------------------------------------------
def fails(volume: Volume, error: Exception | None, although: bool = False) -> None:
    volume.error, volume.although = error, although


@pytest.mark.parametrize("error", [VolumeFull("full"), VolumeError("an error")])
async def test_three_of_four_volumes_are_enough(error: Exception) -> None:
    async with serving(4) as (store, volumes, bucket):
        await made(store, bucket, "k", b"data")
        fails(volumes[2], error)
        assert (await ended(put(store, bucket, "k", b"new"))).size == 3
        assert unlocked(store)
        assert [len(own) for own in rows(volumes, bucket, "k")] == [2, 2, 1, 2]
        fails(volumes[2], None)
        assert await get(store, bucket, "k") == b"new"
        await rest(store)
        await store.journal.run_once()
        await rest(store)
        assert [len(own) for own in rows(volumes, bucket, "k")] == [1] * 4
        fails(volumes[0], error)
        assert await ended(delete(store, bucket, "k")) == Deleted("null", False)
        with pytest.raises(NoSuchKey):
            await store.head(bucket, "k")


@pytest.mark.parametrize(("error", "answer"), [(VolumeFull("full"), InsufficientStorage), (VolumeError("no"), Unavailable)])
async def test_two_of_four_are_not_and_the_write_is_taken_back(error: Exception, answer: type[AbixioError]) -> None:
    async with serving(4) as (store, volumes, bucket):
        await made(store, bucket, "k", b"data")
        fails(volumes[1], error)
        fails(volumes[2], error)
        future = put(store, bucket, "k", b"new")
        assert type(await ended(future)) is answer
        fails(volumes[1], None)
        fails(volumes[2], None)
        assert unlocked(store)
        for _ in range(2):
            assert await get(store, bucket, "k") == b"data"
            await store.journal.run_once()
            await rest(store)
        assert [len(own) for own in rows(volumes, bucket, "k")] == [1] * 4


@pytest.mark.parametrize("n", [1, 4])
async def test_a_volume_that_takes_writes_again_is_in_no_trouble_any_more(n: int) -> None:
    async with serving(n) as (store, volumes, bucket):
        found = store.pool.lanes[-1]
        assert found is not None
        fails(volumes[-1], VolumeFull("full"))
        await ended(put(store, bucket, "k", b"data"))
        assert isinstance(found.trouble, VolumeFull)
        fails(volumes[-1], None)
        await ended(put(store, bucket, "another", b"data"))
        assert found.trouble is None


@pytest.mark.parametrize("work", [put, delete])
@pytest.mark.parametrize(("error", "answer"), [
    (VolumeFull("full"), InsufficientStorage), (VolumeError("nobody knows how far"), OutcomeUnknown),
])
@pytest.mark.parametrize("although", [True, False])
async def test_one_volume_that_fails_has_the_write_or_the_object_before_it(
    work: Any, error: Exception, answer: type[AbixioError], although: bool
) -> None:
    if although and answer is InsufficientStorage:
        return  # such a word is true
    async with serving(1) as (store, (volume,), bucket):
        await made(store, bucket, "k", b"data")
        fails(volume, error, although)
        told = await ended(work(store, bucket, "k", b"new") if work is put else work(store, bucket, "k"))
        assert type(told) is answer
        fails(volume, None)
        assert unlocked(store)
        for _ in range(2):
            if not although:
                assert await get(store, bucket, "k") == b"data"
            elif work is put:
                assert await get(store, bucket, "k") == b"new"
            else:
                with pytest.raises(NoSuchKey):
                    await store.head(bucket, "k")
            await store.journal.run_once()
            await rest(store)
        assert not volume.unsettled(None, 10)


async def test_a_queue_that_is_full_on_one_of_four_keeps_nobody_from_telling_what_was_done() -> None:
    async with serving(4) as (store, _, bucket):
        found = store.pool.lanes[1]
        assert found is not None
        found._waiting = lane.MAX_WAITING
        try:
            assert put(store, bucket, "k", b"new") is None
            assert (await store.put(bucket, "k", PutSpec("me"), BytesSource(b"new"))).size == 3
        finally:
            found._waiting = 0


# ---- volumes that hang -----------------------------------------------------------------------------------------------
@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patience of hundredths of seconds."""
    monkeypatch.setattr(instant, "LATE", 0.02)
    monkeypatch.setattr(placing, "STRAGGLER", 0.05)
    monkeypatch.setattr(placing, "DEADLINE", 0.3)


def well(store: Store) -> None:
    """As when a probe found them so."""
    for each in store.pool.lanes:
        assert each is not None
        each.breaker._become(breaker.State.UP, "")


@pytest.mark.parametrize("work", [put, delete])
async def test_one_of_four_that_hangs_is_waited_for_a_moment(hasty: None, work: Any) -> None:
    async with serving(4) as (store, volumes, bucket):
        await made(store, bucket, "k", b"data")
        volumes[3].gate.clear()
        future = work(store, bucket, "k", b"new") if work is put else work(store, bucket, "k")
        assert isinstance(await ended(future), ObjectInfo if work is put else Deleted)
        assert unlocked(store) and not store._instant._flying
        assert [len(own) for own in rows(volumes, bucket, "k")] == [2, 2, 2, 1]
        await asyncio.sleep(0.35)
        found = store.pool.lanes[3]
        assert found is not None and not found.up
        volumes[3].gate.set()
        await asyncio.sleep(0.05)
        assert [len(own) for own in rows(volumes, bucket, "k")] == [2] * 4


async def test_those_behind_one_that_is_late_are_looked_after_too(hasty: None) -> None:
    async with serving(4) as (store, volumes, bucket):
        volumes[3].gate.clear()
        first = put(store, bucket, "a", b"a")
        await asyncio.sleep(0.01)
        second = put(store, bucket, "b", b"b")
        assert (await ended(first)).key == "a" and (await ended(second)).key == "b"
        assert unlocked(store)


async def test_two_of_four_that_hang_past_their_deadline_leave_the_outcome_open(hasty: None) -> None:
    async with serving(4) as (store, volumes, bucket):
        await made(store, bucket, "k", b"data")
        for volume in volumes[2:]:
            volume.gate.clear()
        told = await ended(put(store, bucket, "k", b"new"))
        assert isinstance(told, OutcomeUnknown | Unavailable)
        for volume in volumes[2:]:
            volume.gate.set()
        await asyncio.sleep(0.05)
        assert unlocked(store)
        well(store)
        assert await get(store, bucket, "k") in (b"data", b"new")


@pytest.mark.parametrize("work", [put, delete])
async def test_one_volume_that_hangs_past_its_deadline_and_comes_back_has_one_of_both(hasty: None, work: Any) -> None:
    async with serving(1) as (store, (volume,), bucket):
        await made(store, bucket, "k", b"data")
        volume.gate.clear()
        future = work(store, bucket, "k", b"new") if work is put else work(store, bucket, "k")
        await asyncio.sleep(0.4)  # the deadline is over, and whatever follows it waits behind
        volume.gate.set()
        assert isinstance(await ended(future), OutcomeUnknown)
        await asyncio.sleep(0.05)
        assert unlocked(store)
        well(store)
        if work is put:
            assert await get(store, bucket, "k") == b"new"
        else:
            with pytest.raises(NoSuchKey):
                await store.head(bucket, "k")


async def test_one_volume_that_is_late_is_waited_for(hasty: None) -> None:
    async with serving(1, "page-cache") as (store, (volume,), bucket):
        await made(store, bucket, "k", b"data")
        volume.gate.clear()
        future = put(store, bucket, "k", b"new")
        await asyncio.sleep(0.1)
        assert not unlocked(store)
        volume.gate.set()
        assert (await ended(future)).size == 3
        await rest(store)
        assert not volume.unsettled(None, 10) and len(volume.rows(bucket.space, b"k")) == 1


async def test_a_store_that_ends_waits_for_the_writes_under_way() -> None:
    async with serving(4) as (store, volumes, bucket):
        for volume in volumes:
            volume.gate.clear()
        future = put(store, bucket, "k", b"new")
        draining = asyncio.ensure_future(store._instant.drain())
        await asyncio.sleep(0.02)
        assert not draining.done()
        for volume in volumes:
            volume.gate.set()
        await draining
        assert future is not None and future.done()
