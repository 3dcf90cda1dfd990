"""L4: hashes and Reed-Solomon over memory, one thread, no files and no network. `MB/s` (10^6 bytes of user data per
second, best round) is in extra_info. Every result is verified: hashes against a second way to compute them, parity by
rebuilding lost shards with the scalar kernel."""

from __future__ import annotations

import hashlib
import mmap
import random
import time
import zlib
from array import array
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
from blake3 import blake3
from pytest_benchmark.fixture import BenchmarkFixture

from abixio import _gf256
from abixio.codec.checksum import block_seed, block_sums, check_blocks
from abixio.codec.digest import MAKERS, Digests
from abixio.codec.matrix import decoding_matrix, parity_matrix

KIB, MIB = 1 << 10, 1 << 20
SIZES = {"4KiB": 4 * KIB, "64KiB": 64 * KIB, "10MiB": 10 * MIB, "256MiB": 256 * MIB}
STRIPE = 4 * MIB
"""Bytes that go through the arithmetic at once, as on the write path."""
ROUND = 64 * MIB
"""Bytes in one timed round at least, so that small sizes are not lost in the clock's resolution; at most 1,000 calls."""
SEED = block_seed(bytes(16), 1, 0)
REFERENCES: dict[str, Callable[[memoryview], bytes]] = {
    "md5": lambda data: hashlib.md5(data).digest(),
    "sha1": lambda data: hashlib.sha1(data).digest(),
    "sha256": lambda data: hashlib.sha256(data).digest(),
    "crc32": lambda data: zlib.crc32(data).to_bytes(4, "big"),
}


