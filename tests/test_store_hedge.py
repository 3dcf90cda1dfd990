"""One volume of a real store that takes seconds for every call: nobody who can do without it notices."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from abixio.config import KIB, MIB, Config
from abixio.errors import OutcomeUnknown, Unavailable
from abixio.store import lane as lanes
from abixio.store import placing
from abixio.store.breaker import State
from abixio.store.buffers import BufferPool
from abixio.store.pool import Pool
from abixio.store.store import Store
from abixio.store.types import Bucket
from abixio.volume.local import LocalVolume
from tests.store_local import Disks, get, put
from tests.volume_slow import Sleeper, SlowFiles

SMALL = {f"small{n}": os.urandom(4 * KIB + n) for n in range(20)}
LARGE = {f"large{n}": os.urandom(MIB + n) for n in range(8)}
SECONDS = 5.0


@dataclass
class World:
    """A store of four volumes, one of which can be made to sleep, and objects of FTT 1 on it."""

    store: Store
    bucket: Bucket
    sleeper: Sleeper
    slot: int

    @property
    def lane(self) -> lanes.Lane:
        lane = self.store.pool.lanes[self.slot]
        assert lane is not None
        return lane

    async def well(self) -> None:
        """Until it is relied on again."""
        await until(lambda: self.lane.well and self.lane.up)

    async def everywhere(self, *keys: str) -> None:
        """Until every volume has rows of those keys."""
        lanes = [lane for lane in self.store.pool.lanes if lane is not None]
        await until(lambda: all(lane.volume.rows(self.bucket.space, key.encode()) for lane in lanes for key in keys))


async def until(true: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait for it, or fail."""
    for _ in range(int(seconds / 0.05)):
        if true():
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"not within {seconds} s")


@asynccontextmanager
async def world(root: Path, durability: str = "page-cache", slot: int = 0) -> AsyncIterator[World]:
    disks, slow = Disks(root, 4), SlowFiles()
    volumes = {n: LocalVolume.open(str(root / f"v{n}"), slow if n == slot else None) for n in range(4)}
    config = Config(durability=durability)  # type: ignore[arg-type]
    with ThreadPoolExecutor(8) as executor:
        pool = Pool(volumes, disks.n, (), config, executor, BufferPool(256 * MIB), asyncio.get_running_loop())
        store = await Store.start(pool)
        try:
            bucket = await store.create_bucket("bucket", "me", {})
            for key, body in (SMALL | LARGE).items():
                await put(store, bucket, key, body)
            yield World(store, bucket, slow.sleeper, slot)
        finally:
            slow.sleeper.wake()
            await store.aclose()


async def latencies(count: int, clients: int, call: Callable[[], Awaitable[None]]) -> list[float]:
    """Of that many calls, in order of length."""
    took: list[float] = []
    rest = iter(range(count))

    async def client() -> None:
        for _ in rest:
            began = time.perf_counter()
            await call()
            took.append(time.perf_counter() - began)
            await asyncio.sleep(0)  # as a server does for its sockets: a read from memory never lets others run

    await asyncio.gather(*(client() for _ in range(clients)))
    return sorted(took)


def p99(took: list[float]) -> float:
    return took[len(took) * 99 // 100]


def gets(w: World, bodies: dict[str, bytes]) -> Callable[[], Awaitable[None]]:
    keys = itertools.cycle(random.sample(sorted(bodies), len(bodies)))

    async def one() -> None:
        key = next(keys)
        assert await get(w.store, w.bucket, key) == bodies[key]

    return one


@asynccontextmanager
async def heartbeat(most: float) -> AsyncIterator[None]:
    """The event loop is never away for longer than that."""
    longest = 0.0

    async def beat() -> None:
        nonlocal longest
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.01)
            longest = max(longest, time.monotonic() - began)

    task = asyncio.create_task(beat())
    await asyncio.sleep(0)
    try:
        yield
        await asyncio.sleep(0.02)  # or what just blocked the loop is not seen
    finally:
        task.cancel()
    assert longest < most, f"the loop was away for {longest:.2f} s"


# ---- reading ---------------------------------------------------------------------------------------------------------
@asynccontextmanager
async def writing(w: World) -> AsyncIterator[None]:
    """Meanwhile somebody writes, so that no catalog is read from a connection's own memory for long."""

    async def work() -> None:
        for number in itertools.count():
            await put(w.store, w.bucket, f"other{number % 10}", os.urandom(KIB))
            await asyncio.sleep(0.02)

    task = asyncio.create_task(work())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize(
    ("bodies", "count"), [(SMALL, 2000), pytest.param(LARGE, 600, marks=pytest.mark.slow)], ids=["small", "large"]
)
async def test_a_volume_that_sleeps_in_every_call_does_not_double_the_p99_of_gets(
    tmp_path: Path, bodies: dict[str, bytes], count: int
) -> None:
    """Tried again where it does, for other processes come and go; a reader that waits for the volume takes seconds each time."""
    async with world(tmp_path) as w, writing(w):
        for _ in range(3):
            healthy = p99(await latencies(count, 3, gets(w, bodies)))
            w.sleeper.sleep(SECONDS)
            async with heartbeat(1.0):
                slow = p99(await latencies(count, 3, gets(w, bodies)))
            assert w.sleeper.naps
            print(f"p99 {healthy * 1000:.1f} ms, with a volume that sleeps {slow * 1000:.1f} ms")
            if slow < 2 * healthy:
                return
            w.sleeper.wake()
            await w.well()
        raise AssertionError("no time of three")


