"""The shard file: the shard's bytes, then a footer that says what they are and proves it.

    shard bytes | zeros to a multiple of 8 | checksums, u64 each | record | zeros to a multiple of 8 | trailer, 104 bytes

A finished file is never changed, only unlinked; so whoever has mapped it is safe. The footer is read with pread, not
through the map: a bad sector there is an error and no signal.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, NamedTuple, Protocol

from xxhash import xxh3_64_intdigest

from abixio.errors import ShardCorrupt, ShardMissing, VolumeError, WouldBlock
from abixio.message import Buffer
from abixio.volume.filemap import FileMap
from abixio.volume.files import Files, volume_error, write_all

FORMAT: Final = 1
MAGIC: Final = b"ABXSHARD"
BLOCK: Final = 65536
"""Bytes under one checksum. Stored too: another value is another format."""
XXH3_64: Final = 1
BLAKE3: Final = 1
_TRAILER: Final = struct.Struct("<32s16sQIIHBBIIIII8s8s")
TRAILER_BYTES: Final = _TRAILER.size
_CHECKED: Final = TRAILER_BYTES - 16
"""Bytes of the trailer that the footer checksum covers: all before itself and the magic."""
_NO_DESCRIPTOR: Final = frozenset((errno.EMFILE, errno.ENFILE))
PLACES: Final = 16 << 20
"""Bytes of a shard that get their places on the disk at once: four files that grow together have 8 pieces in 128 MiB each, and a
client that announces much and sends nothing keeps no more than that from others."""
PLACES_LEAST: Final = 256 << 10
"""Below, a call more costs what it saves."""
_TAIL: Final = 4096
"""Read at once when a file is opened: holds the footer of a shard up to about 24 MiB with a record of 500 bytes."""


class Trailer(NamedTuple):
    """The fields at the end of the file, in their order."""

    blake3: bytes
    write_id: bytes
    length: int
    block: int
    record: int
    format: int
    checksum: int
    digest: int
    incompat: int
    ro_compat: int
    compat: int
    reserved_a: int
    reserved_b: int
    footer: bytes
    magic: bytes


def _padding(length: int) -> int:
    return -length % 8


def _blocks(length: int) -> int:
    return -(-length // BLOCK)


def footer(write_id: bytes, length: int, checksums: bytes, record: bytes, blake3: bytes) -> bytes:
    """Everything behind the shard's bytes."""
    if len(checksums) != 8 * _blocks(length):
        raise ValueError(f"{len(checksums)} bytes of checksums for a shard of {length} bytes")
    fields = Trailer(
        blake3, write_id, length, BLOCK, len(record), FORMAT, XXH3_64, BLAKE3, 0, 0, 0, 0, 0, bytes(8), MAGIC
    )
    body = b"".join((bytes(_padding(length)), checksums, record, bytes(_padding(len(record))), _TRAILER.pack(*fields)))
    covered = body[: len(body) - TRAILER_BYTES + _CHECKED]
    return covered + xxh3_64_intdigest(covered).to_bytes(8, "little") + MAGIC


class ShardFile:
    """A finished shard, open. See `interface.Shard`."""

    __slots__ = ("_map", "_name", "blake3", "checksums", "record", "view")

    def __init__(self, name: str, map_: FileMap, checksums: memoryview, record: bytes, blake3: bytes) -> None:
        self._name = name
        self._map = map_
        self.view = map_.view
        self.checksums = checksums
        self.record = record
        self.blake3 = blake3

    def populate(self, offset: int, length: int) -> None:
        """Bring those bytes into memory, GIL released; ShardCorrupt where the disk cannot read them."""
        try:
            self._map.populate(offset, length)
        except OSError as error:
            if error.errno == errno.ENOMEM:
                raise volume_error(error, f"shard {self._name}") from error
            raise ShardCorrupt(f"{self._name}: bytes from {offset} on cannot be read: {error.strerror}") from error

    def close(self) -> None:
        """Let go of the map; slices that somebody holds stay valid. Closing twice is harmless."""
        self._map.close()


def open_shard(files: Files, path: str, write_id: bytes, wait: bool = True) -> ShardFile:
    """ShardMissing or ShardCorrupt; VolumeError when the file cannot be opened for another reason. Without `wait`, WouldBlock as
    `interface.Volume.open_shard` says."""
    name = write_id.hex()
    try:
        fd = files.open(path) if wait else files.open_now(path)
    except FileNotFoundError:
        raise ShardMissing(name) from None
    except BlockingIOError as error:
        raise WouldBlock(name) from error
    except OSError as error:
        raise volume_error(error, f"shard {name}") from error
    try:
        trailer, body = _read_footer(files, fd, name, write_id, wait)
        map_ = _map(files, fd, name, trailer.length)
    finally:
        files.close(fd)
    split = 8 * _blocks(trailer.length)
    return ShardFile(name, map_, memoryview(body)[:split].cast("Q"), body[split : split + trailer.record], trailer.blake3)