@pytest.fixture(scope="module")
def payload() -> Iterator[memoryview]:
    """Random, and page aligned as the stripe buffers are."""
    area = mmap.mmap(-1, max(SIZES.values()))
    block = random.Random(4).randbytes(16 * MIB)
    for start in range(0, len(area), len(block)):
        area[start : start + len(block)] = block[start // MIB :] + block[: start // MIB]
    with memoryview(area) as view:
        yield view
    area.close()


@pytest.fixture(scope="module")
def parity_area() -> Iterator[memoryview]:
    area = mmap.mmap(-1, 2 * STRIPE)
    with memoryview(area) as view:
        view[:] = bytes(len(view))
        yield view
    area.close()


def measure(benchmark: BenchmarkFixture, size: int, call: Callable[[], object]) -> None:
    """Few rounds of many calls; the rate goes to extra_info."""
    benchmark.pedantic(call, rounds=3, iterations=max(1, min(1000, ROUND // size)), warmup_rounds=1)
    if benchmark.stats is not None:
        benchmark.extra_info["MB/s"] = round(size / benchmark.stats.stats.min / 1e6)


def stripes(data: memoryview) -> list[memoryview]:
    return [data[start : start + STRIPE] for start in range(0, len(data), STRIPE)]


def digest_of(name: str, pieces: list[memoryview]) -> bytes:
    running = Digests([name])
    for piece in pieces:
        running.update(piece)
    return running.digests()[name]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", MAKERS)
def test_digest(benchmark: BenchmarkFixture, payload: memoryview, name: str, size: str) -> None:
    data = payload[: SIZES[size]]
    pieces = stripes(data)
    measure(benchmark, SIZES[size], lambda: digest_of(name, pieces))
    reference = REFERENCES.get(name)
    expected = reference(data) if reference is not None else digest_of(name, [data[:1001], data[1001:]])
    assert digest_of(name, pieces) == expected


@pytest.mark.parametrize("size", SIZES)
def test_blake3(benchmark: BenchmarkFixture, payload: memoryview, size: str) -> None:
    pieces = stripes(payload[: SIZES[size]])

    def run() -> bytes:
        running = blake3()
        for piece in pieces:
            running.update(piece)
        return running.digest()

    measure(benchmark, SIZES[size], run)
    assert run() == blake3(payload[: SIZES[size]]).digest()


@pytest.mark.parametrize("size", SIZES)
def test_block_checksums(benchmark: BenchmarkFixture, payload: memoryview, size: str) -> None:
    data = payload[: SIZES[size]]
    measure(benchmark, SIZES[size], lambda: block_sums(data, SEED))
    sums = memoryview(array("Q", block_sums(data, SEED)))
    assert check_blocks(data, sums, SEED, 0, len(sums)) is None


def chunks(stripe: memoryview, parity: memoryview, m: int, k: int) -> tuple[list[memoryview], list[memoryview]]:
    """k equal pieces of the stripe, and m buffers of that size; what k does not divide is left out."""
    size = len(stripe) // k
    return [stripe[i * size : (i + 1) * size] for i in range(k)], [parity[i * size : (i + 1) * size] for i in range(m)]


def encode(kernel: str, data: memoryview, parity: memoryview, k: int, m: int) -> None:
    matrix = parity_matrix(k, m)
    for stripe in stripes(data):
        _gf256.multiply(matrix, *chunks(stripe, parity, m, k), kernel)


def assert_rebuilds(sources: list[memoryview], parity: list[memoryview]) -> None:
    """The last m data shards come back from the parity and the rest."""
    k, m = len(sources), min(len(sources), len(parity))
    present = (*range(k - m), *range(k, k + m))
    rebuilt = [bytearray(len(sources[0])) for _ in range(m)]
    matrix = decoding_matrix(k, len(parity), present, tuple(range(k - m, k)))
    _gf256.multiply(matrix, [*sources[: k - m], *parity[:m]], rebuilt, "scalar")
    assert [hashlib.sha256(shard).digest() for shard in rebuilt] == [hashlib.sha256(shard).digest() for shard in sources[k - m :]]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kernel", _gf256.kernels())
def test_parity_4_2(benchmark: BenchmarkFixture, payload: memoryview, parity_area: memoryview, kernel: str, size: str) -> None:
    data = payload[: SIZES[size]]
    measure(benchmark, SIZES[size], lambda: encode(kernel, data, parity_area, 4, 2))
    assert_rebuilds(*chunks(stripes(data)[-1], parity_area, 2, 4))


@pytest.mark.parametrize("code", [(3, 1), (2, 2), (1, 3), (12, 4)], ids=lambda code: f"{code[0]}+{code[1]}")
def test_parity_of_other_codes(
    benchmark: BenchmarkFixture, payload: memoryview, parity_area: memoryview, code: tuple[int, int]
) -> None:
    k, m = code
    data = payload[: STRIPE if m <= 2 * k else STRIPE // 2]
    measure(benchmark, len(data), lambda: encode(_gf256.kernel(), data, parity_area, k, m))
    assert_rebuilds(*chunks(data, parity_area, m, k))


def test_rebuild_4_2(benchmark: BenchmarkFixture, payload: memoryview, parity_area: memoryview) -> None:
    """A degraded read: two lost data shards of a full stripe."""
    sources, parity = chunks(payload[:STRIPE], parity_area, 2, 4)
    encode(_gf256.kernel(), payload[:STRIPE], parity_area, 4, 2)
    outputs = [bytearray(len(sources[0])) for _ in range(2)]
    matrix = decoding_matrix(4, 2, (1, 3, 4, 5), (0, 2))
    measure(benchmark, STRIPE, lambda: _gf256.multiply(matrix, [sources[1], sources[3], *parity], outputs))
    assert outputs == [sources[0], sources[2]]


def test_best_kernel_against_scalar(benchmark: BenchmarkFixture, payload: memoryview, parity_area: memoryview) -> None:
    """The price of not using vectors: 4+2 over shards of 256 KiB, which stay in the cache. The two are timed in turns, so
    that a busy machine slows both."""
    data = payload[:MIB]

    def seconds(kernel: str, calls: int) -> float:
        marks = [time.perf_counter()]
        for _ in range(calls):
            encode(kernel, data, parity_area, 4, 2)
            marks.append(time.perf_counter())
        return min(after - before for before, after in pairwise(marks))

    best, scalar = map(min, zip(*((seconds(_gf256.kernel(), 20), seconds("scalar", 2)) for _ in range(20)), strict=True))
    measure(benchmark, MIB, lambda: encode(_gf256.kernel(), data, parity_area, 4, 2))
    benchmark.extra_info["kernel"] = _gf256.kernel()
    benchmark.extra_info["times scalar"] = round(scalar / best, 1)
    benchmark.extra_info["scalar MB/s"] = round(MIB / scalar / 1e6)
    assert MIB / scalar >= 0.3e9
    assert _gf256.kernel() == "scalar" or scalar / best >= 20
