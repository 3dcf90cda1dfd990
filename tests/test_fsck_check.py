"""fsck without --repair: a sound pool is clean, every sort of damage is found and named, and nothing is written."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from abixio.errors import StartupError
from abixio.fsck.findings import Level
from abixio.fsck.progress import Silent
from abixio.fsck.repair import repair
from abixio.store.types import PutSpec
from abixio.volume.local import LocalVolume
from tests.fsck_damage import large
from tests.fsck_pool import FEW, Pool, filled, found, only, reads_all, texts
from tests.store_local import put, rest
from tests.store_rig import BytesSource, noise
from tests.test_store_damage import flip
from tests.volume_fixtures import Unsynced

pytestmark = pytest.mark.timeout(60)


@pytest.mark.parametrize(("n", "ftt"), [(1, 0), (2, 1), (4, 1), (4, 2)])
async def test_a_sound_pool_is_clean_and_the_check_changes_no_byte(tmp_path: Path, n: int, ftt: int) -> None:
    pool = await filled(tmp_path, n, ftt)
    before = pool.print()
    report = pool.check()
    assert report.clean, texts(report)
    assert not report.findings, texts(report)
    assert report.versions == 6
    assert pool.print() == before
    await reads_all(pool)


@pytest.fixture(scope="module")
def four_volumes(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    return asyncio.run(filled(tmp_path_factory.mktemp("pool"), 4, content=FEW))


@pytest.fixture
def four(four_volumes: Pool, tmp_path: Path) -> Pool:
    return four_volumes.copy(tmp_path / "pool")


# ---- more than that --------------------------------------------------------------------------------------------------
def test_an_object_with_too_few_sound_shards_is_lost_and_no_other_is(four: Pool) -> None:
    for slot in (1, 2):
        flip(large(four, slot), 0)
    report = four.check()
    assert only(report, "data").level is Level.LOST
    assert "s3://photos/large: 2 of the 3 shards that it needs are sound" in only(report, "data").text
    assert found(report) == ["shard", "shard"]


def test_shards_that_are_bad_at_different_places_are_damage_and_no_loss(tmp_path: Path, four: Pool) -> None:
    flip(large(four, 1), 0)
    flip(large(four, 2), 100_000)
    report = four.check()
    assert report.counts[Level.LOST] == 0, texts(report)
    assert found(report) == ["shard", "shard"]


def test_a_small_object_is_lost_when_its_inline_shards_are(four: Pool) -> None:
    for slot in (0, 1):
        four.sql(slot, "UPDATE inline SET shard = zeroblob(length(shard)) WHERE id = "
                       "(SELECT inline FROM row WHERE key = CAST('small' AS BLOB))")
    report = four.check()
    assert "s3://photos/small" in only(report, "data").text


def test_a_record_that_is_rotten_everywhere_is_lost(four: Pool) -> None:
    for slot in range(4):
        four.sql(slot, "UPDATE row SET record = zeroblob(length(record)) WHERE key = CAST('large' AS BLOB)")
    report = four.check()
    assert {finding.kind for finding in report.findings if finding.level is Level.LOST} == {"record"}, texts(report)


def test_keys_that_no_bucket_leads_to_are_told(four: Pool) -> None:
    for slot in range(4):
        four.sql(slot, "DELETE FROM row WHERE space = zeroblob(16)")
        four.sql(slot, "DELETE FROM head WHERE space = zeroblob(16)")
    assert "5 keys, and no bucket leads there" in only(four.check(), "bucket").text


async def test_a_part_of_an_upload_that_has_ended_is_told(tmp_path: Path) -> None:
    pool = Pool(tmp_path, 3)
    async with pool.store() as store:
        bucket = await store.create_bucket("photos", "me", {})
        upload = await store.create_upload(bucket, "many", PutSpec("me"))
        await store.put_part(bucket, "many", upload.id, 1, BytesSource(noise(100_000)))
        await rest(store)
    assert not pool.check().findings
    for slot in range(3):
        for table in ("row", "head"):
            pool.sql(slot, f"DELETE FROM {table} WHERE substr(key, 1, 4) = CAST('many' AS BLOB)")
    assert "was left behind when its upload ended" in only(pool.check(), "journal").text
    assert await asyncio.to_thread(repair, pool.paths, Unsynced(), pool.check(), Silent()) == []
    assert not pool.check().findings
    assert not any(pool.shards(slot) for slot in range(3))


@pytest.mark.parametrize("gone", [{3}, {0, 2}])
def test_a_volume_that_is_not_named_is_one_finding_and_its_objects_are_judged_without_it(four: Pool, gone: set[int]) -> None:
    report = four.check(without=gone)
    assert [finding.slot for finding in report.findings if finding.kind == "volume"] == sorted(gone)
    lost = [finding for finding in report.findings if finding.kind == "data"]
    assert len(lost) == (5 if len(gone) > 1 else 0)
    assert all(f"slot {', '.join(map(str, sorted(gone)))} is not here" in finding.text for finding in lost)
    assert report.counts.total() == len(gone) + len(lost), texts(report)


def test_a_directory_that_cannot_be_what_it_was_is_left_to_the_operator(four: Pool) -> None:
    shutil.rmtree(four.path(2))
    report = four.check()
    assert only(report, "volume").slot == 2
    four.path(2).mkdir()
    assert only(four.check(), "volume").slot == 2, "an empty directory is no volume"
    assert not any(four.path(2).iterdir())


def test_foreign_files_and_unfinished_ones_are_told_and_are_no_damage(four: Pool) -> None:
    strange = [four.path(1) / "shards" / "00" / "notes.txt", four.path(2) / ".abixio" / "backup.db"]
    for path in strange:
        path.write_text("mine")
    (four.path(3) / ".abixio" / "tmp" / "left.0").write_bytes(b"half")
    report = four.check()
    assert report.clean
    notices = [finding for finding in report.findings if finding.level is Level.NOTICE]
    told = sorted((finding.kind.value, finding.slot) for finding in notices)
    assert told == [("foreign", 1), ("foreign", 2), ("unfinished", 3)]
    assert all(path.read_text() == "mine" for path in strange)


async def test_what_a_kill_left_unfinished_is_work_for_the_next_start_and_no_damage(tmp_path: Path) -> None:
    pool = Pool(tmp_path, 3)
    async with pool.store() as store:
        bucket = await store.create_bucket("photos", "me", {})
        await put(store, bucket, "large", noise(1_000_000))
        await put(store, bucket, "large", noise(1_000_001))
        killed = shutil.copytree(tmp_path, tmp_path.parent / f"{tmp_path.name}-killed")
    report = pool.at(killed).check()
    assert report.clean, texts(report)
    assert {finding.kind for finding in report.findings} == {"unfinished"}, texts(report)


async def test_a_write_that_a_power_cut_tore_is_work_for_the_next_start_and_no_loss(tmp_path: Path) -> None:
    pool = Pool(tmp_path / "live", 3)
    async with pool.store() as store:
        bucket = await store.create_bucket("photos", "me", {})
        await put(store, bucket, "old", noise(1_000_000))
        await asyncio.sleep(1.5)
        await put(store, bucket, "torn", noise(1_000_000))
        cut = pool.copy(tmp_path / "cut")
    for slot in range(3):
        for path in cut.shards(slot):
            if cut.sql(slot, "SELECT 1 FROM ref WHERE key = CAST('torn' AS BLOB) AND write_id = ?", bytes.fromhex(path.name)):
                os.truncate(path, 5000)
    lost = cut.check()
    assert lost.counts[Level.LOST] == 1, "in the same boot, the kernel would still have it"
    for slot in range(3):
        cut.sql(slot, "UPDATE meta SET value = 'another boot' WHERE name = 'boot'")
    report = cut.check()
    assert report.clean, texts(report)
    assert sum("no sync covered" in finding.text for finding in report.findings) == 3, texts(report)


async def test_a_volume_whose_wal_was_cut_short_is_older_than_its_peers_or_lacks_rows(tmp_path: Path) -> None:
    pool = Pool(tmp_path, 3)
    async with pool.store() as store:
        bucket = await store.create_bucket("photos", "me", {})
        for number in range(20):
            await put(store, bucket, f"key {number}", noise(3000))
        await asyncio.sleep(2.5)  # two cycles of settling: marked everywhere, and the peers told
        killed = pool.at(shutil.copytree(tmp_path, tmp_path.parent / f"{tmp_path.name}-killed"))
    assert killed.check().clean
    os.truncate(f"{killed.catalog(1)}-wal", 100_000)
    report = killed.check()
    assert "age" in found(report), texts(report)


def test_a_pool_in_use_is_refused_with_the_reason(four: Pool) -> None:
    volume = LocalVolume.open(four.paths[2])
    try:
        with pytest.raises(StartupError, match="v2: another server uses this volume; stop it first"):
            four.check()
    finally:
        volume.close()
    assert four.check().clean, "and the locks of the others were let go"


def test_directories_without_a_volume_are_refused(tmp_path: Path) -> None:
    (tmp_path / "v0").mkdir()
    with pytest.raises(StartupError, match="nothing to check"):
        Pool.named(tmp_path, 1).check()
