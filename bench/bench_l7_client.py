"""L7: a server process over one volume, mode page-cache, and boto3 as people use it: it signs, computes the CRC32 that it
sends by default, and checks the one that comes back. `MB/s` and `requests/s` (best round) are in extra_info."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from hashlib import sha256
from io import BytesIO
from typing import TYPE_CHECKING

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.server import BUCKET, running

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

KIB, MIB = 1 << 10, 1 << 20
ROUNDS = 2
SIZES = pytest.mark.parametrize(
    ("size", "calls"),
    [
        pytest.param(4 * KIB, 50, id="4KiB"),
        pytest.param(64 * KIB, 50, id="64KiB"),
        pytest.param(10 * MIB, 3, id="10MiB"),
        pytest.param(256 * MIB, 1, id="256MiB"),
        pytest.param(1024 * MIB, 1, id="1GiB", marks=pytest.mark.gib),
    ],
)


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Client]:
    with running(tmp_path_factory.mktemp("boto3")) as server:
        client = server.client()
        yield client
        client.close()


def measure(benchmark: BenchmarkFixture, size: int, calls: int, call: Callable[[], object]) -> None:
    """Rounds of some calls; pytest-benchmark makes one more, untimed, for the result."""
    benchmark.pedantic(call, rounds=ROUNDS, iterations=calls)
    if benchmark.stats is not None:
        best = benchmark.stats.stats.min
        benchmark.extra_info["requests/s"] = round(1 / best, 1)
        benchmark.extra_info["MB/s"] = round(size / best / 1e6, 1)


@SIZES
def test_put_object(benchmark: BenchmarkFixture, s3: S3Client, size: int, calls: int) -> None:
    body = os.urandom(size)
    measure(benchmark, size, calls, lambda: s3.put_object(Bucket=BUCKET, Key="put", Body=body))
    assert sha256(s3.get_object(Bucket=BUCKET, Key="put")["Body"].read()).digest() == sha256(body).digest()


@SIZES
def test_get_object(benchmark: BenchmarkFixture, s3: S3Client, size: int, calls: int) -> None:
    body = os.urandom(size)
    s3.put_object(Bucket=BUCKET, Key="get", Body=body)
    last = b""

    def get() -> None:
        nonlocal last
        last = b""
        last = s3.get_object(Bucket=BUCKET, Key="get")["Body"].read()

    measure(benchmark, size, calls, get)
    assert sha256(last).digest() == sha256(body).digest()


def test_transfer_of_256MiB_there_and_back(benchmark: BenchmarkFixture, s3: S3Client) -> None:
    """What `upload_fileobj` and `download_fileobj` make of it: parts of 8 MiB and ranges, ten at a time."""
    body, back = os.urandom(256 * MIB), BytesIO()

    def there_and_back() -> None:
        back.seek(0)
        s3.upload_fileobj(BytesIO(body), BUCKET, "parts")
        s3.download_fileobj(BUCKET, "parts", back)

    measure(benchmark, 2 * len(body), 1, there_and_back)
    assert sha256(back.getbuffer()).digest() == sha256(body).digest()
