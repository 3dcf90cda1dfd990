"""Shard files: their bytes, every way in which they can be damaged, every way in which the disk can fail under the writer."""

from __future__ import annotations

import errno
import os
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from blake3 import blake3
from xxhash import xxh3_64_intdigest

from abixio.errors import ShardCorrupt, ShardMissing, VolumeError, VolumeFull, VolumeReadOnly, VolumeUnusable, WouldBlock
from abixio.volume import names, shardfile
from abixio.volume.local import LocalVolume
from tests.volume_contract import checksums, store_shard, write_id
from tests.volume_fixtures import FaultyFiles, formatted

NAME = write_id(0xAB)


@pytest.fixture
def files() -> FaultyFiles:
    return FaultyFiles()


@pytest.fixture
def volume(tmp_path: Path, files: FaultyFiles) -> Iterator[LocalVolume]:
    volume = LocalVolume.open(formatted(tmp_path / "volume"), files)
    yield volume
    files.faults.clear()
    volume.close()


def path_of(volume: LocalVolume, name: bytes = NAME) -> Path:
    return Path(names.shard(volume.path, name))


def unfinished(volume: LocalVolume) -> list[str]:
    return os.listdir(names.tmp(volume.path))


def test_the_file_is_laid_out_as_documented(volume: LocalVolume) -> None:
    data = b"hello, shard"
    store_shard(volume, NAME, data, b"record")
    trailer = struct.pack(
        "<32s16sQIIHBBIIIII", blake3(data).digest(), NAME, 12, 65536, 6, 1, 1, 1, 0, 0, 0, 0, 0,
    )
    footer = bytes(4) + struct.pack("<Q", xxh3_64_intdigest(data)) + b"record" + bytes(2) + trailer
    content = path_of(volume).read_bytes()
    assert content == data + footer + struct.pack("<Q", xxh3_64_intdigest(footer)) + b"ABXSHARD"
    assert len(content) == 136
    assert path_of(volume).relative_to(volume.path).as_posix() == f"shards/ab/{'00' * 15}ab"


def test_blake3_and_record_come_back(volume: LocalVolume) -> None:
    store_shard(volume, NAME, b"data", b"record")
    shard = volume.open_shard(NAME)
    assert (shard.blake3, shard.record) == (blake3(b"data").digest(), b"record")
    shard.close()


@pytest.mark.parametrize("size", [0, 5, 70_000])
def test_a_flipped_bit_anywhere_in_the_footer_is_found(volume: LocalVolume, size: int) -> None:
    store_shard(volume, NAME, os.urandom(size), b"some record")
    good = path_of(volume).read_bytes()
    for at in range(size, len(good)):
        path_of(volume).write_bytes(good[:at] + bytes([good[at] ^ 0x10]) + good[at + 1 :])
        with pytest.raises(ShardCorrupt):
            volume.open_shard(NAME)
    path_of(volume).write_bytes(good)
    volume.open_shard(NAME).close()


def test_a_file_that_was_cut_or_has_grown_is_corrupt(volume: LocalVolume) -> None:
    store_shard(volume, NAME, os.urandom(10_000))
    good = path_of(volume).read_bytes()
    for content in (b"", good[:50], good[:-1], good[:-104], good[1:], good + b"\0", good + good[-104:], good[5000:]):
        path_of(volume).write_bytes(content)
        with pytest.raises(ShardCorrupt):
            volume.open_shard(NAME)


def test_a_file_under_another_name_is_corrupt(volume: LocalVolume) -> None:
    other = write_id(0x1AB)
    store_shard(volume, other, b"data")
    os.rename(path_of(volume, other), path_of(volume))
    with pytest.raises(ShardCorrupt, match=other.hex()):
        volume.open_shard(NAME)


@pytest.mark.parametrize(("offset", "value"), [(-40, 2), (-36, 1)])
def test_a_format_or_feature_of_the_future_is_refused(volume: LocalVolume, offset: int, value: int) -> None:
    store_shard(volume, NAME, b"data")
    content = bytearray(path_of(volume).read_bytes())
    content[offset] = value
    content[-16:-8] = struct.pack("<Q", xxh3_64_intdigest(bytes(content[4:-16])))
    path_of(volume).write_bytes(content)
    with pytest.raises(ShardCorrupt, match="lacks"):
        volume.open_shard(NAME)


@pytest.mark.parametrize("call", ["pread", "size"])
def test_a_footer_that_the_disk_cannot_read_is_corrupt(volume: LocalVolume, files: FaultyFiles, call: str) -> None:
    store_shard(volume, NAME, b"data")
    files.faults[call] = errno.EIO
    with pytest.raises(ShardCorrupt):
        volume.open_shard(NAME)


def test_bytes_that_the_disk_cannot_read_are_corrupt(volume: LocalVolume) -> None:
    store_shard(volume, NAME, os.urandom(1 << 20))
    shard = volume.open_shard(NAME)
    os.truncate(path_of(volume), 1 << 19)
    with pytest.raises(ShardCorrupt):
        shard.populate(0, 1 << 20)
    shard.close()


