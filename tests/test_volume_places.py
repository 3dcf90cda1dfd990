"""Shards of known length get their places on the disk before their bytes: some MiB at a time, no more than they need."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from abixio.errors import VolumeError, VolumeFull
from abixio.volume import files as files_module
from abixio.volume import names
from abixio.volume.files import Files
from abixio.volume.local import LocalVolume
from abixio.volume.shardfile import PLACES, PLACES_LEAST
from tests.volume_contract import checksums, write_id
from tests.volume_fixtures import FaultyFiles, formatted

MIB = 1 << 20
NAME = write_id(1)


@pytest.fixture
def files() -> FaultyFiles:
    return FaultyFiles()


@pytest.fixture
def volume(tmp_path: Path, files: FaultyFiles) -> Iterator[LocalVolume]:
    volume = LocalVolume.open(formatted(tmp_path / "volume"), files)
    yield volume
    files.faults.clear()
    volume.close()


def store(volume: LocalVolume, size: int, piece: int, expected: int) -> os.stat_result:
    """The file of a shard that was written piece by piece, and read back."""
    data = os.urandom(piece) * (size // piece)
    writer = volume.create_shard(NAME, expected=expected)
    for start in range(0, size, piece):
        writer.write([memoryview(data)[start : start + piece]])
    writer.finish(checksums(data), b"record", bytes(32), False)
    shard = volume.open_shard(NAME)
    assert shard.view == data
    shard.close()
    return os.stat(names.shard(volume.path, NAME))


def places(files: FaultyFiles) -> list[tuple[int, int]]:
    return [argument for name, argument in files.calls if name == "allocate"]


@pytest.mark.parametrize(
    ("size", "piece", "found"),
    [
        (PLACES_LEAST, PLACES_LEAST, [(0, PLACES_LEAST)]),
        (40 * MIB, MIB, [(0, PLACES), (PLACES, PLACES), (2 * PLACES, 8 * MIB)]),
        (40 * MIB, 20 * MIB, [(0, 20 * MIB), (20 * MIB, 20 * MIB)]),
        (PLACES + 64, PLACES // 2 + 32, [(0, PLACES)]),  # the rest is not worth a call
    ],
)
def test_places_come_some_mib_at_a_time_and_none_is_left_over(
    volume: LocalVolume, files: FaultyFiles, size: int, piece: int, found: list[tuple[int, int]]
) -> None:
    status = store(volume, size, piece, size)
    assert places(files) == found
    assert status.st_blocks * 512 <= status.st_size + 64 * 1024


@pytest.mark.parametrize(("size", "expected"), [(4 * MIB, 0), (PLACES_LEAST - 1, PLACES_LEAST - 1)])
def test_a_shard_of_unknown_length_or_a_short_one_gets_none_ahead(
    volume: LocalVolume, files: FaultyFiles, size: int, expected: int
) -> None:
    store(volume, size, size, expected)
    assert places(files) == []


def test_more_or_fewer_bytes_than_expected_are_a_whole_shard_too(volume: LocalVolume) -> None:
    store(volume, 4 * MIB, MIB, MIB)
    volume.unlink([NAME])
    store(volume, MIB, MIB, 4 * MIB)


def test_the_size_of_the_file_is_that_of_what_was_written(tmp_path: Path) -> None:
    files = Files()
    fd = files.create(str(tmp_path / "file"))
    if files.allocate(fd, 0, MIB):  # or this file system knows no such thing
        assert os.fstat(fd).st_blocks * 512 >= MIB
    assert files.size(fd) == 0
    files.close(fd)


@pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, VolumeFull), (errno.EDQUOT, VolumeFull), (errno.EIO, VolumeError)])
def test_a_disk_without_room_says_so_before_the_bytes_and_nothing_is_left(
    volume: LocalVolume, files: FaultyFiles, number: int, kind: type[VolumeError]
) -> None:
    files.faults["allocate"] = number
    writer = volume.create_shard(NAME, expected=MIB)
    with pytest.raises(kind) as caught:
        writer.write([bytes(MIB)])
    assert type(caught.value) is kind
    assert "writev" not in [name for name, _ in files.calls]
    assert os.listdir(names.tmp(volume.path)) == []


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_that_knows_no_places_is_asked_once(
    volume: LocalVolume, files: FaultyFiles, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    answers_with(monkeypatch, number)
    store(volume, 40 * MIB, MIB, 40 * MIB)
    assert places(files) == [(0, PLACES)]


def test_a_call_that_a_signal_ended_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers_with(monkeypatch, errno.EINTR, errno.EINTR, errno.ENOSPC)
    fd = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    with pytest.raises(OSError, match="No space"):
        Files().allocate(fd, 0, MIB)
    os.close(fd)


def answers_with(monkeypatch: pytest.MonkeyPatch, *numbers: int) -> None:
    """Each call of the system fails with the next of those errors."""
    rest = iter(numbers)

    class Refusing:
        @staticmethod
        def fallocate(*arguments: int) -> int:
            ctypes.set_errno(next(rest))
            return -1

        syncfs = files_module._libc.syncfs

    monkeypatch.setattr(files_module, "_libc", Refusing)
