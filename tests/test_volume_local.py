"""`LocalVolume` against the contract, and what it does beyond it: formatting, opening, recovery, full and vanished disks."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from abixio.errors import ShardMissing, StartupError, VolumeError, VolumeFull, VolumeReadOnly, VolumeUnusable
from abixio.volume import catalog_read, names
from abixio.volume.formatting import format_volume
from abixio.volume.interface import Drop, Head, Note, State, Volume
from abixio.volume.local import RESERVE_LEAST, RESERVE_MOST, LocalVolume, last, reserve
from tests.volume_contract import SPACE, VolumeContract, apply, insert, listed, row_id, store_shard, write_id
from tests.volume_fixtures import FaultyFiles, formatted, new_identity

NOBODY = 65534
"""The user id that Linux uses for nobody."""


class TestContract(VolumeContract):
    @pytest.fixture
    def volume(self, tmp_path: Path) -> Iterator[Volume]:
        volume = LocalVolume.open(formatted(tmp_path / "volume"))
        yield volume
        volume.close()


@pytest.fixture
def path(tmp_path: Path) -> str:
    return formatted(tmp_path / "volume")


# ---- formatting ----------------------------------------------------------------------------------------------------------
def test_a_fresh_volume_is_empty_and_says_who_it_is(tmp_path: Path) -> None:
    who = new_identity(3, 4)
    format_volume(str(tmp_path / "volume"), who)
    volume = LocalVolume.open(str(tmp_path / "volume"))
    assert volume.identity == who
    assert volume.slot == 3
    assert volume.clean
    assert volume.notes() == {"commits": 0, "inline": 0, "seq": 0}
    assert volume.device == os.stat(tmp_path).st_dev
    volume.close()
    assert len(os.listdir(tmp_path / "volume" / "shards")) == 256


def test_a_volume_or_a_directory_with_other_files_is_never_formatted(path: str, tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="a volume"):
        format_volume(path, new_identity())
    os.unlink(names.identity(path))
    with pytest.raises(StartupError, match="something else"):
        format_volume(path, new_identity())
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").touch()
    with pytest.raises(StartupError, match="photos"):
        format_volume(str(tmp_path / "photos"), new_identity())


class Cut(BaseException):
    """The process is gone."""


def test_a_format_that_is_cut_at_any_step_can_be_made_again(tmp_path: Path) -> None:
    for steps in range(0, 400, 7):
        target = tmp_path / f"volume{steps}"
        files, left = FaultyFiles(), steps

        def cut(_name: str, _argument: Any) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise Cut

        files.hook = cut
        try:
            format_volume(str(target), new_identity(), files)
        except Cut:
            if not (target / ".abixio" / "volume.json").exists():
                format_volume(str(target), new_identity())
            LocalVolume.open(str(target)).close()
        else:
            break
    assert steps > 0, "nothing was cut"


def test_a_volume_says_that_it_is_one_only_when_everything_else_is_on_the_disk(tmp_path: Path) -> None:
    files = FaultyFiles()
    format_volume(str(tmp_path / "volume"), new_identity(), files)
    steps = [(name, os.path.basename(str(argument))) for name, argument in files.calls if name in ("syncfs", "replace", "unlink")]
    kinds = [name for name, _ in steps]
    assert kinds.index("syncfs") < steps.index(("replace", "volume.json")) < steps.index(("unlink", "formatting"))


def test_a_disk_that_cannot_be_formatted_is_named(tmp_path: Path) -> None:
    files = FaultyFiles()
    for step, number in (("create", errno.EROFS), ("syncfs", errno.EIO), ("rename", errno.ENOSPC), ("fdatasync", errno.EIO)):
        files.faults = {step: number}
        with pytest.raises(StartupError, match=str(tmp_path)):
            format_volume(str(tmp_path / step), new_identity(), files)


# ---- opening -------------------------------------------------------------------------------------------------------------
def test_a_volume_is_one_servers(path: str) -> None:
    first = LocalVolume.open(path)
    with pytest.raises(StartupError, match="another server") as caught:
        LocalVolume.open(path)
    assert path in str(caught.value)
    first.close()
    LocalVolume.open(path).close()


def test_opening_that_fails_lets_go_of_everything(path: str) -> None:
    before = len(os.listdir("/proc/self/fd"))
    files = FaultyFiles()
    files.faults["unlink"] = errno.EIO
    Path(names.tmp(path), "left over").touch()
    with pytest.raises(VolumeError):
        LocalVolume.open(path, files)
    assert len(os.listdir("/proc/self/fd")) == before
    assert not [thread for thread in threading.enumerate() if path in thread.name]
    LocalVolume.open(path).close()


def test_closing_lets_go_of_everything(path: str) -> None:
    before = len(os.listdir("/proc/self/fd"))
    volume = LocalVolume.open(path)
    threads = [threading.Thread(target=volume.rows, args=(SPACE, b"key")) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    apply(volume, [insert(row_id())])
    volume.close()
    assert len(os.listdir("/proc/self/fd")) == before
    assert not [thread for thread in threading.enumerate() if path in thread.name]


def test_unfinished_shards_are_removed_and_finished_ones_stay(path: str) -> None:
    volume = LocalVolume.open(path)
    store_shard(volume, write_id(1), b"data")
    Path(names.tmp_shard(path, write_id(2), 0)).write_bytes(b"half")  # as a kill leaves it
    volume.close()
    volume = LocalVolume.open(path)
    assert os.listdir(names.tmp(path)) == []
    volume.open_shard(write_id(1)).close()
    volume.close()


def all_of(volume: LocalVolume) -> tuple[object, ...]:
    rows, listed = volume.rows(SPACE, b"key"), volume.scan(SPACE, b"", None, 9)
    return rows, listed, volume.unsettled(None, 9), volume.garbage(9), volume.notes()


def test_everything_is_there_again_after_reopening(path: str) -> None:
    volume = LocalVolume.open(path)
    apply(volume, listed(row_id(), shards=(write_id(1),), inline=b"bytes"), [Note("peer", 7)])
    store_shard(volume, write_id(2), b"data")
    apply(volume, [Drop(row_id(b"x"), (write_id(2),))])
    before = all_of(volume)
    volume.close()
    volume = LocalVolume.open(path)
    assert all_of(volume) == before
    where = volume.rows(SPACE, b"key")[0].inline
    assert where is not None
    assert volume.inline(where) == b"bytes"
    apply(volume, [insert(row_id(b"next", 9), shards=(write_id(3),), inline=b"next")])
    assert volume.rows(SPACE, b"next")[0].inline != where
    volume.close()


def test_a_new_identity_is_written_and_kept(path: str) -> None:
    volume = LocalVolume.open(path)
    volume.set_identity(replace(volume.identity, epoch=5))
    assert volume.identity.epoch == 5
    volume.close()
    volume = LocalVolume.open(path)
    assert volume.identity.epoch == 5
    volume.close()


# ---- clean or not --------------------------------------------------------------------------------------------------------
class Boot(FaultyFiles):
    """In a boot of its own."""

    def __init__(self, boot: str) -> None:
        super().__init__()
        self.boot = boot

    def boot_id(self) -> str:
        return self.boot


def crash(volume: LocalVolume) -> None:
    """Let go of the directory as a killed process does, without a word in the catalog."""
    volume._fail(VolumeUnusable("killed"))
    volume.close()


def opened_after(path: str, boot: str) -> bool:
    volume = LocalVolume.open(path, Boot(boot))
    volume.close()
    return volume.clean


def test_a_volume_is_clean_after_a_close_and_after_a_kill_within_one_boot_but_not_after_a_power_cut(path: str) -> None:
    volume = LocalVolume.open(path, Boot("first"))
    apply(volume, [insert(row_id())])
    volume.close()
    assert opened_after(path, "second")

    volume = LocalVolume.open(path, Boot("second"))
    store_shard(volume, write_id(1), b"data")
    crash(volume)
    assert opened_after(path, "second")

    volume = LocalVolume.open(path, Boot("second"))
    apply(volume, [insert(row_id())])
    crash(volume)
    assert not opened_after(path, "third")


def test_a_volume_that_was_only_read_stays_clean_and_a_suspicious_one_suspicious(path: str) -> None:
    crash(LocalVolume.open(path, Boot("first")))
    assert opened_after(path, "second")
    volume = LocalVolume.open(path, Boot("second"))
    apply(volume, [Note("x", 1)])
    crash(volume)
    assert not opened_after(path, "third")
    assert not opened_after(path, "third"), "nobody has said that it is well since"


def test_closing_after_a_failed_sync_does_not_claim_that_all_is_well(path: str) -> None:
    files = Boot("first")
    volume = LocalVolume.open(path, files)
    apply(volume, [insert(row_id())])
    files.faults["syncfs"] = errno.EIO
    volume.close()
    assert not opened_after(path, "second")


# ---- full, read-only, gone -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("total", "kept"),
    [(10 << 20, 10 << 18), (64 << 20, RESERVE_LEAST), (100 << 30, 1 << 30), (100 << 40, RESERVE_MOST)],
)
def test_about_a_hundredth_is_kept(total: int, kept: int) -> None:
    assert reserve(total) == pytest.approx(kept, rel=0.01)


@pytest.mark.parametrize(("total", "left"), [(10 << 20, 10 << 18), (400 << 20, RESERVE_LEAST), (100 << 30, 1 << 29)])
def test_half_of_it_is_for_deletes_alone_and_of_a_small_disk_all(total: int, left: int) -> None:
    assert last(reserve(total)) == pytest.approx(left, rel=0.01)


def test_the_reserve_takes_deletes_and_repair_but_no_new_data(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    files = FaultyFiles()
    free = 1 << 40
    monkeypatch.setattr(files, "room", lambda _path: (free, 1 << 40))
    volume = LocalVolume.open(path, files)
    writer = volume.create_shard(write_id(8))
    apply(volume, [insert(row_id(b"old", 1), shards=(write_id(1),), inline=b"x")])
    free = (10 << 30) - 1
    volume._room_until = 0
    put = insert(row_id(b"put", 2), shards=(write_id(2),), inline=b"x")
    answers = apply(volume, [put], [insert(row_id(b"old", 3))], [put._replace(guard=False)])
    assert [type(answer) for answer in answers] == [VolumeFull, type(None), type(None)]
    with pytest.raises(VolumeFull):
        volume.create_shard(write_id(3))
    with pytest.raises(VolumeFull):
        writer.write([b"more"])
    repair = volume.create_shard(write_id(4), repair=True)
    repair.write([b"more"])
    free = last(reserve(1 << 40)) - 1
    with pytest.raises(VolumeFull):
        repair.write([b"more"])
    with pytest.raises(VolumeFull):
        volume.create_shard(write_id(5), repair=True)
    assert apply(volume, [Drop(row_id(b"old", 1), (write_id(1),)), Head(SPACE, b"old", None)]) == [None]
    free = 11 << 30
    assert apply(volume, [put]) == [None]
    volume.close()


def test_a_full_disk_opens_and_reads(path: str) -> None:
    volume = LocalVolume.open(path)
    apply(volume, listed(row_id()))
    volume.close()
    files = FaultyFiles()
    files.faults = dict.fromkeys(("create", "writev", "replace", "rename"), errno.ENOSPC)
    volume = LocalVolume.open(path, files)
    assert len(volume.scan(SPACE, b"", None, 10)) == 1
    with pytest.raises(VolumeFull):
        volume.create_shard(write_id(1))
    volume.close()


@pytest.fixture
def unprivileged() -> Iterator[str]:
    """A directory of a user whom the permissions of files mean something to: root writes where it may not."""
    home = tempfile.mkdtemp()
    user = os.geteuid()
    if user == 0:
        os.chown(home, NOBODY, NOBODY)
        os.seteuid(NOBODY)
    yield home
    os.seteuid(user)
    shutil.rmtree(home)


def test_a_disk_that_may_not_be_written_opens_and_reads(unprivileged: str) -> None:
    path = formatted(Path(unprivileged, "volume"))
    volume = LocalVolume.open(path)
    store_shard(volume, write_id(1), b"data")
    apply(volume, listed(row_id(), shards=(write_id(1),)))
    volume.close()
    for entry in Path(path).rglob("*"):
        entry.chmod(0o500 if entry.is_dir() else 0o400)
    volume = LocalVolume.open(path)
    assert len(volume.scan(SPACE, b"", None, 10)) == 1
    volume.open_shard(write_id(1)).close()
    with pytest.raises(VolumeReadOnly):
        apply(volume, [insert(row_id(seq=2))])
    with pytest.raises(VolumeReadOnly):
        volume.create_shard(write_id(2))
    volume.close()
    for entry in [Path(path), *Path(path).rglob("*")]:
        entry.chmod(0o700)


def test_a_directory_that_is_gone_or_was_replaced_is_not_written_to(path: str, tmp_path: Path) -> None:
    volume = LocalVolume.open(path)
    apply(volume, [insert(row_id())])
    shutil.move(path, tmp_path / "away")
    volume._room_until = 0
    with pytest.raises(VolumeUnusable):
        apply(volume, [insert(row_id(seq=2))])
    formatted(Path(path))
    with pytest.raises(VolumeUnusable):
        volume.create_shard(write_id(1))
    volume.close()
    away = LocalVolume.open(str(tmp_path / "away"))
    assert [row.id.seq for row in away.rows(SPACE, b"key")] == [1]
    away.close()


def test_a_file_that_cannot_be_removed_stays_on_the_list(path: str) -> None:
    files = FaultyFiles()
    volume = LocalVolume.open(path, files)
    store_shard(volume, write_id(1), b"data")
    apply(volume, [Drop(row_id(), (write_id(1),))])
    files.faults["unlink"] = errno.EIO
    with pytest.raises(VolumeError):
        volume.unlink([write_id(1)])
    files.faults.clear()
    assert volume.garbage(10) == [write_id(1)]
    volume.unlink([write_id(1)])
    with pytest.raises(ShardMissing):
        volume.open_shard(write_id(1))
    volume.close()


def test_states_are_stored_as_the_numbers_that_the_format_names() -> None:
    assert [(state.name, state.value) for state in State] == [
        ("PENDING", 0), ("COMMITTED", 1), ("ABORTED", 2), ("ANSWERED", 3),
    ]


# ---- walking --------------------------------------------------------------------------------------------------------------
def test_what_is_no_shard_file_in_a_shard_directory_is_not_taken_for_one(path: str) -> None:
    volume = LocalVolume.open(path)
    store_shard(volume, write_id(7), b"data")
    directory = names.shard_files(path, 7)
    for name in ("lost+found", write_id(8).hex(), write_id(7).hex().upper() + "A", write_id(7).hex() + ".1", "g" * 30 + "07"):
        Path(directory, name).write_bytes(b"")
    assert volume.shard_files(7) == [write_id(7)]
    volume.close()


def test_a_shard_directory_that_cannot_be_listed_is_an_error_of_the_volume(path: str) -> None:
    volume = LocalVolume.open(path)
    shutil.rmtree(names.shard_files(path, 7))
    with pytest.raises(VolumeError):
        volume.shard_files(7)
    volume.close()


def test_a_walk_does_not_sort_the_whole_table(path: str) -> None:
    volume = LocalVolume.open(path)
    for sql, bindings in ((catalog_read._WALK_ALL, ()), (catalog_read._WALK_AFTER, (SPACE, b""))):
        plan = " ".join(str(step) for step in volume._catalog._connection.execute(f"EXPLAIN QUERY PLAN {sql}", bindings))
        assert "TEMP B-TREE" not in plan
        assert not bindings or "SEARCH row USING PRIMARY KEY" in plan
    volume.close()


def test_a_walk_over_long_records_answers_with_few_of_them(path: str) -> None:
    volume = LocalVolume.open(path)
    for number in range(12):
        apply(volume, [insert(row_id(b"%02d" % number), bytes(1 << 20))])
    found, after = [], None
    while page := volume.walk(after, 1000):
        assert len(page) <= 4
        found += page
        after = page[-1].id[:2]
    assert len(found) == 12
    volume.close()


def test_words_are_remembered_beyond_the_end_and_do_not_touch_the_volume_s_own(path: str) -> None:
    volume = LocalVolume.open(path)
    volume.remember("closed", "no")
    volume.close()
    volume = LocalVolume.open(path)
    assert volume.clean
    assert volume.remembered("closed") == "no"
    volume.close()


def test_what_was_never_finished_on_a_volume_that_failed_is_let_go_of_when_it_is_closed(path: str) -> None:
    files = FaultyFiles()
    volume = LocalVolume.open(path, files)
    before = len(os.listdir("/proc/self/fd"))
    finished = volume.create_shard(write_id(9))
    finished.finish(b"", b"record", bytes(32), False)
    writers = [volume.create_shard(write_id(number)) for number in range(3)]
    files.faults["syncfs"] = errno.EIO
    with pytest.raises(VolumeUnusable):
        volume.barrier()
    assert len(os.listdir(names.tmp(path))) == len(writers)
    volume.close()
    assert os.listdir(names.tmp(path)) == []
    assert len(os.listdir("/proc/self/fd")) < before
    assert len(os.listdir(names.shard_files(path, 9))) == 1


def test_a_volume_says_whether_its_last_use_ended_in_good_order(path: str) -> None:
    volume = LocalVolume.open(path)
    assert volume.orderly
    apply(volume, [insert(row_id())])
    volume.close()
    volume = LocalVolume.open(path)
    assert volume.orderly
    volume.remember("scan", "somewhere")
    os.sync()
    shutil.copytree(path, path + " killed", ignore=shutil.ignore_patterns("lock"))
    volume.close()
    volume = LocalVolume.open(path + " killed")
    assert not volume.orderly
    assert volume.clean
    volume.close()
