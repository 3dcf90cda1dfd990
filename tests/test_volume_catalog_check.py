"""A catalog under examination: nothing changes, whatever lies beside it, and a rotten page hides no more than it must."""

from __future__ import annotations

import hashlib
from pathlib import Path

import apsw
import pytest

from abixio.errors import CatalogCorrupt, VolumeError
from abixio.volume import catalog
from abixio.volume.catalog import Catalog
from abixio.volume.catalog_check import Examiner, Mend, mend
from abixio.volume.interface import Head, Insert, RowId, State

SPACE = b"s" * 16
KEYS = [b"key %04d" % number for number in range(200)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A catalog with rows on many pages, closed in good order."""
    path = tmp_path / "catalog.db"
    catalog.create(str(path), "volume", "")
    opened = Catalog(str(path), "volume", "")
    changes = [
        [Insert(RowId(SPACE, key, 1, 0), State.COMMITTED, 1, b"r" * 500, (key.ljust(16),), b"shard"), Head(SPACE, key, (1, 0))]
        for key in KEYS
    ]
    opened.apply(changes, False, None)
    opened.close()
    return path


def content(folder: Path) -> dict[str, tuple[int, str]]:
    return {path.name: (path.stat().st_mtime_ns, hashlib.md5(path.read_bytes()).hexdigest()) for path in folder.iterdir()}


def look(path: Path) -> None:
    examiner = Examiner(str(path), Path(f"{path}-wal").exists())
    assert examiner.refusal("volume") is None
    assert examiner.integrity(lambda: None) == []
    assert [rows[0].id.key for rows in examiner.walk()] == KEYS
    examiner.close()
    examiner.close()


@pytest.mark.parametrize("without", [(), ("-shm",), ("-wal", "-shm")])
def test_looking_changes_nothing_and_makes_no_file(path: Path, without: tuple[str, ...]) -> None:
    for suffix in without:
        Path(f"{path}{suffix}").unlink()
    before = content(path.parent)
    look(path)
    assert content(path.parent) == before


def test_changes_that_are_still_in_the_wal_are_seen(path: Path) -> None:
    connection = apsw.Connection(str(path))
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    connection.execute("DELETE FROM row WHERE key > ?", (KEYS[9],))
    connection.close()
    before = content(path.parent)
    examiner = Examiner(str(path), True)
    assert [rows[0].id.key for rows in examiner.walk()] == KEYS[:10]
    examiner.close()
    assert content(path.parent) == before


def leaves(path: Path, table: str) -> list[int]:
    connection = apsw.Connection(str(path))
    connection.pragma("wal_checkpoint(TRUNCATE)")
    found = connection.execute(
        "SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf' ORDER BY path", (table,)
    ).fetchall()
    connection.close()
    return [page for (page,) in found]


def rot(path: Path, pages: list[int]) -> None:
    with path.open("r+b") as file:
        for page in pages:
            file.seek((page - 1) * 4096)
            file.write(bytes(range(256)) * 16)


def test_a_rotten_leaf_stops_a_walk_and_hides_its_own_rows_only(path: Path) -> None:
    pages = leaves(path, "row")
    assert len(pages) > 10
    rot(path, [pages[5]])
    examiner = Examiner(str(path), True)
    assert examiner.integrity(lambda: None) != []
    with pytest.raises(CatalogCorrupt):
        list(examiner.walk())
    assert {key for _, key in examiner.every_key()} == set(KEYS), "the heads tell of the others"
    hidden = 0
    for key in KEYS:
        try:
            assert examiner.rows(SPACE, key)[0].record == b"r" * 500
        except VolumeError:
            hidden += 1
    assert 0 < hidden < 20
    examiner.close()


def test_keys_are_found_from_both_ends_when_all_tables_are_hurt(path: Path) -> None:
    for table in ("row", "head", "unsettled"):
        pages = leaves(path, table)
        rot(path, [pages[len(pages) // 2]])
    examiner = Examiner(str(path), True)
    found = [key for _, key in examiner.every_key()]
    assert len(found) == len(set(found))
    assert {KEYS[0], KEYS[-1]} < set(found) <= set(KEYS)
    assert len(found) > len(KEYS) * 0.8
    examiner.close()


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "catalog.db").write_bytes(b"nothing of the sort" * 1000)
    with pytest.raises(CatalogCorrupt):
        Examiner(str(tmp_path / "catalog.db"), False)


def test_a_catalog_of_another_volume_is_refused_with_the_reason(path: Path) -> None:
    examiner = Examiner(str(path), True)
    assert "belongs to volume volume, volume.json says other" in str(examiner.refusal("other"))
    examiner.close()


def test_mends_are_done_all_or_none(path: Path) -> None:
    good = Mend("drop_head", (SPACE, KEYS[0]))
    with pytest.raises(VolumeError):
        mend(str(path), "", [good, Mend("head", (SPACE, KEYS[0], None, None))])
    examiner = Examiner(str(path), True)
    assert examiner.head(SPACE, KEYS[0]) == (1, 0)
    examiner.close()
    mend(str(path), "", [good])
    examiner = Examiner(str(path), True)
    assert examiner.head(SPACE, KEYS[0]) is None
    assert examiner.notes()["commits"] == 2
    examiner.close()


def test_a_state_that_cannot_be_is_told_and_promises_least(path: Path) -> None:
    connection = apsw.Connection(str(path))
    connection.execute("UPDATE row SET state = -1 WHERE key = ?", (KEYS[3],))
    connection.close()
    examiner = Examiner(str(path), True)
    assert list(examiner.odd_states()) == [(SPACE, KEYS[3], 1, 0)]
    assert examiner.rows(SPACE, KEYS[3])[0].state is State.PENDING
    examiner.close()