async def test_the_first_read_of_a_cold_and_hanging_catalog_does_not_stop_the_loop(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await put(w.store, w.bucket, "small0", SMALL["small0"])  # the pages of others' connections are stale now
        w.sleeper.sleep(SECONDS)
        async with heartbeat(1.0):
            assert await get(w.store, w.bucket, "small1") == SMALL["small1"]
            assert await get(w.store, w.bucket, "large1") == LARGE["large1"]
            page = await w.store.list(w.bucket, "", "", "", 1000)
        assert len(page.items) == len(SMALL | LARGE)
        assert w.lane.breaker.state is State.SLOW


async def test_a_slow_volume_that_is_needed_is_waited_for(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await put(w.store, w.bucket, "all", LARGE["large0"], ftt=0)
        w.sleeper.sleep(0.1)
        assert await get(w.store, w.bucket, "all") == LARGE["large0"]


async def test_a_hanging_volume_that_is_needed_is_given_up_in_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("lane", "openpart", "pace"):
        monkeypatch.setattr(f"abixio.store.{module}.HUNG", 0.7)
    async with world(tmp_path) as w:
        await put(w.store, w.bucket, "all", LARGE["large0"], ftt=0)
        w.sleeper.sleep(60)
        began = time.monotonic()
        with pytest.raises(Exception, match=r"volumes|shards"):
            await get(w.store, w.bucket, "all")
        assert time.monotonic() - began < 5
        assert w.lane.breaker.state is State.DOWN
        assert await get(w.store, w.bucket, "large1") == LARGE["large1"]
        w.sleeper.wake()
        await w.well()
        assert await get(w.store, w.bucket, "all") == LARGE["large0"]


# ---- writing ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("durability", ["fsync", "page-cache"])
@pytest.mark.parametrize("size", [KIB, 300 * KIB])
async def test_only_the_first_write_waits_for_a_volume_that_hangs(tmp_path: Path, durability: str, size: int) -> None:
    async with world(tmp_path, durability) as w:
        w.sleeper.sleep(60)
        took = []
        async with heartbeat(1.0):
            for number in range(12):
                began = time.monotonic()
                await put(w.store, w.bucket, f"new{number}", os.urandom(size))
                took.append(time.monotonic() - began)
        assert took[0] < 9, took
        assert max(took[2:]) < 1, took
        assert await w.store.delete(w.bucket, "new0")
        w.sleeper.wake()
        await w.well()
        await w.everywhere(*(f"new{number}" for number in range(1, 12)))


async def test_a_volume_that_is_quick_again_is_relied_on_again_and_gets_what_it_missed(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        w.sleeper.sleep(SECONDS)
        for number in range(3):
            await put(w.store, w.bucket, f"missed{number}", os.urandom(KIB))
        await w.store.delete(w.bucket, "small3")
        assert not w.lane.well
        w.sleeper.wake()
        await w.well()
        await w.everywhere("missed0", "missed1", "missed2")
        assert [item.key for item in (await w.store.list(w.bucket, "small3", "", "", 10)).items] == []


async def test_with_too_few_volumes_one_write_finds_out_and_the_next_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placing, "STRAGGLER", 0.05)
    monkeypatch.setattr(placing, "DEADLINE", 0.5)
    async with Disks(tmp_path, 4).store() as store:
        bucket = await store.create_bucket("bucket", "me", {})
        await put(store, bucket, "key", b"before")
        hung, go = [store.pool.lanes[1], store.pool.lanes[2]], threading.Event()

        def hang(apply: Callable[..., object]) -> Callable[..., object]:
            return lambda *arguments: (go.wait(20), apply(*arguments))[1]

        for lane in hung:
            assert lane is not None
            monkeypatch.setattr(lane.volume, "apply", hang(lane.volume.apply))
        took = []
        for _ in range(3):
            began = time.monotonic()
            with pytest.raises((OutcomeUnknown, Unavailable)):
                await put(store, bucket, "key", b"after")
            took.append(time.monotonic() - began)
        assert 0.4 < took[0] < 5
        assert max(took[1:]) < 0.3, took
        go.set()
        await until(lambda: all(lane is not None and lane.up for lane in hung))
        await put(store, bucket, "key", b"in the end")
        assert await get(store, bucket, "key") == b"in the end"
