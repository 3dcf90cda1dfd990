"""Choices of the write and read path against what they replaced: `python -m bench.record [--rounds 5] [--mib 256]`.

Below HTTP, on one and on four volumes (3 + 1), in mode page-cache. Each line takes one choice back and runs in turn with what is
in use; the figure is the median of its rate over the rate in use, so less than 1 means that the choice pays.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table

from abixio.store import shardset, upload
from bench.stores import Bench

MIB: Final = 1 << 20
PATTERN: Final = 32 * MIB
"""Bytes that bodies repeat."""


@contextmanager
def replaced(owner: Any, name: str, value: object) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


# ---- choices taken back ------------------------------------------------------------------------------------------------
@contextmanager
def no_overlap() -> Iterator[None]:
    """The next stripe is received when the last one is on its volumes."""
    with replaced(upload, "IN_FLIGHT", 0):
        yield


@contextmanager
def two_buffers() -> Iterator[None]:
    """One stripe fills while one is worked on."""
    with replaced(upload, "IN_FLIGHT", 1):
        yield


@contextmanager
def in_turn() -> Iterator[None]:
    """Shards are written one after the other, as if all volumes had one arm."""
    turn, write = threading.Lock(), shardset._Shard.write

    def alone(self: Any, write_id: bytes, piece: memoryview) -> None:
        with turn:
            write(self, write_id, piece)

    with replaced(shardset._Shard, "write", alone):
        yield


@contextmanager
def as_it_is() -> Iterator[None]:
    yield


PUTS: Final = {
    "in use": as_it_is, "no overlap of receiving and writing": no_overlap, "two buffers instead of four": two_buffers,
    "shards in turn, not at the same time": in_turn,
}


class Md5:
    """Objects whose ETag is their MD5, or not."""

    def __init__(self, bench: Bench) -> None:
        self._config = bench.store.pool.config

    @contextmanager
    def wanted(self) -> Iterator[None]:
        object.__setattr__(self._config, "etag", "md5")
        try:
            yield
        finally:
            object.__setattr__(self._config, "etag", "auto")


# ---- measuring ---------------------------------------------------------------------------------------------------------
def put(bench: Bench, data: memoryview, size: int) -> float:
    os.sync()
    begin = time.perf_counter()
    bench.runner.run(bench.put("put", data, size))
    return time.perf_counter() - begin


def get(bench: Bench, copied: bool) -> float:
    """Seconds to have every slice, or a copy of it as a read would make."""
    async def read() -> None:
        reader = await bench.store.open(bench.bucket, "get")
        try:
            async for piece in reader.stream(0, reader.info.size):
                if copied:
                    bytes(piece)
        finally:
            await reader.aclose()

    begin = time.perf_counter()
    bench.runner.run(read())
    return time.perf_counter() - begin


def measure(volumes: int, home: Path, rounds: int, size: int) -> dict[str, list[float]]:
    """Seconds of each variant, round by round."""
    found: dict[str, list[float]] = {}
    data = memoryview(os.urandom(PATTERN))
    bench = Bench(home, volumes, "page-cache")
    try:
        puts: dict[str, Callable[[], Any]] = {**PUTS, "MD5 as ETag": Md5(bench).wanted}
        bench.runner.run(bench.put("get", data, size))
        for _ in range(rounds):
            for name, variant in puts.items():
                with variant():
                    found.setdefault(f"PUT: {name}", []).append(put(bench, data, size))
            for name, copied in (("in use", False), ("each slice copied out of the map", True)):
                found.setdefault(f"GET: {name}", []).append(get(bench, copied))
    finally:
        bench.close()
    return found


@click.command(help=__doc__)
@click.option("--rounds", default=5, show_default=True)
@click.option("--mib", default=256, show_default=True)
@click.option("--home", type=click.Path(file_okay=False, path_type=Path), help="On the disk that is to be measured.")
def main(rounds: int, mib: int, home: Path | None) -> None:
    table = Table("choice taken back", "volumes", "of what is in use", "MB/s")
    for volumes in (1, 4):
        with tempfile.TemporaryDirectory(dir=home) as directory:
            found = measure(volumes, Path(directory), rounds, mib * MIB)
        for name, seconds in found.items():
            base = found[name.split(":")[0] + ": in use"]
            ratio = statistics.median(a / b for a, b in zip(base, seconds, strict=True))
            table.add_row(name, str(volumes), f"{ratio:.2f}", f"{mib * MIB / statistics.median(seconds) / 1e6:,.0f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
