"""A store over real volumes in which nothing happens by itself, which can be hooked into and which ends without a goodbye."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from abixio.config import MIB, Config
from abixio.errors import VolumeError, VolumeUnusable
from abixio.store import breaker
from abixio.store.buffers import BufferPool
from abixio.store.opening import mark_regressed, newest_seq, verify_unclean
from abixio.store.pool import Pool
from abixio.store.store import Store
from tests.store_local import Disks


class Hooked:
    """A volume that does something before it is asked."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.slot, self.clean = inner, inner.slot, inner.clean
        self.before: dict[str, Callable[..., object]] = {}

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.inner, name)
        if not callable(method):
            return method

        def call(*args: object, **kwargs: object) -> object:
            if name in self.before:
                self.before[name](*args, **kwargs)
            return method(*args, **kwargs)

        return call

    def fails(self, operation: str, error: VolumeError) -> None:
        def raise_it(*args: object, **kwargs: object) -> None:
            raise error

        self.before[operation] = raise_it


@asynccontextmanager
async def process(
    disks: Disks, durability: str = "fsync", missing: Collection[int] = (), prepare: Callable[[Any], None] = lambda volumes: None,
) -> AsyncIterator[Store]:
    """A store in which nothing happens by itself, and which ends without a goodbye."""
    disks.missing = set(missing)
    volumes: Any = {slot: Hooked(volume) for slot, volume in disks.volumes().items()}
    prepare(volumes)
    with ThreadPoolExecutor(4) as executor:
        config, loop = Config(durability=durability), asyncio.get_running_loop()  # type: ignore[arg-type]
        filling = {slot for slot, volume in volumes.items() if volume.inner.notes().get("filling")}
        pool = Pool(volumes, disks.n, filling, config, executor, BufferPool(64 * MIB), loop)
        await mark_regressed(pool)
        await verify_unclean(pool)
        store = Store(pool, await newest_seq(pool))
        try:
            yield store
        finally:
            for volume in volumes.values():
                volume.before.clear()
            await store._objects.drain()
            await pool.close()


def volume(store: Store, slot: int) -> Hooked:
    found: Any = store.pool.lanes[slot]
    hooked = found.volume
    assert isinstance(hooked, Hooked)
    return hooked


def down(store: Store, *slots: int) -> None:
    for slot in slots:
        store.pool.lanes[slot].failed = VolumeUnusable("down")  # type: ignore[union-attr]


def back(store: Store, *slots: int) -> None:
    for slot in slots:
        lane: Any = store.pool.lanes[slot]
        lane.failed, lane.well, lane.breaker.state, lane.breaker.errors = None, True, breaker.State.UP, 0


def copy(disks: Disks, slot: int) -> Path:
    """What that disk holds for sure now."""
    shutil.rmtree(disks.root / "copy", ignore_errors=True)
    shutil.copytree(disks.root / f"v{slot}", disks.root / "copy")
    return disks.root / "copy"


def restore(disks: Disks, slot: int) -> None:
    shutil.rmtree(disks.root / f"v{slot}")
    (disks.root / "copy").rename(disks.root / f"v{slot}")
