"""Where small objects are best kept, and how volumes are best written: `python -m bench.small [--objects 200]`.

In one process, through the store: objects of one size, as rows with their shards inline and as rows with shard files, are put one
by one and in sixteens and got again. Processor time (all threads, kernel included) and elapsed time of an operation; both sides
take turns, and the ratios are medians over the rounds.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Final
from unittest.mock import patch

import click
from rich.console import Console
from rich.table import Table

from abixio.store import upload
from abixio.store.store import Store
from abixio.store.types import Bucket, PutSpec
from tests.store_local import Disks, quiet
from tests.store_rig import BytesSource

KIB: Final = 1 << 10
SIZES: Final = tuple(kib * KIB for kib in (1, 4, 8, 16, 32, 64))
TOGETHER: Final = 16
INLINE, FILES = 1 << 30, -1

Cost = tuple[float, float]
"""Processor and elapsed seconds."""


async def put_all(store: Store, bucket: Bucket, prefix: str, objects: int, data: bytes) -> None:
    for start in range(0, objects, TOGETHER):
        names = [f"{prefix}{number}" for number in range(start, min(start + TOGETHER, objects))]
        await asyncio.gather(*(store.put(bucket, name, PutSpec("me"), BytesSource(data)) for name in names))


async def get_all(store: Store, bucket: Bucket, prefix: str, objects: int, data: bytes) -> None:
    for number in range(objects):
        reader = await store.open(bucket, f"{prefix}{number}")
        pieces = [piece async for piece in reader.stream(0, len(data))]
        await reader.aclose()
        assert sum(map(len, pieces)) == len(data)


async def cost(store: Store, bucket: Bucket, prefix: str, objects: int, data: bytes) -> tuple[Cost, Cost]:
    """Of a PUT and of a GET."""
    found = []
    for work in (put_all, get_all):
        spent, begin = time.process_time(), time.perf_counter()
        await work(store, bucket, prefix, objects, data)
        found.append(((time.process_time() - spent) / objects, (time.perf_counter() - begin) / objects))
    return found[0], found[1]


async def compare(home: Path, volumes: int, durability: str, objects: int, rounds: int) -> Table:
    table = Table("size", "PUT: files/inline", "elapsed", "GET: files/inline", "elapsed", "PUT inline, us", "GET inline, us")
    async with quiet(Disks(home, volumes), durability) as store:
        bucket = await store.create_bucket("bench", "me", {})
        for size in SIZES:
            data = os.urandom(size)
            sides: dict[int, list[tuple[Cost, Cost]]] = {INLINE: [], FILES: []}
            for number in range(rounds):
                for limit, found in sides.items():
                    with patch.object(upload, "INLINE_LIMIT", limit):
                        found.append(await cost(store, bucket, f"{size}-{limit}-{number}-", objects, data))
            table.add_row(f"{size // KIB} KiB", *_cells(sides[INLINE], sides[FILES]))
    return table


def _cells(inline: list[tuple[Cost, Cost]], files: list[tuple[Cost, Cost]]) -> list[str]:
    cells = []
    for work in (0, 1):
        for clock in (0, 1):
            ratio = statistics.median(b[work][clock] / a[work][clock] for a, b in zip(inline, files, strict=True))
            cells.append(f"{ratio:.2f}")
    return cells + [f"{statistics.median(each[work][0] for each in inline) * 1e6:,.0f}" for work in (0, 1)]


@click.command()
@click.option("--objects", type=click.IntRange(TOGETHER), default=192, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--dir", "directory", type=click.Path(exists=True, file_okay=False))
def main(objects: int, rounds: int, directory: str | None) -> None:
    """Measure and print."""
    for volumes in (1, 4):
        for durability in ("page-cache", "fsync"):
            with tempfile.TemporaryDirectory(prefix="abixio-small-", dir=directory) as home:
                table = asyncio.run(compare(Path(home), volumes, durability, objects, rounds))
            table.title = f"{volumes} volume{'s' * (volumes > 1)}, {durability}"
            Console(width=110).print(table)


if __name__ == "__main__":
    main()
