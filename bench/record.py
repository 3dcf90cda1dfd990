"""Choices of the server, each taken back in turn: `python -m bench.record [--rounds 5] [--mib 256] [--only WORD]`.

Numbered as an older S3 server of the same make, which tried them first, kept or lost them. The figures are medians over the
rounds of what is in use over what it is with the choice taken back, in seconds and in processor time of the server: less than 1
means that the choice pays. Most are measured from outside, on servers of which one is as it is and one as `bench.altered` makes
it; those of the write path below HTTP, in one process, where the choice can be changed between two uploads.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table

from abixio.store import shardset, upload
from bench.data import processor_time, url
from bench.lines import ratio
from bench.load import Payload, check_get, curl_get, curl_put, random_file, wrk
from bench.server import BUCKET
from bench.stores import Bench
from tests.server import Server

KIB, MIB = 1 << 10, 1 << 20
PATTERN: Final = 32 * MIB
"""Bytes that bodies repeat."""
WRK: Final = 64 * KIB
"""Objects up to here are read by wrk over 16 connections, longer ones by curl, one by one."""


Cost = tuple[float, float]
"""Elapsed and processor seconds."""


@contextmanager
def replaced(owner: Any, name: str, value: object) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


# ---- the write path, below HTTP ----------------------------------------------------------------------------------------
@contextmanager
def no_overlap(bench: Bench) -> Iterator[None]:
    """The next stripe is received when the last one is on its volumes."""
    with replaced(upload, "IN_FLIGHT", 0):
        yield


@contextmanager
def two_buffers(bench: Bench) -> Iterator[None]:
    """One stripe fills while one is worked on."""
    with replaced(upload, "IN_FLIGHT", 1):
        yield


@contextmanager
def three_buffers(bench: Bench) -> Iterator[None]:
    with replaced(upload, "IN_FLIGHT", 2):
        yield


@contextmanager
def in_turn(bench: Bench) -> Iterator[None]:
    """Shards are written one after the other, as if all volumes had one arm."""
    turn, write = threading.Lock(), shardset._Shard.write

    def alone(self: Any, write_id: bytes, piece: memoryview) -> None:
        with turn:
            write(self, write_id, piece)

    with replaced(shardset._Shard, "write", alone):
        yield


@contextmanager
def with_md5(bench: Bench) -> Iterator[None]:
    config = bench.store.pool.config
    object.__setattr__(config, "etag", "md5")
    try:
        yield
    finally:
        object.__setattr__(config, "etag", "auto")


@contextmanager
def as_it_is(bench: Bench) -> Iterator[None]:
    yield


PUTS: Final = {
    "in use": as_it_is, "2 shards written in turn, not at the same time": in_turn,
    "8 no overlap of receiving, computing and writing": no_overlap, "8 two stripe buffers, not four": two_buffers,
    "8 three stripe buffers, not four": three_buffers, "9 MD5 as ETag": with_md5,
}


def put(bench: Bench, data: memoryview, size: int) -> Cost:
    os.sync()
    begin, spent = time.perf_counter(), time.process_time()
    bench.runner.run(bench.put("put", data, size))
    return time.perf_counter() - begin, time.process_time() - spent


def below_http(volumes: int, home: Path, rounds: int, size: int, only: str) -> Iterator[list[str]]:
    """A row for each choice of the write path."""
    chosen = {name: variant for name, variant in PUTS.items() if only in name or name == "in use"}
    data, found = memoryview(os.urandom(PATTERN)), dict[str, list[Cost]]()
    if len(chosen) == 1:
        return
    bench = Bench(home, volumes, "page-cache")
    try:
        for _ in range(rounds):
            for name, variant in chosen.items():
                with variant(bench):
                    found.setdefault(name, []).append(put(bench, data, size))
    finally:
        bench.close()
    base = found.pop("in use")
    for name, costs in found.items():
        yield row(name, f"PUT {size // MIB} MiB below HTTP, {volumes} volume{'s' * (volumes > 1)}", base, costs, size)


# ---- from outside ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Choice:
    """One that is taken back by `bench.altered`, and the load that shows it."""

    name: str
    altered: str
    size: int
    volumes: int = 1
    method: str = "GET"


CHOICES: Final = (
    Choice("1 the whole object in memory before its first byte leaves", "collected", 10 * MIB),
    Choice("1 the whole object in memory before its first byte leaves", "collected", 256 * MIB),
    Choice("3 bucket, settings and row looked up for each request", "asked_again", 4 * KIB),
    Choice("4 slices copied, not sent from the map", "copied", 256 * MIB),
    Choice("5 pieces put together in new memory", "put_together", 256 * MIB, 4),
    Choice("6 pieces put together in buffers used before", "put_together_in_turn", 256 * MIB, 4),
    Choice("7 (debug build) Reed-Solomon by the scalar kernel", "scalar", 256 * MIB, 4, "PUT"),
    Choice("8 no overlap of receiving, computing and writing", "no_overlap", 256 * MIB, 1, "PUT"),
    Choice("8 two stripe buffers, not four", "two_buffers", 256 * MIB, 1, "PUT"),
    Choice("8 three stripe buffers, not four", "three_buffers", 256 * MIB, 1, "PUT"),
    Choice("10 slices of 4 MiB, verified ahead, not of 512 KiB as they are sent", "verified_ahead", 256 * MIB),
    Choice("11 without TCP_NODELAY", "delayed", 4 * KIB),
    Choice("11 without TCP_NODELAY", "delayed", 10 * MIB),
    Choice("12 files of 64 KiB opened and mapped by a thread", "by_thread", 64 * KIB),
    Choice("13 head and first slice in two writes", "in_two", 64 * KIB),
    Choice("13 at most 64 KiB unsent, not 1 MiB", "low", 10 * MIB),
    Choice("13 at most 64 KiB unsent, not 1 MiB", "low", 256 * MIB),
)


@contextmanager
def started(home: Path, volumes: int, altered: str) -> Iterator[Server]:
    """As it is, or with a choice taken back; with a bucket."""
    home.mkdir()
    flags = ["--durability", "page-cache", "--log-level", "error"]
    server = Server([home / f"v{number}" for number in range(volumes)], home / "stderr", flags)
    if altered:
        server.command[1:3] = ["-m", "bench.altered", altered]
    server.start()
    try:
        client = server.client()
        client.create_bucket(Bucket=BUCKET)
        client.close()
        yield server
    finally:
        server.kill()


def cost_of(server: Server, choice: Choice, payload: Payload) -> Cost:
    """Of one request."""
    target, count = url(server, choice.method, "object"), 1
    os.sync()
    before = processor_time(server.pid)
    if choice.method == "PUT":
        [seconds] = curl_put([target], payload.cut(choice.size))
    elif choice.size <= WRK:
        rate = wrk(target)
        seconds, count = rate.seconds / rate.requests, rate.requests
    else:
        [seconds] = curl_get([target], choice.size)
    return seconds, (processor_time(server.pid) - before) / count


def from_outside(home: Path, payload: Payload, choice: Choice, rounds: int) -> list[str]:
    found: dict[str, list[Cost]] = {"": [], choice.altered: []}
    with ExitStack() as stack:
        servers = {each: stack.enter_context(started(home / f"s{each}", choice.volumes, each)) for each in found}
        for server in servers.values():
            curl_put([url(server, "PUT", "object")], payload.cut(choice.size))
            check_get(url(server, "GET", "object"), payload.digest(choice.size))
        for _ in range(rounds):
            for each, server in servers.items():
                found[each].append(cost_of(server, choice, payload))
        for server in servers.values():
            check_get(url(server, "GET", "object"), payload.digest(choice.size))
    size = f"{choice.size // MIB} MiB" if choice.size >= MIB else f"{choice.size // KIB} KiB"
    load = f"{choice.method} {size}, {choice.volumes} volume{'s' * (choice.volumes > 1)}"
    return row(choice.name, load, found[""], found[choice.altered], choice.size)


# ---- all of them -------------------------------------------------------------------------------------------------------
def row(name: str, load: str, base: Sequence[Cost], altered: Sequence[Cost], size: int) -> list[str]:
    """Choice, load, both ratios, both rates."""
    (before, before_spent), (after, after_spent) = zip(*base, strict=True), zip(*altered, strict=True)
    rates = [size / statistics.median(each) / 1e6 for each in (after, before)]
    ratios = [f"{ratio(before, after):.2f}", f"{ratio(before_spent, after_spent):.2f}"]
    return [name, load, *ratios, f"{rates[0]:,.0f} / {rates[1]:,.0f} MB/s"]


@click.command(help=__doc__)
@click.option("--rounds", default=5, show_default=True)
@click.option("--mib", default=256, show_default=True, help="Of the bodies below HTTP.")
@click.option("--only", default="", help="Choices whose name has this in it.")
@click.option("--home", type=click.Path(file_okay=False, path_type=Path), help="On the disk that is to be measured.")
def main(rounds: int, mib: int, only: str, home: Path | None) -> None:
    table = Table("choice taken back", "load", "by rate", "by processor", "taken back / in use")
    for volumes in (1, 4):
        with tempfile.TemporaryDirectory(dir=home) as directory:
            for each in below_http(volumes, Path(directory), rounds, mib * MIB, only):
                table.add_row(*each)
    for choice in CHOICES:
        if only in choice.name:
            with tempfile.TemporaryDirectory(dir=home) as directory:
                payload = random_file(Path(directory) / "random", choice.size)
                table.add_row(*from_outside(Path(directory), payload, choice, rounds))
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
