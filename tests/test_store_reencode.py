"""Another fault tolerance for an object that is there: nothing else that a client can see changes, at no moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from xxhash import xxh3_64_intdigest

from abixio.config import Config
from abixio.errors import AbixioError, DataLost, InvalidFaultTolerance, NoSuchKey, Unavailable, VolumeUnusable
from abixio.store import stored
from abixio.store.buffers import BufferPool
from abixio.store.pool import Pool
from abixio.store.record import Record
from abixio.store.settle import hides
from abixio.store.store import Store
from abixio.store.types import Bucket, ObjectInfo, PartRef, PutSpec
from abixio.volume.interface import Insert, Row, RowId, State
from tests.store_local import Disks, files, get, put, quiet, rest
from tests.store_memvolume import MemVolume
from tests.store_rig import FILE, BytesSource, noise, rig

PAIRS = [(a, b) for a in range(4) for b in range(4) if a != b]


def visible(info: ObjectInfo) -> object:
    """What a client can see of an object."""
    record = info.record
    parts = [(part.number, part.size, part.etag, part.checksums) for part in record.parts]
    return (
        info.key, info.size, info.etag, info.modified, record.headers, record.meta, record.checksums, record.checksum_type,
        record.owner, record.upload, parts,
    )


async def everything(store: Store, bucket: Bucket, key: str, size: int) -> PutSpec:
    """An object with all that a PUT can say."""
    spec = PutSpec(
        "me", headers={"content-type": "text/x", "cache-control": "no"}, meta={"a": "b"}, ftt="1", checksum_type="FULL_OBJECT"
    )
    await store.put(bucket, key, spec, BytesSource(noise(size), algorithms=("crc32", "sha256")))
    return spec


async def multipart(store: Store, bucket: Bucket, key: str, sizes: tuple[int, ...], ftt: int) -> ObjectInfo:
    upload = await store.create_upload(bucket, key, PutSpec("me", meta={"x": "y"}, ftt=str(ftt)))
    numbers = [2 * n + 1 for n in range(len(sizes))]
    parts = [
        await store.put_part(bucket, key, upload.id, number, BytesSource(noise(size, number)))
        for number, size in zip(numbers, sizes, strict=True)
    ]
    return await store.complete_upload(bucket, key, upload.id, [PartRef(part.number, part.etag) for part in parts])


@pytest.mark.parametrize(("before", "after"), PAIRS)
async def test_from_every_tolerance_to_every_other_with_small_and_large_objects(tmp_path: Path, before: int, after: int) -> None:
    disks = Disks(tmp_path, 4)
    sizes = (0, 1, 5000, 40_000, FILE)  # 40,000 bytes are inline with some layouts and files with others
    async with quiet(disks) as store:
        bucket = await store.create_bucket("b", "me", {})
        for size in sizes:
            old = await put(store, bucket, f"k{size}", noise(size), before)
            new = await store.reencode(bucket, f"k{size}", str(after))
            assert new.record.layout is not None and (new.record.layout.k, new.record.layout.m) == (4 - after, after)
            assert visible(new) == visible(old) and new.record.seq == old.record.seq and new.record.rev > old.record.rev
            assert not set(new.record.write_ids) & set(old.record.write_ids)
            assert await get(store, bucket, f"k{size}") == noise(size)
        await rest(store)
        for size in sizes:
            (version,) = await store.inspect(bucket, f"k{size}")
            assert version.whole and (version.k, version.m) == (4 - after, after)
            assert await get(store, bucket, f"k{size}", size // 3, size // 2) == noise(size)[size // 3 :][: size // 2]
        in_files = sum(-(-size // (4 - after)) > 16 * 1024 for size in sizes)
        assert files(disks) == 4 * in_files
        assert [info.key for info in (await store.list(bucket, "", "", "", 10)).items] == sorted(f"k{size}" for size in sizes)
    async with quiet(disks, missing=range(after)) as store:
        bucket = await store.bucket("b")
        for size in sizes:
            assert await get(store, bucket, f"k{size}") == noise(size)


async def test_all_that_a_client_can_see_is_kept(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 4)
    async with quiet(disks) as store:
        bucket = await store.create_bucket("b", "me", {})
        for size in (100, FILE):
            await everything(store, bucket, f"k{size}", size)
            old = await store.head(bucket, f"k{size}")
            await asyncio.sleep(0.002)
            await store.reencode(bucket, f"k{size}", "2")
            assert visible(await store.head(bucket, f"k{size}")) == visible(old)
            assert visible((await store.list(bucket, f"k{size}", "", "", 10)).items[0]) == visible(old)


@pytest.mark.parametrize("mode", ["auto", "xxh64", "md5"])
async def test_an_etag_of_any_kind_is_what_the_bytes_are_checked_against(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with rig(2, config=Config(durability="page-cache", etag=mode)) as r:  # type: ignore[arg-type]
        store = Store(r.pool, 0)
        bucket = await store.create_bucket("b", "me", {})
        for size in (1000, FILE, 9 << 20):
            old = await put(store, bucket, "k", noise(size))
            assert visible(await store.reencode(bucket, "k", "0")) == visible(old)
        real = stored._slices

        async def other(*args: object) -> object:
            async for piece in real(*args):  # type: ignore[arg-type]
                wrong = bytearray(piece)
                wrong[0] ^= 1
                yield bytes(wrong)

        monkeypatch.setattr(stored, "_slices", other)
        with pytest.raises(DataLost):
            await store.reencode(bucket, "k", "1")
        monkeypatch.undo()
        assert await get(store, bucket, "k") == noise(9 << 20)
        await rest(store)
        assert all(len(volume.shards) == 1 for volume in r.volumes)
        await store._objects.drain()


async def test_when_a_later_part_is_not_what_it_was_the_parts_before_it_leave_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disks = Disks(tmp_path, 4)
    async with quiet(disks) as store:
        bucket = await store.create_bucket("b", "me", {})
        await multipart(store, bucket, "k", (5 << 20, 1000), 1)
        await rest(store)
        real = stored._slices

        async def other(reader: object, start: int, length: int) -> object:
            async for piece in real(reader, start, length):  # type: ignore[arg-type]
                yield bytes(len(piece)) if start else piece

        monkeypatch.setattr(stored, "_slices", other)
        with pytest.raises(DataLost):
            await store.reencode(bucket, "k", "2")
        assert files(disks) == 8 and not store.pool.writing and not store.pool.pins
        assert (await store.inspect(bucket, "k"))[0].whole


@pytest.mark.parametrize(("before", "after"), [(1, 3), (2, 0), (0, 2)])
async def test_multipart_objects_part_by_part(tmp_path: Path, before: int, after: int) -> None:
    disks = Disks(tmp_path, 4)
    sizes = (5 << 20, 6_000_001, 1000)
    async with quiet(disks) as store:
        bucket = await store.create_bucket("b", "me", {})
        old = await multipart(store, bucket, "k", sizes, before)
        single = await multipart(store, bucket, "single", (1000,), before)
        assert visible(await store.reencode(bucket, "k", str(after))) == visible(old)
        assert visible(await store.reencode(bucket, "single", str(after))) == visible(single)
        await rest(store)
        whole = b"".join(noise(size, 2 * n + 1) for n, size in enumerate(sizes))
        assert await get(store, bucket, "k") == whole
        assert await get(store, bucket, "k", (5 << 20) - 10, 20) == whole[(5 << 20) - 10 :][:20]
        assert await get(store, bucket, "single") == noise(1000, 1)
        assert files(disks) == 12
        for key in ("k", "single"):
            assert (await store.inspect(bucket, key))[0].whole
        path = next(disks.root.glob(f"v1/shards/*/{old.record.parts[1].write_id.hex()}"), None)
        assert path is None
        for path in disks.root.glob("v1/shards/*/*"):
            path.unlink()
        assert (await store.heal(bucket, "k")).failed == () if after else True
        if after:
            assert (await store.inspect(bucket, "k"))[0].whole


async def test_the_same_tolerance_again_writes_nothing(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 4)
    async with quiet(disks) as store:
        bucket = await store.create_bucket("b", "me", {})
        info = await put(store, bucket, "k", noise(FILE), 2)
        assert await store.reencode(bucket, "k", "2") == info


async def test_what_is_not_there_or_not_allowed(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 2)
    async with quiet(disks) as store:
        bucket = await store.create_bucket("b", "me", {})
        with pytest.raises(NoSuchKey):
            await store.reencode(bucket, "k", "1")
        await put(store, bucket, "k", b"x")
        for ftt in ("2", "-1", "one", ""):
            with pytest.raises(InvalidFaultTolerance):
                await store.reencode(bucket, "k", ftt)
        await put(store, bucket, "gone", b"x")
        await store.delete(bucket, "gone")
        with pytest.raises(NoSuchKey):
            await store.reencode(bucket, "gone", "0")


class Overtaken:
    """Something else happens to the key while it is re-encoded, behind the reading and before the commit."""

    def __init__(self, store: Store, what: object, monkeypatch: pytest.MonkeyPatch, times: int = 1) -> None:
        self.left = times
        reencoder = store._reencoder
        objects = reencoder._objects

        async def sheltered(work: Coroutine[Any, Any, Any]) -> Any:
            if self.left:
                self.left -= 1
                await what()  # type: ignore[operator]
            return await objects.sheltered(work)

        # Not inside the commit: that keeps the bucket, and one who wants it alone in between would wait for both.
        methods = {"__getattr__": lambda _, name: getattr(objects, name), "sheltered": staticmethod(sheltered)}
        monkeypatch.setattr(reencoder, "_objects", type("Objects", (), methods)())


async def test_an_overwrite_in_the_meantime_wins_and_is_re_encoded_in_its_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disks = Disks(tmp_path, 4)
    async with quiet(disks) as store:
        bucket = await store.create_bucket("b", "me", {})
        await put(store, bucket, "k", noise(FILE), 1)
        Overtaken(store, lambda: put(store, bucket, "k", noise(FILE, 5), 1), monkeypatch)
        assert (await store.reencode(bucket, "k", "2")).record.layout.m == 2  # type: ignore[union-attr]
        assert await get(store, bucket, "k") == noise(FILE, 5)
        await rest(store)
        assert files(disks) == 4


async def test_a_delete_in_the_meantime_wins_and_no_shard_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disks = Disks(tmp_path, 4)
    async with quiet(disks) as store:
        bucket = await store.create_bucket("b", "me", {})
        await put(store, bucket, "k", noise(FILE), 1)
        Overtaken(store, lambda: store.delete(bucket, "k"), monkeypatch)
        with pytest.raises(NoSuchKey):
            await store.reencode(bucket, "k", "2")
        await rest(store)
        assert files(disks) == 0 and not store.pool.writing and not store.pool.pins


async def test_an_object_that_is_overwritten_all_the_time_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disks = Disks(tmp_path, 4)
    async with quiet(disks) as store:
        bucket = await store.create_bucket("b", "me", {})
        await put(store, bucket, "k", noise(FILE), 1)
        Overtaken(store, lambda: put(store, bucket, "k", noise(FILE, 5), 1), monkeypatch, times=100)
        with pytest.raises(Unavailable):
            await store.reencode(bucket, "k", "2")
        await rest(store)
        assert files(disks) == 4


async def test_readers_that_began_before_end_undisturbed(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 4)
    async with quiet(disks) as store:
        bucket = await store.create_bucket("b", "me", {})
        await put(store, bucket, "k", noise(9 << 20), 1)
        await rest(store)
        reader = await store.open(bucket, "k")
        pieces = reader.stream(0, reader.info.size)
        got = [bytes(await anext(pieces))]
        await store.reencode(bucket, "k", "3")
        await rest(store)
        got += [bytes(piece) async for piece in pieces]
        await reader.aclose()
        assert b"".join(got) == noise(9 << 20)
        await rest(store)
        assert files(disks) == 4


async def test_readers_and_lists_at_any_time_see_the_object(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 4)
    async with quiet(disks, "fsync") as store:
        bucket = await store.create_bucket("b", "me", {})
        sizes = {"small": 5000, "large": FILE}
        for key, size in sizes.items():
            await put(store, bucket, key, noise(size), 1)
        over = False
        reads = 0

        async def read() -> None:
            nonlocal reads
            while not over:
                for key, size in sizes.items():
                    assert await get(store, bucket, key) == noise(size)
                assert len((await store.list(bucket, "", "", "", 10)).items) == 2
                reads += 1

        tasks = [asyncio.create_task(read()) for _ in range(2)]
        for ftt in (3, 0, 2, 1) * 2:
            for key in sizes:
                await store.reencode(bucket, key, str(ftt))
        over = True
        await asyncio.gather(*tasks)
        assert reads > 2


@pytest.mark.parametrize(
    ("before", "after", "needed", "w"),
    [(1, 0, 4, 4), (1, 2, 3, 3), (1, 3, 4, 4), (3, 1, 4, 4), (2, 1, 3, 3), (0, 1, 4, 3)],
)
async def test_as_many_volumes_as_both_tolerances_ask_for_are_needed(
    tmp_path: Path, before: int, after: int, needed: int, w: int
) -> None:
    disks = Disks(tmp_path, 4)
    async with quiet(disks) as store:
        bucket = await store.create_bucket("b", "me", {})
        info = await put(store, bucket, "k", noise(FILE), before)
        await rest(store)
        for away in range(4 - needed + 1, -1, -1):
            for slot in range(away):
                store.pool.lanes[slot].failed = VolumeUnusable("away")  # type: ignore[union-attr]
            if 4 - away < needed:
                with pytest.raises(AbixioError):
                    await store.reencode(bucket, "k", str(after))
                assert files(disks) == 4
            elif away == 4 - needed:
                assert (await store.reencode(bucket, "k", str(after))).record.w == w
            for slot in range(away):
                store.pool.lanes[slot].failed = None  # type: ignore[union-attr]
        await rest(store)
        assert visible(await store.head(bucket, "k")) == visible(info)
        assert (await store.inspect(bucket, "k"))[0].whole


async def test_a_record_with_fields_of_a_later_version_is_not_written_again(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 2)
    async with quiet(disks) as store:
        bucket = await store.create_bucket("b", "me", {})
        info = await put(store, bucket, "k", b"x")
        await rest(store)
        fields = msgspec.structs.asdict(info.record) | {"seq": info.record.seq + 1, "later": 7, "compat": ["later"]}
        body = msgspec.msgpack.encode(fields)
        stored = body + xxh3_64_intdigest(body).to_bytes(8, "little")
        id = RowId(bucket.space, b"k", info.record.seq + 1, 0)
        for lane in store.pool.up():
            shard = lane.volume.inline(lane.volume.rows(bucket.space, b"k")[0].inline or 0)
            await lane.apply((Insert(id, State.COMMITTED, 3, stored, info.record.write_ids, shard, False),), False)
        with pytest.raises(Unavailable, match="does not know"):
            await store.reencode(bucket, "k", "0")
        assert {lane.volume.rows(bucket.space, b"k")[0].record for lane in store.pool.up()} == {stored}


async def test_a_rev_that_was_taken_back_and_stands_on_a_volume_that_is_away_is_not_mistaken_for_the_next() -> None:
    disks = [MemVolume(slot) for slot in range(4)]
    async with process(disks) as store:
        bucket = await store.create_bucket("b", "me", {})
        await put(store, bucket, "k", noise(5000), 1)
        await rest(store)
        for disk in disks[:3]:  # the row gets to one volume and is taken back on the others
            burn([disk], [0])
        with pytest.raises(AbixioError):
            await store.reencode(bucket, "k", "2")
        assert [len(disk._tables.rows[bucket.space, b"k"]) for disk in disks] == [1, 1, 1, 2]
    async with process(disks, {3}) as store:
        await store.reencode(bucket, "k", "2")
        await rest(store)
    async with process(disks) as store:
        await rest(store)
        assert await get(store, bucket, "k") == noise(5000)
        assert (await store.inspect(bucket, "k"))[0].whole and len(await store.inspect(bucket, "k")) == 1


def test_a_further_rev_hides_the_one_before_also_where_versions_are_kept() -> None:
    old, new = (Record("object", bytes(16), b"k", 5, 1, rev=rev, hides="none") for rev in (1, 2))
    rows = [Row(RowId(bytes(16), b"k", seq, rev), State.COMMITTED, 1, b"", None) for seq, rev in ((5, 0), (5, 1), (5, 2), (4, 9))]
    assert [hides(new, row) for row in rows] == [True, True, False, False]
    assert [hides(old, row) for row in rows] == [True, False, False, False]


@asynccontextmanager
async def process(disks: list[MemVolume], away: Collection[int] = ()) -> AsyncIterator[Store]:
    """A server over those disks. Nothing of it outlives it."""
    with ThreadPoolExecutor(4) as executor:
        config, loop = Config(durability="fsync"), asyncio.get_running_loop()
        volumes = {disk.slot: disk for disk in disks if disk.slot not in away}
        pool = Pool(volumes, len(disks), (), config, executor, BufferPool(64 << 20), loop)
        yield Store(pool, max(disk.notes()["seq"] for disk in disks))
        for disk in disks:
            disk.before = lambda operation: None
        await pool.close()
    for disk in disks:
        disk._closed, disk.unfinished = False, 0


def burn(disks: list[MemVolume], left: list[int]) -> None:
    """From the n-th change on, whatever disk it is of, nothing is changed any more."""

    def before(operation: str) -> None:
        if operation in ("create_shard", "finish", "apply", "unlink"):
            left[0] -= 1
            if left[0] < 0:
                raise VolumeUnusable("the process is gone")

    for disk in disks:
        disk.before = before


@pytest.mark.parametrize("size", [5000, FILE])
@pytest.mark.parametrize(("before", "after"), [(1, 2), (1, 0), (0, 3), (3, 1)])
async def test_a_crash_at_any_change_of_any_volume_leaves_the_object_readable_with_as_many_lost_as_both_layouts_can_lose(
    size: int, before: int, after: int
) -> None:
    disks = [MemVolume(slot) for slot in range(4)]
    async with process(disks) as store:
        bucket = await store.create_bucket("b", "me", {})
        await put(store, bucket, "k", noise(size), before)
        await rest(store)
    for fuse in range(1, 40):
        left = [fuse]
        async with process(disks) as store:
            burn(disks, left)
            with suppress(AbixioError):
                await store.reencode(bucket, "k", str(after))
                await store.settler.cycle()
        for first in range(4):
            async with process(disks, {(first + i) % 4 for i in range(min(before, after))}) as store:
                assert await get(store, bucket, "k") == noise(size)
        async with process(disks) as store:
            await rest(store)
            assert await get(store, bucket, "k") == noise(size)
            assert (await store.inspect(bucket, "k"))[0].whole
            if left[0] >= 0:
                return
            await store.reencode(bucket, "k", str(before))
            await rest(store)
        for disk in disks:
            orphans = [id for id in disk.shards if not disk.named(id)]
            assert len(orphans) <= 1  # of the process that died
            for id in orphans:
                del disk.shards[id]
            assert len(disk.shards) == (size == FILE)
    raise AssertionError("it never came to its end")
