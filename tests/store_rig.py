"""A pool over volumes in memory for the tests of the data path, and sources of bytes for uploads."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from abixio.config import MIB, Config
from abixio.store import reader
from abixio.store.buffers import BufferPool
from abixio.store.layout import MIN_CHUNK, choose
from abixio.store.pool import Pool
from abixio.store.reader import open_reader
from abixio.store.record import Layout, Record, pack
from abixio.store.upload import EtagMode, Received, receive
from abixio.volume.interface import Insert, Row, RowId, State, Volume
from tests.store_memvolume import MemVolume

SPACE = b"s" * 16
FILE = MIB + 12_345
"""Bytes of an object of several stripes and a ragged end in every layout of a rig."""
_noise = os.urandom(37 * MIB // 2)


def noise(size: int, start: int = 0) -> bytes:
    """Random bytes, the same for the same arguments."""
    return _noise[start : start + size]


class BytesSource:
    """An upload of these bytes."""

    def __init__(self, data: bytes, length: int | None = -1, algorithms: Collection[str] = ()) -> None:
        self.length = len(data) if length == -1 else length
        self.algorithms = algorithms
        self.digests: Mapping[str, bytes] = {}
        self.saw_end = False
        self._data = memoryview(data)

    async def readinto(self, view: memoryview) -> int:
        part, self._data = self._data[: len(view)], self._data[len(view) :]
        view[: len(part)] = part
        self.saw_end = len(part) < len(view)
        return len(part)

    def verify(self, digests: Mapping[str, bytes]) -> dict[str, str]:
        assert self.saw_end, "the end of the body was not read"
        self.digests = digests
        return {name: digests[name].hex() for name in self.algorithms}


class FailingSource(BytesSource):
    """An upload that breaks behind these bytes, or hangs there when there is no error."""

    def __init__(self, data: bytes, length: int, error: BaseException | None) -> None:
        super().__init__(data, length)
        self.error = error
        self.there = asyncio.Event()

    async def readinto(self, view: memoryview) -> int:
        got = await super().readinto(view)
        if self.saw_end:
            self.there.set()
            if self.error is None:
                await asyncio.Event().wait()
            else:
                raise self.error
        return got


@dataclass
class Stored:
    """An object as the commit would leave it."""

    record: Record
    rows: dict[int, Row]
    received: Received

    def without(self, slots: Collection[int]) -> Stored:
        """The same, with the rows of those slots not known."""
        return Stored(self.record, {slot: row for slot, row in self.rows.items() if slot not in slots}, self.received)


class Rig:
    """A pool and what tests do with it."""

    chunk = MIN_CHUNK

    def __init__(self, pool: Pool, volumes: list[Any]) -> None:
        self.pool = pool
        self.volumes = volumes
        self._keys = iter(range(1 << 30))

    def layout(self, ftt: int) -> Layout:
        """As for a new object, but with the rig's chunks: with small ones an object of many stripes is a small object."""
        return msgspec.structs.replace(choose(self.pool.n, ftt, SPACE, b"key"), chunk=self.chunk)

    def full(self, ftt: int) -> Layout:
        """As for a new object."""
        return choose(self.pool.n, ftt, SPACE, b"key")

    async def receive(
        self, data: bytes, ftt: int, mode: EtagMode = "auto", real_md5: bool = False, allow_inline: bool = True, number: int = 1,
    ) -> Received:
        return await receive(self.pool, self.layout(ftt), number, BytesSource(data), mode, real_md5, allow_inline)

    async def put(self, data: bytes, ftt: int) -> Stored:
        """Receive, finish, and a row on every volume that holds the shard."""
        received = await self.receive(data, ftt)
        return await self.commit([received])

    async def commit(self, parts: list[Received]) -> Stored:
        key = b"key%d" % next(self._keys)
        size = sum(part.part.size for part in parts)
        record = Record(
            "object", SPACE, key, 1, 1, size=size, etag=parts[0].etag, layout=parts[0].layout,
            parts=tuple(part.part for part in parts),
        )
        holders = set(range(self.pool.n))
        for part in parts:
            holders &= await part.finish(pack(record))
        for slot in holders:
            lane = self.pool.lanes[slot]
            assert lane is not None
            inline = None if parts[0].inline is None else parts[0].inline[slot]
            row = RowId(SPACE, key, 1, 0)
            await lane.apply((Insert(row, State.COMMITTED, 0, pack(record), record.write_ids, inline),), False)
        return Stored(record, {slot: self.volumes[slot].rows(SPACE, key)[0] for slot in holders}, parts[0])

    async def get(self, stored: Stored, start: int = 0, length: int | None = None) -> bytes:
        """Read through a reader of its own, and close it."""
        reader = await open_reader(self.pool, stored.record, stored.rows)
        try:
            stop = stored.record.size if length is None else start + length
            return b"".join([bytes(piece) async for piece in reader.stream(start, stop - start)])
        finally:
            await reader.aclose()

    def lose(self, slot: int) -> None:
        """The volume is gone."""
        self.pool.lanes[slot] = None

    def spoil(self, stored: Stored, slot: int, offset: int = 0) -> None:
        """Flip a bit of that volume's shard."""
        row = stored.rows[slot]
        if row.inline is not None:
            shard = bytearray(self.volumes[slot].inline(row.inline))
            shard[offset % len(shard)] ^= 1
            self.volumes[slot].spoil_inline(row.inline, bytes(shard))
        else:
            data = self.volumes[slot].shards[stored.record.parts[0].write_id].data
            data[offset % len(data)] ^= 1

    async def settled(self) -> None:
        """Wait until nothing is left in use, or fail."""
        for attempt in range(200):
            if not any(self.left().values()):
                return
            if attempt == 50:
                gc.collect()  # an error that the test looked at may keep the frames it went through alive
            await asyncio.sleep(0.002)
        raise AssertionError(f"left in use: {self.left()}")

    def left(self) -> dict[str, int]:
        volumes = [volume for volume in self.volumes if isinstance(volume, MemVolume)]
        return {
            "memory": self.pool.buffers.out, "waiting": self.pool.buffers.waiting, "pins": len(self.pool.pins),
            "unfinished": sum(v.unfinished for v in volumes), "open": sum(v.open_shards for v in volumes),
        }


@asynccontextmanager
async def rig(
    n: int, budget: int = 64 * MIB, volumes: Sequence[Volume] | None = None, config: Config | None = None,
) -> AsyncIterator[Rig]:
    """A pool over n volumes; after the test nothing may be left in use."""
    made: list[Any] = list(volumes or [MemVolume(slot) for slot in range(n)])
    with ThreadPoolExecutor(4) as executor:
        pool = Pool(
            {volume.slot: volume for volume in made}, n, (), config or Config(durability="page-cache"), executor,
            BufferPool(budget), asyncio.get_running_loop(),
        )
        lanes = list(pool.lanes)
        yield (used := Rig(pool, made))
        await used.settled()
        pool.lanes = lanes
        await pool.close()


def pools(most: int = 6) -> list[tuple[int, int]]:
    """Every (volumes, fault tolerance) up to that many volumes."""
    return [(n, ftt) for n in range(1, most + 1) for ftt in range(n)]


def begin_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the first bytes of a stream are not in memory."""
    monkeypatch.setattr(reader, "resident", lambda source, run: None)
