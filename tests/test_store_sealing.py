"""Encrypted objects through the whole store: what comes back, what lies on the volumes, and what is refused."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from blake3 import blake3

from abixio.codec.aead import BODY, CHUNK
from abixio.codec.checksum import block_seed, block_sums
from abixio.config import MIB
from abixio.errors import DataLost, KeyNeeded
from abixio.store.sealing import GROUP, part_key
from abixio.store.store import Store
from abixio.store.types import Bucket, ObjectInfo, PartRef, PutSpec, Seal
from tests.store_local import Disks, quiet, rest
from tests.store_rig import BytesSource

KEY = bytes(range(32))
SEAL = Seal(KEY, {"mode": "test"}, hides_etag=False)
HIDING = Seal(KEY, {"mode": "test"}, hides_etag=True)
SIZES = (0, 1, BODY, BODY + 1, 200_000, GROUP * BODY + 5, 6 * MIB + 17)


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(f"{size} {seed}").randbytes(size)


def unlock(info: ObjectInfo) -> bytes | None:
    return KEY if info.record.encryption else None


def everything(root: Path) -> bytes:
    return b"".join(path.read_bytes() for path in root.rglob("*") if path.is_file())


async def get(store: Store, bucket: Bucket, key: str, start: int = 0, length: int | None = None) -> bytes:
    reader = await store.open(bucket, key, None, unlock)
    try:
        stop = reader.info.size - start if length is None else length
        return b"".join([bytes(piece) async for piece in reader.stream(start, stop)])
    finally:
        await reader.aclose()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with quiet(Disks(tmp_path, 4)) as store:
        yield store


@pytest.fixture
async def bucket(store: Store) -> Bucket:
    return await store.create_bucket("bucket", "me", {})


async def put(store: Store, bucket: Bucket, key: str, data: bytes, ftt: int, seal: Seal | None = SEAL) -> ObjectInfo:
    return await store.put(bucket, key, PutSpec("me", ftt=str(ftt), seal=seal), BytesSource(data))


@pytest.mark.parametrize("ftt", [0, 1, 3])
async def test_what_goes_in_comes_out_whole_and_in_ranges(store: Store, bucket: Bucket, ftt: int) -> None:
    for size in SIZES:
        data = noise(size)
        info = await put(store, bucket, f"k{size}", data, ftt)
        assert info.size == size
        assert sum(part.stored for part in info.record.parts) == size + 16 * -(-size // BODY)
        assert await get(store, bucket, f"k{size}") == data
        borders = {0, 1, BODY - 1, BODY, BODY + 1, GROUP * BODY, size // 2, size - 1}
        for start in sorted(at for at in borders if 0 <= at < size):
            for length in (1, 2, BODY, 3 * BODY):
                length = min(length, size - start)
                assert await get(store, bucket, f"k{size}", start, length) == data[start : start + length], (size, start, length)


def test_no_two_parts_and_no_two_writes_share_a_key() -> None:
    salt, other = bytes(16), b"\1" * 16
    assert len({part_key(KEY, salt, 1), part_key(KEY, salt, 2), part_key(KEY, other, 1), part_key(other * 2, salt, 1)}) == 4


async def test_an_older_version_refuses_the_record(store: Store, bucket: Bucket) -> None:
    assert (await put(store, bucket, "k", b"x", 1)).record.incompat == ("sealed",)
    assert (await put(store, bucket, "k", b"x", 1, None)).record.incompat == ()


async def test_a_reader_without_a_key_gets_nothing(store: Store, bucket: Bucket) -> None:
    await put(store, bucket, "k", b"secret", 1)
    with pytest.raises(KeyNeeded):
        await store.open(bucket, "k")


async def test_another_key_gets_an_error_and_no_byte(store: Store, bucket: Bucket) -> None:
    for size in (10, 3 * MIB):
        await put(store, bucket, "k", noise(size), 1, Seal(bytes(32), {"mode": "test"}, False))
        with pytest.raises(DataLost):
            await get(store, bucket, "k")


async def test_nothing_that_was_sent_lies_on_a_volume(tmp_path: Path) -> None:
    needle = b"the quick brown fox jumps over the lazy dog"
    disks = Disks(tmp_path, 4)
    async with quiet(disks) as store:
        bucket = await store.create_bucket("bucket", "me", {})
        for size in (1, 30, 3000, 200_000):
            await put(store, bucket, f"k{size}", needle * size, 1)
        await store.create_upload(bucket, "m", PutSpec("me", seal=SEAL))
        await rest(store)
    held = everything(tmp_path)
    assert needle not in held
    assert needle[:16] not in held
    assert KEY not in held
    assert len(held) > 200_000 * len(needle)


@pytest.mark.parametrize("ftt", [1, 3])
async def test_lost_volumes_are_made_up_for(tmp_path: Path, ftt: int) -> None:
    disks = Disks(tmp_path, 4)
    async with quiet(disks) as store:
        bucket = await store.create_bucket("bucket", "me", {})
        for size in SIZES:
            await put(store, bucket, f"k{size}", noise(size), ftt)
        await rest(store)
    async with quiet(disks, missing=range(ftt)) as store:
        bucket = await store.bucket("bucket")
        for size in SIZES:
            assert await get(store, bucket, f"k{size}") == noise(size)


async def test_healing_and_another_fault_tolerance_need_no_key(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 4)
    async with quiet(disks) as store:
        bucket = await store.create_bucket("bucket", "me", {})
        for size in SIZES:
            before = await put(store, bucket, f"k{size}", noise(size), 1)
            after = await store.reencode(bucket, f"k{size}", "2")
            assert (after.etag, after.size, after.record.layout) != (before.etag, before.size, before.record.layout)
            assert (after.etag, after.size) == (before.etag, before.size)
            assert await get(store, bucket, f"k{size}") == noise(size)
        await rest(store)
    disks.empty(1)
    async with quiet(disks) as store:
        bucket = await store.bucket("bucket")
        for size in SIZES:
            await store.heal(bucket, f"k{size}")
    async with quiet(disks, missing=(0, 2)) as store:
        bucket = await store.bucket("bucket")
        for size in SIZES:
            assert await get(store, bucket, f"k{size}") == noise(size)


async def test_parts_have_keys_of_their_own_and_read_as_one(store: Store, bucket: Bucket) -> None:
    upload = await store.create_upload(bucket, "m", PutSpec("me", ftt="1", seal=HIDING))
    same = noise(5 * MIB)
    datas = [same, same, b"end"]
    sent = [await store.put_part(bucket, "m", upload.id, n, BytesSource(data), False, HIDING) for n, data in enumerate(datas, 1)]
    assert sent[0].etag != sent[1].etag
    # Whoever loses all catalogs has nothing but the parts' own records.
    kept = await store.committer.current(bytes.fromhex(upload.id), (1).to_bytes(4, "big"))
    assert kept is not None
    assert (kept.record.encryption, kept.record.incompat) == (HIDING.fields, ("sealed",))
    info = await store.complete_upload(bucket, "m", upload.id, [PartRef(part.number, part.etag) for part in sent])
    assert len({part.salt for part in info.record.parts}) == 3
    whole = b"".join(datas)
    assert await get(store, bucket, "m") == whole
    assert await get(store, bucket, "m", 5 * MIB - 3, 7) == whole[5 * MIB - 3 : 5 * MIB + 4]
    assert await get(store, bucket, "m", 10 * MIB - 1, 4) == whole[-4:]
    await store.reencode(bucket, "m", "3")
    assert await get(store, bucket, "m") == whole


async def test_a_part_needs_the_seal_of_its_upload(store: Store, bucket: Bucket) -> None:
    sealed = await store.create_upload(bucket, "m", PutSpec("me", seal=SEAL))
    plain = await store.create_upload(bucket, "m", PutSpec("me"))
    for upload, seal in ((sealed, None), (plain, SEAL), (sealed, Seal(KEY, {"mode": "other"}, False))):
        with pytest.raises(KeyNeeded):
            await store.put_part(bucket, "m", upload.id, 1, BytesSource(b"x"), False, seal)


async def test_a_read_that_is_given_up_leaves_nothing(store: Store, bucket: Bucket) -> None:
    await put(store, bucket, "k", noise(9 * MIB), 1)
    for closes_stream in (True, False):
        reader = await store.open(bucket, "k", None, unlock)
        stream = reader.stream(0, 9 * MIB)
        assert len(await anext(stream)) == GROUP * BODY
        if closes_stream:
            await stream.aclose()  # type: ignore[attr-defined]
        await reader.aclose()
        assert not store.pool.pins
        assert not store.pool.maps.taken
        del stream, reader
    for _ in range(100):
        if not store.pool.buffers.out:
            break
        await asyncio.sleep(0.01)
    assert not store.pool.buffers.out


async def test_checksums_of_the_bytes_are_for_who_has_the_key(store: Store, bucket: Bucket) -> None:
    data = b"12345678"
    source = BytesSource(data)
    source.algorithms = {"crc64nvme"}
    source.verify = lambda digests: {"crc64nvme": digests["crc64nvme"].hex()}  # type: ignore[method-assign]
    answered = await store.put(bucket, "k", PutSpec("me", seal=SEAL), source)
    kept = await store.head(bucket, "k")
    reader = await store.open(bucket, "k", None, unlock)
    await reader.aclose()
    assert answered.record.checksums == reader.info.record.checksums != kept.record.checksums
    assert kept.record.checksums == {"crc64nvme": ""}


async def test_an_etag_that_says_nothing_is_never_the_same(store: Store, bucket: Bucket) -> None:
    tags = {(await put(store, bucket, "k", b"same", 1, HIDING)).etag for _ in range(3)}
    assert len(tags) == 3
    md5 = "51037a4a37730f52c8732586d3aaa316"
    assert (await put(store, bucket, "k", b"same", 1, SEAL)).etag == md5


@pytest.mark.parametrize("size", [5000, 400_000])
@pytest.mark.parametrize("harm", ["flip", "swap"])
async def test_bytes_that_were_changed_with_their_checksums_are_not_given_out(
    store: Store, bucket: Bucket, size: int, harm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever can write to the disks can write checksums too; here every block counts as good, whatever it is."""
    data = noise(size)
    await put(store, bucket, "k", data, 0 if size > 100_000 else 3)
    reader = await store._objects.open_stored(bucket, "k")
    stored = bytearray(b"".join([bytes(piece) async for piece in reader.stream(0, size + 16 * -(-size // BODY))]))
    await reader.aclose()
    if harm == "flip":
        stored[len(stored) // 2] ^= 1
    elif size > 2 * CHUNK:
        stored[:CHUNK], stored[CHUNK : 2 * CHUNK] = stored[CHUNK : 2 * CHUNK], stored[:CHUNK]
    else:
        stored[:100], stored[100:200] = stored[100:200], stored[:100]
    assert len(block_sums(stored, 1, 0)) >= 8

    async def stream(self: object, start: int, length: int) -> AsyncIterator[bytes]:
        yield bytes(stored[start : start + length])

    opened = await store.open(bucket, "k", None, unlock)
    monkeypatch.setattr(type(opened._inner), "stream", stream)  # type: ignore[attr-defined]
    got = bytearray()

    async def read() -> None:
        async for piece in opened.stream(0, size):
            got.extend(piece)

    with pytest.raises(DataLost):
        await read()
    await opened.aclose()
    assert data.startswith(got)
    assert len(got) < size


@pytest.mark.parametrize("offset", [0, 70_000, 400_000])
async def test_a_shard_that_was_forged_with_all_its_checksums_is_found_by_its_tags(tmp_path: Path, offset: int) -> None:
    data = noise(400_000)
    async with quiet(Disks(tmp_path, 1)) as store:
        bucket = await store.create_bucket("bucket", "me", {})
        part = (await put(store, bucket, "k", data, 0)).record.parts[0]
        lane = store.pool.lanes[0]
        assert lane is not None
        shard = lane.volume.open_shard(part.write_id)
        forged, record = bytearray(shard.view), bytes(shard.record)
        shard.close()
        forged[offset] ^= 1
        lane.volume.unlink((part.write_id,))
        writer = lane.volume.create_shard(part.write_id)
        writer.write((forged,))
        sums = block_sums(forged, block_seed(part.write_id, part.number, 0), 0)
        writer.finish(sums, record, blake3(forged).digest(), False)
        reader = await store._objects.open_stored(bucket, "k")
        assert b"".join([bytes(piece) async for piece in reader.stream(0, part.stored)]) == forged
        await reader.aclose()
        with pytest.raises(DataLost, match="does not have its tag"):
            await get(store, bucket, "k")
        # Chunks that nobody touched still come.
        assert await get(store, bucket, "k", 3 * BODY, BODY) == data[3 * BODY : 4 * BODY]


def test_no_representation_shows_a_key() -> None:
    key = os.urandom(32)
    assert repr(key) not in repr(PutSpec("me", seal=Seal(key, {}, False)))
