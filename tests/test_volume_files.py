"""The gateway to the operating system: whole writes, whole small files, locks, maps without descriptors."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from abixio.errors import Exhausted, VolumeError, VolumeFull, VolumeReadOnly, VolumeUnusable
from abixio.message import Buffer
from abixio.volume import filemap
from abixio.volume.files import Files, volume_error, write_all
from tests.volume_fixtures import FaultyFiles


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("most", [None, 1, 3, 10_000])
def test_everything_is_written_however_little_the_system_takes(tmp_path: Path, most: int | None) -> None:
    files = FaultyFiles()
    files.most = most
    buffers: list[Buffer] = [b"", b"abc", memoryview(b"defg"), bytearray(b"h"), memoryview(bytes(16)).cast("Q")]
    fd = files.create(str(tmp_path / "file"))
    assert write_all(files, fd, buffers) == 24
    files.close(fd)
    assert (tmp_path / "file").read_bytes() == b"abcdefgh" + bytes(16)


def test_more_buffers_than_one_call_takes_are_written(tmp_path: Path) -> None:
    buffers = [b"%04d" % number for number in range(3000)]
    fd = Files().create(str(tmp_path / "file"))
    assert write_all(Files(), fd, buffers) == 12_000
    os.close(fd)
    assert (tmp_path / "file").read_bytes() == b"".join(buffers)


def test_a_disk_that_takes_nothing_is_an_error_and_no_endless_loop(tmp_path: Path) -> None:
    files = FaultyFiles()
    files.most = 0
    fd = files.create(str(tmp_path / "file"))
    with pytest.raises(OSError, match="takes no more"):
        write_all(files, fd, [b"abc"])
    files.close(fd)


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, VolumeFull), (errno.EDQUOT, VolumeFull), (errno.EMFILE, Exhausted), (errno.ENFILE, Exhausted),
        (errno.EROFS, VolumeReadOnly), (errno.EACCES, VolumeReadOnly),
        (errno.ENOENT, VolumeUnusable), (errno.ENODEV, VolumeUnusable),
        (errno.EIO, VolumeError),
    ],
)
def test_errors_of_the_system_become_errors_of_the_volume(number: int, kind: type[VolumeError]) -> None:
    error = volume_error(OSError(number, os.strerror(number)), "writing")
    assert type(error) is kind
    assert "writing" in str(error)


def test_replacing_a_file_syncs_it_before_and_its_directory_after_the_rename(tmp_path: Path) -> None:
    files = FaultyFiles()
    path = tmp_path / "small"
    files.replace(str(path), b"old", 0o600)
    (tmp_path / "small.new").write_bytes(b"left over")
    files.calls.clear()
    files.replace(str(path), b"new", 0o600)
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    steps = [name for name, _ in files.calls if name in ("writev", "fdatasync", "rename", "fsync_directory")]
    assert steps == ["writev", "fdatasync", "rename", "fsync_directory"]


@pytest.mark.parametrize("step", ["create", "writev", "fdatasync", "rename"])
def test_a_replacement_that_fails_leaves_the_old_file(tmp_path: Path, step: str) -> None:
    files = FaultyFiles()
    path = tmp_path / "small"
    files.replace(str(path), b"old")
    files.faults[step] = errno.EIO
    before = descriptors()
    with pytest.raises(OSError, match="Input/output"):
        files.replace(str(path), b"new")
    assert path.read_bytes() == b"old"
    assert descriptors() == before


def test_a_lock_is_held_once_until_it_is_closed(tmp_path: Path) -> None:
    files, path = Files(), str(tmp_path / "lock")
    first = files.lock(path)
    assert first is not None
    assert files.lock(path) is None
    files.close(first)
    again = files.lock(path)
    assert again is not None
    files.close(again)


def test_a_sick_directory_is_not_taken_for_a_missing_one(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert not Files().exists(str(tmp_path / "nothing"))
    assert not Files().exists(str(tmp_path / "file" / "below"))
    with pytest.raises(OSError, match="too long"):
        Files().exists(str(tmp_path / ("x" * 300)))


def test_syncfs_reports_a_bad_descriptor() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        Files().syncfs(-1)


@pytest.fixture(params=[True, False], ids=["populate", "pread"])
def populate(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """With MADV_POPULATE_READ, and as on a kernel that lacks it."""
    if request.param and not filemap.can_populate():
        pytest.skip("this kernel lacks MADV_POPULATE_READ")
    if not request.param:
        monkeypatch.setattr(filemap, "can_populate", lambda: False)
    return bool(request.param)


@pytest.mark.usefixtures("populate")
class TestMap:
    def make(self, path: Path, data: bytes, length: int | None = None) -> filemap.FileMap:
        path.write_bytes(data)
        fd = Files().open(str(path))
        try:
            return Files().map(fd, len(data) if length is None else length)
        finally:
            os.close(fd)

    def test_a_map_shows_the_first_bytes_of_the_file_and_nothing_else(self, tmp_path: Path) -> None:
        data = os.urandom(100_000)
        mapped = self.make(tmp_path / "file", data, 70_001)
        for offset, length in ((0, 70_001), (1, 1), (4096, 4096), (70_000, 1), (5000, 0)):
            mapped.populate(offset, length)
        assert mapped.view.readonly
        assert mapped.view == data[:70_001]
        mapped.close()

    def test_an_empty_map(self, tmp_path: Path) -> None:
        mapped = self.make(tmp_path / "file", b"abc", 0)
        mapped.populate(0, 0)
        assert bytes(mapped.view) == b""
        mapped.close()
        mapped.close()

    def test_slices_outlive_the_map_and_its_file(self, tmp_path: Path) -> None:
        data = os.urandom(1 << 20)
        mapped = self.make(tmp_path / "file", data)
        piece = mapped.view[12_345:]
        (tmp_path / "file").unlink()
        mapped.close()
        assert piece == data[12_345:]

    def test_pages_that_the_disk_cannot_give_are_an_error_and_no_signal(self, tmp_path: Path) -> None:
        mapped = self.make(tmp_path / "file", bytes(40_960))
        os.truncate(tmp_path / "file", 8192)
        mapped.populate(0, 8192)
        with pytest.raises(OSError):  # noqa: PT011 - the kernel's number differs between the two ways
            mapped.populate(8192, 1)
        mapped.close()

    def test_populating_a_closed_map_does_nothing(self, tmp_path: Path) -> None:
        mapped = self.make(tmp_path / "file", bytes(4096))
        mapped.close()
        mapped.populate(0, 4096)

    def test_what_a_map_takes_is_given_back(self, tmp_path: Path) -> None:
        before, regions = descriptors(), Path("/proc/self/maps").read_text().count(str(tmp_path))
        maps = [self.make(tmp_path / f"file{number}", bytes(5000)) for number in range(50)]
        slices = [mapped.view[5:] for mapped in maps]
        assert Path("/proc/self/maps").read_text().count(str(tmp_path)) == regions + 50
        for mapped in maps:
            mapped.close()
        slices.clear()
        assert Path("/proc/self/maps").read_text().count(str(tmp_path)) == regions
        assert descriptors() == before


def test_a_map_holds_no_descriptor(tmp_path: Path) -> None:
    if not filemap.can_populate():
        pytest.skip("a kernel without MADV_POPULATE_READ needs one to read ahead")
    before = descriptors()
    mapped = TestMap().make(tmp_path / "file", bytes(5000))
    assert descriptors() == before
    mapped.close()


def test_a_map_that_the_system_refuses_leaves_nothing_behind(tmp_path: Path) -> None:
    before, fd = descriptors(), os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(OSError, match="device"):
        Files().map(fd, 4096)
    os.close(fd)
    assert descriptors() == before