@pytest.mark.parametrize(("call", "number"), [("open", errno.EMFILE), ("map", errno.ENOMEM)])
def test_a_lack_of_descriptors_or_memory_is_not_taken_for_corruption(
    volume: LocalVolume, files: FaultyFiles, call: str, number: int
) -> None:
    store_shard(volume, NAME, b"data")
    files.faults[call] = number
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(VolumeFull):
        volume.open_shard(NAME)
    assert len(os.listdir("/proc/self/fd")) == before


def test_checksums_that_do_not_fit_the_length_are_a_mistake_of_the_caller(volume: LocalVolume) -> None:
    writer = volume.create_shard(NAME)
    writer.write([bytes(65537)])
    with pytest.raises(ValueError, match="65537"):
        writer.finish(bytes(8), b"", bytes(32), False)
    writer.abort()
    assert unfinished(volume) == []


# ---- the disk fails ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("most", [1, 5, 100])
def test_short_writes_make_no_short_files(volume: LocalVolume, files: FaultyFiles, most: int) -> None:
    files.most = most
    data = os.urandom(1000)
    store_shard(volume, NAME, data)
    shard = volume.open_shard(NAME)
    assert shard.view == data
    shard.close()


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.ENOSPC, VolumeFull), (errno.EDQUOT, VolumeFull), (errno.EROFS, VolumeReadOnly), (errno.EIO, VolumeError)],
)
@pytest.mark.parametrize("call", ["create", "writev", "rename"])
def test_a_failed_write_loses_that_shard_and_nothing_else(
    volume: LocalVolume, files: FaultyFiles, call: str, number: int, kind: type[VolumeError]
) -> None:
    store_shard(volume, write_id(1), b"another")
    before = len(os.listdir("/proc/self/fd"))
    files.faults[call] = number
    with pytest.raises(kind) as caught:
        store_shard(volume, NAME, b"data")
    assert type(caught.value) is kind
    files.faults.clear()
    assert unfinished(volume) == []
    assert len(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ShardMissing):
        volume.open_shard(NAME)
    volume.open_shard(write_id(1)).close()
    store_shard(volume, NAME, b"data")
    volume.open_shard(NAME).close()


def test_a_writer_that_failed_takes_no_more(volume: LocalVolume, files: FaultyFiles) -> None:
    writer = volume.create_shard(NAME)
    files.faults["writev"] = errno.EIO
    with pytest.raises(VolumeError):
        writer.write([b"data"])
    files.faults.clear()
    with pytest.raises(VolumeError):
        writer.write([b"data"])
    with pytest.raises(VolumeError):
        writer.finish(b"", b"", bytes(32), False)
    assert unfinished(volume) == []


@pytest.mark.parametrize("call", ["fdatasync", "fsync_directory"])
def test_a_failed_sync_takes_the_volume_out_of_service_for_good(volume: LocalVolume, files: FaultyFiles, call: str) -> None:
    store_shard(volume, write_id(1), b"another", durable=True)
    other = volume.create_shard(write_id(2))
    files.faults[call] = errno.EIO
    with pytest.raises(VolumeUnusable):
        store_shard(volume, NAME, b"data", durable=True)
    files.faults.clear()
    attempts: list[Callable[[], object]] = [
        lambda: other.write([b"x"]), lambda: volume.barrier(), lambda: volume.open_shard(write_id(1)),
        lambda: volume.rows(bytes(16), b"k"), lambda: volume.create_shard(NAME), lambda: volume.apply([], True),
        lambda: volume.notes(),
    ]
    for attempt in attempts:
        with pytest.raises(VolumeUnusable, match="sync failed"):
            attempt()
    assert unfinished(volume) == []
    volume.close()
    again = LocalVolume.open(volume.path)
    again.open_shard(write_id(1)).close()
    again.close()


def test_a_sync_that_failed_is_not_tried_again(volume: LocalVolume, files: FaultyFiles) -> None:
    store_shard(volume, write_id(1), b"data")
    files.faults["syncfs"] = errno.EIO
    with pytest.raises(VolumeUnusable):
        volume.barrier()
    with pytest.raises(VolumeUnusable):
        volume.barrier()
    assert [name for name, _ in files.calls].count("syncfs") == 1


def test_durable_means_file_then_name_then_directory(volume: LocalVolume, files: FaultyFiles) -> None:
    files.calls.clear()
    store_shard(volume, NAME, b"data", durable=True)
    steps = [call for call in files.calls if call[0] in ("fdatasync", "rename", "fsync_directory", "syncfs")]
    assert [name for name, _ in steps] == ["fdatasync", "rename", "fsync_directory"]
    assert steps[2][1] == str(path_of(volume).parent)


def test_without_durability_nothing_is_synced_until_the_barrier(volume: LocalVolume, files: FaultyFiles) -> None:
    volume.barrier()
    files.calls.clear()
    store_shard(volume, NAME, b"data")
    assert not {name for name, _ in files.calls} & {"fdatasync", "fsync_directory", "syncfs"}
    volume.barrier()
    volume.barrier()
    assert [name for name, _ in files.calls].count("syncfs") == 1


