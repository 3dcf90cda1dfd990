"""The ratios that have to be reached, measured in one run: `python -m bench.bars [--rounds 5] [--json FILE]`.

What is compared takes turns, so that a machine that is busy, or throttled, is so for both; the figure is the median over
the rounds of the ratio within a round. The page cache is written back before everything that writes, outside of the time.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.table import Table

from abixio import _gf256
from abixio.codec.matrix import parity_matrix
from abixio.volume.formatting import format_volume
from abixio.volume.identity import Identity, Member
from abixio.volume.local import LocalVolume
from bench.bench_l1_http import running as l1_running
from bench.bodiless import once
from bench.load import Payload, check_get, curl_get, curl_put, wrk
from bench.server import presigned, raw_request, running
from tests.server import Server

KIB, MIB = 1 << 10, 1 << 20
LARGE: Final = 256 * MIB
GIB: Final = 1024 * MIB
SMALL: Final = 4 * KIB
KEYS: Final = 1000
REPEATS: Final = 10_000
STRIPE: Final = 4 * MIB
SAMPLE: Final = 0.01
"""Seconds between two looks at the server's memory."""


@dataclass(frozen=True)
class Bar:
    """One line of the table."""

    line: str
    command: str
    figure: float
    unit: str
    at_least: float | None
    at_most: float | None
    detail: str
    """What the figure was made of: medians over all rounds."""

    @property
    def reached(self) -> bool:
        return (self.at_least is None or self.figure >= self.at_least) and (self.at_most is None or self.figure <= self.at_most)


@dataclass(frozen=True)
class Bench:
    """What the measurements share."""

    home: Path
    rounds: int
    payload: Payload
    l1: str
    raw: str
    server: Server

    def get_url(self, key: str) -> str:
        return presigned(self.server, "GET", key)[0]

    def put_url(self, key: str) -> str:
        return presigned(self.server, "PUT", key)[0]


def ratio(over: list[float], under: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(over, under, strict=True))


def rates(name: str, seconds: list[float], size: int) -> str:
    return f"{name} {size / statistics.median(seconds) / 1e6:,.0f} MB/s"


# ---- big objects -------------------------------------------------------------------------------------------------------
def get_large(bench: Bench) -> Bar:
    url = bench.get_url("large")
    curl_put([bench.put_url("large")], bench.payload.cut(LARGE))
    check_get(url, bench.payload.digest(LARGE))
    alone, whole = [], []
    for _ in range(bench.rounds):
        os.sync()
        alone += curl_get([f"{bench.l1}/{LARGE}"], LARGE)
        whole += curl_get([url], LARGE)
    detail = f"{rates('L1', alone, LARGE)}, {rates('L6', whole, LARGE)}"
    return Bar("L6 GET of 256 MiB / L1 GET", "curl", ratio(alone, whole), "", 0.7, None, detail)


def put_large(bench: Bench) -> Bar:
    url, file = bench.put_url("put"), bench.payload.cut(LARGE)
    alone, written, whole = [], [], []
    with volume(bench.home / "l5") as l5, file.open("rb") as source:
        data = source.read()
        for number in range(bench.rounds):
            os.sync()
            alone += curl_put([f"{bench.l1}/put"], file)
            written.append(written_in(l5, number, memoryview(data)))
            os.sync()
            whole += curl_put([url], file)
    check_get(bench.get_url("put"), bench.payload.digest(LARGE))
    slower = [max(pair) for pair in zip(alone, written, strict=True)]
    detail = f"{rates('L1', alone, LARGE)}, {rates('L5', written, LARGE)}, {rates('L6', whole, LARGE)}"
    line = "L6 PUT of 256 MiB / the slower of L1 PUT and L5 write"
    return Bar(line, "curl; LocalVolume in page cache", ratio(slower, whole), "", 0.5, None, detail)


