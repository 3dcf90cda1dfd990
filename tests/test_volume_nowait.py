"""Reads that do not wait for the disk, probes that do ask it, and a directory that is not there any more."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from abixio import _sqlio
from abixio.errors import ShardMissing, VolumeError, VolumeGone, VolumeUnusable, WouldBlock
from abixio.volume import names
from abixio.volume.interface import Insert, RowId, State
from abixio.volume.local import LocalVolume
from tests.volume_contract import SPACE, apply, insert, row_id, write_id
from tests.volume_fixtures import FaultyFiles, formatted


@pytest.fixture
def path(tmp_path: Path) -> str:
    return formatted(tmp_path / "volume")


@pytest.fixture
def volume(path: str) -> Iterator[LocalVolume]:
    files = FaultyFiles()
    opened = LocalVolume.open(path, files)
    yield opened
    opened.close()


def key(number: int) -> bytes:
    return b"key%05d" % number


def forget(path: str) -> None:
    """Drop the catalog's pages from memory. Only reading descriptors of others: closing one of a locked file would unlock it,
    so this is done by another process."""
    for suffix in ("", "-wal"):
        name = names.catalog(path) + suffix
        code = f"import os; f = os.open({name!r}, 0); os.fsync(f); os.posix_fadvise(f, 0, 0, os.POSIX_FADV_DONTNEED)"
        assert os.spawnlp(os.P_WAIT, "python3", "python3", "-c", code) == 0


def can_refuse(path: str) -> bool:
    """Whether this file system says what is in memory."""
    fd = os.open(names.catalog(path) + "-shm", os.O_RDONLY)
    try:
        os.preadv(fd, [bytearray(1)], 0, os.RWF_NOWAIT)
    except OSError as error:
        return error.errno == errno.EAGAIN
    finally:
        os.close(fd)
    return True


def test_what_is_not_in_memory_is_refused_to_who_does_not_wait_and_had_by_who_does(path: str, volume: LocalVolume) -> None:
    if not can_refuse(path):
        pytest.skip("this file system does not know RWF_NOWAIT")
    many = [
        [Insert(RowId(SPACE, key(n), 1, 0), State.COMMITTED, 1, os.urandom(2000), (write_id(n),), os.urandom(2000))]
        for n in range(3000)
    ]
    for start in range(0, len(many), 500):
        volume.apply(many[start : start + 500], True)
    volume.close()
    again = LocalVolume.open(path)
    try:
        again.rows(SPACE, b"nothing")
        forget(path)
        refused = [n for n in range(0, 3000, 100) if _refused(again, key(n))]
        assert refused  # how many depends on what the disk reads ahead
        for n in refused:
            (row,) = again.rows(SPACE, key(n))
            assert row.inline is not None
            assert len(again.inline(row.inline)) == 2000
        assert not any(_refused(again, key(n)) for n in refused)
    finally:
        again.close()


def _refused(volume: LocalVolume, name: bytes) -> bool:
    try:
        (row,) = volume.rows(SPACE, name, wait=False)
        assert row.inline is not None
        volume.inline(row.inline, wait=False)
    except WouldBlock:
        return True
    return False


def test_what_is_in_memory_is_had_without_waiting(volume: LocalVolume) -> None:
    apply(volume, [insert(row_id(), shards=(write_id(1),), inline=b"shard")])
    (row,) = volume.rows(SPACE, b"key", wait=False)
    assert row.inline is not None
    assert volume.inline(row.inline, wait=False) == b"shard"
    with pytest.raises(ShardMissing):
        volume.inline(row.inline + 1, wait=False)


def test_only_the_thread_that_asked_for_it_does_not_wait() -> None:
    _sqlio.begin()
    seen: list[bool] = []
    thread = threading.Thread(target=lambda: seen.append(_sqlio.wanted()))
    thread.start()
    thread.join()
    assert (_sqlio.wanted(), seen) == (True, [False])
    assert not _sqlio.end()
    assert not _sqlio.wanted()


def test_a_refusal_is_told_once() -> None:
    _sqlio.begin()
    _sqlio.refuse()
    assert _sqlio.end()
    assert not _sqlio.end()


# ---- probes ----------------------------------------------------------------------------------------------------------
def test_a_probe_asks_the_disk(volume: LocalVolume) -> None:
    volume.probe()
    assert isinstance(volume.files, FaultyFiles)
    volume.files.faults["read_uncached"] = errno.EIO
    with pytest.raises(VolumeError) as raised:
        volume.probe()
    assert not isinstance(raised.value, VolumeUnusable)
    volume.files.faults.clear()
    volume.probe()


def test_a_probe_works_where_reads_past_the_cache_do_not() -> None:
    """tmpfs, which /dev/shm is, refused O_DIRECT for decades."""
    volume = LocalVolume.open(formatted(Path(f"/dev/shm/abixio-test-{os.getpid()}")))
    try:
        volume.probe()
    finally:
        volume.close()
        os.spawnlp(os.P_WAIT, "rm", "rm", "-r", volume.path)


# ---- a disk that is pulled out ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("call", ["probe", "open_shard", "apply"])
def test_a_directory_that_is_moved_away_is_gone_and_stays_out_when_it_is_back(path: str, volume: LocalVolume, call: str) -> None:
    os.rename(path, path + ".away")
    calls = {
        "probe": volume.probe, "open_shard": lambda: volume.open_shard(write_id(1)),
        "apply": lambda: apply(volume, [insert(row_id())]),
    }
    with pytest.raises(VolumeGone):
        calls[call]()
    os.rename(path + ".away", path)
    with pytest.raises(VolumeGone):
        volume.rows(SPACE, b"key")


def test_a_shard_that_is_lost_from_a_directory_that_is_there_is_just_missing(volume: LocalVolume) -> None:
    with pytest.raises(ShardMissing):
        volume.open_shard(write_id(1))
    volume.rows(SPACE, b"key")


def test_a_sync_that_fails_is_worse_than_a_directory_that_is_gone(path: str, volume: LocalVolume) -> None:
    os.rename(path, path + ".away")
    with pytest.raises(VolumeGone):
        volume.probe()
    volume.sync_failed(OSError(errno.EIO, "input/output error"))
    os.rename(path + ".away", path)
    with pytest.raises(VolumeUnusable) as raised:
        volume.rows(SPACE, b"key")
    assert not isinstance(raised.value, VolumeGone)