def test_the_trailer_is_104_bytes() -> None:
    assert shardfile.TRAILER_BYTES == 104
    assert len(shardfile.footer(NAME, 1, checksums(b"x"), b"12345678", bytes(32))) == 7 + 8 + 8 + 104


# ---- read at once ----------------------------------------------------------------------------------------------------
@pytest.fixture
def plain(tmp_path: Path) -> Iterator[LocalVolume]:
    """On the real operating system."""
    volume = LocalVolume.open(formatted(tmp_path / "plain"))
    yield volume
    volume.close()


@pytest.mark.parametrize("size", [0, 1, 65536, 200_001])
def test_a_shard_in_the_page_cache_is_read_into_the_callers_memory(plain: LocalVolume, size: int) -> None:
    data, room = os.urandom(size), memoryview(bytearray(size))
    store_shard(plain, NAME, data, b"record")
    shard = plain.peek_shard(NAME, room)
    assert shard.view == room == data
    assert (shard.blake3, shard.record) == (blake3(data).digest(), b"record")
    assert shard.checksums.tobytes() == checksums(data)


@pytest.mark.parametrize("size", [1, 65536])
def test_a_flipped_bit_in_the_footer_is_found_when_it_is_read_at_once(plain: LocalVolume, size: int) -> None:
    store_shard(plain, NAME, os.urandom(size), b"some record")
    good = path_of(plain).read_bytes()
    for at in range(size, len(good)):
        path_of(plain).write_bytes(good[:at] + bytes([good[at] ^ 0x10]) + good[at + 1 :])
        with pytest.raises(ShardCorrupt):
            plain.peek_shard(NAME, memoryview(bytearray(size)))


@pytest.mark.parametrize("room", [0, 9_999, 10_001, 20_000])
def test_a_shard_of_another_length_is_not_read_at_once(plain: LocalVolume, room: int) -> None:
    store_shard(plain, NAME, os.urandom(10_000))
    with pytest.raises((WouldBlock, ShardCorrupt)):
        plain.peek_shard(NAME, memoryview(bytearray(room)))


def test_what_is_not_in_memory_is_not_waited_for(plain: LocalVolume) -> None:
    with pytest.raises(WouldBlock):
        plain.peek_shard(NAME, memoryview(bytearray(1)))
    store_shard(plain, NAME, os.urandom(200_000))
    with path_of(plain).open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    with pytest.raises(WouldBlock):
        plain.peek_shard(NAME, memoryview(bytearray(200_000)))


@pytest.mark.parametrize("size", [1, 65536, 40 << 20])
def test_a_shard_in_the_page_cache_is_opened_without_waiting(plain: LocalVolume, size: int) -> None:
    data = os.urandom(1 << 20) * (size >> 20) or os.urandom(size)
    store_shard(plain, NAME, data, b"record")
    shard = plain.open_shard(NAME, False)
    assert shard.view == data
    assert (shard.blake3, shard.record) == (blake3(data).digest(), b"record")
    assert shard.checksums.tobytes() == checksums(data)
    shard.close()


def test_a_footer_that_is_not_in_memory_is_not_waited_for(plain: LocalVolume) -> None:
    with pytest.raises(WouldBlock):
        plain.open_shard(NAME, False)
    store_shard(plain, NAME, os.urandom(4 << 20))
    for _ in range(100):  # the kernel forgets no page that somebody looks at just now
        with path_of(plain).open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        try:
            plain.open_shard(NAME, False).close()
        except WouldBlock:
            break
        time.sleep(0.05)
    else:
        pytest.fail("it never had to be waited for")
    plain.open_shard(NAME).close()
    plain.open_shard(NAME, False).close()


def test_a_torn_footer_is_found_without_waiting(plain: LocalVolume) -> None:
    store_shard(plain, NAME, os.urandom(65536), b"some record")
    good = path_of(plain).read_bytes()
    for torn in (good[:-1], good[:-20] + bytes(20), good[: len(good) // 2], b""):
        path_of(plain).write_bytes(torn)
        with pytest.raises(ShardCorrupt):
            plain.open_shard(NAME, False)


def test_a_file_of_another_user_is_left_to_who_may_wait() -> None:
    """Of it the kernel says that all is in memory."""
    code = """
import os
from abixio.volume.files import Files
files, shell = Files(), "/bin/sh"
files.close(files.open(shell))
if os.getuid() == 0:
    files.close(files.open_now(shell))
    os.setuid(65534)
try:
    files.open_now(shell)
except BlockingIOError as error:
    print(error)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "not permitted" in found.stdout


def test_a_record_too_long_for_the_first_look_is_left_to_who_may_wait(plain: LocalVolume) -> None:
    store_shard(plain, NAME, b"data", bytes(5000))
    with pytest.raises(WouldBlock):
        plain.peek_shard(NAME, memoryview(bytearray(4)))
