"""The layer and the disks of the crash matrix do what they say: numbering, faults, and what a power cut leaves."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from random import Random

import apsw
import pytest

from abixio.errors import VolumeError, VolumeFull, VolumeUnusable
from abixio.volume.interface import Insert, RowId, State
from abixio.volume.local import LocalVolume
from tests.crash.disk import PAGE, SECTOR, Disk
from tests.crash.layer import Fault, Layer, Point, applies
from tests.crash.layer_files import LayerFiles
from tests.crash.layer_vfs import Connection
from tests.volume_fixtures import formatted

OLD = {"f": b"o" * (2 * PAGE)}


def after(disk: Disk, cut: str) -> list[dict[str, bytes]]:
    """Many throws of the dice."""
    return [disk.after(cut, Random(seed)) for seed in range(200)]


def written(*entries: tuple[object, ...]) -> Disk:
    disk = Disk(OLD)
    for what, *args in entries:
        disk.do(str(what), *args)
    return disk


# ---- disks -----------------------------------------------------------------------------------------------------------
def test_what_was_synced_survives_every_cut() -> None:
    new = ("link", "d/x", 1), ("write", 1, 0, b"x"), ("sync", 1), ("syncdir", "d")
    disk = written(("write", 0, 0, b"n" * PAGE), ("sync", 0), *new)
    for cut in ("drop", "mixed", "prefix", "pages", "torn"):
        assert after(disk, cut) == [{"f": b"n" * PAGE + b"o" * PAGE, "d/x": b"x"}] * 200


def test_what_was_not_synced_can_be_lost_and_can_survive() -> None:
    disk = written(("write", 0, 0, b"n" * PAGE), ("unlink", "f"))
    assert after(disk, "drop") == [OLD] * 200
    assert {} in after(disk, "mixed") and OLD in after(disk, "mixed")


def test_a_prefix_keeps_the_order_of_changes() -> None:
    disk = written(("write", 0, 0, b"1"), ("link", "x", 1), ("write", 0, 1, b"2"))
    seen = {(state["f"][:2], "x" in state) for state in after(disk, "prefix")}
    assert seen == {(b"oo", False), (b"1o", False), (b"1o", True), (b"12", True)}


def test_pages_arrive_in_any_order_and_whole() -> None:
    disk = written(("write", 0, 0, b"1" * PAGE), ("write", 0, PAGE, b"2" * PAGE))
    seen = {state["f"] for state in after(disk, "pages")}
    assert seen == {a * PAGE + b * PAGE for a in (b"o", b"1") for b in (b"o", b"2")}


def test_torn_writes_arrive_by_sectors() -> None:
    disk = written(("write", 0, 0, b"1" * PAGE))
    torn = [state["f"] for state in after(disk, "torn") if len(set(state["f"][:PAGE])) > 1]
    assert torn, "some are torn"
    assert all(len(set(data[start : start + SECTOR])) == 1 for data in torn for start in range(0, len(data), SECTOR))


def test_a_page_written_twice_has_one_of_its_contents() -> None:
    disk = written(("write", 0, 0, b"1" * PAGE), ("write", 0, 0, b"2" * PAGE))
    assert {state["f"][:PAGE] for state in after(disk, "pages")} == {b"o" * PAGE, b"1" * PAGE, b"2" * PAGE}


def test_a_new_file_can_be_shorter_than_it_was_written_or_have_holes() -> None:
    disk = written(("link", "d/x", 1), ("syncdir", "d"), ("write", 1, 0, b"1" * PAGE), ("write", 1, PAGE, b"2" * PAGE))
    seen = {state["d/x"] for state in after(disk, "pages")}
    assert {b"", b"1" * PAGE, bytes(PAGE), bytes(PAGE) + b"2" * PAGE, b"1" * PAGE + b"2" * PAGE} <= seen


def test_a_name_is_certain_only_when_its_directory_was_synced() -> None:
    disk = written(("link", "t/x", 1), ("write", 1, 0, b"x"), ("sync", 1), ("rename", "t/x", "d/x", 1))
    assert {frozenset(state) for state in after(disk, "pages")} == {
        frozenset(names) for names in (["f"], ["f", "t/x"], ["f", "d/x"])
    }
    disk.do("syncdir", "d")
    assert all(state["d/x"] == b"x" for state in after(disk, "drop"))


def test_a_file_removed_and_not_synced_comes_back() -> None:
    disk = written(("unlink", "f"))
    assert after(disk, "drop") == [OLD] * 200
    disk.do("syncfs")
    assert after(disk, "drop") == [{}] * 200


def test_a_failed_sync_forgets_the_pages_and_the_next_one_says_nothing_of_them() -> None:
    disk = written(("write", 0, 0, b"1" * PAGE))
    disk.lose("sync", 0)
    disk.do("sync", 0)
    assert after(disk, "mixed") == [OLD] * 200


# ---- the layer -------------------------------------------------------------------------------------------------------
def change(key: bytes) -> list[list[Insert]]:
    return [[Insert(RowId(b"s" * 16, key, 1, 0), State.COMMITTED, 1, b"record")]]


def held(path: str) -> dict[str, bytes]:
    """The files of a volume, but for what SQLite makes anew."""
    files = [file for file in Path(path).rglob("*") if file.is_file() and not file.name.endswith("-shm")]
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


def opened(path: str, fault: Fault | None = None) -> tuple[Layer, LocalVolume]:
    layer = Layer(fault, record=True)
    return layer, LocalVolume.open(path, LayerFiles(layer, 0, path, list(held(path))))


@pytest.fixture(autouse=True)
def closing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apsw, "Connection", Connection)


def test_a_journal_holds_all_that_the_disk_holds(tmp_path: Path) -> None:
    path = formatted(tmp_path / "volume")
    image = held(path)
    layer, volume = opened(path)
    assert volume.apply(change(b"a"), True) == [None]
    writer = volume.create_shard(b"w" * 16)
    writer.write([b"data"])
    writer.finish(bytes(8), b"record", bytes(32), True)
    volume.close()
    disk = Disk(image)
    assert layer.journal is not None
    for what, _, *args in layer.journal:
        disk.do(what, *args)
    disk.do("syncfs")
    assert disk.after("drop", Random(0)) == held(path)


WAL = "catalog.db-wal"


@pytest.mark.parametrize(
    ("kind", "call", "error"),
    [("eio", "xWrite", VolumeError), ("full", "xWrite", VolumeFull), ("lost sync", "xSync", VolumeUnusable)],
)
def test_a_fault_of_sqlite_is_to_the_catalog_what_a_real_one_is(
    tmp_path: Path, kind: str, call: str, error: type[VolumeError]
) -> None:
    path = formatted(tmp_path / "volume")
    layer, volume = opened(path)
    volume.apply(change(b"a"), True)
    layer.fault = Fault(kind, Point(0, f"{call} {WAL}", layer.counts[0, f"{call} {WAL}"]))
    with pytest.raises(error):
        volume.apply(change(b"b"), True)
    assert layer.tripped
    volume.close()


def test_one_write_that_finds_no_room_is_tried_again_once_the_log_is_empty(tmp_path: Path) -> None:
    path = formatted(tmp_path / "volume")
    layer, volume = opened(path)
    volume.apply(change(b"a"), True)
    layer.fault = Fault("enospc", Point(0, f"xWrite {WAL}", layer.counts[0, f"xWrite {WAL}"]))
    assert volume.apply(change(b"b"), True) == [None]
    assert layer.tripped
    volume.close()


def test_a_short_write_of_a_shard_is_gone_on_with(tmp_path: Path) -> None:
    path = formatted(tmp_path / "volume")
    layer, volume = opened(path, Fault("short", Point(0, "writev tmp", 0)))
    writer = volume.create_shard(b"w" * 16)
    writer.write([b"0123456789"])
    writer.finish(bytes(8), b"", bytes(32), False)
    shard = volume.open_shard(b"w" * 16)
    assert layer.tripped and bytes(shard.view) == b"0123456789" and layer.counts[0, "writev tmp"] >= 3
    shard.close()
    volume.close()


def test_a_dead_volume_fails_every_later_call(tmp_path: Path) -> None:
    path = formatted(tmp_path / "volume")
    layer, volume = opened(path, Fault("dead", Point(0, "create tmp", 0)))
    for _ in range(3):
        with pytest.raises(VolumeError):
            volume.create_shard(b"w" * 16)
    volume._room_until = 0.0
    with pytest.raises(VolumeError):
        volume.apply(change(b"a"), True)
    assert layer.tripped
    volume.close()


def test_faults_hit_the_calls_that_they_can_happen_to() -> None:
    assert applies("kill", "xSync catalog.db") and not applies("kill", "xRead catalog.db")
    assert applies("emfile", "open shard") and not applies("emfile", "writev tmp")
    assert applies("short", "xWrite catalog.db-wal") and not applies("short", "unlink shard")
    assert os.strerror(errno.EIO)
