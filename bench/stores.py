"""A store without a server, for benchmarks below HTTP: over fresh or existing volumes, on a loop of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Final

import uvloop

from abixio.config import Config
from abixio.errors import AbixioError
from abixio.message import Buffer
from abixio.store.buffers import BufferPool
from abixio.store.pool import Pool
from abixio.store.store import Store
from abixio.store.types import Bucket, ObjectInfo, PutSpec, Says
from abixio.volume.formatting import format_volume
from abixio.volume.identity import Identity, Member
from abixio.volume.local import LocalVolume

AT_ONCE: Final = 64
"""Objects that are put in one turn of the loop, while as many are being committed."""

FAILURE: Final[Says[ObjectInfo, AbixioError | None]] = Says(lambda info: None, lambda error: error)


class Bench:
    """A running store of some volumes, and its loop."""

    def __init__(self, root: Path, volumes: int, durability: str) -> None:
        self.runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self.executor = ThreadPoolExecutor(4)
        opened = {slot: make_volume(root / f"v{slot}", slot, volumes) for slot in range(volumes)}
        self.store, self.bucket = self.runner.run(self._start(opened, volumes, durability))

    async def _start(self, opened: Mapping[int, LocalVolume], n: int, durability: str) -> tuple[Store, Bucket]:
        config = Config(durability=durability)  # type: ignore[arg-type]
        loop = asyncio.get_running_loop()
        store = await Store.start(Pool(opened, n, (), config, self.executor, BufferPool(config.memory_budget), loop))
        return store, await store.create_bucket("bench", "me", {})

    def close(self) -> None:
        self.runner.run(self.store.aclose())
        self.runner.close()
        self.executor.shutdown()

    async def put(self, key: str, data: memoryview, size: int) -> None:
        await self.store.put(self.bucket, key, PutSpec("me"), Repeated(data, size))

    async def put_many(self, keys: Iterable[str], data: bytes) -> None:
        """The same small body under each key, batch after batch, so that many share a transaction."""
        rest, before = iter(keys), list[Awaitable[AbixioError | None]]()
        while batch := [self._begun(key, data) for key in islice(rest, AT_ONCE)]:
            await ended(before)
            before = batch
        await ended(before)

    def _begun(self, key: str, data: bytes) -> Awaitable[AbixioError | None]:
        """A put that is decided now, where that is possible."""
        spec, source = PutSpec("me"), Repeated(memoryview(data), len(data))
        begun = self.store.put_at_once(self.bucket, key, spec, source, data, FAILURE)
        return begun or asyncio.ensure_future(self.put(key, memoryview(data), len(data)))

    async def get(self, key: str) -> list[Buffer]:
        reader = await self.store.open(self.bucket, key)
        try:
            return [piece async for piece in reader.stream(0, reader.info.size)]
        finally:
            await reader.aclose()

    async def delete(self, keys: list[str]) -> None:
        for key in keys:
            await self.store.delete(self.bucket, key)


async def ended(puts: Iterable[Awaitable[AbixioError | None]]) -> None:
    for error in await asyncio.gather(*puts):
        if error is not None:
            raise error


class Repeated:
    """A source of `size` bytes that are `data` again and again."""

    algorithms: Collection[str] = ()

    def __init__(self, data: memoryview, size: int) -> None:
        self.length: int | None = size
        self._data, self._at = data, 0

    async def readinto(self, view: memoryview) -> int:
        assert self.length is not None
        done, count = 0, min(len(view), self.length - self._at)
        while done < count:
            start = self._at % len(self._data)
            step = min(count - done, len(self._data) - start)
            view[done : done + step] = self._data[start : start + step]
            done += step
            self._at += step
        return done

    def verify(self, digests: Mapping[str, bytes]) -> dict[str, str]:
        return {}


def make_volume(path: Path, slot: int, n: int) -> LocalVolume:
    members = tuple(Member(s, f"{s:032x}") for s in range(n))
    format_volume(str(path), Identity("0" * 32, slot, members[slot].volume, 1, members, 0))
    return LocalVolume.open(str(path))