class ShardCopy:
    """A finished shard that was read whole. See `interface.Shard`."""

    __slots__ = ("blake3", "checksums", "record", "view")

    def __init__(self, view: memoryview, checksums: memoryview, record: bytes, blake3: bytes) -> None:
        self.view = view
        self.checksums = checksums
        self.record = record
        self.blake3 = blake3

    def populate(self, offset: int, length: int) -> None:
        """It is in memory."""

    def close(self) -> None:
        """There is nothing to close."""


def peek_shard(files: Files, path: str, write_id: bytes, room: memoryview) -> ShardCopy:
    """The shard that is as long as `room`, read into it without waiting for the disk: WouldBlock where that cannot be.
    ShardCorrupt."""
    tail = bytearray(_TAIL)
    try:
        fd = files.open_now(path)
        try:
            size = files.pread_now(fd, (room, tail), 0)
        finally:
            files.close(fd)
    except BlockingIOError as error:
        raise WouldBlock(write_id.hex()) from error
    if not len(room) + TRAILER_BYTES <= size < len(room) + _TAIL:
        raise WouldBlock(write_id.hex())
    found = bytes(memoryview(tail)[: size - len(room)])
    trailer, body = _footer_in(found, size, write_id.hex(), write_id)
    if trailer.length != len(room):
        raise ShardCorrupt(f"{write_id.hex()}: a shard of {trailer.length} bytes should have {len(room)}")
    split = 8 * _blocks(trailer.length)
    return ShardCopy(room, memoryview(body)[:split].cast("Q"), body[split : split + trailer.record], trailer.blake3)


def _map(files: Files, fd: int, name: str, length: int) -> FileMap:
    try:
        return files.map(fd, length)
    except OSError as error:
        raise volume_error(error, f"shard {name}") from error


def _pread(files: Files, fd: int, name: str, length: int, offset: int, wait: bool) -> bytes:
    """Fewer bytes at the end of the file; and, without `wait`, WouldBlock where not all are in memory."""
    try:
        if wait:
            return files.pread(fd, length, offset)
        data = bytearray(length)
        if files.pread_now(fd, (data,), offset) == length:
            return bytes(data)
    except BlockingIOError as error:
        raise WouldBlock(name) from error
    except OSError as error:
        raise ShardCorrupt(f"{name}: cannot be read: {error.strerror}") from error
    raise WouldBlock(name)


def _read_footer(files: Files, fd: int, name: str, write_id: bytes, wait: bool) -> tuple[Trailer, bytes]:
    """The trailer, and the bytes from the first checksum to the end of the record; ShardCorrupt."""
    try:
        size = files.size(fd)
    except OSError as error:
        raise ShardCorrupt(f"{name}: cannot be read: {error.strerror}") from error
    tail = _pread(files, fd, name, min(size, _TAIL), max(0, size - _TAIL), wait)
    trailer = _trailer_in(tail, size, name)
    if size - trailer.length > len(tail):
        tail = _pread(files, fd, name, size - trailer.length, trailer.length, wait)
        if len(tail) != size - trailer.length:
            raise ShardCorrupt(f"{name}: shrank while it was read")
    return _footer_in(tail, size, name, write_id)


def _trailer_in(tail: bytes, size: int, name: str) -> Trailer:
    """Of a file of that size, which ends with those bytes; ShardCorrupt."""
    if len(tail) < TRAILER_BYTES:
        raise ShardCorrupt(f"{name}: {size} bytes are too few for a shard file")
    trailer = Trailer._make(_TRAILER.unpack_from(tail, len(tail) - TRAILER_BYTES))
    if trailer.magic != MAGIC:
        raise ShardCorrupt(f"{name}: does not end as a shard file")
    if trailer.format != FORMAT or trailer.incompat or trailer.block != BLOCK or trailer.checksum != XXH3_64:
        raise ShardCorrupt(f"{name}: of format {trailer.format}, with features {trailer.incompat:#x} that this version lacks")
    end = trailer.length + _footer_bytes(trailer)
    if size != end:
        raise ShardCorrupt(f"{name}: is {size} bytes long, its footer says {end}")
    return trailer


def _footer_bytes(trailer: Trailer) -> int:
    padding = _padding(trailer.length) + _padding(trailer.record)
    return padding + 8 * _blocks(trailer.length) + trailer.record + TRAILER_BYTES


