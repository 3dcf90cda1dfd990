"""This server from every side: `python -m bench.matrix [--rounds 3] [--seconds 2] [--only TEXT] [--json FILE]`.

From one base case (4 KiB, 16 connections, one volume, page-cache, payload not signed, no TLS) each dimension is varied by itself:
size, connections, volumes, durability, signed payloads, TLS. The last cases are compared with others of their size. A line has
the requests per second, what they are of the base case of its method in the same round, their 50th, 95th and 99th percentile, the
server's processor seconds for 1,000 of them and the share of those that the base case takes, and its anonymous memory behind
them. wrk sends prepared requests; from 64 MiB on curl does, one after the other. After each load an object is compared with what
it should be.
"""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.table import Table

from bench.load import LoadFailed, Payload, check_get, curl_get, curl_put
from bench.server import BUCKET, NOTHING, raw_request, signed, wrk_in_turn
from tests.certificates import make_certificate
from tests.server import Server

KIB, MIB = 1 << 10, 1 << 20
MOST: Final = 1024 * MIB
IN_MEMORY: Final = 16 * MIB
"""wrk holds all its requests."""
KEYS: Final = 64
LONGER: Final = 4
"""Times as long is the load with bodies of MiB, or too few of them would be counted."""
TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Case:
    """One load on one kind of server."""

    method: str
    size: int = 4 * KIB
    connections: int = 16
    volumes: int = 1
    durability: str = "page-cache"
    signed: bool = False
    tls: bool = False

    @property
    def server(self) -> tuple[int, str, bool]:
        return self.volumes, self.durability, self.tls

    @property
    def name(self) -> str:
        size = f"{self.size // MIB} MiB" if self.size >= MIB else f"{self.size // KIB} KiB"
        words = [self.method, size, f"x{self.connections}", f"{self.volumes} vol", self.durability]
        return " ".join(words + ["signed"] * self.signed + ["TLS"] * self.tls)

    @property
    def base(self) -> Case:
        """What it is compared with: where more than the size is different, a case of that size."""
        plain = Case(self.method, self.size)
        if replace(plain, connections=self.connections) != self:
            return plain
        return replace(plain, size=0 if self.method == "HEAD" else Case.size)

    @property
    def keys(self) -> int:
        return max(1, min(KEYS, 2 * IN_MEMORY // max(1, self.size)))


def cases() -> Iterator[Case]:
    """The base cases first, since the others are compared with them."""
    bases = [Case("GET"), Case("HEAD", 0), Case("PUT"), Case("DELETE")]  # behind a length wrk would wait for a body
    yield from bases
    for base in bases:
        for connections in (1, 64, 256):
            yield replace(base, connections=connections)
        for size in (64 * KIB, MIB, 10 * MIB, 64 * MIB, 256 * MIB, MOST):
            if base.method in ("GET", "PUT"):
                yield replace(base, size=size, connections=16 if size <= IN_MEMORY else 1)
        yield replace(base, volumes=4)
        yield replace(base, durability="fsync")
        yield replace(base, volumes=4, durability="fsync")
        yield replace(base, signed=True)
        yield replace(base, tls=True)
    yield Case("GET", 10 * MIB, tls=True)
    yield Case("PUT", 10 * MIB, signed=True)
    yield Case("GET", 10 * MIB, volumes=4)
    yield Case("PUT", 10 * MIB, volumes=4, durability="fsync")


@dataclass
class Line:
    """What came of a case, round by round."""

    name: str
    per_second: list[float] = field(default_factory=list)
    ratio: list[float] = field(default_factory=list)
    percentiles: list[tuple[float, ...]] = field(default_factory=list)
    """Seconds; none from curl."""
    processor: list[float] = field(default_factory=list)
    """Seconds of it for 1,000 requests."""
    processor_ratio: list[float] = field(default_factory=list)
    """What of that the base case takes."""
    anonymous: int = 0
    """Bytes, the most that was seen behind a round."""


# ---- servers -----------------------------------------------------------------------------------------------------------
class Servers:
    """One for each kind that is asked for; all run until the end."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._running: dict[tuple[int, str, bool], Server] = {}
        self.certificate, self._key = make_certificate(home)

    def get(self, case: Case) -> Server:
        server = self._running.get(case.server)
        return server or self._start(case)

    def _start(self, case: Case) -> Server:
        place = self._home / f"server{len(self._running)}"
        flags = ["--durability", case.durability, "--log-level", "error"]
        if case.tls:
            flags += ["--tls-cert", str(self.certificate), "--tls-key", str(self._key)]
        server = Server([place / f"v{n}" for n in range(case.volumes)], self._home / f"{place.name}.stderr", flags).start()
        self._running[case.server] = server
        client = server.client(verify=str(self.certificate))
        client.create_bucket(Bucket=BUCKET)
        client.close()
        return server

    def stop(self) -> None:
        for server in self._running.values():
            server.kill()


def processor(pid: int) -> float:
    """Seconds of user and system time of a process and its children."""
    total = 0.0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(stat.parent.name) == pid or int(fields[1]) == pid:
            total += (int(fields[11]) + int(fields[12])) / TICKS
    return total


# ---- one load ----------------------------------------------------------------------------------------------------------
class Runner:
    """Puts loads on servers, and checks what came of them."""

    def __init__(self, servers: Servers, payload: Payload, seconds: int) -> None:
        self._servers = servers
        self._payload = payload
        self._seconds = seconds
        self._prepared: set[Case] = set()

    def run(self, case: Case, line: Line) -> float:
        """One round; requests per second."""
        server = self._servers.get(case)
        if case.method in ("GET", "HEAD") and case not in self._prepared:
            self._prepared.add(case)
            self._prepare(server, case)
        os.sync()
        before = processor(server.pid)
        count, seconds, percentiles = self._load(server, case)
        line.processor.append((processor(server.pid) - before) / count * 1000)
        line.anonymous = max(line.anonymous, server.anonymous_memory())
        line.per_second.append(count / seconds)
        if percentiles:
            line.percentiles.append(percentiles)
        if case.method != "DELETE":
            self._check(server, case)
        return count / seconds

    @staticmethod
    def _key(case: Case, number: int) -> str:
        return f"{case.method.lower()}-{case.size}/{number}"

    def _prepare(self, server: Server, case: Case) -> None:
        client = server.client(verify=str(self._servers.certificate))
        for number in range(case.keys):
            with self._payload.cut(case.size).open("rb") as body:
                client.put_object(Bucket=BUCKET, Key=self._key(case, number), Body=body)
        client.close()

    def _load(self, server: Server, case: Case) -> tuple[int, float, tuple[float, ...]]:
        if case.size > IN_MEMORY:
            return self._large(server, case)
        body = self._payload.cut(case.size).read_bytes() if case.method == "PUT" else b""
        requests = []
        for number in range(case.keys):
            url, headers = signed(server, case.method, self._key(case, number), self._hash(case, body))
            requests.append(raw_request(case.method, url, headers, body))
        rate = wrk_in_turn(server.url, requests, self._seconds * (LONGER if case.size > MIB else 1), case.connections)
        return rate.requests, rate.seconds, rate.percentiles

    @staticmethod
    def _hash(case: Case, body: bytes) -> str:
        if not case.signed:
            return "UNSIGNED-PAYLOAD"
        return hashlib.sha256(body).hexdigest() if body else NOTHING

    def _large(self, server: Server, case: Case) -> tuple[int, float, tuple[float, ...]]:
        file = self._payload.cut(case.size)
        url, headers = signed(server, case.method, self._key(case, 0), "UNSIGNED-PAYLOAD")
        lines = [f"{name}: {value}" for name, value in headers.items()]
        seconds = curl_put([url], file, lines) if case.method == "PUT" else curl_get([url], case.size, lines)
        return 1, seconds[0], ()

    def _check(self, server: Server, case: Case) -> None:
        url, headers = signed(server, "GET", self._key(case, 0))
        lines = [f"{name}: {value}" for name, value in headers.items()]
        check_get(url, self._payload.digest(case.size), lines, self._servers.certificate)


# ---- all of them -------------------------------------------------------------------------------------------------------
def measure(chosen: list[Case], runner: Runner, rounds: int) -> Iterator[Line]:
    """Base and case alternate."""
    for case in chosen:
        base = case.base
        line, beside = Line(case.name), Line("")
        for _ in range(rounds):
            rate = runner.run(case, line)
            line.ratio.append(1.0 if case == base else rate / runner.run(base, beside))
            line.processor_ratio.append(1.0 if case == base else part(beside.processor[-1], line.processor[-1]))
        yield line


def part(base: float, own: float) -> float:
    """One request of curl may take less than a tick."""
    return base / own if own else 1.0


def show(lines: list[Line]) -> None:
    table = Table("case", "per second", "of base", "p50 ms", "p95 ms", "p99 ms", "CPU s / 1,000", "of base", "anonymous MiB")
    for line in lines:
        spent = [f"{statistics.median(each):,.3f}" for each in (line.processor, line.processor_ratio)]
        quantiles = [f"{statistics.median(q) * 1000:,.1f}" for q in zip(*line.percentiles, strict=True)] or ["", "", ""]
        table.add_row(
            line.name, f"{statistics.median(line.per_second):,.1f}", f"{statistics.median(line.ratio):.3f}", *quantiles,
            *spent, f"{line.anonymous / MIB:,.0f}",
        )
    Console(width=140).print(table)


@contextmanager
def payload(home: Path, size: int) -> Iterator[Payload]:
    path = home / "payload"
    with path.open("wb") as file:
        for _ in range(max(1, size // MIB)):
            file.write(os.urandom(MIB))
    yield Payload(path)


@click.command(help=__doc__)
@click.option("--rounds", default=3, show_default=True)
@click.option("--seconds", default=2, show_default=True, help="Of each load with wrk.")
@click.option("--only", default="", help="Cases whose name has this in it.")
@click.option("--most", default=MOST // MIB, show_default=True, help="MiB of the largest object.")
@click.option("--home", type=click.Path(file_okay=False, path_type=Path), help="On the disk that is to be measured.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path))
def main(rounds: int, seconds: int, only: str, most: int, home: Path | None, json_file: Path | None) -> None:
    chosen = [case for case in cases() if only in case.name and case.size <= most * MIB]
    if not chosen:
        raise click.BadParameter(f"no case has {only!r} in its name")
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(dir=home) as directory, payload(Path(directory), max(case.size for case in chosen)) as body:
        servers = Servers(Path(directory))
        try:
            lines = list(measure(chosen, Runner(servers, body, seconds), rounds))
        except LoadFailed as error:
            raise click.ClickException(str(error)) from error
        finally:
            servers.stop()
    show(lines)
    click.echo(f"{rounds} rounds, {time.monotonic() - begin:.0f} s")
    if json_file is not None:
        json_file.write_text(json.dumps([asdict(line) for line in lines], indent=1))


if __name__ == "__main__":
    main()
