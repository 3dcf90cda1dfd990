"""What changes and lookups of one volume cost: `python -m bench.transactions [--rounds 12]`.

Thread time, kernel included, so without the checkpoints of the thread beside it; sequential keys, write ids in the order of time,
4 KiB inline, page cache. The least says what the work is, the median what the machine made of it. To compare two states of the
source, run this file of the newer one in both, in turn.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.table import Table

from abixio.volume.interface import Change, Drop, Head, Insert, Mark, Note, RowId, Settle, State
from abixio.volume.local import LocalVolume
from tests.volume_fixtures import formatted

SPACE: Final = bytes(16)
BEGIN: Final = 1_700_000_000_000
"""Milliseconds: write ids begin with the time."""
SHARD, RECORD = os.urandom(4104), os.urandom(330)
TOMBSTONE: Final = RECORD[:150]
TOGETHER: Final = 16
LOOKUPS: Final = 500


class Work:
    """One volume, and what was put there last."""

    def __init__(self, volume: LocalVolume) -> None:
        self.volume = volume
        self.rows: list[tuple[RowId, bytes]] = []
        self.spent: dict[str, list[float]] = {}

    def put(self) -> Change:
        number = len(self.rows)
        row = RowId(SPACE, b"bench/object-%08d" % number, BEGIN * 1000 + number, 0)
        write_id = (BEGIN + number // 8).to_bytes(6, "big") + os.urandom(10)
        self.rows.append((row, write_id))
        return Insert(row, State.ANSWERED, 1, RECORD, (write_id,), SHARD), Head(SPACE, row.key, (row.seq, 0))

    def apply(self, name: str, changes: list[Change], together: int) -> None:
        begin = time.thread_time()
        for start in range(0, len(changes), together):
            self.volume.apply(changes[start : start + together], False)
        self.spent.setdefault(f"{name}, {together} together", []).append((time.thread_time() - begin) / len(changes))

    def look(self, name: str, call: Callable[[], object]) -> None:
        call()
        begin = time.thread_time()
        for _ in range(LOOKUPS):
            call()
        self.spent.setdefault(name, []).append((time.thread_time() - begin) / LOOKUPS)

    def round(self) -> None:
        self.apply("insert with its head", [self.put() for _ in range(20 * TOGETHER)], TOGETHER)
        self.apply("insert with its head", [self.put() for _ in range(40)], 1)
        mine = self.rows[-320:-64]
        self.apply("T2", [(Mark(row, State.COMMITTED), Settle(row)) for row, _ in mine], 256)
        key, volume = mine[5][0].key, self.volume
        self.look("newest rows of a key", lambda: volume.top(SPACE, key, 8, False))
        self.look("of a key without rows", lambda: volume.top(SPACE, b"none", 8, False))
        self.look("newest row with its shard", lambda: volume.newest(SPACE, key, True))
        self.after_commits([row.key for row, _ in mine[:20]])
        self.apply("delete on a sole volume", [delete(row, write_id) for row, write_id in mine[:96]], TOGETHER)
        self.apply("the old row and its shard", [(Drop(row, (write_id,)),) for row, write_id in mine[96:192]], TOGETHER)

    def after_commits(self, keys: list[bytes]) -> None:
        spent = 0.0
        for number, key in enumerate(keys):
            self.volume.apply([[Note("bench", number)]], False)
            begin = time.thread_time()
            self.volume.top(SPACE, key, 8, False)
            spent += time.thread_time() - begin
        self.spent.setdefault("newest rows right after a commit", []).append(spent / len(keys))


def delete(row: RowId, write_id: bytes) -> Change:
    gone = row._replace(seq=row.seq + 1_000_000)
    put = Insert(gone, State.COMMITTED, 1, TOMBSTONE)
    return put, Head(SPACE, row.key, None), Drop(row, (write_id,)), Drop(gone)


@click.command(help=__doc__)
@click.option("--rounds", default=12)
@click.option("--home", type=click.Path(path_type=Path), help="Where the volume is made; the temporary directory by default.")
def main(rounds: int, home: Path | None) -> None:
    with tempfile.TemporaryDirectory(dir=home) as directory:
        volume = LocalVolume.open(formatted(Path(directory) / "volume"))
        work = Work(volume)
        for _ in range(rounds):
            work.round()
        volume.close()
    table = Table("us of thread time", "least", "median")
    for name, spent in work.spent.items():
        table.add_row(name, f"{min(spent) * 1e6:.1f}", f"{statistics.median(spent) * 1e6:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
