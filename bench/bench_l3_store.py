"""L3: the store without HTTP: placement, stripe pipeline, erasure coding, checksums, commit. On 1 volume and on 4 (3 + 1), in
the page cache and with syncs. `MB/s` (10^6 bytes per second, best round), or `us` per operation for small objects, is in
extra_info. A source hands its bytes out by copying them, as a socket does; a reader's slices are hashed after the clock stops.

Where it writes is pytest's --basetemp: give it a directory on the disk that is to be measured."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Iterator

import pytest
from blake3 import blake3
from pytest_benchmark.fixture import BenchmarkFixture

from abixio.message import Buffer
from bench.stores import Bench

KIB, MIB = 1 << 10, 1 << 20
LARGE = {"10MiB": 10 * MIB, "256MiB": 256 * MIB, "1GiB": 1024 * MIB}
CHOICE = [pytest.param(name, marks=pytest.mark.gib) if name == "1GiB" else name for name in LARGE]
SMALL = {"4KiB": 4 * KIB, "64KiB": 64 * KIB}
ROUNDS = {"10MiB": 8, "256MiB": 2, "1GiB": 1}
CALLS = 64
"""Small operations in one round."""

_numbers = itertools.count()
KINDS = [(1, "page-cache"), (1, "fsync"), (4, "page-cache"), (4, "fsync")]


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: f"{kind[0]}-{kind[1]}")
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    bench = Bench(tmp_path_factory.mktemp("l3"), *request.param)
    yield bench
    bench.close()


@pytest.fixture(scope="module", params=[1, 4], ids=lambda n: f"{n}-volumes")
def reading(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    bench = Bench(tmp_path_factory.mktemp("l3"), request.param, "page-cache")
    yield bench
    bench.close()


@pytest.fixture(scope="module")
def data() -> memoryview:
    """Random, and of a length that no stripe divides; larger sizes repeat it."""
    return memoryview(os.urandom(32 * MIB + 4096))


def hash_of(data: memoryview, size: int) -> bytes:
    running = blake3()
    for start in range(0, size, len(data)):
        running.update(data[: size - start])
    return running.digest()


def check(pieces: list[Buffer], expected: bytes) -> None:
    running = blake3()
    for piece in pieces:
        running.update(piece)
    assert running.digest() == expected


def note_rate(benchmark: BenchmarkFixture, size: int) -> None:
    if benchmark.stats is not None:
        benchmark.extra_info["MB/s"] = round(size / benchmark.stats.stats.min / 1e6)


def note_time(benchmark: BenchmarkFixture) -> None:
    if benchmark.stats is not None:
        benchmark.extra_info["us"] = round(benchmark.stats.stats.min / CALLS * 1e6, 1)


# ---- large objects ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("size", CHOICE)
def test_put(benchmark: BenchmarkFixture, bench: Bench, data: memoryview, size: str) -> None:
    os.sync()
    keys: list[str] = []

    def prepare() -> None:
        bench.runner.run(bench.delete(keys[:-1]))
        keys[:] = [*keys[-1:], f"{size}/{next(_numbers)}"]

    benchmark.pedantic(lambda: bench.runner.run(bench.put(keys[-1], data, LARGE[size])), setup=prepare, rounds=ROUNDS[size])
    note_rate(benchmark, LARGE[size])
    check(bench.runner.run(bench.get(keys[-1])), hash_of(data, LARGE[size]))
    bench.runner.run(bench.delete(keys))


@pytest.mark.parametrize("lost", [0, 1])
@pytest.mark.parametrize("size", CHOICE)
def test_get(benchmark: BenchmarkFixture, reading: Bench, data: memoryview, size: str, lost: int) -> None:
    """From the page cache, verified; with one volume lost, every stripe is rebuilt."""
    pool = reading.store.pool
    if lost and pool.n == 1:
        pytest.skip("one volume cannot do without any")
    reading.runner.run(reading.put(size, data, LARGE[size]))
    layout = reading.runner.run(reading.store.head(reading.bucket, size)).record.layout
    assert layout is not None
    slot = layout.slots[0]
    lane = pool.lanes[slot]

    async def read() -> int:
        """What is sent is not kept, or a degraded object would be in memory as a whole."""
        reader = await reading.store.open(reading.bucket, size)
        length = 0
        async for piece in reader.stream(0, reader.info.size):
            length += len(piece)
        await reader.aclose()
        return length

    pool.lanes[slot] = None if lost else lane
    try:
        assert benchmark.pedantic(lambda: reading.runner.run(read()), rounds=ROUNDS[size], warmup_rounds=1) == LARGE[size]
        note_rate(benchmark, LARGE[size])
        check(reading.runner.run(reading.get(size)), hash_of(data, LARGE[size]))
    finally:
        pool.lanes[slot] = lane


# ---- small objects ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("at_once", [1, 16])
@pytest.mark.parametrize("size", SMALL)
def test_put_small(benchmark: BenchmarkFixture, bench: Bench, data: memoryview, size: str, at_once: int) -> None:
    numbers = itertools.count()
    prefix = f"{size}/{next(_numbers)}"

    async def some() -> None:
        async def one() -> None:
            for _ in range(CALLS // at_once):
                await bench.put(f"{prefix}/{next(numbers)}", data, SMALL[size])

        await asyncio.gather(*(one() for _ in range(at_once)))

    benchmark.pedantic(lambda: bench.runner.run(some()), rounds=4)
    note_time(benchmark)
    for number in range(next(numbers)):
        check(bench.runner.run(bench.get(f"{prefix}/{number}")), hash_of(data, SMALL[size]))


@pytest.mark.parametrize("size", SMALL)
def test_get_small(benchmark: BenchmarkFixture, reading: Bench, data: memoryview, size: str) -> None:
    reading.runner.run(reading.put(size, data, SMALL[size]))
    expected = hash_of(data, SMALL[size])

    async def some() -> None:
        for _ in range(CALLS):
            await reading.get(size)

    benchmark.pedantic(lambda: reading.runner.run(some()), rounds=10, warmup_rounds=1)
    note_time(benchmark)
    check(reading.runner.run(reading.get(size)), expected)
