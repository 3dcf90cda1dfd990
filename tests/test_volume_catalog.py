"""The catalog file: its fixed settings, when it syncs and checkpoints, and what SQLite's errors become."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest

from abixio.errors import CatalogCorrupt, VolumeError, VolumeFull, VolumeReadOnly, VolumeUnusable
from abixio.volume import catalog, catalog_read, catalog_schema, catalog_write, names
from abixio.volume.catalog_errors import volume_error
from abixio.volume.interface import Drop, Note, RowId
from abixio.volume.local import LocalVolume
from tests.volume_contract import SPACE, apply, insert, listed, row_id, write_id
from tests.volume_fixtures import FaultyFiles, formatted
from tests.volume_vfs import FaultyVFS


@pytest.fixture
def vfs() -> Iterator[FaultyVFS]:
    vfs = FaultyVFS()
    yield vfs
    vfs.unregister()


@pytest.fixture
def volume(tmp_path: Path, vfs: FaultyVFS) -> Iterator[LocalVolume]:
    files = FaultyFiles()
    files.vfs = vfs.name
    volume = LocalVolume.open(formatted(tmp_path / "volume"), files)
    apply(volume, [Note("warm", 1)], durable=True)
    yield volume
    vfs.fail.clear()
    volume.close()


def eventually(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def wal(volume: LocalVolume) -> int:
    return os.path.getsize(names.catalog(volume.path) + "-wal")


def grow(volume: LocalVolume, start: int, count: int, size: int = 8000) -> None:
    """Inline objects, each in a commit of its own."""
    for number in range(start, start + count):
        row = row_id(b"%06d" % number, number + 1)
        apply(volume, [*listed(row, shards=(write_id(number),), inline=os.urandom(size))])


# ---- settings ------------------------------------------------------------------------------------------------------------
def test_what_is_fixed_at_creation_is_set(tmp_path: Path) -> None:
    path = names.catalog(formatted(tmp_path / "volume"))
    with open(path, "rb") as file:
        header = file.read(100)
    assert header[:16] == b"SQLite format 3\0"
    assert int.from_bytes(header[16:18], "big") == 4096
    assert header[18:20] == b"\x02\x02", "write-ahead logging"
    assert int.from_bytes(header[60:64], "big") == 1
    assert int.from_bytes(header[64:68], "big") == 1, "incremental vacuum"
    assert header[68:72] == b"abxi"


def test_the_wal_stays_when_the_volume_is_closed_or_merely_forgotten(volume: LocalVolume) -> None:
    volume.rows(SPACE, b"key")
    volume.close()
    assert {"catalog.db", "catalog.db-wal", "catalog.db-shm"} <= set(os.listdir(names.home(volume.path)))
    assert wal(volume) == 0


def test_integrity_holds_after_every_kind_of_change(volume: LocalVolume) -> None:
    grow(volume, 0, 50)
    apply(volume, *[[Drop(row_id(b"%06d" % number, number + 1), (write_id(number),))] for number in range(0, 50, 2)])
    path = volume.path
    volume.close()
    connection = apsw.Connection(names.catalog(path), flags=apsw.SQLITE_OPEN_READONLY)
    assert connection.pragma("integrity_check") == "ok"
    assert connection.execute("SELECT count(*) FROM inline").get == 25
    assert connection.execute("SELECT count(*) FROM ref").get == 25
    connection.close()


# ---- syncs and checkpoints -----------------------------------------------------------------------------------------------
def test_a_durable_commit_syncs_the_wal_once_for_all_its_changes_and_another_not_at_all(
    volume: LocalVolume, vfs: FaultyVFS
) -> None:
    for _ in range(2):
        vfs.syncs.clear()
        apply(volume, [Note("a", 1)], [Note("b", 1)], durable=True)
        assert vfs.syncs == ["-wal"]
        vfs.syncs.clear()
        apply(volume, [Note("a", 2)], durable=False)
        assert vfs.syncs == []


def test_a_commit_without_sync_is_covered_by_the_next_barrier_alone(volume: LocalVolume) -> None:
    files = volume.files
    assert isinstance(files, FaultyFiles)
    volume.barrier()
    apply(volume, [Note("a", 1)], durable=True)
    files.calls.clear()
    volume.barrier()
    assert "syncfs" not in dict(files.calls)
    apply(volume, [Note("a", 2)], durable=False)
    volume.barrier()
    assert "syncfs" in dict(files.calls)


def test_checkpoints_in_the_background_let_the_wal_be_used_again(volume: LocalVolume) -> None:
    inside = volume._catalog
    grow(volume, 0, 400)
    assert eventually(lambda: inside._pages - inside._moved < catalog.CHECKPOINT_PAGES)
    assert os.path.getsize(names.catalog(volume.path)) > 1 << 20
    inside._wake.set()
    assert eventually(lambda: inside._moved == inside._pages)
    size = wal(volume)
    assert os.path.getsize(names.catalog(volume.path)) > 400 * 8000
    grow(volume, 400, 50)
    assert inside._pages < 1000
    assert wal(volume) == size


def test_at_its_limit_the_wal_is_emptied_by_the_writer(volume: LocalVolume, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "CHECKPOINT_PAGES", 10**9)
    monkeypatch.setattr(catalog, "_WAL_LIMIT_PAGES", 100)
    grow(volume, 0, 200)
    assert wal(volume) < 200 * 4096
    assert os.path.getsize(names.catalog(volume.path)) > 200 * 8000
    assert len(volume.scan(SPACE, b"", None, 1000)) == 200


def test_no_reader_keeps_a_snapshot_open(volume: LocalVolume) -> None:
    grow(volume, 0, 30)
    where = volume.rows(SPACE, b"000001")[0].inline
    assert where is not None
    volume.scan(SPACE, b"", None, 3)
    volume.history(SPACE, b"", 3)
    volume.unsettled(None, 3)
    volume.unsettled(RowId(SPACE, b"000001", 1, 0), 3)
    volume.unsettled_keys(SPACE, b"", b"9", 3)
    volume.inline(where)
    volume.notes()
    volume.garbage(1)
    connection = apsw.Connection(names.catalog(volume.path))
    connection.pragma("user_version")
    in_wal, moved = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    connection.close()
    assert (in_wal, moved) == (0, 0), "a truncating checkpoint needs that nobody reads"


def test_pages_that_deletes_left_empty_are_given_back_when_the_disk_runs_short(
    volume: LocalVolume, monkeypatch: pytest.MonkeyPatch
) -> None:
    grow(volume, 0, 1000)
    apply(volume, *[[Drop(row_id(b"%06d" % number, number + 1), (write_id(number),))] for number in range(1000)])
    before = os.path.getsize(names.catalog(volume.path))
    monkeypatch.setattr(volume.files, "room", lambda _path: (100, 10**9))
    volume._room_until = 0
    for number in range(100):  # the file is cut off by a checkpoint, which a thread does
        apply(volume, [Note("x", number)])
        if number >= 2 and os.path.getsize(names.catalog(volume.path)) < before // 4:
            break
        time.sleep(0.05)
    assert os.path.getsize(names.catalog(volume.path)) < before // 4
    assert volume.notes()["x"] == number


# ---- errors --------------------------------------------------------------------------------------------------------------
def test_a_full_disk_refuses_the_whole_transaction_and_goes_on_when_there_is_room(volume: LocalVolume, vfs: FaultyVFS) -> None:
    vfs.fail["write", "-wal"] = apsw.FullError
    for durable in (True, False):
        with pytest.raises(VolumeFull):
            apply(volume, [insert(row_id(b"a"))], [insert(row_id(b"b"))], durable=durable)
    assert volume.rows(SPACE, b"a") == []
    vfs.fail.clear()
    assert apply(volume, [insert(row_id(b"a"))], durable=True) == [None]
    assert len(volume.rows(SPACE, b"a")) == 1


def test_a_failed_write_is_an_unknown_outcome_and_the_volume_goes_on(volume: LocalVolume, vfs: FaultyVFS) -> None:
    vfs.fail["write", "-wal"] = apsw.IOError
    with pytest.raises(VolumeError) as caught:
        apply(volume, [insert(row_id())], durable=True)
    assert type(caught.value) is VolumeError
    vfs.fail.clear()
    assert apply(volume, [insert(row_id(b"b"))], durable=True) == [None]


def test_a_failed_sync_of_a_commit_takes_the_volume_out_of_service(volume: LocalVolume, vfs: FaultyVFS) -> None:
    vfs.fail["sync", "-wal"] = apsw.IOError
    with pytest.raises(VolumeUnusable):
        apply(volume, [insert(row_id())], durable=True)
    vfs.fail.clear()
    with pytest.raises(VolumeUnusable):
        apply(volume, [insert(row_id())], durable=True)
    with pytest.raises(VolumeUnusable):
        volume.rows(SPACE, b"key")


def test_a_failed_sync_of_a_checkpoint_takes_the_volume_out_of_service(volume: LocalVolume, vfs: FaultyVFS) -> None:
    vfs.fail["sync", "db"] = apsw.IOError

    def unusable() -> bool:
        try:
            grow(volume, int(time.monotonic() * 1e6), 50)
        except VolumeUnusable:
            return True
        return False

    assert eventually(unusable)


def test_a_read_that_fails_is_an_error_of_that_read_only(volume: LocalVolume, vfs: FaultyVFS) -> None:
    grow(volume, 0, 50)  # too little for a checkpoint, which would fail as well, and take the volume out
    vfs.fail["read", "db"] = vfs.fail["read", "-wal"] = apsw.IOError
    with pytest.raises(VolumeError):
        volume.scan(SPACE, b"", None, 1000)
    vfs.fail.clear()
    assert len(volume.scan(SPACE, b"", None, 1000)) == 50


@pytest.mark.parametrize(
    ("error", "code", "kind"),
    [
        (apsw.CorruptError, apsw.SQLITE_CORRUPT, CatalogCorrupt), (apsw.NotADBError, apsw.SQLITE_NOTADB, CatalogCorrupt),
        (apsw.IOError, apsw.SQLITE_IOERR_CORRUPTFS, CatalogCorrupt), (apsw.FullError, apsw.SQLITE_FULL, VolumeFull),
        (apsw.ReadOnlyError, apsw.SQLITE_READONLY, VolumeReadOnly), (apsw.IOError, apsw.SQLITE_IOERR_FSYNC, VolumeUnusable),
        (apsw.IOError, apsw.SQLITE_IOERR_DIR_FSYNC, VolumeUnusable),
        (apsw.ReadOnlyError, apsw.SQLITE_READONLY_DBMOVED, VolumeUnusable),
        (apsw.BusyError, apsw.SQLITE_BUSY, VolumeError), (apsw.IOError, apsw.SQLITE_IOERR_READ, VolumeError),
    ],
)
def test_errors_of_sqlite_become_errors_of_the_volume(error: type[apsw.Error], code: int, kind: type[VolumeError]) -> None:
    raised = error("text")
    raised.extendedresult = code  # type: ignore[attr-defined]
    found = volume_error(raised, None, "here")
    assert type(found) is kind
    assert "here" in str(found)


# ---- opening -------------------------------------------------------------------------------------------------------------
def damage(path: str, change: Callable[[apsw.Connection], object]) -> None:
    connection = apsw.Connection(names.catalog(path))
    change(connection)
    connection.close()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c.pragma("application_id", 5), "not from abixio"),
        (lambda c: c.pragma("user_version", 2), "format 2"),
        (lambda c: c.execute("DROP TABLE head"), "lacks the tables head"),
        (lambda c: c.execute("UPDATE meta SET value = 'other'"), "belongs to volume other"),
    ],
)
def test_a_catalog_that_is_not_this_volumes_is_refused_by_name(
    tmp_path: Path, change: Callable[[apsw.Connection], object], says: str
) -> None:
    path = formatted(tmp_path / "volume")
    damage(path, change)
    with pytest.raises(CatalogCorrupt, match=says) as caught:
        LocalVolume.open(path)
    assert path in str(caught.value)


@pytest.mark.parametrize("content", [b"garbage" * 1000, b"SQLite format 3\0" + b"\xff" * 8000, b""])
def test_a_catalog_that_is_no_database_is_corrupt(tmp_path: Path, content: bytes) -> None:
    path = formatted(tmp_path / "volume")
    Path(names.catalog(path)).write_bytes(content)
    with pytest.raises(CatalogCorrupt) as caught:
        LocalVolume.open(path)
    assert path in str(caught.value)


def test_a_catalog_that_is_missing_is_not_made_anew(tmp_path: Path) -> None:
    path = formatted(tmp_path / "volume")
    os.unlink(names.catalog(path))
    with pytest.raises(CatalogCorrupt, match="missing"):
        LocalVolume.open(path)
    assert not os.path.exists(names.catalog(path))


def test_a_rotten_page_is_told_and_the_rest_still_answers(tmp_path: Path) -> None:
    volume = LocalVolume.open(formatted(tmp_path / "volume"))
    grow(volume, 0, 200)
    volume.close()
    connection = apsw.Connection(names.catalog(volume.path))
    leaf = connection.execute("SELECT max(pageno) FROM dbstat WHERE name = 'row' AND pagetype = 'leaf'").get
    connection.close()
    with open(names.catalog(volume.path), "r+b") as file:
        file.seek((leaf - 1) * 4096)
        file.write(os.urandom(4096))
    again = LocalVolume.open(volume.path)
    with pytest.raises(CatalogCorrupt):
        again.scan(SPACE, b"", None, 1000)
    assert again.notes()["seq"] == 200
    again.close()


def test_a_catalog_of_an_older_version_gets_the_indexes_that_it_lacks(tmp_path: Path) -> None:
    path = formatted(tmp_path / "volume")
    first = LocalVolume.open(path)
    apply(first, [insert(row_id(seq=5)), insert(row_id(seq=5, rev=3))])
    first.close()
    damage(path, lambda c: c.execute("DROP INDEX row_age; DROP INDEX row_amended"))
    again = LocalVolume.open(path)
    assert [each.at for each in again.aged(SPACE, 0, 9, 9)] == [5, 5]
    assert [each.at for each in again.amended(SPACE, 0, 9, 9)] == [8]
    again.close()


def test_a_read_only_catalog_without_its_indexes_opens_and_says_so_when_it_is_asked_by_age(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = formatted(tmp_path / "volume")
    damage(path, lambda c: c.execute("DROP INDEX row_age"))
    monkeypatch.setattr(catalog_schema, "complete", lambda connection: None)
    volume = LocalVolume.open(path)
    assert volume.rows(SPACE, b"key") == []
    with pytest.raises(VolumeError, match="row_age"):
        volume.aged(SPACE, 0, 9, 9)
    volume.close()


def test_the_order_of_a_keys_rows_is_never_that_of_another_index(volume: LocalVolume) -> None:
    """What the newest row is, is asked without an order: the table's own."""
    connection = volume._catalog._connection
    for sql in (catalog_write._NEWEST, catalog_write._NEWEST_REV, catalog_read._ROWS):
        (plan,) = connection.execute("EXPLAIN QUERY PLAN " + sql, (b"",) * sql.count("?")).fetchall()
        assert "USING PRIMARY KEY" in plan[3]
