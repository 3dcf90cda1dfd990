"""L6: a server process over TCP with its storage: mode page-cache, one volume unless the name says 4, the payload not signed.
L6A is the same with everything signed. What was stored is read back and hashed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.load import Payload, check_get, curl_get, curl_put, record, record_wrk, timed, wrk
from bench.server import NOTHING, file_sha256, presigned, raw_request, running, signed, wrk_in_turn
from tests.server import Server

KIB, MIB = 1 << 10, 1 << 20
ROUNDS = 2
SECONDS = 1
"""Of one round with wrk."""
KEYS = 256
"""Of small PUTs: so many that two under way hardly ever meet on one key, where one would wait for the other."""

LAYERS = pytest.mark.parametrize("layer", ["L6", "L6A"])
SMALL = pytest.mark.parametrize("size", [4 * KIB, 64 * KIB], ids=["4KiB", "64KiB"])
LARGE = pytest.mark.parametrize(
    ("size", "transfers"),
    [
        pytest.param(10 * MIB, 8, id="10MiB"),
        pytest.param(256 * MIB, 3, id="256MiB"),
        pytest.param(1024 * MIB, 2, id="1GiB", marks=pytest.mark.gib),
    ],
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("one")) as one:
        yield one


@pytest.fixture(scope="module")
def server_of_4(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("four"), 4) as four:
        yield four


def store(server: Server, key: str, payload: Payload, size: int) -> str:
    """Put an object; returns a URL to get it."""
    curl_put(presigned(server, "PUT", key), payload.cut(size))
    (url,) = presigned(server, "GET", key)
    check_get(url, payload.digest(size))
    return url


def prepared(server: Server, layer: str, method: str, keys: list[str], sha256: str = NOTHING) -> list[tuple[str, dict[str, str]]]:
    """URL and headers of a request for each key, signed as the layer has it."""
    if layer == "L6":
        return [(url, {}) for url in presigned(server, method, *keys)]
    return [signed(server, method, key, sha256) for key in keys]


def lines(headers: dict[str, str]) -> list[str]:
    return [f"{name}: {value}" for name, value in headers.items()]


# ---- one transfer after the other --------------------------------------------------------------------------------------
def measure_put(
    benchmark: BenchmarkFixture, server: Server, layer: str, payload: Payload, size: int, transfers: int
) -> None:
    file = payload.cut(size)
    ((url, headers),) = prepared(server, layer, "PUT", ["put"], file_sha256(file))
    record(benchmark, curl_put([url] * transfers, file, lines(headers)), size)
    check_get(presigned(server, "GET", "put")[0], payload.digest(size))


def measure_get(
    benchmark: BenchmarkFixture, server: Server, layer: str, payload: Payload, size: int, transfers: int
) -> None:
    store(server, "get", payload, size)
    ((url, headers),) = prepared(server, layer, "GET", ["get"])
    record(benchmark, curl_get([url] * transfers, size, lines(headers)), size)


@timed
@LAYERS
@LARGE
def test_put_large(
    benchmark: BenchmarkFixture, server: Server, payload: Payload, size: int, transfers: int, layer: str
) -> None:
    measure_put(benchmark, server, layer, payload, size, transfers)


@timed
@LAYERS
@LARGE
def test_get_large(
    benchmark: BenchmarkFixture, server: Server, payload: Payload, size: int, transfers: int, layer: str
) -> None:
    measure_get(benchmark, server, layer, payload, size, transfers)


@timed
def test_put_256MiB_on_4_volumes(benchmark: BenchmarkFixture, server_of_4: Server, payload: Payload) -> None:
    measure_put(benchmark, server_of_4, "L6", payload, 256 * MIB, ROUNDS)


@timed
def test_get_256MiB_on_4_volumes(benchmark: BenchmarkFixture, server_of_4: Server, payload: Payload) -> None:
    measure_get(benchmark, server_of_4, "L6", payload, 256 * MIB, ROUNDS)


# ---- sixteen at a time -------------------------------------------------------------------------------------------------
@timed
@LAYERS
@SMALL
def test_put_small(benchmark: BenchmarkFixture, server: Server, payload: Payload, size: int, layer: str) -> None:
    file = payload.cut(size)
    body, sha256 = file.read_bytes(), file_sha256(file)
    keys = [f"{layer}-{size}-{number}" for number in range(KEYS)]
    requests = [raw_request("PUT", *request, body) for request in prepared(server, layer, "PUT", keys, sha256)]
    record_wrk(benchmark, [wrk_in_turn(server.url, requests, SECONDS) for _ in range(ROUNDS)], size)
    # wrk asks its script for one request before it begins, so the second is the first that is sent.
    for url in presigned(server, "GET", *keys[1:9]):
        check_get(url, payload.digest(size))


@timed
@LAYERS
@SMALL
def test_get_small(benchmark: BenchmarkFixture, server: Server, payload: Payload, size: int, layer: str) -> None:
    store(server, "small", payload, size)
    ((url, headers),) = prepared(server, layer, "GET", ["small"])
    record_wrk(benchmark, [wrk(url, seconds=SECONDS, headers=lines(headers)) for _ in range(ROUNDS)], size)
