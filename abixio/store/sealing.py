"""Encrypted objects: what is kept with them, and a reader that decrypts what it reads.

The store never decides about keys. Whoever writes gives a `Seal`: the object's own key, and the fields by which he finds
that key again. The encoder encrypts with it what is received; from there on all work, repair and re-encoding included, is on
stored bytes and needs no key. Whoever reads gives the key back (`Unlock`).
"""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode, b64encode
from collections.abc import AsyncGenerator, Iterator, Mapping
from typing import Final, NamedTuple

from msgspec.structs import replace

from abixio.codec.aead import BODY, CHUNK, Forged, Unsealer, chunks, derive, unwrap, wrap
from abixio.config import KIB, MIB
from abixio.errors import DataLost
from abixio.message import Buffer
from abixio.store.buffers import Rooms
from abixio.store.pool import Pool
from abixio.store.reader import StoredReader
from abixio.store.record import SEALED, Part
from abixio.store.types import ObjectInfo, Seal

GROUP: Final = 2 * MIB // CHUNK
"""Chunks decrypted in one job: 1 ms of arithmetic beside 0.1 ms of hand-over, and still in the cache when they are sent."""
ON_LOOP: Final = 64 * KIB
"""Up to here a hand-over to a thread costs more than the arithmetic, as for uploads."""
_SUMS: Final = "checksums"


def part_key(key: bytes, salt: bytes, number: int) -> bytes:
    """The key that one write of part `number` is encrypted with."""
    return derive(key, b"part", salt + number.to_bytes(4, "big"))


class Known(NamedTuple):
    """What the record of an object says of its key and its checksums."""

    encryption: dict[str, str]
    checksums: dict[str, str]
    incompat: tuple[str, ...]


def sealed(seal: Seal | None, checksums: Mapping[str, str]) -> Known:
    """Of an object with that seal its checksums too can be seen by who has the key only: those of a few bytes say as much as
    the bytes. Their names stay, for listings."""
    if seal is None:
        return Known({}, dict(checksums), ())
    fields = dict(seal.fields)
    if checksums:
        fields[_SUMS] = b64encode(wrap(seal.key, json.dumps(dict(checksums)).encode(), _SUMS.encode())).decode()
    return Known(fields, dict.fromkeys(checksums, ""), (SEALED,))


def revealed(info: ObjectInfo, key: bytes | None) -> ObjectInfo:
    """An object with its checksums, for who has its key."""
    hidden = info.record.encryption.get(_SUMS)
    if key is None or hidden is None:
        return info
    try:
        checksums = json.loads(unwrap(key, b64decode(hidden), _SUMS.encode()))
    except Forged as error:
        raise DataLost(f"the checksums of {info.key!r} do not have their tag") from error
    return ObjectInfo(info.key, info.size, info.etag, info.modified, replace(info.record, checksums=checksums))


class _Group(NamedTuple):
    """Consecutive chunks of one part."""

    unsealer: Unsealer
    number: int
    """Of the part."""
    base: int
    """Where the part's bytes begin among the stored ones of the object."""
    first: int
    end: int
    skip: int
    """Bytes in front of those that are wanted."""
    length: int
    """Bytes that are wanted."""


class UnsealingReader:
    """An encrypted object, decrypted group by group on executor threads, one group ahead of what is being sent. One stream at
    a time."""

    def __init__(self, pool: Pool, inner: StoredReader, key: bytes) -> None:
        """`inner` reads the stored bytes. Its loan of memory is used, so that nobody who has some waits for more."""
        self.info = revealed(inner.info, key)
        self._pool = pool
        self._inner = inner
        self._key = key
        self._rooms = Rooms()
        self._slices: AsyncGenerator[Buffer, None] | None = None
        self._ahead: asyncio.Task[memoryview] | None = None

    async def stream(self, start: int, length: int) -> AsyncGenerator[Buffer, None]:
        """Bytes [start, start + length) of the object. DataLost when what is stored does not have its tags."""
        groups = self._groups(start, start + length)
        group = next(groups, None)
        try:
            while group is not None:
                view = await (self._open(group) if self._ahead is None else self._ahead)
                group = next(groups, None)
                self._ahead = None if group is None else self._pool.loop.create_task(self._open(group))
                yield view
        finally:
            await self._forget()

    async def aclose(self) -> None:
        """Let go of everything. Closing twice is harmless."""
        await self._forget()
        self._rooms.clear()
        await self._inner.aclose()

    async def _forget(self) -> None:
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            ahead.cancel()
            await asyncio.wait((ahead,))
            if not ahead.cancelled():
                ahead.exception()
        slices, self._slices = self._slices, None
        if slices is not None:
            await slices.aclose()

    def _groups(self, start: int, stop: int) -> Iterator[_Group]:
        begin = base = 0
        for part in self.info.record.parts:
            low, high = max(start - begin, 0), min(stop - begin, part.size)
            if low < high:
                yield from self._of_part(part, base, low, high)
            begin, base = begin + part.size, base + part.stored

    def _of_part(self, part: Part, base: int, low: int, high: int) -> Iterator[_Group]:
        unsealer = Unsealer(part_key(self._key, part.salt, part.number), part.size)
        first, stop = chunks(low, high)
        while first < stop:
            end = min(first + GROUP, stop)
            skip = max(low - first * BODY, 0)
            yield _Group(unsealer, part.number, base, first, end, skip, min(high, end * BODY) - first * BODY - skip)
            first = end

    async def _open(self, group: _Group) -> memoryview:
        """The bytes of a group that are wanted."""
        unsealer = group.unsealer
        length = unsealer.length(group.first, group.end)
        out = memoryview(bytearray(length)) if length <= ON_LOOP else await self._rooms.take(self._inner.memory, length)
        pieces: list[Buffer] = []
        where = group.base + group.first * CHUNK
        self._slices = _slices(self._inner, where, unsealer.stored(group.first, group.end))
        async for piece in self._slices:
            pieces.append(piece)
        try:
            if length <= ON_LOOP:
                unsealer.unseal(pieces, group.first, out)
            else:
                await self._pool.loop.run_in_executor(self._pool.executor, unsealer.unseal, pieces, group.first, out)
        except Forged as error:
            raise DataLost(f"part {group.number} of {self.info.key!r}: {error} does not have its tag") from error
        return out[group.skip : group.skip + group.length]


async def _slices(reader: StoredReader, start: int, length: int) -> AsyncGenerator[Buffer, None]:
    async for piece in reader.stream(start, length):
        yield piece