@contextmanager
def volume(path: Path) -> Iterator[LocalVolume]:
    uuid = os.urandom(16).hex()
    format_volume(str(path), Identity(os.urandom(16).hex(), 0, uuid, 1, (Member(0, uuid),), 0))
    opened = LocalVolume.open(str(path))
    try:
        yield opened
    finally:
        opened.close()


def written_in(l5: LocalVolume, number: int, data: memoryview) -> float:
    """Seconds for one shard file."""
    write_id = number.to_bytes(16, "big")
    begin = time.perf_counter()
    writer = l5.create_shard(write_id)
    for start in range(0, len(data), STRIPE):
        writer.write((data[start : start + STRIPE],))
    writer.finish(bytes(8 * (len(data) // (64 * KIB))), b"", bytes(32), False)
    seconds = time.perf_counter() - begin
    shard = l5.open_shard(write_id)
    if shard.view != data:
        raise AssertionError("the volume does not give back what was written")
    shard.close()
    l5.unlink((write_id,))
    return seconds


# ---- small objects -----------------------------------------------------------------------------------------------------
def get_small(bench: Bench) -> Bar:
    url = bench.get_url("small")
    curl_put([bench.put_url("small")], bench.payload.cut(SMALL))
    check_get(url, bench.payload.digest(SMALL))
    floor: list[float] = []
    whole: list[float] = []
    for _ in range(bench.rounds):
        for target, found in ((f"{bench.raw}/4096", floor), (url, whole)):
            rate = wrk(target)
            found.append(rate.requests / rate.seconds)
    detail = f"raw {statistics.median(floor):,.0f}/s, L6 {statistics.median(whole):,.0f}/s"
    line = "presigned GET of 4 KiB / raw uvloop + httptools answer"
    return Bar(line, "wrk -t1 -c16", ratio(whole, floor), "", 0.25, None, detail)


def write_small(bench: Bench) -> Iterator[Bar]:
    """PUT and DELETE, each of different keys and each once; HEAD of one key."""
    data = bench.payload.cut(SMALL).read_bytes()
    floor: list[float] = []
    found: dict[str, list[float]] = {"PUT": [], "HEAD": [], "DELETE": []}
    for number in range(bench.rounds):
        rate = wrk(f"{bench.raw}/4096")
        floor.append(rate.requests / rate.seconds)
        keys = [f"small/{number}/{each}" for each in range(KEYS)]
        for method, rates in found.items():
            urls = presigned(bench.server, method, *keys)
            if method == "HEAD":
                urls = urls[:1] * REPEATS
            whole = once(bench.server.url, [raw_request(method, url, {}, data if method == "PUT" else b"") for url in urls])
            rates.append(whole.requests / whole.seconds)
    for method, rates in found.items():
        detail = f"raw {statistics.median(floor):,.0f}/s, L6 {statistics.median(rates):,.0f}/s"
        line = f"presigned {method} of 4 KiB, page cache / raw uvloop + httptools answer"
        yield Bar(line, "bench.bodiless", ratio(rates, floor), "", 0.25 if method == "HEAD" else 0.12, None, detail)


# ---- memory ------------------------------------------------------------------------------------------------------------
def memory(bench: Bench) -> Bar:
    """On a server that has done nothing yet."""
    file, home = bench.payload.cut(GIB), bench.home / "memory"
    home.mkdir()
    with running(home) as server:
        put, get = presigned(server, "PUT", "gib")[0], presigned(server, "GET", "gib")[0]
        idle = server.anonymous_memory()
        put_peak = peak(server, lambda: curl_put([put], file))
        get_peak = peak(server, lambda: curl_get([get], GIB))
        check_get(get, bench.payload.digest(GIB))
    detail = f"idle {idle / MIB:.1f}, in PUT {put_peak / MIB:.1f}, in GET {get_peak / MIB:.1f} MiB"
    growth = (max(put_peak, get_peak) - idle) / MIB
    return Bar("RssAnon growth of a PUT and a GET of 1 GiB", "curl; /proc/PID/status", growth, "MiB", None, 64.0, detail)


def peak(server: Server, work: Callable[[], object]) -> int:
    """The most anonymous memory that is seen while `work` runs."""
    done, most = threading.Event(), [0]

    def watch() -> None:
        while not done.wait(SAMPLE):
            most[0] = max(most[0], server.anonymous_memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        work()
    finally:
        done.set()
        watcher.join()
    return most[0]


# ---- Reed-Solomon ------------------------------------------------------------------------------------------------------
def reed_solomon(rounds: int) -> list[Bar]:
    """4+2 over shards of 256 KiB, which stay in the cache."""
    size, kernel = MIB, _gf256.kernel()
    piece = size // 4
    data, outputs = os.urandom(size), [bytearray(piece) for _ in range(2)]
    sources, matrix = [memoryview(data)[i * piece : (i + 1) * piece] for i in range(4)], parity_matrix(4, 2)

    def seconds(name: str, calls: int) -> float:
        marks = [time.perf_counter()]
        for _ in range(calls):
            _gf256.multiply(matrix, sources, outputs, name)
            marks.append(time.perf_counter())
        return statistics.median(after - before for before, after in pairwise(marks))

    pairs = [(seconds(kernel, 20), seconds("scalar", 2)) for _ in range(4 * rounds)]
    best, scalar = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    rate = size / statistics.median(scalar) / 1e9
    detail = f"{rates(kernel, best, size)}, {rates('scalar', scalar, size)}"
    return [
        Bar(f"Reed-Solomon 4+2, {kernel} / scalar", "abixio._gf256.multiply", ratio(scalar, best), "", 20.0, None, detail),
        Bar("Reed-Solomon 4+2, scalar", "abixio._gf256.multiply", rate, "GB/s", 0.3, None, detail),
    ]


# ---- all of them -------------------------------------------------------------------------------------------------------
def random_file(path: Path, size: int) -> Payload:
    with path.open("wb") as file:
        for _ in range(size // (16 * MIB)):
            file.write(os.urandom(16 * MIB))
    return Payload(path)


def measure(home: Path, rounds: int) -> Iterator[Bar]:
    payload = random_file(home / "random", GIB)
    (home / "l6").mkdir()
    with l1_running("transport", str(payload.path)) as l1, l1_running("raw") as raw, running(home / "l6") as server:
        bench = Bench(home, rounds, payload, l1, raw, server)
        for bar in (get_large, put_large, get_small):
            yield bar(bench)
        yield from write_small(bench)
        yield from reed_solomon(rounds)
        yield memory(bench)


def table(bars: list[Bar]) -> Table:
    found = Table("line", "command", "figure", "bar", "", "medians")
    for bar in bars:
        limit = f">= {bar.at_least:g}" if bar.at_least is not None else f"< {bar.at_most:g}"
        figure = f"{bar.figure:.2f} {bar.unit}".strip()
        found.add_row(bar.line, bar.command, figure, limit, "reached" if bar.reached else "MISSED", bar.detail)
    return found


@click.command()
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--json", "report", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures there, too.")
@click.option("--dir", "directory", type=click.Path(exists=True, file_okay=False), help="Where the volumes are made, 3 GiB.")
def main(rounds: int, report: Path | None, directory: str | None) -> None:
    """Measure, print, and end with status 1 when a bar is missed."""
    with tempfile.TemporaryDirectory(prefix="abixio-bars-", dir=directory) as home:
        bars = list(measure(Path(home), rounds))
    Console(width=None if sys.stdout.isatty() else 180).print(table(bars))
    if report is not None:
        report.write_text(json.dumps([{**asdict(bar), "reached": bar.reached} for bar in bars], indent=2) + "\n")
    sys.exit(not all(bar.reached for bar in bars))


if __name__ == "__main__":
    main()
