"""The pages of a commit reach the WAL together, before anybody is told of them, and whatever else happens ends that."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from abixio import _sqlio
from abixio.errors import VolumeError, VolumeFull
from abixio.volume import names
from abixio.volume.interface import Drop, Note
from abixio.volume.local import LocalVolume
from tests.volume_contract import SPACE, apply, insert, listed, row_id, write_id
from tests.volume_fixtures import formatted

FRAME, PAGE, START = 24, 4096, 32
MOST = 64
"""Frames that are gathered before some are written."""

_calls, _gates = _sqlio.calls(), _sqlio.gates()
_pwrite = ctypes.CFUNCTYPE(
    ctypes.c_ssize_t, ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_long, use_errno=True
)(_calls["pwrite64"])
_pread = ctypes.CFUNCTYPE(ctypes.c_ssize_t, ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_long)(_calls["pread64"])
_gather = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(_gates["gather"])
_scatter = ctypes.CFUNCTYPE(ctypes.c_int)(_gates["scatter"])


def write(fd: int, data: bytes, offset: int) -> int:
    return int(_pwrite(fd, data, len(data), offset))


def frame(fd: int, number: int, last: bool = False, offset: int = START) -> None:
    """As SQLite writes the frame with that number: two calls."""
    at = offset + number * (FRAME + PAGE)
    header = number.to_bytes(4, "big") + int(last).to_bytes(4, "big") + bytes(16)
    assert write(fd, header, at) == FRAME
    assert write(fd, bytes([number % 256]) * PAGE, at + FRAME) == PAGE


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "wal", os.O_RDWR | os.O_CREAT)
    room = ctypes.create_string_buffer(_gates["room"])
    _gather(ctypes.addressof(room))
    yield fd
    _scatter()
    os.close(fd)


def size(fd: int) -> int:
    return os.fstat(fd).st_size


def end(frames: int) -> int:
    return START + frames * (FRAME + PAGE)


def whole(fd: int, frames: int) -> bool:
    data = os.pread(fd, end(frames), 0)
    wanted = [number.to_bytes(4, "big") + bytes([number % 256]) * PAGE for number in range(frames)]
    at = [START + number * (FRAME + PAGE) for number in range(frames)]
    return [data[start : start + 4] + data[start + FRAME : start + FRAME + PAGE] for start in at] == wanted


def test_frames_are_held_back_until_the_last_one_of_the_transaction(fd: int) -> None:
    for number in range(5):
        frame(fd, number)
    assert size(fd) == 0
    frame(fd, 5, last=True)
    assert whole(fd, 6)
    frame(fd, 6)
    assert size(fd) == end(6)
    frame(fd, 7, last=True)
    assert whole(fd, 8)
    assert _scatter() == 0


def test_many_are_written_before_the_last_one(fd: int) -> None:
    for number in range(MOST + 3):
        frame(fd, number)
    assert size(fd) == end(MOST)
    frame(fd, MOST + 3, last=True)
    assert whole(fd, MOST + 4)


def test_the_end_writes_what_is_left(fd: int) -> None:
    frame(fd, 0)
    assert write(fd, bytes(FRAME), end(1)) == FRAME
    assert _scatter() == 0
    assert size(fd) == end(1) + FRAME
    frame(fd, 2)
    assert size(fd) == end(3)


@pytest.mark.parametrize(
    ("data", "offset"),
    [
        (b"x", end(2)), (bytes(32), 0), (bytes(FRAME), end(3)), (bytes(FRAME), end(1)), (bytes(PAGE), end(1) + FRAME),
        (bytes(PAGE), end(2)),
    ],
)
def test_any_other_write_ends_it_and_comes_behind_what_was_held_back(fd: int, data: bytes, offset: int) -> None:
    frame(fd, 0)
    frame(fd, 1)
    assert write(fd, data, offset) == len(data)
    assert size(fd) >= max(end(2), offset + len(data))
    frame(fd, 2)
    assert size(fd) >= end(3)


def test_a_page_that_does_not_follow_its_header_ends_it(fd: int) -> None:
    assert write(fd, bytes(FRAME), START) == FRAME
    assert write(fd, b"p" * PAGE, end(1) + FRAME) == PAGE
    assert size(fd) == end(2)


def test_a_write_to_another_file_ends_it(fd: int, tmp_path: Path) -> None:
    other = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)
    frame(fd, 0)
    frame(other, 1)
    assert (size(fd), size(other)) == (end(1), end(2))
    os.close(other)


def test_a_read_finds_what_was_written_before_it_and_ends_it(fd: int) -> None:
    frame(fd, 0)
    frame(fd, 1)
    room = ctypes.create_string_buffer(PAGE)
    assert _pread(fd, room, PAGE, end(1) + FRAME) == PAGE
    assert room.raw == b"\1" * PAGE
    frame(fd, 2)
    assert size(fd) == end(3)


def test_what_cannot_be_written_is_an_error_of_the_write_that_could_not_wait(tmp_path: Path, fd: int) -> None:
    read_only = os.open(tmp_path / "wal", os.O_RDONLY)
    frame(read_only, 0)
    assert write(read_only, bytes(4) + b"\1\1\1\1" + bytes(16), end(1)) == FRAME
    assert write(read_only, bytes(PAGE), end(1) + FRAME) == -1
    assert ctypes.get_errno() == errno.EBADF
    frame(read_only, 0)
    assert write(read_only, b"x", 0) == -1
    frame(fd, 0)
    assert size(fd) == end(1), "it was ended"
    os.close(read_only)


# ---- catalogs ------------------------------------------------------------------------------------------------------------
@pytest.fixture
def volume(tmp_path: Path) -> Iterator[LocalVolume]:
    volume = LocalVolume.open(formatted(tmp_path / "volume"))
    apply(volume, [Note("warm", 1)])
    yield volume
    volume.close()


def calls() -> int:
    """Write calls of this process so far."""
    with open("/proc/self/io") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("syscw"))


def test_a_commit_is_one_write(volume: LocalVolume) -> None:
    if "pwrite64" not in all_calls():
        pytest.skip("SQLite was built to write in another way")
    apply(volume, *(listed(row_id(b"warm%02d" % n), shards=(write_id(100 + n),), inline=bytes(4000)) for n in range(40)))
    path = names.catalog(volume.path) + "-wal"
    before, length = calls(), os.path.getsize(path)
    apply(volume, *(listed(row_id(b"%02d" % n), shards=(write_id(n),), inline=bytes(4000)) for n in range(16)))
    assert calls() - before <= 2
    assert os.path.getsize(path) > length + 20 * PAGE


def all_calls() -> list[str]:
    vfs, name, found = apsw.VFS("calls", "unix"), None, []
    while name := vfs.xNextSystemCall(name):
        found.append(name)
    vfs.unregister()
    return found


def copy(volume: LocalVolume, to: Path) -> LocalVolume:
    """What a kill would leave, opened."""
    shutil.copytree(volume.path, to, ignore=shutil.ignore_patterns("lock", "catalog.db-shm"))
    return LocalVolume.open(str(to))


@pytest.mark.parametrize("cache", [-8192, 5])
@pytest.mark.parametrize("durable", [False, True])
def test_transactions_of_any_length_are_there_after_a_kill(
    volume: LocalVolume, tmp_path: Path, cache: int, durable: bool
) -> None:
    """With little cache SQLite writes pages ahead of the commit, and some of them once more in their places."""
    volume._catalog._connection.pragma("cache_size", cache)
    keys = [b"%04d" % ((n * 389) % 1000) for n in range(600)]
    rows = [listed(row_id(key), shards=(write_id(n),), inline=key * 800) for n, key in enumerate(keys)]
    for start, stop in ((0, 1), (1, 3), (3, 30), (30, 600)):
        apply(volume, *rows[start:stop], durable=durable)
        drops = [Drop(row_id(key), (write_id(start + n),)) for n, key in enumerate(keys[start:stop]) if n % 3 == 1]
        apply(volume, drops, durable=durable)
        again = copy(volume, tmp_path / f"copy{stop}")
        assert again._catalog._connection.pragma("integrity_check") == "ok"
        found = again.history(SPACE, b"", 1000)
        assert found == volume.history(SPACE, b"", 1000)
        for row in found:
            assert row.inline is not None and again.inline(row.inline) == row.id.key * 800
        again.close()


def test_where_the_disk_takes_no_more_the_transaction_is_undone(volume: LocalVolume, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit of the process on the length of files stands in for a disk: the call that goes beyond fails."""
    apply(volume, [insert(row_id(b"before"))])
    length = os.path.getsize(names.catalog(volume.path) + "-wal")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (length + 10 * PAGE, hard))
    try:
        with pytest.raises(VolumeError) as raised:
            apply(volume, *(listed(row_id(b"%02d" % n), shards=(write_id(n),), inline=bytes(4000)) for n in range(50)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, old)
    assert not isinstance(raised.value, VolumeFull), "EFBIG is not ENOSPC"
    assert [row.id.key for row in volume.history(SPACE, b"", 99)] == [b"before"]
    apply(volume, [insert(row_id(b"behind"))])
    assert [row.id.key for row in volume.history(SPACE, b"", 99)] == [b"before", b"behind"]
    assert volume._catalog._connection.pragma("integrity_check") == "ok"
