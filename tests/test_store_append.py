"""Appending through the whole store: one more part in one commit, one winner at one place, and nothing left of those who lost."""

from __future__ import annotations

import asyncio
import os
from base64 import b64encode
from pathlib import Path
from zlib import crc32

import pytest
from msgspec.structs import replace

from abixio.config import KIB, MAX_PARTS, MIB, MIN_PART
from abixio.errors import (
    CannotAppend,
    ConditionalConflict,
    InvalidWriteOffset,
    NoSuchKey,
    PreconditionFailed,
    TooManyParts,
)
from abixio.store.append import etag_of
from abixio.store.journal import Journal
from abixio.store.record import Part
from abixio.store.scanner import Scanner
from abixio.store.store import Store
from abixio.store.types import Bucket, ObjectInfo, PutSpec, Seal
from tests.store_local import Disks, files, get, put, rest
from tests.store_rig import BytesSource
from tests.test_store_multipart import Sums, fill

SIZES = [0, 1, 300, 20 * KIB, 100 * KIB, 3 * MIB + 1]


async def append(store: Store, bucket: Bucket, key: str, offset: int, data: bytes, spec: PutSpec | None = None) -> ObjectInfo:
    return await store.append(bucket, key, spec or PutSpec("me"), offset, BytesSource(data))


@pytest.mark.parametrize("n", [1, 4])
@pytest.mark.parametrize("first", SIZES)
async def test_what_is_appended_stands_behind_what_was_there(tmp_path: Path, n: int, first: int) -> None:
    disks = Disks(tmp_path, n)
    async with disks.store() as store:
        bucket = await store.create_bucket("b", "me", {})
        whole = os.urandom(first)
        await store.put(bucket, "k", PutSpec("me", meta={"a": "b"}, tags={"t": "u"}), BytesSource(whole))
        for size in (0, 1, 5000, 1 * MIB, 7):
            data = os.urandom(size)
            info = await append(store, bucket, "k", len(whole), data)
            whole += data
            assert info.size == len(whole)
            assert await get(store, bucket, "k") == whole
        assert (info.record.meta, info.record.tags) == ({"a": "b"}, {"t": "u"})
        assert (await store.list(bucket, "", "", "", 9)).items == [await store.head(bucket, "k")]
        assert await get(store, bucket, "k", first, 6000) == whole[first : first + 6000]
        await rest(store)
        assert await get(store, bucket, "k") == whole
        assert files(disks) == n * len(info.record.parts)
    async with disks.store(missing={0} if n > 1 else set()) as store:
        assert await get(store, await store.bucket("b"), "k") == whole
        await store.delete(await store.bucket("b"), "k")
    async with disks.store() as store:
        await rest(store)
        await rest(store)
        assert files(disks) == 0


async def test_what_is_not_there_is_begun_at_zero(tmp_path: Path) -> None:
    async with Disks(tmp_path, 4).store() as store:
        bucket = await store.create_bucket("b", "me", {})
        with pytest.raises(InvalidWriteOffset):
            await append(store, bucket, "k", 1, b"x")
        with pytest.raises(NoSuchKey):
            await store.head(bucket, "k")
        info = await append(store, bucket, "k", 0, b"first", PutSpec("me", meta={"a": "b"}))
        assert (info.size, info.record.meta) == (5, {"a": "b"})
        assert await get(store, bucket, "k") == b"first"


async def test_another_place_than_the_end_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 4)
    async with disks.store() as store:
        bucket = await store.create_bucket("b", "me", {})
        before = await put(store, bucket, "k", os.urandom(100 * KIB))
        there = files(disks)
        for offset in (0, 1, 100 * KIB - 1, 100 * KIB + 1):
            source = BytesSource(os.urandom(100 * KIB))
            with pytest.raises(InvalidWriteOffset):
                await store.append(bucket, "k", PutSpec("me"), offset, source)
        assert await store.head(bucket, "k") == before
        await rest(store)
        assert files(disks) == there


@pytest.mark.parametrize("size", [100, 100 * KIB])
async def test_of_fifty_who_append_at_one_place_one_wins(tmp_path: Path, size: int) -> None:
    disks = Disks(tmp_path, 4)
    async with disks.store() as store:
        bucket = await store.create_bucket("b", "me", {})
        base = os.urandom(size)
        await put(store, bucket, "k", base)
        bodies = [bytes([number]) * 1000 for number in range(50)]
        seen: set[bytes] = set()

        async def look() -> None:
            for _ in range(20):
                seen.add(await get(store, bucket, "k"))
                await asyncio.sleep(0)

        results, *_ = await asyncio.gather(
            asyncio.gather(*(append(store, bucket, "k", size, body) for body in bodies), return_exceptions=True), look(), look()
        )
        won = [number for number, result in enumerate(results) if isinstance(result, ObjectInfo)]
        assert len(won) == 1
        assert all(isinstance(result, InvalidWriteOffset) for number, result in enumerate(results) if number not in won)
        assert await get(store, bucket, "k") == base + bodies[won[0]]
        assert seen <= {base, base + bodies[won[0]]}
        await rest(store)
        assert files(disks) == 4 * 2


