"""L1: the HTTP transport alone, over TCP, without S3 and without storage. It is what every later layer is compared with.

`raw` is the floor: uvloop and httptools answering 4 KiB, nothing else.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.load import Payload, check_get, curl_get, curl_put, record, record_wrk, timed, tool, wrk

KIB, MIB = 1 << 10, 1 << 20
ROUNDS = 3
SMALL = pytest.mark.parametrize("size", [4 * KIB, 64 * KIB], ids=["4KiB", "64KiB"])
LARGE = pytest.mark.parametrize(
    ("size", "transfers"),
    [
        pytest.param(10 * MIB, 20, id="10MiB"),
        pytest.param(256 * MIB, 5, id="256MiB"),
        pytest.param(1024 * MIB, 3, id="1GiB", marks=pytest.mark.gib),
    ],
)


@contextmanager
def running(*arguments: str) -> Iterator[str]:
    """A raw server; gives its URL."""
    command = [sys.executable, "-m", "bench.raw_server", *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parent.parent) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        process.stdin.close()
        assert process.wait(10) == 0


@pytest.fixture(scope="module")
def server(payload: Payload) -> Iterator[str]:
    with running("transport", str(payload.path)) as url:
        yield url


@timed
def test_get_raw(benchmark: BenchmarkFixture) -> None:
    with running("raw") as url:
        record_wrk(benchmark, [wrk(f"{url}/4096") for _ in range(ROUNDS)], 4 * KIB)


@timed
@SMALL
def test_get_small(benchmark: BenchmarkFixture, server: str, payload: Payload, size: int) -> None:
    url = f"{server}/{size}"
    check_get(url, payload.digest(size))
    record_wrk(benchmark, [wrk(url) for _ in range(ROUNDS)], size)


@timed
@SMALL
def test_put_small(benchmark: BenchmarkFixture, server: str, payload: Payload, size: int) -> None:
    check_put(server, payload, size)
    record_wrk(benchmark, [wrk(f"{server}/put", put=payload.cut(size)) for _ in range(ROUNDS)], size)


@timed
@LARGE
def test_get_large(benchmark: BenchmarkFixture, server: str, payload: Payload, size: int, transfers: int) -> None:
    url = f"{server}/{size}"
    check_get(url, payload.digest(size))
    record(benchmark, curl_get([url] * transfers, size), size)


@timed
@LARGE
def test_put_large(benchmark: BenchmarkFixture, server: str, payload: Payload, size: int, transfers: int) -> None:
    check_put(server, payload, size)
    record(benchmark, curl_put([f"{server}/put"] * transfers, payload.cut(size)), size)


def check_put(server: str, payload: Payload, size: int) -> None:
    """What the server receives is what was sent."""
    command = [tool("curl"), "--silent", "--show-error", "--fail", "--upload-file", str(payload.cut(size)), f"{server}/hash"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == payload.digest(size)
