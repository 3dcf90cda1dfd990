"""L5: one volume. Shard files written with and without sync and read through a map, small objects inserted into the catalog
with and without sync, rows looked up. Bytes only: no hashing of payload, no erasure coding. `MB/s` (10^6 bytes per second,
best round) or `us` (best, per operation) is in extra_info. What was written is read back and compared by hash.

Where it writes is pytest's --basetemp: give it a directory on the disk that is to be measured."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator

import pytest
from blake3 import blake3
from pytest_benchmark.fixture import BenchmarkFixture

from abixio.codec.checksum import block_seed, block_sums
from abixio.volume.formatting import format_volume
from abixio.volume.identity import Identity, Member
from abixio.volume.interface import Head, Insert, RowId, State
from abixio.volume.local import LocalVolume

KIB, MIB = 1 << 10, 1 << 20
SIZES = {"4KiB": 4 * KIB, "64KiB": 64 * KIB, "10MiB": 10 * MIB, "256MiB": 256 * MIB, "1GiB": 1024 * MIB}
CHOICE = [pytest.param(name, marks=pytest.mark.slow) if name == "1GiB" else name for name in SIZES]
PIECE = 4 * MIB
"""Bytes per write, as the write path hands them over."""
ROUNDS = {"4KiB": 100, "64KiB": 100, "10MiB": 10, "256MiB": 3, "1GiB": 3}
INLINE = 4 * KIB
RECORD = os.urandom(350)
"""As long as the record of an object with a few headers."""
SPACE = bytes(16)
ROWS = 20_000

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalVolume]:
    path = str(tmp_path_factory.mktemp("l5") / "volume")
    uuid = os.urandom(16).hex()
    format_volume(path, Identity(os.urandom(16).hex(), 0, uuid, 1, (Member(0, uuid),), 0))
    volume = LocalVolume.open(path)
    yield volume
    volume.close()


@pytest.fixture(scope="module")
def payload() -> bytes:
    """Random; larger sizes repeat it."""
    return os.urandom(64 * MIB)


@pytest.fixture(autouse=True)
def settled(volume: LocalVolume) -> None:
    """No write of the benchmark before is still on its way to the disk."""
    os.sync()


def pieces(payload: bytes, size: int) -> list[memoryview]:
    """`size` bytes in pieces as the write path writes them."""
    view = memoryview(payload)
    starts = range(0, size, PIECE)
    return [view[start % len(payload) :][: min(PIECE, size - start)] for start in starts]


def sums_of(write_id: bytes, parts: list[memoryview]) -> bytes:
    seed, step = block_seed(write_id, 1, 0), PIECE // (64 * KIB)
    return b"".join(block_sums(part, seed, number * step) for number, part in enumerate(parts))


def hash_of(parts: list[memoryview]) -> bytes:
    running = blake3()
    for part in parts:
        running.update(part)
    return running.digest()


def store(volume: LocalVolume, write_id: bytes, parts: list[memoryview], sums: bytes, digest: bytes, durable: bool) -> None:
    writer = volume.create_shard(write_id)
    for part in parts:
        writer.write([part])
    writer.finish(sums, RECORD, digest, durable)


def check_and_remove(volume: LocalVolume, written: list[bytes], digest: bytes) -> None:
    shard = volume.open_shard(written[-1])
    assert blake3(shard.view).digest() == digest == shard.blake3
    shard.close()
    volume.unlink(written)


def rate(benchmark: BenchmarkFixture, size: int) -> None:
    if benchmark.stats is not None:
        benchmark.extra_info["MB/s"] = round(size / benchmark.stats.stats.min / 1e6)


@pytest.mark.parametrize("size", CHOICE)
@pytest.mark.parametrize("sync", ["page-cache", "fsync"])
def test_shard_write(benchmark: BenchmarkFixture, volume: LocalVolume, payload: bytes, size: str, sync: str) -> None:
    parts = pieces(payload, SIZES[size])
    digest = hash_of(parts)
    written: list[bytes] = []

    def another() -> tuple[tuple[bytes, bytes], dict[str, object]]:
        if SIZES[size] >= 10 * MIB:
            volume.unlink(written[:-1])
        written.append(next(_numbers).to_bytes(16, "big"))
        return (written[-1], sums_of(written[-1], parts)), {}

    def write(write_id: bytes, sums: bytes) -> None:
        store(volume, write_id, parts, sums, digest, sync == "fsync")

    benchmark.pedantic(write, setup=another, rounds=ROUNDS[size], warmup_rounds=1)
    rate(benchmark, SIZES[size])
    check_and_remove(volume, written, digest)


@pytest.mark.parametrize("size", CHOICE)
def test_shard_read(benchmark: BenchmarkFixture, volume: LocalVolume, payload: bytes, size: str) -> None:
    """Open, bring every page into memory slice by slice, close: from the page cache, no checksums."""
    parts = pieces(payload, SIZES[size])
    write_id, digest = next(_numbers).to_bytes(16, "big"), hash_of(parts)
    store(volume, write_id, parts, sums_of(write_id, parts), digest, False)

    def read() -> None:
        shard = volume.open_shard(write_id)
        for start in range(0, len(shard.view), PIECE):
            shard.populate(start, min(PIECE, len(shard.view) - start))
        shard.close()

    benchmark.pedantic(read, rounds=ROUNDS[size], warmup_rounds=1)
    rate(benchmark, SIZES[size])
    check_and_remove(volume, [write_id], digest)


def row_of(number: int) -> RowId:
    return RowId(SPACE, b"photos/%06d.jpg" % (number * 7919 % 1_000_003), number, 0)


def change_of(shard: bytes) -> tuple[Insert, Head]:
    """What a PUT of a small object asks of a volume."""
    number = next(_numbers)
    row = row_of(number)
    return (
        Insert(row, State.PENDING, 1, RECORD, (number.to_bytes(16, "big"),), shard),
        Head(row.space, row.key, (row.seq, row.rev)),
    )


def per_operation(benchmark: BenchmarkFixture, operations: int) -> None:
    if benchmark.stats is not None:
        benchmark.extra_info["us"] = round(benchmark.stats.stats.min * 1e6 / operations, 1)


@pytest.mark.parametrize("batch", [1, 32])
@pytest.mark.parametrize("sync", ["page-cache", "fsync"])
def test_catalog_insert(benchmark: BenchmarkFixture, volume: LocalVolume, sync: str, batch: int) -> None:
    """Objects of 4 KiB inline; a batch shares one transaction and one sync."""
    shard = os.urandom(INLINE)
    last: list[tuple[Insert, Head]] = []

    def prepare() -> tuple[tuple[list[tuple[Insert, Head]]], dict[str, object]]:
        last[:] = [change_of(shard) for _ in range(batch)]
        return (list(last),), {}

    def insert(changes: list[tuple[Insert, Head]]) -> None:
        assert not any(volume.apply(changes, sync == "fsync"))

    benchmark.pedantic(insert, setup=prepare, rounds=200 // batch + 20, warmup_rounds=5)
    per_operation(benchmark, batch)
    for change in last:
        (row,) = volume.rows(change[0].id.space, change[0].id.key)
        assert row.inline is not None
        assert volume.inline(row.inline) == shard


@pytest.fixture(scope="module")
def filled(volume: LocalVolume) -> list[RowId]:
    rows = []
    for _ in range(ROWS // 500):
        changes = [change_of(b"") for _ in range(500)]
        volume.apply(changes, False)
        rows += [change[0].id for change in changes]
    return rows


def looked_up(benchmark: BenchmarkFixture, rows: list[RowId], call: Callable[[RowId], object]) -> None:
    turn = itertools.cycle(rows[::7])
    benchmark.pedantic(lambda: call(next(turn)), rounds=20, iterations=500, warmup_rounds=1)
    per_operation(benchmark, 1)


def test_catalog_lookup(benchmark: BenchmarkFixture, volume: LocalVolume, filled: list[RowId]) -> None:
    looked_up(benchmark, filled, lambda row: volume.rows(row.space, row.key))
    assert [row.record for row in volume.rows(filled[5].space, filled[5].key)] == [RECORD]


def test_catalog_lookup_of_nothing(benchmark: BenchmarkFixture, volume: LocalVolume, filled: list[RowId]) -> None:
    looked_up(benchmark, filled, lambda row: volume.rows(row.space, b"no such key"))


def test_catalog_page(benchmark: BenchmarkFixture, volume: LocalVolume, filled: list[RowId]) -> None:
    """1,000 keys of a listing."""
    page = benchmark.pedantic(lambda: volume.scan(SPACE, b"photos/5", None, 1000), rounds=10, warmup_rounds=1)
    assert len(page) == 1000
    assert page == sorted(page, key=lambda row: row.id.key)
