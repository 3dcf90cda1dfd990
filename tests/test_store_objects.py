"""Objects through the whole store: every fault tolerance, every loss, conditions, races, restarts."""

from __future__ import annotations

import asyncio
import itertools
import os
from pathlib import Path

import pytest

from abixio.errors import InvalidFaultTolerance, NoSuchKey, PreconditionFailed, Unavailable
from abixio.store.types import ObjectInfo, PutSpec
from tests.store_local import Disks, files, get, put, rest
from tests.store_rig import BytesSource, FailingSource

SIZES = (0, 1, 4095, 65536, 300_000, 3 << 20)


@pytest.mark.parametrize("durability", ["fsync", "page-cache"])
async def test_any_ftt_volumes_may_be_lost_or_emptied_and_one_more_is_unavailable_until_it_returns(
    tmp_path: Path, durability: str
) -> None:
    disks = Disks(tmp_path, 4)
    data = {(size, ftt): os.urandom(size) for size in SIZES for ftt in range(4)}
    async with disks.store(durability) as store:
        bucket = await store.create_bucket("b", "me", {})
        for (size, ftt), body in data.items():
            await put(store, bucket, f"{size}/{ftt}", body, ftt)
        await rest(store)
    for lost in itertools.chain.from_iterable(itertools.combinations(range(4), count) for count in range(5)):
        async with disks.store(durability, missing=lost) as store:
            for (size, ftt), body in data.items():
                if len(lost) <= ftt:
                    found = await store.bucket("b")
                    assert await get(store, found, f"{size}/{ftt}") == body, (size, ftt, lost)
                    start, length = size // 3, size // 2
                    assert await get(store, found, f"{size}/{ftt}", start, length) == body[start : start + length]
                else:
                    with pytest.raises(Unavailable):
                        await get(store, await store.bucket("b"), f"{size}/{ftt}")
    disks.empty(1)
    async with disks.store(durability) as store:
        found = await store.bucket("b")
        for (size, ftt), body in data.items():
            if ftt >= 1:
                assert await get(store, found, f"{size}/{ftt}") == body


async def test_a_blank_disk_is_never_evidence_that_something_is_not_there(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 3)
    async with disks.store() as store:
        bucket = await store.create_bucket("b", "me", {})
        await put(store, bucket, "k", b"data", ftt=2)
        await rest(store)
    disks.empty(0)
    disks.empty(1)
    async with disks.store() as store:
        found = await store.bucket("b")
        assert await get(store, found, "k") == b"data"
        with pytest.raises(Unavailable):
            await get(store, found, "other")
        with pytest.raises(Unavailable):
            await store.list(bucket, "", "", "", 10)


@pytest.mark.parametrize("ftt", ["-1", "4", "1.0", "", "x", " 1", "+1", "1000000"])
async def test_a_fault_tolerance_that_cannot_be_is_refused_before_the_body_is_read(tmp_path: Path, ftt: str) -> None:
    async with Disks(tmp_path, 4).store() as store:
        bucket = await store.create_bucket("b", "me", {})
        source = BytesSource(b"data")
        with pytest.raises(InvalidFaultTolerance):
            await store.put(bucket, "k", PutSpec("me", ftt=ftt), source)
        assert bytes(source._data) == b"data"


async def test_a_write_without_enough_volumes_is_refused_before_the_body_is_read(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 4)
    async with disks.store() as store:
        bucket = await store.create_bucket("b", "me", {})
        await put(store, bucket, "precious", b"old", ftt=3)
        await rest(store)
    async with disks.store(missing=(2,)) as store:
        await put(store, bucket, "k", b"with one dead disk", ftt=1)
        assert await store.delete(bucket, "k")
        for key, ftt in (("k", 0), ("precious", 1)):
            source = BytesSource(b"data")
            with pytest.raises(Unavailable):
                await store.put(bucket, key, PutSpec("me", ftt=str(ftt)), source)
            assert bytes(source._data) == b"data"


async def test_of_a_hundred_conditional_creators_one_wins(tmp_path: Path) -> None:
    def absent(current: ObjectInfo | None) -> None:
        if current is not None:
            raise PreconditionFailed("If-None-Match")

    async with Disks(tmp_path, 4).store() as store:
        bucket = await store.create_bucket("b", "me", {})
        tries = [store.put(bucket, "k", PutSpec("me", condition=absent), BytesSource(b"%d" % n)) for n in range(100)]
        answers = await asyncio.gather(*tries, return_exceptions=True)
        winners = [n for n, answer in enumerate(answers) if not isinstance(answer, BaseException)]
        assert len(winners) == 1
        assert all(isinstance(answer, PreconditionFailed) for n, answer in enumerate(answers) if n not in winners)
        assert await get(store, bucket, "k") == b"%d" % winners[0]


