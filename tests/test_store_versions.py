"""Versioned buckets: random histories against a small model, with volumes that are away for a while; ids, markers, paging."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from msgspec.structs import replace

from abixio.errors import (
    BucketNotEmpty,
    InvalidVersionId,
    IsDeleteMarker,
    NoSuchKey,
    NoSuchVersion,
    ObjectLocked,
    PreconditionFailed,
)
from abixio.store.store import Store
from abixio.store.types import Bucket, ObjectInfo, PutSpec
from tests.store_local import Disks, files, get, put, rest

KEYS = ("a", "a/b", "b")


@dataclass
class Entry:
    """One version in the model."""

    id: str
    data: bytes | None
    """None: a delete marker."""
    tags: dict[str, str] = field(default_factory=dict)


class Model:
    """What S3 says that versions are: each key has a list, newest first."""

    def __init__(self) -> None:
        self.keys: dict[str, list[Entry]] = {key: [] for key in KEYS}
        self.state = ""

    def add(self, key: str, entry: Entry) -> None:
        if self.state != "Enabled":
            self.keys[key] = [each for each in self.keys[key] if each.id != "null"]
        self.keys[key].insert(0, entry)

    def remove(self, key: str, id: str) -> None:
        self.keys[key] = [each for each in self.keys[key] if each.id != id]

    def listing(self) -> list[tuple[str, str, bool, bool]]:
        return [(key, each.id, each.data is None, at == 0) for key in sorted(KEYS) for at, each in enumerate(self.keys[key])]

    def current(self) -> list[str]:
        return [key for key in sorted(KEYS) if self.keys[key] and self.keys[key][0].data is not None]


async def bucket_in(store: Store, state: str = "") -> Bucket:
    bucket = await store.create_bucket("b", "me", {})
    return await versioning(store, state) if state else bucket


async def versioning(store: Store, state: str) -> Bucket:
    return await store.change_bucket("b", lambda settings: {**settings, "versioning": state})


async def fetch(store: Store, bucket: Bucket, key: str, version: str | None) -> bytes:
    reader = await store.open(bucket, key, version)
    try:
        return b"".join([bytes(piece) async for piece in reader.stream(0, reader.info.size)])
    finally:
        await reader.aclose()


async def listed(store: Store, bucket: Bucket, limit: int = 1000) -> list[tuple[str, str, bool, bool]]:
    """All versions, page by page."""
    found: list[tuple[str, str, bool, bool]] = []
    after: tuple[str, str | None] = ("", None)
    while True:
        page = await store.versions(bucket, "", "", after, limit)
        found += [(info.key, info.version, info.record.kind == "marker", latest) for info, latest in page.versions]
        assert len(page.versions) <= limit
        if page.next is None:
            return found
        after = page.next


class Walk:
    """One random history."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.model = Model()

    async def step(self, store: Store) -> None:
        key = self.random.choice(KEYS)
        bucket = await store.bucket("b")
        moves = (self.put, self.put, self.put, self.delete, self.kill, self.tag, self.switch)
        await self.random.choice(moves)(store, bucket, key)

    async def put(self, store: Store, bucket: Bucket, key: str) -> None:
        data = self.random.randbytes(self.random.choice((0, 10, 300, 70_000)))
        info = await put(store, bucket, key, data, self.random.choice((1, 1, 2)))
        self.model.add(key, Entry(info.version, data))

    async def delete(self, store: Store, bucket: Bucket, key: str) -> None:
        done = await store.delete(bucket, key)
        if self.model.state:
            assert done is not None and done.marker
            self.model.add(key, Entry(done.version, None))
        else:
            assert (done is not None) == bool(self.model.keys[key])
            self.model.keys[key] = []

    async def kill(self, store: Store, bucket: Bucket, key: str) -> None:
        if not self.model.keys[key]:
            return
        entry = self.random.choice(self.model.keys[key])
        done = await store.delete(bucket, key, version=entry.id)
        assert done is not None and done.version == entry.id and done.marker == (entry.data is None)
        self.model.remove(key, entry.id)

    async def tag(self, store: Store, bucket: Bucket, key: str) -> None:
        with_data = [entry for entry in self.model.keys[key] if entry.data is not None]
        if not with_data:
            return
        entry = self.random.choice(with_data)
        entry.tags = {"n": str(self.random.random())}
        await store.amend(bucket, key, entry.id, lambda record: replace(record, tags=dict(entry.tags)))

    async def switch(self, store: Store, bucket: Bucket, key: str) -> None:
        self.model.state = self.random.choice(("Enabled", "Enabled", "Suspended"))
        await versioning(store, self.model.state)

    async def check(self, store: Store) -> None:
        bucket = await store.bucket("b")
        assert await listed(store, bucket, self.random.choice((1, 2, 1000))) == self.model.listing()
        assert [info.key for info in (await store.list(bucket, "", "", "", 1000)).items] == self.model.current()
        for key in KEYS:
            for at, entry in enumerate(self.model.keys[key]):
                for version in (entry.id, None)[: 2 - bool(at)]:
                    await self.check_version(store, bucket, key, entry, version)

    async def check_version(self, store: Store, bucket: Bucket, key: str, entry: Entry, version: str | None) -> None:
        if entry.data is None:
            with pytest.raises(IsDeleteMarker):
                await store.open(bucket, key, version)
        else:
            assert await fetch(store, bucket, key, version) == entry.data
            assert (await store.head(bucket, key, version)).record.tags == entry.tags