async def test_appenders_that_go_on_behind_each_other_lose_nothing(tmp_path: Path) -> None:
    async with Disks(tmp_path, 4).store() as store:
        bucket = await store.create_bucket("b", "me", {})

        async def write(name: int) -> None:
            for number in range(5):
                line = f"{name}:{number};".encode()
                while True:
                    try:
                        size = (await store.head(bucket, "log")).size
                    except NoSuchKey:
                        size = 0
                    try:
                        await append(store, bucket, "log", size, line)
                        break
                    except (InvalidWriteOffset, ConditionalConflict):
                        continue

        await asyncio.gather(*(write(name) for name in range(6)))
        lines = (await get(store, bucket, "log")).split(b";")[:-1]
        assert sorted(lines) == sorted(f"{name}:{number}".encode() for name in range(6) for number in range(5))
        assert [line for line in lines if line.startswith(b"3:")] == [f"3:{number}".encode() for number in range(5)]


async def test_an_overwrite_of_the_same_size_is_not_appended_to(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 4)
    async with disks.store() as store:
        bucket = await store.create_bucket("b", "me", {})
        await put(store, bucket, "k", b"a" * 100)

        class Late(BytesSource):
            async def readinto(self, view: memoryview) -> int:
                await put(store, bucket, "k", b"b" * 100)
                return await super().readinto(view)

        with pytest.raises(ConditionalConflict):
            await store.append(bucket, "k", PutSpec("me"), 100, Late(b"more"))
        assert await get(store, bucket, "k") == b"b" * 100
        await rest(store)
        assert files(disks) == 0


async def test_tags_that_are_put_meanwhile_stay(tmp_path: Path) -> None:
    async with Disks(tmp_path, 4).store() as store:
        bucket = await store.create_bucket("b", "me", {})
        await put(store, bucket, "k", b"a" * 100)

        class Tagging(BytesSource):
            async def readinto(self, view: memoryview) -> int:
                await store.amend(bucket, "k", None, lambda record: replace(record, tags={"a": "b"}))
                return await super().readinto(view)

        info = await store.append(bucket, "k", PutSpec("me"), 100, Tagging(b"more"))
        assert info.record.tags == {"a": "b"}
        assert await get(store, bucket, "k") == b"a" * 100 + b"more"


async def test_the_etag_is_that_of_the_parts_and_the_checksum_that_of_the_whole(tmp_path: Path) -> None:
    async with Disks(tmp_path, 4).store() as store:
        bucket = await store.create_bucket("b", "me", {})
        whole = os.urandom(3000)
        await store.put(bucket, "k", PutSpec("me"), Sums(whole))
        for size in (10, 40_000):
            data = os.urandom(size)
            info = await store.append(bucket, "k", PutSpec("me"), len(whole), Sums(data))
            whole += data
        assert info.etag == etag_of(info.record.parts) and info.etag.endswith("-3")
        assert info.record.checksums == {"crc32": b64encode(crc32(whole).to_bytes(4, "big")).decode()}
        assert info.record.checksum_type == "FULL_OBJECT"
        assert (await append(store, bucket, "k", len(whole), b"x")).record.checksums == {}


async def test_an_uploaded_object_is_appended_to_behind_its_last_part(tmp_path: Path) -> None:
    async with Disks(tmp_path, 4).store() as store:
        bucket = await store.create_bucket("b", "me", {})
        upload = await store.create_upload(bucket, "k", PutSpec("me", ftt="2"))
        bodies = {2: os.urandom(MIN_PART), 7: b"end"}
        await store.complete_upload(bucket, "k", upload.id, await fill(store, bucket, upload, bodies))
        info = await append(store, bucket, "k", MIN_PART + 3, b"more")
        assert [part.number for part in info.record.parts] == [2, 7, 8]
        assert info.record.layout is not None and info.record.layout.m == 2
        assert await get(store, bucket, "k") == bodies[2] + b"endmore"
        await store.reencode(bucket, "k", "0")
        assert await get(store, bucket, "k") == bodies[2] + b"endmore"


