"""What a large bucket costs: `python -m bench.scale [--keys 1000000] [--home DIR] [--json FILE]`.

The keys, of 1 KiB each, are loaded through the store, in mode page-cache, on one volume; a second one gets 10,000 of them. Then
a server on each: pages of 1,000 keys, HEAD, PUT, DELETE and the start of the server, in alternating pairs; the rows that a page
over one common prefix of all keys reads; the memory of the server; and, with --scan, a scan of all of them. The bars: a page may
cost 1.2 times as much as in the small bucket, a start as much as that of an empty server, and rows twice the page.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Final

import click
from mypy_boto3_s3 import S3Client

from abixio.store.lister import Query
from abixio.volume.local import LocalVolume
from bench.lines import Line, show
from bench.server import BUCKET
from bench.stores import Bench
from tests.server import Server

SMALL: Final = 10_000
BODY: Final = 1024
GROWTH: Final = 1.2
"""Times what the small bucket, or an empty server, takes."""
PAGE: Final = 1000
ROUNDS: Final = 31
STARTS: Final = 7

LISTED, START = "LIST page, large / small", "start, large / empty"
ROLLED, DEEP = "rows read by a page with one common prefix", "rows read by a page of keys with a delimiter"
BARS: Final = {LISTED: GROWTH, START: GROWTH, ROLLED: 2.0 * PAGE, DEEP: 2.0 * PAGE}
"""At most."""


def key(number: int) -> str:
    """All in one common prefix."""
    return f"all/{number:09d}"


class Rows:
    """Counts the rows that scans of a volume return."""

    def __init__(self, volume: LocalVolume) -> None:
        self.read = 0
        scan = volume.scan

        def counted(space: bytes, start: bytes, stop: bytes | None, limit: int) -> object:
            rows = scan(space, start, stop, limit)
            self.read += len(rows)
            return rows

        volume.scan = counted  # type: ignore[method-assign, assignment]


# ---- the store ---------------------------------------------------------------------------------------------------------
async def delimiter_rows(bench: Bench, prefix: str, delimiter: str) -> int:
    """Rows read by the first page."""
    [lane] = bench.store.pool.up()
    assert isinstance(lane.volume, LocalVolume)
    rows = Rows(lane.volume)
    await bench.store._pages.get(Query(bench.bucket.space, prefix.encode(), delimiter.encode(), b"", PAGE))
    return rows.read


def fill(home: Path, keys: int, scan: bool = False) -> dict[str, float]:
    """A volume with so many keys; what loading them took, and what pages over their common prefix read."""
    bench, found = Bench(home, 1, "page-cache"), dict[str, float]()
    try:
        body, names = bytes(range(256)) * (BODY // 256), (key(number) for number in range(keys))
        found["objects of 1 KiB loaded per second"] = keys / timed(lambda: bench.runner.run(bench.put_many(names, body)))
        found[ROLLED] = bench.runner.run(delimiter_rows(bench, "", "/"))
        found[DEEP] = bench.runner.run(delimiter_rows(bench, "all/", "/"))
        if scan:
            found["objects scanned per second"] = keys / timed(lambda: bench.runner.run(bench.store.scan_now()))
    finally:
        bench.close()
    return found


# ---- requests ----------------------------------------------------------------------------------------------------------
def page(client: S3Client, keys: int) -> None:
    found = client.list_objects_v2(Bucket=BUCKET, Prefix="all/", StartAfter=key(keys // 2), MaxKeys=PAGE)
    assert found["KeyCount"] == PAGE


def rolled(client: S3Client, keys: int) -> None:
    found = client.list_objects_v2(Bucket=BUCKET, Delimiter="/")
    assert len(found["CommonPrefixes"]) == 1


def head(client: S3Client, keys: int) -> None:
    client.head_object(Bucket=BUCKET, Key=key(keys // 2))


def put(client: S3Client, keys: int) -> None:
    client.put_object(Bucket=BUCKET, Key=key(keys // 2), Body=bytes(BODY))


def delete(client: S3Client, keys: int) -> None:
    client.delete_object(Bucket=BUCKET, Key=key(keys // 2))


CALLS: Final = (
    ("LIST page", page, ROUNDS), ("LIST page with a delimiter", rolled, ROUNDS), ("HEAD", head, 10 * ROUNDS),
    ("PUT", put, 3 * ROUNDS), ("DELETE", delete, ROUNDS),
)


# ---- the server --------------------------------------------------------------------------------------------------------
def timed(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def pairs(large: Callable[[], object], small: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Median of the ratios of alternating pairs."""
    return statistics.median(timed(large) / timed(small) for _ in range(rounds))


def start(server: Server) -> None:
    """From the command to the banner, and the end of it."""
    server.start()
    server.stop()


def served(home: Path, keys: int) -> dict[str, float]:
    """Ratios of the large bucket to the small one."""
    names = ("large", "small", "empty")
    servers = {
        name: Server([home / name / "v0"], home / f"{name}.stderr", ["--durability", "page-cache"]) for name in names
    }
    with ExitStack() as stack:
        for name in names[:2]:
            stack.callback(servers[name].start().kill)
        idle = servers["large"].anonymous_memory()
        large, small = (servers[name].client() for name in names[:2])
        found = {
            f"{line}, large / small": pairs(partial(call, large, keys), partial(call, small, SMALL), rounds)
            for line, call, rounds in CALLS
        }
        found["MiB of anonymous memory after the start"] = idle / (1 << 20)
        found["MiB more after the pages"] = (servers["large"].anonymous_memory() - idle) / (1 << 20)
    start(servers["empty"])
    for server in servers.values():
        start(server)  # a kill ended the others
    found[START] = pairs(lambda: start(servers["large"]), lambda: start(servers["empty"]), STARTS)
    return found


def measure(home: Path, keys: int, scan: bool = False) -> Iterator[Line]:
    """Loads all volumes below `home`, and leaves nothing there."""
    try:
        found = fill(home / "large", keys, scan)
        fill(home / "small", SMALL)
        (home / "empty" / "v0").mkdir(parents=True)
        found |= served(home, keys)
    finally:
        for name in ("large", "small", "empty"):
            shutil.rmtree(home / name, ignore_errors=True)
    for name, figure in found.items():
        yield Line(f"{name} ({keys:,} keys)", figure, BARS.get(name), at_most=True)


@click.command(help=__doc__)
@click.option("--keys", default=1_000_000, show_default=True)
@click.option("--scan", is_flag=True, help="Scan all of them, too.")
@click.option("--home", type=click.Path(file_okay=False, path_type=Path), help="On the disk that is to be measured.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path))
def main(keys: int, scan: bool, home: Path | None, json_file: Path | None) -> None:
    with tempfile.TemporaryDirectory(dir=home) as directory:
        lines = list(measure(Path(directory), keys, scan))
    show(lines)
    if json_file is not None:
        json_file.write_text(json.dumps([asdict(line) for line in lines], indent=1))
    sys.exit(not all(line.reached for line in lines))


if __name__ == "__main__":
    main()
