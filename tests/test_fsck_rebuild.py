"""fsck --rebuild-catalog: from peers, from what a damaged catalog still shows, and from the footers of shard files."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Collection
from pathlib import Path

import pytest

from abixio.errors import DataLost, StartupError
from abixio.fsck.check import check_ages, check_catalog
from abixio.fsck.findings import Level
from abixio.fsck.outcome import Rebuilt
from abixio.fsck.progress import Silent
from abixio.fsck.rebuild import rebuild
from abixio.fsck.repair import repair
from abixio.fsck.target import move_aside
from abixio.fsck.volumes import Volumes
from abixio.store.types import PartRef, PutSpec
from abixio.volume.files import Files
from tests.fsck_damage import OF_CATALOGS, Damage, is_found, large
from tests.fsck_pool import CONTENT, FEW, Pool, fill, filled, found, name, reads_all, texts
from tests.store_local import get, put, rest
from tests.store_rig import BytesSource, noise
from tests.volume_fixtures import Unsynced

pytestmark = pytest.mark.timeout(60)

@pytest.fixture(scope="module")
def four_volumes(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    return asyncio.run(filled(tmp_path_factory.mktemp("pool"), 4))


@pytest.fixture
def four(four_volumes: Pool, tmp_path: Path) -> Pool:
    return four_volumes.copy(tmp_path / "pool")


def rebuilt(pool: Pool, slots: Collection[int], without_peers: bool = False, files: Files | None = None) -> Rebuilt:
    """As the command does it."""
    with Volumes(pool.paths, files or Unsynced()) as volumes:
        for site in volumes.sites.values():
            check_catalog(site, "", Silent(), lambda finding: None)
        check_ages(volumes, lambda finding: None)
        return rebuild(volumes, slots, without_peers, Silent())


def mended(pool: Pool) -> list[str]:
    return repair(pool.paths, Unsynced(), pool.check(), Silent())


def whole(pool: Pool) -> None:
    """Nothing is left to be found, and any volume can be missed."""
    assert mended(pool) == []
    report = pool.check()
    assert not report.findings, texts(report)
    for away in (1, 2):
        asyncio.run(reads_all(pool, without={away}))


@pytest.mark.parametrize("damage", OF_CATALOGS, ids=name)
def test_a_lost_catalog_comes_back_from_peers_with_every_row_and_no_shard_made_again(four: Pool, damage: Damage) -> None:
    shards = {path: path.stat().st_mtime_ns for path in four.shards(1)}
    is_found(four, damage)
    outcome = rebuilt(four, [1])
    assert outcome.left == 0
    assert four.sql(1, "SELECT value FROM note WHERE name = 'filling'") == [(1,)]
    report = four.check()
    assert report.clean, texts(report)
    whole(four)
    assert four.sql(1, "SELECT value FROM note WHERE name = 'filling'") == [(0,)]
    assert {path: path.stat().st_mtime_ns for path in four.shards(1)} == shards


def lose_catalog(pool: Pool, *slots: int) -> None:
    for slot in slots:
        for path in pool.path(slot).glob(".abixio/catalog.db*"):
            path.unlink()


def rot(pool: Pool, slot: int, table: str) -> None:
    """Every page of that table is noise."""
    pool.sql(slot, "PRAGMA wal_checkpoint(TRUNCATE)")
    pages = pool.sql(slot, "SELECT rootpage FROM sqlite_schema WHERE name = ?", table)
    with pool.catalog(slot).open("r+b") as file:
        for (page,) in pages:
            file.seek((page - 1) * 4096)
            file.write(noise(4096))


def test_two_lost_catalogs_of_four_come_back_but_small_objects_that_lived_in_them_do_not(four: Pool) -> None:
    lose_catalog(four, 1, 2)
    assert rebuilt(four, [1, 2]).left == 2 * 2, "two small objects: each has three data shards, and two are left"
    mended(four)
    report = four.check()
    assert sum(finding.kind == "data" for finding in report.findings) == 2, texts(report)
    large_ones = {key: data for key, data in CONTENT.items() if len(data) > 100_000}
    asyncio.run(reads_some(four, large_ones, without={0}))


async def reads_some(pool: Pool, expected: dict[str, bytes], without: Collection[int] = ()) -> None:
    async with pool.store(missing=without) as store:
        bucket = await store.bucket("photos")
        for key, data in expected.items():
            assert await get(store, bucket, key) == data, key


def test_a_small_shard_is_taken_from_the_damaged_catalog_where_the_peers_have_too_few(four: Pool) -> None:
    rot(four, 1, "head")
    (id,) = four.sql(2, "SELECT inline FROM row WHERE key = CAST('small' AS BLOB)")[0]
    four.sql(2, "UPDATE inline SET shard = zeroblob(length(shard)) WHERE id = ?", id)
    assert rebuilt(four, [1]).left == 0
    whole(four)


def test_a_shard_that_is_rotten_gets_no_row_and_is_made_again(four: Pool) -> None:
    large(four, 1).write_bytes(noise(1000))
    lose_catalog(four, 1)
    assert rebuilt(four, [1]).left == 1
    whole(four)


async def test_what_was_deleted_stays_deleted_though_all_its_shard_files_are_there(tmp_path: Path) -> None:
    pool = Pool(tmp_path, 4)
    async with pool.store() as store:
        bucket = await store.create_bucket("photos", "me", {})
        for key in ("kept", "gone", "long gone"):
            await put(store, bucket, key, noise(1_000_000))
    files = {path: path.read_bytes() for slot in range(4) for path in pool.shards(slot)}
    async with pool.store() as store:
        await store.delete(bucket, "long gone")
        await rest(store)
    assert not pool.sql(1, "SELECT 1 FROM row WHERE key = CAST('long gone' AS BLOB)"), "nobody remembers it"
    async with pool.store(missing={0}) as store:
        await store.delete(bucket, "gone")
        await put(store, bucket, "kept", noise(900_000, 5))
    for path, data in files.items():
        path.write_bytes(data)  # as a crash before the purge leaves them
    lose_catalog(pool, 0)
    await asyncio.to_thread(rebuilt, pool, [0])
    await asyncio.to_thread(mended, pool)
    await reads_all(pool, expected={"kept": noise(900_000, 5)})
    assert [len(pool.shards(slot)) for slot in range(4)] == [1, 1, 1, 1]
    report = pool.check()
    assert not report.findings, texts(report)


def test_with_too_few_catalogs_nothing_is_touched_unless_that_is_accepted(four: Pool) -> None:
    lose_catalog(four, 0, 1, 2)
    before = four.print()
    with pytest.raises(StartupError, match=r"1 other catalogs are sound, 2 are needed to know what was deleted.*--without-peers"):
        rebuilt(four, [0, 1, 2])
    assert four.print() == before


@pytest.mark.parametrize("left", [(), (3,)], ids=["no catalog", "one catalog"])
async def test_without_peers_large_objects_come_back_from_their_shard_files(four: Pool, left: Collection[int]) -> None:
    lost = [slot for slot in range(4) if slot not in left]
    lose_catalog(four, *lost)
    outcome = await asyncio.to_thread(rebuilt, four, lost, True)
    if left:
        assert outcome.from_peers >= 3 and not outcome.buckets, "its rows tell the names, and that of the multipart object"
    else:
        assert (outcome.from_footers, outcome.uploads, len(outcome.buckets)) == (2, 1, 1)
    assert any("deleted" in text for text in outcome.unknown)
    await asyncio.to_thread(mended, four)
    async with four.store(missing={2}) as store:
        (bucket,) = await store.buckets()
        assert bucket.name == ("photos" if left else f"recovered-{bucket.space.hex()}")
        for key in ("large", "large two"):
            assert await get(store, bucket, key) == CONTENT[key]
        listed = [item.key for item in (await store.list(bucket, "", "", "", 1000)).items]
        assert set(listed) >= {"large", "large two"} and not {"gone", "gone large"} & set(listed)
        if not left:
            assert listed == ["large", "large two"]


async def test_a_multipart_upload_comes_back_open_and_completes_to_the_object_that_it_was(four: Pool) -> None:
    async with four.store() as store:
        etag = (await store.head(await store.bucket("photos"), "many")).etag
    lose_catalog(four, 0, 1, 2, 3)
    await asyncio.to_thread(rebuilt, four, range(4), True)
    await asyncio.to_thread(mended, four)
    async with four.store() as store:
        (bucket,) = await store.buckets()
        ((upload,), *_) = await store.uploads(bucket, "", "", ("", ""), 10)
        parts, _ = await store.parts(bucket, "many", upload.id, 0, 100)
        info = await store.complete_upload(bucket, "many", upload.id, [PartRef(one.number, one.etag, {}) for one in parts])
        assert info.etag == etag
        assert await get(store, bucket, "many") == CONTENT["many"]


async def test_of_two_finished_uploads_of_a_key_the_later_one_is_taken(tmp_path: Path) -> None:
    pool = Pool(tmp_path, 3)
    async with pool.store() as store:
        bucket = await store.create_bucket("photos", "me", {})
        old = await put(store, bucket, "key", noise(1_000_000))
    files = {path: path.read_bytes() for slot in range(3) for path in pool.shards(slot)}
    async with pool.store() as store:
        await put(store, bucket, "key", noise(1_000_001, 5))
    for path, data in files.items():
        assert not path.exists()
        path.write_bytes(data)  # as a crash before the purge leaves them
    lose_catalog(pool, 0, 1, 2)
    outcome = await asyncio.to_thread(rebuilt, pool, range(3), True)
    assert outcome.from_footers == 1
    await asyncio.to_thread(mended, pool)
    async with pool.store() as store:
        (bucket,) = await store.buckets()
        assert await get(store, bucket, "key") == noise(1_000_001, 5)
    assert old.record.parts[0].write_id.hex() not in {path.name for path in pool.shards(0)}


@pytest.mark.parametrize("whole", [100, 1])
async def test_what_was_appended_comes_back_with_the_object_while_its_parts_are_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: int,
) -> None:
    monkeypatch.setattr("abixio.store.append.WHOLE", whole)
    pool = Pool(tmp_path, 3)
    async with pool.store() as store:
        bucket = await store.create_bucket("photos", "me", {})
        for key, first in (("large", noise(1_000_000)), ("small", noise(100))):
            await put(store, bucket, key, first)
            for offset, data in ((len(first), noise(50, 2)), (len(first) + 50, noise(300_000, 3))):
                await store.append(bucket, key, PutSpec("me"), offset, BytesSource(data))
        await rest(store)
    lose_catalog(pool, 0, 1, 2)
    outcome = await asyncio.to_thread(rebuilt, pool, range(3), True)
    assert (outcome.from_footers, outcome.uploads) == ((2, 0) if whole > 1 else (1, 2))
    await asyncio.to_thread(mended, pool)
    async with pool.store() as store:
        (bucket,) = await store.buckets()
        rest_of_it = noise(50, 2) + noise(300_000, 3) if whole > 1 else b""
        assert await get(store, bucket, "large") == noise(1_000_000) + rest_of_it
        if whole > 1:
            assert await get(store, bucket, "small") == noise(100) + rest_of_it


async def test_what_a_catalog_knows_goes_before_what_a_footer_says(tmp_path: Path) -> None:
    """The one catalog that is left was there when the key was written last; a later file is an upload that failed."""
    pool = Pool(tmp_path / "pool", 4)
    async with pool.store() as store:
        bucket = await store.create_bucket("photos", "me", {})
        await put(store, bucket, "key", noise(1_000_000))
        before = pool.copy(tmp_path / "before")
        await put(store, bucket, "key", noise(1_000_001, 5))
    for slot in range(4):
        for path in pool.shards(slot):
            shutil.copy(path, before.path(slot) / path.relative_to(pool.path(slot)))
    lose_catalog(before, 0, 1, 2)
    outcome = await asyncio.to_thread(rebuilt, before, [0, 1, 2], True)
    assert outcome.from_footers == 0 and any("older than what a catalog knows" in text for text in outcome.unknown)
    await asyncio.to_thread(mended, before)
    await reads_all(before, expected={"key": noise(1_000_000)})


async def test_too_few_shard_files_bring_nothing_back(tmp_path: Path) -> None:
    pool = Pool(tmp_path, 3)
    async with pool.store() as store:
        bucket = await store.create_bucket("photos", "me", {})
        await put(store, bucket, "key", noise(1_000_000))
    for slot in (0, 1):
        for path in pool.shards(slot):
            path.unlink()
    lose_catalog(pool, 0, 1, 2)
    outcome = await asyncio.to_thread(rebuilt, pool, range(3), True)
    assert outcome.from_footers == 0
    assert any("too few" in text for text in outcome.unknown)


@pytest.mark.parametrize("table", ["head", "ref", "unsettled", "garbage"])
def test_a_single_volume_keeps_everything_when_a_page_that_repeats_other_tables_rots(tmp_path: Path, table: str) -> None:
    pool = asyncio.run(filled(tmp_path, 1))
    rot(pool, 0, table)
    assert not pool.check().clean
    outcome = rebuilt(pool, [0], without_peers=True)
    assert outcome.from_old == 7 and outcome.left == 0, "the bucket and six objects"
    mended(pool)
    assert pool.check().clean
    asyncio.run(reads_all(pool))


async def test_a_single_volume_loses_no_more_than_the_rows_on_a_rotten_page(tmp_path: Path) -> None:
    pool = Pool(tmp_path, 1)
    async with pool.store() as store:
        bucket = await store.create_bucket("photos", "me", {})
        for number in range(100):
            await put(store, bucket, f"key {number:03}", noise(2000, number))
    pool.sql(0, "PRAGMA wal_checkpoint(TRUNCATE)")
    (page,) = pool.sql(0, "SELECT pageno FROM dbstat WHERE name = 'row' AND pagetype = 'leaf' ORDER BY path")[3]
    with pool.catalog(0).open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(noise(4096))
    outcome = await asyncio.to_thread(rebuilt, pool, [0], True)
    assert 80 < outcome.from_old < 101
    await asyncio.to_thread(mended, pool)
    assert pool.check().clean
    async with pool.store() as store:
        bucket = await store.bucket("photos")
        listed = (await store.list(bucket, "", "", "", 1000)).items
        assert len(listed) == outcome.from_old - 1
        for item in listed:
            assert await get(store, bucket, item.key) == noise(2000, int(item.key[4:]))


async def test_a_version_whose_bytes_are_lost_is_an_error_and_never_an_older_one_or_nothing(tmp_path: Path) -> None:
    pool = Pool(tmp_path, 1)
    async with pool.store() as store:
        bucket = await store.create_bucket("photos", "me", {})
        await put(store, bucket, "key", noise(1_000_000))
    (old,) = pool.shards(0)
    data = old.read_bytes()
    async with pool.store() as store:
        await put(store, bucket, "key", noise(3000))
    old.write_bytes(data)  # as a crash before the purge leaves it
    rot(pool, 0, "inline")
    rot(pool, 0, "head")
    outcome = await asyncio.to_thread(rebuilt, pool, [0], True)
    assert (outcome.from_old, outcome.from_footers, outcome.left) == (2, 0, 1)
    async with pool.store() as store:
        with pytest.raises(DataLost):
            await get(store, await store.bucket("photos"), "key")
    assert found(pool.check(), Level.LOST) == ["data"]


async def test_a_write_that_was_answered_and_not_yet_marked_comes_back_from_what_is_left(tmp_path: Path) -> None:
    pool = Pool(tmp_path / "live", 3)
    async with pool.store() as store:
        bucket = await store.create_bucket("photos", "me", {})
        await asyncio.sleep(1.5)
        await put(store, bucket, "key", noise(3000), 2)
        killed = pool.copy(tmp_path / "killed")
    lose_catalog(killed, 0, 1)
    await asyncio.to_thread(rebuilt, killed, [0, 1], True)
    await asyncio.to_thread(mended, killed)
    await reads_all(killed, expected={"key": noise(3000)})


@pytest.mark.parametrize("size", [1_000_000, 3000])
async def test_a_write_that_was_answered_by_two_of_three_survives_the_loss_of_one_catalog(tmp_path: Path, size: int) -> None:
    """The third volume was away. Of a large object the shard file on the volume is proof enough, of a small one its old row."""
    pool = Pool(tmp_path / "live", 3)
    async with pool.store() as store:
        bucket = await store.create_bucket("photos", "me", {})
        await put(store, bucket, "key", noise(100_000, 9))
    async with pool.store(missing={2}) as store:
        await put(store, bucket, "key", noise(size))
        killed = pool.copy(tmp_path / "killed")
    if size > 100_000:
        lose_catalog(killed, 0)
    else:
        killed.sql(0, "DROP TABLE head")
    await asyncio.to_thread(rebuilt, killed, [0])
    assert await asyncio.to_thread(mended, killed) == []
    await reads_all(killed, expected={"key": noise(size)})


# ---- crashes ---------------------------------------------------------------------------------------------------------
class Crash(Exception):
    """The process ends here."""


class Crashing(Unsynced):
    """Ends at the n-th rename."""

    def __init__(self, at: int) -> None:
        self.left = at

    def rename(self, old: str, new: str) -> None:
        if self.left == 0:
            raise Crash
        self.left -= 1
        super().rename(old, new)


async def killed(root: Path) -> Pool:
    """A single volume of which everything is still in the WAL: what the database shows without it is an empty catalog."""
    pool = Pool(root / "live", 1)
    pool.content = dict(FEW)
    async with pool.store() as store:
        await fill(store, 0, FEW)
        return pool.copy(root / "killed")


@pytest.mark.parametrize("at", range(6))
def test_a_rebuild_that_is_cut_short_is_taken_up_by_the_next_without_loss(tmp_path: Path, at: int) -> None:
    pool = asyncio.run(killed(tmp_path))
    pool.sql(0, "DROP TABLE head")
    with pytest.raises(Crash):
        rebuilt(pool, [0], without_peers=True, files=Crashing(at))
    if not pool.catalog(0).exists() or not pool.check().clean:
        rebuilt(pool, [0], without_peers=True)
    mended(pool)
    assert pool.check().clean
    asyncio.run(reads_all(pool))


def test_what_is_aside_is_never_written_over(four: Pool) -> None:
    wal = Path(f"{four.catalog(1)}-wal")
    wal.write_bytes(b"the old one")
    move_aside(Unsynced(), four.paths[1])
    wal.write_bytes(b"a stray one")
    move_aside(Unsynced(), four.paths[1])
    assert (four.path(1) / ".abixio" / "catalog.aside" / "catalog.db-wal").read_bytes() == b"the old one"
