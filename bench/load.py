"""Load clients for servers over TCP: wrk for small bodies, curl for large ones. Both are C programs in processes of their
own, so that what is measured is the server. The same for every layer; whoever needs signatures passes presigned URLs.

Every transfer has to succeed: a status other than 2xx, a socket error or a wrong size is a LoadFailed. `check_get` and the
caller's own check of an upload compare hashes, outside of the time that is measured.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from blake3 import blake3
from pytest_benchmark.fixture import BenchmarkFixture

CONNECTIONS: Final = 16
"""Of wrk, as the requirement on small GETs says."""
TIMEOUT: Final = 120
PIECE: Final = 1 << 20
PIECES: Final = 16 * PIECE
"""Random bytes made at a time."""


class LoadFailed(Exception):
    """A transfer went wrong, so there is nothing to measure."""


@dataclass(frozen=True)
class Payload:
    """A file of random bytes; a body of n bytes is its first n."""

    path: Path

    def digest(self, size: int) -> str:
        digest = blake3()
        with open(self.path, "rb") as file:
            left = size
            while left:
                piece = file.read(min(PIECE, left))
                digest.update(piece)
                left -= len(piece)
        return digest.hexdigest()

    def cut(self, size: int) -> Path:
        """A file of just the first `size` bytes."""
        path = self.path.with_name(f"{size}")
        if size == self.path.stat().st_size:
            return self.path
        if not path.exists():
            with open(self.path, "rb") as source, open(path, "wb") as target:
                left = size
                while left:
                    left -= target.write(source.read(min(PIECE, left)))
        return path


def random_file(path: Path, size: int) -> Payload:
    """A payload of at least so many bytes."""
    with path.open("wb") as file:
        for _ in range(-(-size // PIECES)):
            file.write(os.urandom(PIECES))
    return Payload(path)


@dataclass(frozen=True)
class Rate:
    """What wrk found."""

    requests: int
    seconds: float
    percentiles: tuple[float, ...] = ()
    """Seconds within which 50, 95 and 99 % were answered, where wrk was asked."""


def tool(name: str) -> str:
    """Where a load client is. Without it the benchmark is skipped; in CI, which installs it, it fails."""
    path = shutil.which(name)
    if path is None:
        message = f"{name} is not installed"
        if os.environ.get("CI"):
            pytest.fail(f"{message}, though CI installs it")
        pytest.skip(message)
    return path


def wrk(
    url: str, *, seconds: int = 1, connections: int = CONNECTIONS, put: Path | None = None, headers: Iterable[str] = ()
) -> Rate:
    """As many GETs, or PUTs of the file `put`, as the server answers."""
    command = [tool("wrk"), "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s"]
    for header in headers:
        command += ["-H", header]
    if put is not None:
        script = put.with_name(f"{put.name}.lua")
        script.write_text(f'wrk.method = "PUT"\nlocal file = io.open("{put}", "rb")\nwrk.body = file:read("*a")\nfile:close()\n')
        command += ["-s", str(script)]
    result = subprocess.run([*command, url], capture_output=True, text=True, timeout=TIMEOUT, check=False)
    found = re.search(r"(\d+) requests in ([\d.]+)(ms|s|m),", result.stdout)
    if result.returncode or found is None or "Non-2xx" in result.stdout or "Socket errors" in result.stdout:
        raise LoadFailed(f"wrk {url}\n{result.stdout}{result.stderr}")
    unit = {"ms": 0.001, "s": 1.0, "m": 60.0}[found[3]]
    rate = Rate(int(found[1]), float(found[2]) * unit)
    if rate.requests == 0:
        raise LoadFailed(f"wrk {url}: no request was answered")
    return rate


def curl_get(urls: Sequence[str], size: int, headers: Iterable[str] = ()) -> list[float]:
    """Seconds of each of several downloads on one connection."""
    lines = [line for url in urls for line in (f'url = "{url}"', 'output = "/dev/null"')]
    return _curl(lines, "size_download", [size] * len(urls), headers)


def curl_put(urls: Sequence[str], path: Path, headers: Iterable[str] = ()) -> list[float]:
    """Seconds of each of several uploads of a file on one connection."""
    lines = [line for url in urls for line in (f'url = "{url}"', f'upload-file = "{path}"', 'output = "/dev/null"')]
    return _curl(lines, "size_upload", [path.stat().st_size] * len(urls), headers)


def curl_put_at_once(requests: Sequence[tuple[str, Sequence[str]]], path: Path) -> float:
    """Seconds until the last of several uploads of a file, each with its URL and headers, is answered; one process for each."""
    command = [tool("curl"), "--silent", "--show-error", "--fail", "--output", "/dev/null", "--upload-file", str(path)]
    begin = time.perf_counter()
    running = [
        subprocess.Popen([*command, *(part for header in headers for part in ("--header", header)), url], stderr=subprocess.PIPE)
        for url, headers in requests
    ]
    failed = [process.communicate()[1] for process in running if process.wait()]
    seconds = time.perf_counter() - begin
    if failed:
        raise LoadFailed(f"{len(failed)} of {len(requests)} uploads failed: {failed[0].decode()}")
    return seconds


def _curl(lines: list[str], counter: str, sizes: list[int], headers: Iterable[str]) -> list[float]:
    lines += [f'header = "{header}"' for header in headers]
    report = f"%{{http_code}} %{{{counter}}} %{{time_total}}\\n"
    command = [tool("curl"), "--silent", "--show-error", "--fail", "--write-out", report, "--config", "-"]
    result = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, timeout=TIMEOUT, check=False)
    rows = [row.split() for row in result.stdout.splitlines()]
    if result.returncode or [(row[0][0], int(row[1])) for row in rows] != [("2", size) for size in sizes]:
        raise LoadFailed(f"curl: {result.stdout}{result.stderr}")
    return [float(row[2]) for row in rows]


def check_get(url: str, digest: str, headers: Iterable[str] = (), trusted: Path | None = None) -> None:
    """Download once and compare the BLAKE3 of what came. `trusted`: the certificate that a server with TLS has to show."""
    command = [tool("curl"), "--silent", "--show-error", "--fail", url]
    if trusted is not None:
        command += ["--cacert", str(trusted)]
    for header in headers:
        command += ["--header", header]
    found = blake3()
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        while piece := process.stdout.read(PIECE):
            found.update(piece)
    if process.returncode or found.hexdigest() != digest:
        raise LoadFailed(f"{url}: not the bytes that were stored (curl ended with {process.returncode})")


class Clock:
    """The load client's time, for pytest-benchmark: `@pytest.mark.benchmark(timer=CLOCK)`. A round is one transfer as the
    client saw it, or, with wrk, the time in which one request was answered."""

    __name__ = "load client"

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


CLOCK: Final = Clock()
timed = pytest.mark.benchmark(timer=CLOCK)


def record(benchmark: BenchmarkFixture, seconds: Sequence[float], size: int) -> float:
    """Enter what the client measured; returns MB/s of the best round."""
    rounds = iter(seconds)
    benchmark.pedantic(lambda: CLOCK.advance(next(rounds)), rounds=len(seconds))
    best = min(seconds)
    benchmark.extra_info["requests/s"] = round(1 / best, 1)
    benchmark.extra_info["MB/s"] = round(size / best / 1e6, 1)
    return size / best / 1e6


def record_wrk(benchmark: BenchmarkFixture, rates: Sequence[Rate], size: int) -> float:
    """The same for wrk; returns requests/s of the best round."""
    record(benchmark, [rate.seconds / rate.requests for rate in rates], size)
    return max(rate.requests / rate.seconds for rate in rates)