async def test_readers_see_one_of_the_versions_whole_while_it_is_overwritten_small_and_large(tmp_path: Path) -> None:
    versions = [bytes([n]) * size for n, size in enumerate((10, 4 << 20, 70_000, 0, 9 << 20, 100))]
    async with Disks(tmp_path, 4).store() as store:
        bucket = await store.create_bucket("b", "me", {})
        await put(store, bucket, "k", versions[0])
        ended = asyncio.Event()

        async def read() -> int:
            count = 0
            while not ended.is_set():
                assert await get(store, bucket, "k") in versions
                await asyncio.sleep(0)
                count += 1
            return count

        readers = [asyncio.create_task(read()) for _ in range(3)]
        for _ in range(4):
            await asyncio.gather(*(put(store, bucket, "k", body) for body in versions))
        ended.set()
        assert sum(await asyncio.gather(*readers)) > 0


async def test_what_is_overwritten_and_deleted_leaves_no_file_and_no_row(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 4)
    async with disks.store() as store:
        bucket = await store.create_bucket("b", "me", {})
        for size in (1 << 20, 100, 2 << 20, 1 << 20):
            await put(store, bucket, "k", os.urandom(size))
        await rest(store)
        assert files(disks) == 4
        assert await store.delete(bucket, "k")
        assert not await store.delete(bucket, "k")
        await rest(store)
        assert files(disks) == 0
        for lane in store.pool.up():
            assert lane.volume.rows(bucket.space, b"k") == []
            assert lane.volume.unsettled(None, 10) == []


async def test_an_upload_that_breaks_leaves_the_old_object_and_no_file(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 4)
    async with disks.store() as store:
        bucket = await store.create_bucket("b", "me", {})
        await put(store, bucket, "k", b"old")
        with pytest.raises(ConnectionError):
            await store.put(bucket, "k", PutSpec("me"), FailingSource(os.urandom(9 << 20), 20 << 20, ConnectionError()))
        assert await get(store, bucket, "k") == b"old"
        await rest(store)
        assert files(disks) == 0


async def test_a_reader_keeps_what_it_opened_while_it_is_deleted_and_purged(tmp_path: Path) -> None:
    body = os.urandom(12 << 20)
    disks = Disks(tmp_path, 4)
    async with disks.store() as store:
        bucket = await store.create_bucket("b", "me", {})
        await put(store, bucket, "k", body)
        reader = await store.open(bucket, "k")
        stream = reader.stream(0, len(body))
        first = bytes(await anext(stream))
        await store.delete(bucket, "k")
        await rest(store)
        with pytest.raises(NoSuchKey):
            await store.open(bucket, "k")
        assert first + b"".join([bytes(piece) async for piece in stream]) == body
        await reader.aclose()
        await rest(store)
        assert files(disks) == 0


async def test_a_volume_that_was_away_during_overwrites_and_deletes_brings_nothing_back(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 4)
    async with disks.store() as store:
        bucket = await store.create_bucket("b", "me", {})
        for n in range(10):
            await put(store, bucket, f"k{n}", b"old" * 10_000)
        await rest(store)
    async with disks.store(missing=(3,)) as store:
        for n in range(5):
            await store.delete(bucket, f"k{n}")
        for n in range(5, 10):
            await put(store, bucket, f"k{n}", b"new" * 10_000)
        assert [item.key for item in (await store.list(bucket, "", "", "", 100)).items] == [f"k{n}" for n in range(5, 10)]
    async with disks.store() as store:
        assert [item.key for item in (await store.list(bucket, "", "", "", 100)).items] == [f"k{n}" for n in range(5, 10)]
        await rest(store)
        for lane in store.pool.up():
            assert lane.volume.unsettled(None, 10) == []
    async with disks.store(missing=(0,)) as store:
        for n in range(5):
            with pytest.raises(NoSuchKey):
                await get(store, bucket, f"k{n}")
        for n in range(5, 10):
            assert await get(store, bucket, f"k{n}") == b"new" * 10_000
