"""Stores over real volumes in temporary directories, for the tests of the store as a whole."""

from __future__ import annotations

import asyncio
import shutil
import uuid
from collections.abc import AsyncIterator, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

from abixio.config import MIB, Config
from abixio.store.buffers import BufferPool
from abixio.store.pool import Pool
from abixio.store.store import Store
from abixio.store.types import Bucket, ObjectInfo, PutSpec
from abixio.volume.formatting import format_volume
from abixio.volume.identity import Identity, Member
from abixio.volume.interface import Note
from abixio.volume.local import LocalVolume
from tests.store_rig import BytesSource


class Disks:
    """The directories of a pool of n volumes; slots can be lost, emptied and brought back between two starts."""

    def __init__(self, root: Path, n: int) -> None:
        self.root, self.n = root, n
        self.missing: set[int] = set()
        self.filling: set[int] = set()
        self.clean = True
        """Whether the machine went down in good order."""
        for slot in range(n):
            self.format(slot)

    def format(self, slot: int) -> None:
        path = self.root / f"v{slot}"
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        members = tuple(Member(s, uuid.uuid4().hex) for s in range(self.n))
        format_volume(str(path), Identity("d" * 32, slot, members[slot].volume, 1, members, 0))

    def empty(self, slot: int) -> None:
        """A blank disk in place of this one."""
        self.format(slot)
        self.filling.add(slot)

    def volumes(self) -> dict[int, LocalVolume]:
        opened = {slot: LocalVolume.open(str(self.root / f"v{slot}")) for slot in range(self.n) if slot not in self.missing}
        for volume in opened.values():
            volume.clean = volume.clean and self.clean
        for slot in self.filling & opened.keys():
            opened[slot].apply([[Note("filling", 1)]], True)
        return opened

    @asynccontextmanager
    async def store(
        self, durability: str = "page-cache", missing: Collection[int] = (), debug_day: int | None = None,
    ) -> AsyncIterator[Store]:
        """A running store over what is there."""
        self.missing = set(missing)
        config = Config(durability=durability, debug_day=debug_day)  # type: ignore[arg-type]
        with ThreadPoolExecutor(4) as executor:
            loop = asyncio.get_running_loop()
            pool = Pool(self.volumes(), self.n, self.filling, config, executor, BufferPool(256 * MIB), loop)
            store = await Store.start(pool)
            try:
                yield store
            finally:
                await store.aclose()
                assert pool.buffers.out == 0


@asynccontextmanager
async def quiet(disks: Disks, durability: str = "page-cache", missing: Collection[int] = ()) -> AsyncIterator[Store]:
    """A store in which only the journal repairs by itself."""
    async with disks.store(durability, missing) as store:
        await store.scanner.stop()
        await store.refill.stop()
        await store.repairs.stop()
        yield store


async def put(store: Store, bucket: Bucket, key: str, data: bytes, ftt: int | None = None) -> ObjectInfo:
    """Store an object."""
    return await store.put(bucket, key, PutSpec("me", ftt=None if ftt is None else str(ftt)), BytesSource(data))


async def get(store: Store, bucket: Bucket, key: str, start: int = 0, length: int | None = None) -> bytes:
    """Read an object, or a range of it."""
    reader = await store.open(bucket, key)
    try:
        return b"".join([bytes(x) async for x in reader.stream(start, reader.info.size - start if length is None else length)])
    finally:
        await reader.aclose()


async def rest(store: Store) -> None:
    """Until nothing is left to settle."""
    for _ in range(6):
        await store.journal.run_once()
        await store.settler.cycle()
        await store.settler.cycle()


def files(disks: Disks) -> int:
    """Shard files and unfinished ones on all volumes."""
    return sum(path.is_file() for kind in ("shards", ".abixio/tmp") for path in disks.root.glob(f"v*/{kind}/**/*"))
