"""fsck --repair: whatever was damaged on one volume is whole afterwards, to the check and to every reader."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path

import pytest

from abixio.errors import StartupError
from abixio.fsck.findings import Level
from abixio.fsck.progress import Silent
from abixio.fsck.repair import repair
from abixio.volume.interface import Note
from abixio.volume.local import LocalVolume
from tests.fsck_damage import IN_PLACE, LARGE, MINE, OF_CATALOGS, Damage, file_that_no_row_names, head_deleted, is_found, large
from tests.fsck_pool import FEW, Pool, filled, found, name, reads_all, texts
from tests.test_store_damage import flip
from tests.volume_fixtures import Unsynced

pytestmark = pytest.mark.timeout(60)

@pytest.fixture(scope="module")
def four_volumes(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    return asyncio.run(filled(tmp_path_factory.mktemp("pool"), 4, content=FEW))


@pytest.fixture
def four(four_volumes: Pool, tmp_path: Path) -> Pool:
    return four_volumes.copy(tmp_path / "pool")


def mended(pool: Pool) -> list[str]:
    """Check, repair; what could not be."""
    return repair(pool.paths, Unsynced(), pool.check(), Silent())


@pytest.mark.parametrize("damage", IN_PLACE, ids=name)
def test_damage_is_found_and_repair_leaves_nothing_of_it_and_every_volume_can_be_missed_again(four: Pool, damage: Damage) -> None:
    is_found(four, damage)
    assert mended(four) == []
    report = four.check()
    assert report.clean, texts(report)
    for away in (1, 2):
        asyncio.run(reads_all(four, without={away}))


def test_a_repair_of_volumes_that_were_used_since_the_check_is_refused(four: Pool) -> None:
    head_deleted(four)
    report = four.check()
    LocalVolume.open(four.paths[2]).close()
    repair(four.paths, Unsynced(), report, Silent())  # opened, and nothing changed
    head_deleted(four)
    report = four.check()
    with closing(LocalVolume.open(four.paths[2])) as volume:
        volume.apply([[Note("peer1", 1)]], True)
    with pytest.raises(StartupError, match="used these volumes since they were checked"):
        repair(four.paths, Unsynced(), report, Silent())


def test_orphan_files_are_kept_while_data_is_lost(four: Pool) -> None:
    file_that_no_row_names(four)
    for slot in (2, 3):
        flip(large(four, slot), 10)
    failed = mended(four)
    assert any("files that no row names are kept" in text for text in failed)
    assert found(four.check()) == ["orphan", "shard", "shard"]


def test_a_shard_whose_row_is_gone_still_helps_to_make_others(four: Pool) -> None:
    """Slot 1 lost its row and not its file, slot 2 its shard: three of four are needed, and three are there."""
    (id,) = four.sql(1, LARGE)
    for table in ("row", "ref"):
        four.sql(1, f"DELETE FROM {table} WHERE {MINE}", *id)
    four.sql(1, "DELETE FROM head WHERE space = ? AND key = ?", *id[:2])
    flip(large(four, 2), 10)
    report = four.check()
    assert report.counts[Level.LOST] == 0, texts(report)
    assert found(report) == ["orphan", "row", "shard"]
    assert mended(four) == []
    assert four.check().clean
    asyncio.run(reads_all(four, without={3}))


@pytest.mark.parametrize("damage", OF_CATALOGS, ids=name)
def test_a_volume_whose_catalog_is_not_sound_is_left_out_and_as_it_was(four: Pool, damage: Damage) -> None:
    damage(four)
    four.sql(2, "DELETE FROM head WHERE key = CAST('large' AS BLOB)")
    before = {path: entry for path, entry in four.print().items() if "/v1/" in path}
    assert mended(four) == ["slot 1: its catalog has to be rebuilt first: --rebuild-catalog 1"]
    assert {path: entry for path, entry in four.print().items() if "/v1/" in path} == before
    assert found(four.check()) == ["catalog"]
