"""Who belongs to a pool: real directories, started again and again in every state that disks come back in."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from abixio.errors import StartupError, VolumeReadOnly
from abixio.store.assembly import PoolVolumes, carry_out, replace_slot, survey
from abixio.volume.files import Files
from abixio.volume.local import LocalVolume


@pytest.fixture
def disks(tmp_path: Path) -> list[Path]:
    """Where four volumes may be; nothing is there yet."""
    return [tmp_path / f"disk{number}" for number in range(4)]


def start(paths: list[Path], files: Files | None = None) -> PoolVolumes:
    return carry_out(survey([str(path) for path in paths], files=files), files)


def run(paths: list[Path], files: Files | None = None) -> tuple[dict[int, str], set[int]]:
    """Start and stop: names of the directories by slot, and which are filling."""
    volumes = start(paths, files)
    volumes.close()
    return {slot: Path(volume.path).name for slot, volume in volumes.by_slot.items()}, volumes.filling


def identity(path: Path) -> dict[str, Any]:
    content = json.loads((path / ".abixio/volume.json").read_text())
    assert isinstance(content, dict)
    return content


def change(path: Path, **fields: Any) -> None:
    (path / ".abixio/volume.json").write_text(json.dumps(identity(path) | fields))


def wipe(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()


ALL = {0: "disk0", 1: "disk1", 2: "disk2", 3: "disk3"}


# ---- a new pool ------------------------------------------------------------------------------------------------------
def test_directories_that_are_missing_or_empty_become_a_new_pool(disks: list[Path]) -> None:
    disks[1].mkdir()
    (disks[2] / "lost+found").mkdir(parents=True)
    assert run(disks) == (ALL, set())
    identities = [identity(disk) for disk in disks]
    assert [one["slot"] for one in identities] == [0, 1, 2, 3]
    assert [one["epoch"] for one in identities] == [1, 1, 1, 1]
    assert len({one["deployment"] for one in identities}) == 1
    assert len({one["volume"] for one in identities}) == 4
    assert all(one["members"] == identities[0]["members"] for one in identities)


def test_a_survey_writes_nothing(disks: list[Path], tmp_path: Path) -> None:
    survey([str(disk) for disk in disks])
    assert list(tmp_path.iterdir()) == []


def test_a_restart_changes_nothing(disks: list[Path]) -> None:
    run(disks)
    before = [(disk / ".abixio/volume.json").read_bytes() for disk in disks]
    assert run(disks) == (ALL, set())
    assert [(disk / ".abixio/volume.json").read_bytes() for disk in disks] == before


def test_one_directory_is_a_pool_too(disks: list[Path]) -> None:
    assert run(disks[:1]) == ({0: "disk0"}, set())
    assert run(disks[:1]) == ({0: "disk0"}, set())


@pytest.mark.parametrize("content", ["file", "directory"])
def test_a_directory_that_holds_other_things_is_refused_and_nothing_is_formatted(disks: list[Path], content: str) -> None:
    disks[2].mkdir()
    (disks[2] / "photo").mkdir() if content == "directory" else (disks[2] / "photo").touch()
    with pytest.raises(StartupError, match=r"disk2: holds files but no volume"):
        start(disks)
    assert not disks[0].exists()


def test_a_path_that_is_a_file_is_refused(disks: list[Path]) -> None:
    disks[0].write_text("no directory")
    with pytest.raises(StartupError, match=r"disk0"):
        start(disks)


@pytest.mark.parametrize("again", ["disk0", "disk0/inside", "../disk0", "."])
def test_overlapping_directories_are_refused(disks: list[Path], tmp_path: Path, again: str) -> None:
    name = disks[0].parent.name
    path = tmp_path / (f"../{name}/disk0" if again == "../disk0" else again)
    with pytest.raises(StartupError, match=r"same as|inside"):
        start([disks[0], path])


def test_one_directory_under_two_names_is_refused(disks: list[Path]) -> None:
    disks[0].mkdir()
    disks[1].symlink_to(disks[0])
    with pytest.raises(StartupError, match=r"disk1: is the same directory as .*disk0"):
        start(disks)


def test_volumes_on_one_device_are_worth_a_warning(disks: list[Path]) -> None:
    run(disks)
    assert "some volumes share a device" in survey([str(disk) for disk in disks]).warnings[-1]


def test_that_is_said_of_directories_that_are_still_to_be_made_too(disks: list[Path]) -> None:
    assert "some volumes share a device" in survey([str(disk) for disk in disks]).warnings[-1]


def test_of_one_volume_alone_it_is_not_said(disks: list[Path]) -> None:
    assert survey([str(disks[0])]).warnings == []


def test_a_new_pool_is_announced_once(disks: list[Path], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    run(disks)
    assert "made a new pool of 4 volumes: " in caplog.text
    assert all(str(disk) in caplog.text for disk in disks)
    caplog.clear()
    run(disks)
    assert "new pool" not in caplog.text


def test_a_pool_in_use_is_refused_before_anything_else_is_said(disks: list[Path], caplog: pytest.LogCaptureFixture) -> None:
    volumes = start(disks)
    caplog.clear()
    with pytest.raises(StartupError, match="another server uses this volume"):
        start(disks)
    assert caplog.text == ""
    volumes.close()


class Unwritable(Files):
    """Nothing can be made below that directory."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def mkdir(self, path: str) -> None:
        if path.startswith(self.path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        super().mkdir(path)


def test_one_directory_that_cannot_be_formatted_leaves_the_others_blank(disks: list[Path]) -> None:
    bad, *good = [disks[2], disks[0], disks[1], disks[3]]
    with pytest.raises(StartupError, match=r"disk2: cannot be made a volume: .*nothing was formatted; make it writable"):
        carry_out(survey([str(disk) for disk in disks]), Unwritable(bad))
    assert run(good)[0].keys() == {0, 1, 2}  # without it, another pool can be made of them at once


# ---- order, and volumes that are away --------------------------------------------------------------------------------
def test_the_order_of_the_directories_means_nothing(disks: list[Path]) -> None:
    run(disks)
    assert run(disks[::-1]) == (ALL, set())


def test_swapped_directories_just_work(disks: list[Path]) -> None:
    run(disks)
    spare = disks[0].with_name("spare")
    disks[0].rename(spare)
    disks[3].rename(disks[0])
    spare.rename(disks[3])
    assert run(disks) == ({0: "disk3", 1: "disk1", 2: "disk2", 3: "disk0"}, set())


@pytest.mark.parametrize("left", [[0], [1, 3], [0, 1, 2]])
def test_missing_directories_start_degraded_and_are_not_created(disks: list[Path], left: list[int]) -> None:
    run(disks)
    for number in set(range(4)) - set(left):
        disks[number].rename(disks[number].with_suffix(".away"))
    volumes = start(disks)
    volumes.close()
    assert (volumes.n, set(volumes.by_slot), volumes.filling) == (4, set(left), set())
    assert [disk.exists() for disk in disks] == [number in left for number in range(4)]


def test_fewer_directories_than_members_start_degraded(disks: list[Path]) -> None:
    run(disks)
    volumes = start(disks[1:])
    volumes.close()
    assert (volumes.n, set(volumes.by_slot)) == (4, {1, 2, 3})


def test_more_directories_than_members_are_refused(disks: list[Path], tmp_path: Path) -> None:
    run(disks)
    with pytest.raises(StartupError, match=r"extra: is one too many"):
        start([*disks, tmp_path / "extra"])
    assert not (tmp_path / "extra").exists()


def test_a_volume_that_was_away_comes_back_as_it_was(disks: list[Path]) -> None:
    run(disks)
    disks[2].rename(disks[2].with_suffix(".away"))
    run(disks)
    disks[2].with_suffix(".away").rename(disks[2])
    assert run(disks) == (ALL, set())


# ---- empty directories take missing slots ----------------------------------------------------------------------------
def test_an_empty_directory_takes_the_missing_slot_and_stays_filling(disks: list[Path]) -> None:
    run(disks)
    old = identity(disks[1])["volume"]
    wipe(disks[1])
    assert run(disks) == (ALL, {1})
    assert identity(disks[1])["volume"] != old
    assert [identity(disk)["epoch"] for disk in disks] == [2, 2, 2, 2]
    assert run(disks) == (ALL, {1})


def test_two_empty_directories_take_two_slots(disks: list[Path]) -> None:
    run(disks)
    wipe(disks[0])
    wipe(disks[3])
    slots, filling = run(disks)
    assert (set(slots), filling) == ({0, 1, 2, 3}, {0, 3})


def test_an_empty_directory_is_left_alone_while_too_few_members_are_here(disks: list[Path]) -> None:
    run(disks)
    for disk in disks[1:]:
        wipe(disk)
    plan = survey([str(disk) for disk in disks])
    assert sum("is empty and stays so" in warning for warning in plan.warnings) == 3
    assert run(disks) == ({0: "disk0"}, set())
    assert list(disks[1].iterdir()) == []


def test_a_replaced_member_that_returns_is_refused(disks: list[Path]) -> None:
    run(disks)
    disks[1].rename(disks[1].with_suffix(".away"))
    disks[1].mkdir()
    run(disks)
    shutil.rmtree(disks[1])
    disks[1].with_suffix(".away").rename(disks[1])
    with pytest.raises(StartupError, match=r"disk1: was replaced: slot 1 belongs to a newer volume"):
        start(disks)


def test_a_member_that_was_away_while_another_was_replaced_is_still_one(disks: list[Path]) -> None:
    run(disks)
    disks[3].rename(disks[3].with_suffix(".away"))
    wipe(disks[1])
    run(disks)
    disks[3].with_suffix(".away").rename(disks[3])
    assert run(disks) == (ALL, {1})
    assert identity(disks[3])["epoch"] == 2


def test_two_halves_that_went_on_alone_are_not_joined(disks: list[Path], tmp_path: Path) -> None:
    run(disks)
    halves = disks[:2], disks[2:]
    for number, half in enumerate(halves):
        new = [tmp_path / f"new{number}{letter}" for letter in "ab"]
        for path in new:
            path.mkdir()
        run([*half, *new])
    with pytest.raises(StartupError, match=r"names other members than .*disk0"):
        start(disks)


# ---- what is refused -------------------------------------------------------------------------------------------------
def test_two_deployments_are_refused(disks: list[Path], tmp_path: Path) -> None:
    run(disks)
    run([tmp_path / "other"])
    with pytest.raises(StartupError, match=r"other: belongs to deployment"):
        start([*disks[:3], tmp_path / "other"])


def test_a_copied_volume_is_refused(disks: list[Path], tmp_path: Path) -> None:
    run(disks)
    shutil.copytree(disks[1], tmp_path / "copy")
    with pytest.raises(StartupError, match=r"copy: is a copy of the volume in .*disk1"):
        start([*disks[:3], tmp_path / "copy"])


@pytest.mark.parametrize("fields", [{"format": 2}, {"incompat": ["striped-catalog"]}, {"ro_compat": ["new-index"]}])
def test_a_format_or_feature_of_the_future_is_refused(disks: list[Path], fields: dict[str, Any]) -> None:
    run(disks)
    change(disks[2], **fields)
    with pytest.raises(StartupError, match=r"disk2/\.abixio/volume\.json: .*this version of abixio"):
        start(disks)


def test_fields_of_the_future_survive_a_change_of_the_members(disks: list[Path]) -> None:
    run(disks)
    change(disks[2], rack="left", compat=["racks"])
    wipe(disks[1])
    run(disks)
    kept = identity(disks[2])
    assert (kept["epoch"], kept["rack"], kept["compat"]) == (2, "left", ["racks"])


def test_a_volume_in_use_is_refused(disks: list[Path]) -> None:
    running = start(disks)
    try:
        with pytest.raises(StartupError, match=r"disk0: another server"):
            start(disks)
    finally:
        running.close()


# ---- damage ----------------------------------------------------------------------------------------------------------
def spoil_identity(disk: Path) -> None:
    (disk / ".abixio/volume.json").write_text("{half")


def lose_identity(disk: Path) -> None:
    (disk / ".abixio/volume.json").unlink()


def lose_catalog(disk: Path) -> None:
    (disk / ".abixio/catalog.db").unlink()


def spoil_catalog(disk: Path) -> None:
    (disk / ".abixio/catalog.db").write_bytes(b"no database" * 1000)


@pytest.mark.parametrize("hurt", [spoil_identity, lose_identity, lose_catalog, spoil_catalog])
def test_a_damaged_volume_is_left_out_and_left_as_it_is(disks: list[Path], hurt: Callable[[Path], None]) -> None:
    run(disks)
    hurt(disks[2])
    before = sorted(path.relative_to(disks[2]) for path in disks[2].rglob("*"))
    slots, filling = run(disks)
    assert (set(slots), filling) == ({0, 1, 3}, set())
    assert {path for path in before if "catalog.db-" not in path.name} <= {p.relative_to(disks[2]) for p in disks[2].rglob("*")}


def test_a_pool_whose_only_named_volume_is_damaged_is_not_made_anew(disks: list[Path]) -> None:
    run(disks)
    spoil_identity(disks[2])
    with pytest.raises(StartupError, match=r"disk2.*name them, or empty it"):
        start([disks[2], disks[0].with_name("new")])


# ---- crashes ---------------------------------------------------------------------------------------------------------
class Crash(BaseException):
    """Stands for a kill -9."""


class DyingFiles(Files):
    """Dies at the `steps`-th change of the disk."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def _step(self) -> None:
        if self.steps == 0:
            raise Crash
        self.steps -= 1

    def create(self, path: str, mode: int = 0o600) -> int:
        self._step()
        return super().create(path, mode)

    def rename(self, old: str, new: str) -> None:
        self._step()
        super().rename(old, new)

    def unlink(self, path: str) -> None:
        self._step()
        super().unlink(path)


def survive(attempt: Callable[[Files], None], check: Callable[[], None], prepare: Callable[[], None]) -> int:
    """Die at every step in turn; after each death, `check` must hold. Returns how many steps there were."""
    for steps in range(1000):
        prepare()
        try:
            attempt(DyingFiles(steps))
        except Crash:
            check()
        else:
            return steps
    raise AssertionError("it never ends")


def test_a_new_pool_survives_a_crash_at_every_step_of_being_made(disks: list[Path]) -> None:
    def prepare() -> None:
        for disk in two:
            shutil.rmtree(disk, ignore_errors=True)

    def check() -> None:
        assert run(two) == ({0: "disk0", 1: "disk1"}, set())
        assert [identity(disk)["epoch"] for disk in two] == [1, 1]

    two = disks[:2]
    assert survive(lambda files: start(two, files).close(), check, prepare) >= 12


def test_a_new_pool_that_was_cut_short_needs_all_of_its_directories(disks: list[Path]) -> None:
    with pytest.raises(Crash):
        start(disks, DyingFiles(11))
    with pytest.raises(StartupError, match=r"cut short; name the same directories"):
        start(disks[:2])


def test_a_volume_that_joins_is_filling_whatever_step_the_crash_came_at(disks: list[Path]) -> None:
    three = disks[:3]
    run(three)
    before = [(disk / ".abixio/volume.json").read_bytes() for disk in three]

    def prepare() -> None:
        for disk, content in zip(three, before, strict=True):
            (disk / ".abixio/volume.json").write_bytes(content)
        wipe(disks[2])

    def check() -> None:
        assert run(three) == ({0: "disk0", 1: "disk1", 2: "disk2"}, {2})
        assert {identity(disk)["epoch"] for disk in three} in ({2}, {3})

    assert survive(lambda files: start(three, files).close(), check, prepare) >= 6


class ReadOnly(Files):
    """One disk takes no writes."""

    def __init__(self, disk: Path) -> None:
        self.disk = str(disk)

    def replace(self, path: str, data: bytes, mode: int = 0o600) -> None:
        if path.startswith(self.disk):
            raise PermissionError(30, "Read-only file system")
        super().replace(path, data, mode)


def test_a_read_only_member_does_not_stop_another_from_being_replaced(disks: list[Path]) -> None:
    run(disks)
    wipe(disks[1])
    assert run(disks, ReadOnly(disks[3])) == (ALL, {1})
    assert identity(disks[3])["epoch"] == 1
    assert run(disks) == (ALL, {1})
    assert identity(disks[3])["epoch"] == 2


def test_a_new_disk_that_takes_no_writes_is_refused(disks: list[Path]) -> None:
    with pytest.raises((StartupError, VolumeReadOnly), match=r"disk1"):
        start(disks, ReadOnly(disks[1]))


# ---- mount points ----------------------------------------------------------------------------------------------------
class Mounts(Files):
    """Tells which directories are mount points."""

    def __init__(self, *mounted: Path) -> None:
        self.mounted = {str(path) for path in mounted}

    def is_mount(self, path: str) -> bool:
        return path in self.mounted


def make(disks: list[Path]) -> None:
    for disk in disks:
        disk.mkdir()


def test_a_disk_that_is_not_mounted_is_not_taken_for_a_new_one(disks: list[Path]) -> None:
    make(disks)
    run(disks, Mounts(*disks))
    wipe(disks[1])
    without = Mounts(disks[0], disks[2], disks[3])
    assert any("abixio volume replace 1" in warning for warning in survey([str(disk) for disk in disks], files=without).warnings)
    slots, filling = run(disks, without)
    assert (set(slots), filling) == ({0, 2, 3}, set())
    assert list(disks[1].iterdir()) == []


def test_a_new_disk_mounted_in_the_place_of_the_old_takes_its_slot(disks: list[Path]) -> None:
    make(disks)
    run(disks, Mounts(*disks))
    wipe(disks[1])
    assert run(disks, Mounts(*disks)) == (ALL, {1})


def test_a_plain_directory_takes_the_slot_of_a_plain_one_beside_an_unmounted_disk(disks: list[Path]) -> None:
    make(disks)
    run(disks, Mounts(disks[1]))
    wipe(disks[1])
    wipe(disks[2])
    slots, filling = run(disks, Mounts())
    assert (set(slots), filling) == ({0, 2, 3}, {2})


def test_replace_gives_the_slot_away_all_the_same(disks: list[Path]) -> None:
    make(disks)
    run(disks, Mounts(*disks))
    wipe(disks[1])
    assert "disk1 is slot 1 now" in replace_slot([str(disk) for disk in disks], 1)
    assert run(disks) == (ALL, {1})


def test_replace_works_below_the_number_of_members_that_a_start_demands(disks: list[Path]) -> None:
    run(disks)
    for disk in disks[1:]:
        wipe(disk)
    replace_slot([str(disk) for disk in disks], 3)
    volumes = start(disks)
    volumes.close()
    assert 3 in volumes.filling


@pytest.mark.parametrize(
    ("slot", "wiped", "reason"),
    [(0, None, "disk0: holds slot 0 and is sound"), (7, 1, "the slots 0 to 3"), (1, None, "disk1: holds slot 1")],
)
def test_replace_refuses_what_makes_no_sense(disks: list[Path], slot: int, wiped: int | None, reason: str) -> None:
    run(disks)
    if wiped is not None:
        wipe(disks[wiped])
    with pytest.raises(StartupError, match=reason):
        replace_slot([str(disk) for disk in disks], slot)


def test_replace_needs_an_empty_directory(disks: list[Path]) -> None:
    run(disks)
    shutil.rmtree(disks[1])
    with pytest.raises(StartupError, match=r"no directory of --volumes is empty"):
        replace_slot([str(disk) for disk in disks], 1)


def test_replace_needs_a_pool(disks: list[Path]) -> None:
    with pytest.raises(StartupError, match=r"start the server to make a pool"):
        replace_slot([str(disk) for disk in disks], 1)


def test_replace_refuses_while_the_server_runs(disks: list[Path]) -> None:
    run(disks)
    wipe(disks[1])
    with LocalVolumeOpen(disks[0]), pytest.raises(StartupError, match=r"disk0: another server"):
        replace_slot([str(disk) for disk in disks], 1)


class LocalVolumeOpen:
    """A volume that a server holds."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        self.volume = LocalVolume.open(str(self.path))

    def __exit__(self, *_: object) -> None:
        self.volume.close()


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A directory with a file system of its own."""
    path = tmp_path / "mounted"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(path)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        message = "this user may not mount file systems"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    yield path
    subprocess.run(["umount", "-l", str(path)], check=False)


def test_a_real_disk_that_is_unmounted_is_missed_not_replaced(disks: list[Path], mounted: Path) -> None:
    paths = [disks[0], disks[1], mounted]
    assert run(paths)[1] == set()
    subprocess.run(["umount", str(mounted)], check=True)
    slots, filling = run(paths)
    assert (set(slots), filling) == ({0, 1}, set())
    assert list(mounted.iterdir()) == []