@pytest.mark.parametrize("seed", range(6))
async def test_random_histories_agree_with_the_model(seed: int, tmp_path: Path) -> None:
    disks, walk = Disks(tmp_path, 4), Walk(seed)
    for run in range(4):
        away = {walk.random.randrange(4)} if run % 2 else set()
        async with disks.store(missing=away) as store:
            if not run:
                await bucket_in(store)
            for _ in range(25):
                await walk.step(store)
                if walk.random.random() < 0.3:
                    await rest(store)
            if not away:
                await walk.check(store)
    async with disks.store() as store:
        await rest(store)
        await walk.check(store)
        assert all(not lane.volume.unsettled(None, 10) for lane in store.pool.up())
        kept = {record_id for lane in store.pool.up() for record_id in await _rows(store, lane.slot)}
        assert len(kept) == sum(map(len, walk.model.keys.values()))


async def _rows(store: Store, slot: int) -> set[tuple[bytes, int, int]]:
    lane = store.pool.lanes[slot]
    assert lane is not None
    space = (await store.bucket("b")).space
    return {(row.id.key, row.id.seq, row.id.rev) for row in lane.volume.history(space, b"", 10_000)}


async def test_a_version_of_a_dead_volume_reads_by_its_id(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 4)
    async with disks.store() as store:
        bucket = await bucket_in(store, "Enabled")
        ids = [(await put(store, bucket, "k", bytes([n]) * 100_000, 2)).version for n in range(3)]
    async with disks.store(missing={1, 2}) as store:
        assert [await fetch(store, bucket, "k", id) for id in ids] == [bytes([n]) * 100_000 for n in range(3)]


async def test_a_volume_that_was_away_while_a_version_was_deleted_does_not_bring_it_back(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 4)
    async with disks.store() as store:
        bucket = await bucket_in(store, "Enabled")
        first = await put(store, bucket, "k", b"1" * 100_000)
        second = await put(store, bucket, "k", b"2" * 100_000)
        await rest(store)
    async with disks.store(missing={0}) as store:
        await store.delete(bucket, "k", version=first.version)
        await rest(store)
    for away in ({1}, set[int](), {2}):
        async with disks.store(missing=away) as store:
            with pytest.raises(NoSuchVersion):
                await store.head(bucket, "k", first.version)
            assert await get(store, bucket, "k") == b"2" * 100_000
            assert [version for _, version, _, _ in await listed(store, bucket)] == [second.version]
            await rest(store)
    async with disks.store() as store:
        await rest(store)
        assert files(disks) == 4


async def test_deleting_the_newest_version_makes_the_one_before_current(tmp_path: Path) -> None:
    async with Disks(tmp_path, 4).store() as store:
        bucket = await bucket_in(store, "Enabled")
        await put(store, bucket, "k", b"old")
        newest = await put(store, bucket, "k", b"new")
        await store.delete(bucket, "k", version=newest.version)
        assert await get(store, bucket, "k") == b"old"
        assert [info.key for info in (await store.list(bucket, "", "", "", 10)).items] == ["k"]


async def test_removing_the_delete_marker_brings_the_object_back(tmp_path: Path) -> None:
    async with Disks(tmp_path, 4).store() as store:
        bucket = await bucket_in(store, "Enabled")
        await put(store, bucket, "k", b"data")
        marker = await store.delete(bucket, "k")
        assert marker is not None and marker.marker
        with pytest.raises(IsDeleteMarker):
            await store.head(bucket, "k")
        assert (await store.list(bucket, "", "", "", 10)).items == []
        await store.delete(bucket, "k", version=marker.version)
        assert await get(store, bucket, "k") == b"data"
        assert len((await store.list(bucket, "", "", "", 10)).items) == 1


async def test_a_bucket_with_old_versions_only_is_not_empty(tmp_path: Path) -> None:
    async with Disks(tmp_path, 2).store() as store:
        bucket = await bucket_in(store, "Enabled")
        info = await put(store, bucket, "k", b"data")
        marker = await store.delete(bucket, "k")
        assert marker is not None
        with pytest.raises(BucketNotEmpty):
            await store.delete_bucket("b")
        await store.delete(bucket, "k", version=info.version)
        with pytest.raises(BucketNotEmpty):
            await store.delete_bucket("b")
        await store.delete(bucket, "k", version=marker.version)
        await store.delete_bucket("b")