async def test_conditions_hold_for_the_object_that_is_appended_to(tmp_path: Path) -> None:
    async with Disks(tmp_path, 4).store() as store:
        bucket = await store.create_bucket("b", "me", {})
        await put(store, bucket, "k", b"data")

        def never(current: ObjectInfo | None) -> None:
            raise PreconditionFailed("If-Match")

        with pytest.raises(PreconditionFailed):
            await append(store, bucket, "k", 4, b"x", PutSpec("me", condition=never))
        assert await get(store, bucket, "k") == b"data"


@pytest.mark.parametrize("state", ["Enabled", "Suspended"])
async def test_a_version_is_never_appended_to(tmp_path: Path, state: str) -> None:
    async with Disks(tmp_path, 4).store() as store:
        bucket = await store.create_bucket("b", "me", {})
        await put(store, bucket, "k", b"data")

        class Late(BytesSource):
            async def readinto(self, view: memoryview) -> int:
                await store.change_bucket("b", lambda settings: {**settings, "versioning": state})
                return await super().readinto(view)

        with pytest.raises(CannotAppend):
            await store.append(bucket, "k", PutSpec("me"), 4, Late(b"more"))
        with pytest.raises(CannotAppend):
            await append(store, await store.bucket("b"), "k", 4, b"more")
        assert await get(store, await store.bucket("b"), "k") == b"data"


async def test_an_object_of_ten_thousand_parts_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("abixio.store.append.MAX_PARTS", 3)
    assert MAX_PARTS == 10_000
    async with Disks(tmp_path, 4).store() as store:
        bucket = await store.create_bucket("b", "me", {})
        for offset in range(3):
            await append(store, bucket, "k", offset, b"x")
        with pytest.raises(TooManyParts):
            await append(store, bucket, "k", 3, b"x")
        assert await get(store, bucket, "k") == b"xxx"


async def test_an_append_works_with_a_dead_volume_and_reaches_it_later(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 4)
    async with disks.store() as store:
        bucket = await store.create_bucket("b", "me", {})
        await put(store, bucket, "k", b"a" * 100)
    async with disks.store(missing={1}) as store:
        await append(store, await store.bucket("b"), "k", 100, b"b" * 50_000)
    async with disks.store() as store:
        await rest(store)
        (health,) = await store.inspect(await store.bucket("b"), "k")
        assert health.whole
    async with disks.store(missing={3}) as store:
        assert await get(store, await store.bucket("b"), "k") == b"a" * 100 + b"b" * 50_000


async def test_a_volume_without_the_shards_that_were_there_is_no_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disks = Disks(tmp_path, 4)
    monkeypatch.setattr(Journal, "start", lambda journal: None)
    monkeypatch.setattr(Scanner, "start", lambda scanner: None)
    async with disks.store() as store:
        await store.create_bucket("b", "me", {})
    async with disks.store(missing={1}) as store:
        await put(store, await store.bucket("b"), "k", b"a" * 100_000)
    async with disks.store() as store:
        bucket = await store.bucket("b")
        info = await append(store, bucket, "k", 100_000, b"b")
        holders = {lane.slot for lane in store.pool.up() if lane.volume.rows(bucket.space, b"k")}
        assert holders == {0, 2, 3}
        await rest(store)
        (health,) = await store.inspect(bucket, "k")
        assert health.whole and info.size == 100_001


def test_parts_with_an_etag_that_is_no_digest_count_as_they_are() -> None:
    assert etag_of([Part(b"", 1, 1, 1, "x")]).endswith("-1")


async def test_nothing_is_appended_to_what_is_encrypted_nor_encrypted_to_anything(tmp_path: Path) -> None:
    seal = Seal(bytes(32), {"kind": "test"}, False)
    async with Disks(tmp_path, 4).store() as store:
        bucket = await store.create_bucket("b", "me", {})
        before = await store.put(bucket, "sealed", PutSpec("me", seal=seal), BytesSource(b"data"))
        await put(store, bucket, "plain", b"data")
        for key, spec in (("sealed", PutSpec("me")), ("sealed", PutSpec("me", seal=seal)), ("plain", PutSpec("me", seal=seal)),
                          ("new", PutSpec("me", seal=seal))):
            with pytest.raises(CannotAppend):
                await append(store, bucket, key, 0 if key == "new" else 4, b"more", spec)
        assert (await store.head(bucket, "sealed")) == before
        assert [item.key for item in (await store.list(bucket, "", "", "", 9)).items] == ["plain", "sealed"]