def _footer_in(tail: bytes, size: int, name: str, write_id: bytes) -> tuple[Trailer, bytes]:
    """As `_read_footer`, of the end of a file that has all of the footer in it."""
    trailer = _trailer_in(tail, size, name)
    start = len(tail) - _footer_bytes(trailer)
    if start < 0:
        raise ShardCorrupt(f"{name}: a footer longer than what is behind the shard")
    if xxh3_64_intdigest(memoryview(tail)[start : len(tail) - 16]).to_bytes(8, "little") != trailer.footer:
        raise ShardCorrupt(f"{name}: the footer does not match its checksum")
    if trailer.write_id != write_id:
        raise ShardCorrupt(f"{name}: is the file of {trailer.write_id.hex()}")
    return trailer, tail[start + _padding(trailer.length) :]


class Host(Protocol):
    """The volume, as far as a writer needs it."""

    files: Files

    def admit(self, repair: bool) -> None:
        """Raises VolumeUnusable when the volume is out of service, VolumeFull when its last bytes are reserved for others."""
        ...

    def soil(self) -> None:
        """There is something now that only the next barrier makes durable."""
        ...

    def sync_failed(self, error: OSError) -> VolumeError:
        """Takes the volume out of service; the error to raise."""
        ...


class Place(NamedTuple):
    """Where a shard file is made and where it goes."""

    write_id: bytes
    tmp: str
    path: str
    directory: str


class ShardFileWriter:
    """A shard file in the making. See `interface.ShardWriter`.

    A failed write loses this shard only: nothing was promised yet. A failed sync takes the volume out of service: the
    kernel may have dropped dirty pages of other files with it.
    """

    def __init__(self, host: Host, place: Place, repair: bool, expected: int = 0) -> None:
        """`expected`: bytes of the shard, as far as they are known."""
        self._host = host
        self._place = place
        self._repair = repair
        self._expected = expected
        self._length = 0
        self._placed = 0
        """Bytes that have their places on the disk already."""
        self._made = True
        """There is a file in tmp."""
        self._fd: int | None = None
        host.admit(repair)
        try:
            self._fd = host.files.create(place.tmp)
        except OSError as error:
            raise volume_error(error, f"{place.tmp}: cannot be created") from error

    @property
    def unfinished(self) -> bool:
        """Whether there is a file in tmp."""
        return self._made

    def write(self, buffers: Sequence[Buffer]) -> None:
        """Append, all of it or raise; after an error the shard is gone."""
        if self._fd is None:
            self._host.admit(self._repair)
            raise VolumeError(f"{self._place.tmp}: is closed")
        try:
            self._host.admit(self._repair)
            self._find_places(self._fd, sum(map(len, buffers)))
            self._length += write_all(self._host.files, self._fd, buffers)
        except OSError as error:
            self.abort()
            raise volume_error(error, f"{self._place.tmp}: cannot be written") from error
        except VolumeError:
            self.abort()
            raise

    def finish(self, checksums: bytes, record: bytes, blake3: bytes, durable: bool) -> None:
        """Append the footer, sync if `durable`, and put the file in its place; after an error the shard is gone."""
        self.write((footer(self._place.write_id, self._length, checksums, record, blake3),))
        if durable:
            self._sync()
        try:
            self._close()
            self._host.files.rename(self._place.tmp, self._place.path)
        except OSError as error:
            self.abort()
            raise volume_error(error, f"{self._place.path}: cannot be finished") from error
        self._made = False
        if durable:
            self._sync_directory()
        else:
            self._host.soil()

    def abort(self) -> None:
        """Remove it. Harmless when called twice and after `finish`; what the disk refuses to remove now is removed when the
        volume is opened again."""
        made, self._made = self._made, False
        if made:
            with suppress(OSError):
                self._close()
            with suppress(OSError):
                self._host.files.unlink(self._place.tmp)

    def _find_places(self, fd: int, length: int) -> None:
        """For what is written next, and some of what follows: the kernel takes a third less time for bytes whose place is known,
        and a disk that is full says so early."""
        rest = self._expected - self._placed
        if self._length + length <= self._placed or rest < PLACES_LEAST:
            return
        more = min(rest, max(PLACES, length))
        if self._host.files.allocate(fd, self._placed, more):
            self._placed += more
        else:
            self._expected = 0

    def _sync(self) -> None:
        if self._fd is None:
            raise VolumeError(f"{self._place.tmp}: is closed")
        try:
            self._host.files.fdatasync(self._fd)
        except OSError as error:
            self.abort()
            raise self._host.sync_failed(error) from error

    def _sync_directory(self) -> None:
        try:
            self._host.files.fsync_directory(self._place.directory)
        except OSError as error:
            if error.errno in _NO_DESCRIPTOR:
                # The directory could not even be opened: its disk was asked for nothing, and is not to blame.
                with suppress(OSError):
                    self._host.files.unlink(self._place.path)
                raise volume_error(error, f"{self._place.path}: cannot be synced") from error
            raise self._host.sync_failed(error) from error

    def _close(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            self._host.files.close(fd)
