"""Small requests by rate: `python -m bench.rates [--rounds 5] [--only small] [--only workers]`.

Presigned GET, HEAD, PUT and DELETE of 4 KiB over 16 connections, one volume, page cache, one worker, against the least that
answers HTTP on this stack (uvloop and httptools, 4 KiB, nothing else); then GETs of two workers against one. All take turns.

PUTs are measured three ways: each to a new key, which is what the bar is for; the same thousand keys again and again, where
there is something to replace; and one key, where each waits for the one before.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import click

from bench.bench_l1_http import running as l1_running
from bench.bodiless import once
from bench.data import processor_time, serving, url
from bench.lines import Line, ratio, show
from bench.load import Payload, Rate, check_get, curl_put, random_file, wrk
from bench.server import presigned, raw_request, wrk_in_turn
from tests.server import Server

SMALL: Final = 4 << 10
KEYS: Final = 4000
"""New ones in each round: seconds at a thousand a second, half of one at eight thousand."""
AGAIN: Final = 1000
REPEATS: Final = 20_000
"""HEADs in a round."""
SECONDS: Final = 2
"""Of one load with wrk."""
REST: Final = 2.0
"""Seconds after a round, until what it wrote is settled."""
BARS: Final = {"GET": 0.25, "HEAD": 0.25, "PUT": 0.12, "DELETE": 0.12}
FREE: Final = ("PUT, 1,000 keys again and again", "PUT, one key", "GET, 1,000 keys in turn")
"""Without a bar."""


class Side:
    """One kind of request: its rates and what they cost the server."""

    def __init__(self, name: str, pid: int) -> None:
        self.name, self._pid = name, pid
        self.rates: list[float] = []
        self.spent: list[float] = []

    def run(self, load: Callable[[], Rate]) -> None:
        before = processor_time(self._pid)
        rate = load()
        self.spent.append((processor_time(self._pid) - before) / rate.requests)
        self.rates.append(rate.requests / rate.seconds)

    def say(self) -> str:
        return f"{self.name} {statistics.median(self.rates):,.0f}/s, {statistics.median(self.spent) * 1e6:,.0f} us of processor"


# ---- one worker --------------------------------------------------------------------------------------------------------
class Requests:
    """What is sent to one server."""

    def __init__(self, server: Server, body: bytes) -> None:
        self.server, self.body = server, body

    def raw(self, method: str, *keys: str) -> list[bytes]:
        body = self.body if method == "PUT" else b""
        return [raw_request(method, target, {}, body) for target in presigned(self.server, method, *keys)]

    def loads(self, number: int) -> Iterator[tuple[str, Callable[[], Rate]]]:
        """Those of a round, in order: what is deleted was put before."""
        target, again = self.server.url, [f"again/{each}" for each in range(AGAIN)]
        new = [f"new/{number}/{each}" for each in range(KEYS)]
        yield "GET", lambda: wrk(url(self.server, "GET", "again/0"), seconds=SECONDS)
        yield FREE[2], lambda: wrk_in_turn(target, self.raw("GET", *again), SECONDS)
        yield "HEAD", lambda: once(target, self.raw("HEAD", "again/0") * REPEATS)
        yield "PUT", lambda: once(target, self.raw("PUT", *new))
        yield "DELETE", lambda: once(target, self.raw("DELETE", *new))
        yield FREE[0], lambda: wrk_in_turn(target, self.raw("PUT", *again), SECONDS)
        yield FREE[1], lambda: wrk_in_turn(target, self.raw("PUT", "one"), SECONDS)


def small(home: Path, payload: Payload, rounds: int) -> Iterator[Line]:
    """Each kind of request against the raw answer of the same round."""
    with ExitStack() as stack:
        raw = stack.enter_context(l1_running("raw"))
        server = stack.enter_context(serving(home, "rates", 1, "--durability", "page-cache"))
        requests, floor = Requests(server, payload.cut(SMALL).read_bytes()), list[float]()
        once(server.url, requests.raw("PUT", *(f"again/{each}" for each in range(AGAIN))))
        sides = {name: Side(name, server.pid) for name in (*BARS, *FREE)}
        for number in range(rounds):
            rate = wrk(f"{raw}/4096", seconds=SECONDS)
            floor.append(rate.requests / rate.seconds)
            for name, load in requests.loads(number):
                os.sync()
                sides[name].run(load)
            for key in ("again/0", f"again/{AGAIN - 1}", "one"):
                check_get(url(server, "GET", key), payload.digest(SMALL))
            time.sleep(REST)
    for name, side in sides.items():
        detail = f"raw {statistics.median(floor):,.0f}/s, {side.say()}"
        yield Line(f"presigned {name}, 4 KiB, 16 connections / raw answer", ratio(side.rates, floor), BARS.get(name), detail)


# ---- two workers -------------------------------------------------------------------------------------------------------
def workers(home: Path, payload: Payload, rounds: int) -> Iterator[Line]:
    """wrk is a process of its own, and wants a core too."""
    with ExitStack() as stack:
        servers = {
            count: stack.enter_context(serving(home, f"workers{count}", 1, "--durability", "page-cache", "--workers", str(count)))
            for count in (1, 2)
        }
        found: dict[int, list[float]] = {count: [] for count in servers}
        for server in servers.values():
            curl_put([url(server, "PUT", "small")], payload.cut(SMALL))
        for _ in range(rounds):
            for count, server in servers.items():
                target = url(server, "GET", "small")
                check_get(target, payload.digest(SMALL))
                rate = wrk(target, seconds=SECONDS)
                found[count].append(rate.requests / rate.seconds)
    detail = "; ".join(f"{count}: {statistics.median(each):,.0f}/s" for count, each in found.items())
    yield Line("GET 4 KiB, 2 workers / 1, load from another process", ratio(found[2], found[1]), 1.2, detail)


LINES: Final = {"small": small, "workers": workers}


@click.command(help=__doc__)
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--only", type=click.Choice(sorted(LINES)), multiple=True, help="Measure these alone.")
@click.option("--dir", "directory", type=click.Path(exists=True, file_okay=False), help="Where the volumes are made.")
def main(rounds: int, only: tuple[str, ...], directory: str | None) -> None:
    with tempfile.TemporaryDirectory(prefix="abixio-rates-", dir=directory) as home:
        payload = random_file(Path(home) / "random", SMALL)
        lines = [line for name in only or LINES for line in LINES[name](Path(home), payload, rounds)]
    show(lines)
    sys.exit(not all(line.reached for line in lines))


if __name__ == "__main__":
    main()
