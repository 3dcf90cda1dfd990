"""L2: the S3 protocol alone. Requests that are signed for real, through S3Service on a store in memory: no socket, no
volume. What is timed is authentication, routing, headers, XML and the payload's checks. `requests/s` (best round) is in
extra_info; every answer is checked."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from hashlib import sha256
from urllib.parse import urlsplit

import pytest
import uvloop
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from pytest_benchmark.fixture import BenchmarkFixture

from abixio.config import Config
from abixio.message import Request, Response, finished
from abixio.s3.service import S3Service
from tests.s3_fakestore import FakeStore

KEYS = Credentials("bench", "bench-secret")
HOST = "127.0.0.1:9000"
SIZES = {"4KiB": 4 << 10, "64KiB": 64 << 10}
ROUNDS, CALLS = 5, 200
PAGE = 1000


class Signer(S3SigV4Auth):
    """Lets the caller choose what is said of the payload."""

    def __init__(self, payload: str) -> None:
        super().__init__(KEYS, "s3", "us-east-1")
        self._payload = payload

    def payload(self, request: AWSRequest) -> str:
        return self._payload


class ReadyBody:
    """A body that has been received already."""

    def __init__(self, data: bytes) -> None:
        self.length: int | None = len(data)
        self._data = memoryview(data)

    async def readinto(self, view: memoryview) -> int:
        count = min(len(view), len(self._data))
        view[:count] = self._data[:count]
        self._data = self._data[count:]
        return count

    async def readline(self, limit: int) -> bytes:
        line, end, rest = bytes(self._data).partition(b"\n")
        self._data = memoryview(rest)
        return line + end

    def at_hand(self) -> bytes | None:
        return None


class Bench:
    """A service, a loop, and requests to send again and again."""

    def __init__(self) -> None:
        self.service = S3Service(FakeStore(), {KEYS.access_key: KEYS.secret_key}, Config())
        self.loop = uvloop.new_event_loop()

    def signed(self, method: str, target: str, body: bytes = b"", payload: str = "") -> Callable[[], Request]:
        """Signed in its headers. `payload`: what x-amz-content-sha256 says; by default the hash."""
        aws = AWSRequest(method, f"http://{HOST}{target}", headers={"host": HOST, "content-length": str(len(body))})
        Signer(payload or sha256(body).hexdigest()).add_auth(aws)
        headers = {name.lower(): str(value) for name, value in aws.headers.items()}
        return lambda: Request(method, target.encode(), dict(headers), ReadyBody(body), "0123456789ABCDEF", "127.0.0.1:1")

    def presigned(self, target: str) -> Callable[[], Request]:
        aws = AWSRequest("GET", f"http://{HOST}{target}")
        S3SigV4QueryAuth(KEYS, "s3", "us-east-1", expires=3600).add_auth(aws)
        split = urlsplit(str(aws.url))
        whole = f"{split.path}?{split.query}".encode()
        return lambda: Request("GET", whole, {"host": HOST}, ReadyBody(b""), "0123456789ABCDEF", "127.0.0.1:1")

    def send(self, make: Callable[[], Request]) -> Response:
        return self.loop.run_until_complete(self._whole(make()))

    async def _whole(self, request: Request) -> Response:
        made = self.service(request)
        answer = await finished(made)
        if not isinstance(answer.body, bytes):
            stream = answer.body
            answer.body = b"".join([piece async for piece in stream])
            await stream.aclose()
        return answer

    def measure(self, benchmark: BenchmarkFixture, make: Callable[[], Request], check: Callable[[Response], bool]) -> None:
        """Rounds of many requests, one after another in one task, as one connection would send them."""

        async def many() -> bool:
            return all([check(await self._whole(make())) for _ in range(CALLS)])

        assert benchmark.pedantic(lambda: self.loop.run_until_complete(many()), rounds=ROUNDS, warmup_rounds=1)
        if benchmark.stats is not None:
            benchmark.extra_info["requests/s"] = round(CALLS / benchmark.stats.stats.min)


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    assert bench.send(bench.signed("PUT", "/bench")).status == 200
    yield bench
    bench.loop.run_until_complete(bench.loop.shutdown_default_executor())
    bench.loop.close()


def stored(bench: Bench, size: int) -> bytes:
    data = random.Random(size).randbytes(size)
    assert bench.send(bench.signed("PUT", "/bench/some/key", data)).status == 200
    return data


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("how", ["signed", "presigned"])
def test_get(bench: Bench, benchmark: BenchmarkFixture, how: str, size: str) -> None:
    data = stored(bench, SIZES[size])
    make = bench.signed("GET", "/bench/some/key") if how == "signed" else bench.presigned("/bench/some/key")
    bench.measure(benchmark, make, lambda answer: answer.status == 200 and answer.body == data)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("payload", ["UNSIGNED-PAYLOAD", "sha256"])
def test_put(bench: Bench, benchmark: BenchmarkFixture, payload: str, size: str) -> None:
    data = random.Random(1).randbytes(SIZES[size])
    make = bench.signed("PUT", "/bench/some/key", data, "" if payload == "sha256" else payload)
    bench.measure(benchmark, make, lambda answer: answer.status == 200)
    assert bench.send(bench.signed("GET", "/bench/some/key")).body == data


def test_head(bench: Bench, benchmark: BenchmarkFixture) -> None:
    stored(bench, 4096)
    bench.measure(
        benchmark, bench.signed("HEAD", "/bench/some/key"), lambda answer: ("Content-Length", "4096") in answer.headers)


def test_range(bench: Bench, benchmark: BenchmarkFixture) -> None:
    data = stored(bench, 64 << 10)
    make = bench.signed("GET", "/bench/some/key")

    def ranged() -> Request:
        request = make()
        request.headers["range"] = "bytes=4096-8191"
        return request

    bench.measure(benchmark, ranged, lambda answer: answer.status == 206 and answer.body == data[4096:8192])


def test_list(bench: Bench, benchmark: BenchmarkFixture) -> None:
    """One page of 1,000 keys; `requests/s` times 1,000 is keys per second."""
    for number in range(PAGE):
        assert bench.send(bench.signed("PUT", f"/bench/list/{number:05}", b"x")).status == 200
    make = bench.signed("GET", "/bench?list-type=2&prefix=list%2F")

    def page() -> bool:
        answer = bench.send(make)
        return isinstance(answer.body, bytes) and answer.body.count(b"<Key>list/") == PAGE

    assert benchmark.pedantic(page, rounds=20, warmup_rounds=1)
    if benchmark.stats is not None:
        benchmark.extra_info["requests/s"] = round(1 / benchmark.stats.stats.min)


def test_rejected(bench: Bench, benchmark: BenchmarkFixture) -> None:
    """What it costs to say no to a wrong signature."""
    make = bench.signed("GET", "/bench/some/key")

    def forged() -> Request:
        request = make()
        request.headers["authorization"] = request.headers["authorization"][:-64] + "0" * 64
        return request

    bench.measure(benchmark, forged, lambda answer: answer.status == 403)
