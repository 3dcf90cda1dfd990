"""What stands before a row of the matrix: pools at rest, damaged ones, and such as another crash has left."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import apsw

from abixio.volume.catalog import _persist_wal as persist_wal
from tests.crash.bench import Bench
from tests.crash.run import LARGE, SMALL, Run, Script


def small(name: str) -> str:
    """A value whose shards live in the catalog."""
    return f"{name}:{SMALL}"


def large(name: str) -> str:
    """A value whose shards are files."""
    return f"{name}:{LARGE}"


async def plain(run: Run) -> None:
    """A bucket with keys that nobody touches and keys that are overwritten, deleted, copied."""
    await run.create_bucket("b")
    for key in ("small", "other/small"):
        await run.put(key, small(key))
    for key in ("large", "other/large"):
        await run.put(key, large(key))
    await run.put("wide", large("wide"), ftt=str(run.store.n - 1))


async def uploading(run: Run) -> None:
    """The same, and an upload with two parts, beside one that nobody touches."""
    await plain(run)
    await run.create_upload("large", "up")
    await run.put_part("large", "up", 1, large("one"))
    await run.put_part("large", "up", 2, large("two"))
    await run.create_upload("large", "other")
    await run.put_part("large", "other", 1, large("else"))


async def later(run: Run) -> None:
    """What happened while a volume was set back to a snapshot that was taken before."""
    await run.put("small", large("later"))
    await run.put("new", large("new"))
    await run.delete("large")
    for _ in range(3):
        await run.settle()


def nothing(bench: Bench) -> None:
    """The volumes are as they were left."""


def emptied(bench: Bench) -> None:
    """Volume 1 is a blank disk that took the place of another."""
    bench.blank(1)


def rotten(bench: Bench) -> None:
    """Volume 0 has a bit flipped in every shard file; volume 1 has lost one file and the bytes of one small shard."""
    for name, path in bench.files(0).items():
        if name.startswith("shards/"):
            data = bytearray(Path(path).read_bytes())
            data[100] ^= 1
            Path(path).write_bytes(data)
    wide = max((path for name, path in bench.files(1).items() if name.startswith("shards/")), key=os.path.getsize)
    os.unlink(wide)  # of the one object that is readable still
    _write_over_first_inline_shard(bench, 1)
    for slot, volume in enumerate(bench.paths):
        write_id = bytes(15) + bytes([slot])
        (volume / "shards" / f"{slot:02x}" / write_id.hex()).write_bytes(b"a file that no row names")


def _write_over_first_inline_shard(bench: Bench, slot: int) -> None:
    connection = apsw.Connection(str(bench.paths[slot] / ".abixio/catalog.db"))
    persist_wal(connection)
    connection.execute("UPDATE inline SET shard = zeroblob(length(shard)) WHERE id = (SELECT min(id) FROM inline)")
    connection.close()


@dataclass(frozen=True, slots=True)
class BaseSpec:
    """How to make what stands before a row."""

    script: Script
    damage: Callable[[Bench], None] = nothing
    since: Script | None = None
    """Played before the damage is done to the volumes as they were before it: for snapshots."""
    filling: frozenset[int] = frozenset()
    """Volumes that are filling from the start."""


BASES: Final = {
    "plain": BaseSpec(plain),
    "uploading": BaseSpec(uploading),
    "emptied": BaseSpec(uploading, emptied, filling=frozenset((1,))),
    "rotten": BaseSpec(uploading, rotten),
    "set back": BaseSpec(plain, since=later, filling=frozenset((2,))),
}


@dataclass(frozen=True, slots=True)
class Crash:
    """A base: that row, cut short after a share of all that it does."""

    row: str
    share: float
    cut: str
    """keep: the process was killed; or a kind of power cut."""