async def test_version_ids_that_are_none_or_of_another_bucket(tmp_path: Path) -> None:
    async with Disks(tmp_path, 2).store() as store:
        bucket = await bucket_in(store, "Enabled")
        info = await put(store, bucket, "k", b"data")
        other = await store.create_bucket("other", "me", {"versioning": "Enabled"})
        await put(store, other, "k", b"else")
        for id in ("", "x", "null ", "A" * 31):
            with pytest.raises(InvalidVersionId):
                await store.head(bucket, "k", id)
        strange = (
            (other, "k", info.version), (bucket, "k", "0" * 32), (bucket, "k", "A" * 32), (bucket, "k", "null"),
            (bucket, "l", info.version),
        )
        for where, key, id in strange:
            with pytest.raises(NoSuchVersion):
                await store.head(where, key, id)
            assert await store.delete(where, key, version=id) is None
        with pytest.raises(NoSuchKey):
            await store.head(bucket, "l")


async def test_a_condition_sees_no_object_behind_a_delete_marker(tmp_path: Path) -> None:
    def absent(current: ObjectInfo | None) -> None:
        if current is not None:
            raise PreconditionFailed("If-None-Match")

    async with Disks(tmp_path, 2).store() as store:
        bucket = await bucket_in(store, "Enabled")
        await put(store, bucket, "k", b"data")
        with pytest.raises(PreconditionFailed):
            await store.delete(bucket, "k", absent)
        await store.delete(bucket, "k")
        await store.delete(bucket, "k", absent)


@pytest.mark.parametrize(("lock", "bypass", "held"), [
    ({"hold": "ON"}, True, True),
    ({"hold": "OFF"}, False, False),
    ({"mode": "GOVERNANCE", "until": "99999999999999"}, False, True),
    ({"mode": "GOVERNANCE", "until": "99999999999999"}, True, False),
    ({"mode": "COMPLIANCE", "until": "99999999999999"}, True, True),
    ({"mode": "COMPLIANCE", "until": "1"}, False, False),
])
async def test_a_locked_version_stays(lock: dict[str, str], bypass: bool, held: bool, tmp_path: Path) -> None:
    async with Disks(tmp_path, 2).store() as store:
        bucket = await bucket_in(store, "Enabled")
        info = await put(store, bucket, "k", b"data")
        await store.amend(bucket, "k", info.version, lambda record: replace(record, lock=lock))
        marker = await store.delete(bucket, "k")
        assert marker is not None
        if held:
            with pytest.raises(ObjectLocked):
                await store.delete(bucket, "k", version=info.version, bypass=bypass)
            assert await fetch(store, bucket, "k", info.version) == b"data"
        else:
            assert await store.delete(bucket, "k", version=info.version, bypass=bypass)


async def test_versions_page_with_delimiters_and_markers(tmp_path: Path) -> None:
    async with Disks(tmp_path, 2).store() as store:
        bucket = await bucket_in(store, "Enabled")
        for key in ("a", "p/1", "p/2", "q", "q", "q"):
            await put(store, bucket, key, b"")
        await store.delete(bucket, "p/2")
        found: list[str] = []
        after: tuple[str, str | None] = ("", None)
        while True:
            page = await store.versions(bucket, "", "/", after, 1)
            found += [info.key for info, _ in page.versions] + page.prefixes
            if page.next is None:
                break
            after = page.next
        assert found == ["a", "p/", "q", "q", "q"]


async def test_tags_survive_a_volume_that_was_away_and_write_no_shard_again(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 4)
    async with disks.store() as store:
        bucket = await bucket_in(store)
        await put(store, bucket, "k", b"x" * 200_000)
        await rest(store)
    before = {path: path.stat().st_ino for path in disks.root.glob("v*/shards/*/*")}
    async with disks.store(missing={3}) as store:
        await store.amend(bucket, "k", None, lambda record: replace(record, tags={"a": "b"}))
    async with disks.store() as store:
        await rest(store)
    async with disks.store(missing={0}) as store:
        assert (await store.head(bucket, "k")).record.tags == {"a": "b"}
        assert await get(store, bucket, "k") == b"x" * 200_000
    assert {path: path.stat().st_ino for path in disks.root.glob("v*/shards/*/*")} == before


async def test_an_upload_gives_its_object_tags_and_a_version(tmp_path: Path) -> None:
    from abixio.store.types import PartRef
    from tests.store_rig import BytesSource

    async with Disks(tmp_path, 2).store() as store:
        bucket = await bucket_in(store, "Enabled")
        upload = await store.create_upload(bucket, "k", PutSpec("me", tags={"a": "b"}))
        part = await store.put_part(bucket, "k", upload.id, 1, BytesSource(b"data"))
        info = await store.complete_upload(bucket, "k", upload.id, [PartRef(1, part.etag)])
        await put(store, bucket, "k", b"newer")
        again = await store.complete_upload(bucket, "k", upload.id, [PartRef(1, part.etag)])
        assert again.version == info.version != "null"
        assert (await store.head(bucket, "k", info.version)).record.tags == {"a": "b"}
