"""What stands before a row of the matrix: pools at rest, damaged ones, and such as another crash has left."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import apsw
from msgspec import structs

from abixio.store.record import pack, unpack
from abixio.volume.catalog import _persist_wal as persist_wal
from abixio.volume.interface import Head, Insert, RowId, State
from abixio.volume.local import LocalVolume
from tests.crash.layer import BOOT
from tests.crash.run import LARGE, SMALL, Run, Script
from tests.crash.workbench import Bench, Booted


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


async def unversioned(run: Run) -> None:
    """A bucket in which nobody asked for versions yet."""
    await run.create_bucket("v")
    await run.new("large", large("first"))
    await run.new("small", small("first"))


async def versioned(run: Run, first: str = "0") -> None:
    """A bucket that has versions now, with keys from before; with several versions as files and in the catalogs, the first of a
    fault tolerance of its own; and with one that is marked deleted."""
    await unversioned(run)
    await run.versioning("Enabled")
    for name in ("a", "b", "c"):
        await run.new("files", large(name), ftt={"a": first}.get(name))
        await run.new("inline", small(name))
    await run.new("gone", large("gone"))
    await run.mark_deleted("gone")
    await run.new("other", large("other"))


async def robust(run: Run) -> None:
    """The same, and no version is lost with a volume."""
    await versioned(run, "2")


async def later(run: Run) -> None:
    """What happened while a volume was set back to a snapshot that was taken before."""
    await run.put("small", large("later"))
    await run.put("new", large("new"))
    await run.delete("large")
    for _ in range(3):
        await run.settle()


def _flip(bench: Bench, slot: int) -> None:
    for name, path in bench.files(slot).items():
        if name.startswith("shards/"):
            data = bytearray(Path(path).read_bytes())
            data[100] ^= 1
            Path(path).write_bytes(data)


def nothing(bench: Bench) -> None:
    """The volumes are as they were left."""


def emptied(bench: Bench) -> None:
    """Volume 1 is a blank disk that took the place of another."""
    bench.blank(1)


def rotten(bench: Bench) -> None:
    """Volume 0 has a bit flipped in every shard file; volume 1 has lost one file and the bytes of one small shard."""
    _flip(bench, 0)
    wide = max((path for name, path in bench.files(1).items() if name.startswith("shards/")), key=os.path.getsize)
    os.unlink(wide)  # of the one object that is readable still
    _write_over_first_inline_shard(bench, 1)
    for slot, volume in enumerate(bench.paths):
        write_id = bytes(15) + bytes([slot])
        (volume / "shards" / f"{slot:02x}" / write_id.hex()).write_bytes(b"a file that no row names")


def rotten_here(bench: Bench) -> None:
    """Volume 1, and it alone: a bit flipped in every shard file, and the bytes of one small shard are lost."""
    _flip(bench, 1)
    _write_over_first_inline_shard(bench, 1)


def undecide(bench: Bench) -> None:
    """Volume 1 was lost with the process, in the moment between the answer to an overwrite and its marking; a blank disk took its
    place. Only volume 0 is left of the two that had the new rows, and no shard is in files."""
    volume = LocalVolume.open(str(bench.paths[0]), Booted(BOOT))
    for row in volume.walk(None, 1000):
        record = unpack(row.record)
        if record.kind == "object" and record.key in (b"small", b"large"):
            seq = record.seq + 1_000_000
            part = structs.replace(record.parts[0], write_id=seq.to_bytes(16, "big"))
            new = structs.replace(record, seq=seq, parts=(part,), meta={"value": "lost:300"})
            id = RowId(*row.id[:2], seq, 0)
            volume.apply([[Insert(id, State.PENDING, 0b011, pack(new), new.write_ids, b"x" * 200), Head(*id[:2], id[2:])]], True)
    volume.close()
    bench.blank(1)


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
    undecided: tuple[tuple[str, str], ...] = ()
    """Buckets and keys of writes that nobody can decide: whoever looks after a crash discards them first."""


BASES: Final = {
    "plain": BaseSpec(plain),
    "uploading": BaseSpec(uploading),
    "emptied": BaseSpec(uploading, emptied, filling=frozenset((1,))),
    "rotten": BaseSpec(uploading, rotten),
    "unversioned": BaseSpec(unversioned),
    "versioned": BaseSpec(versioned),
    "rotten versions": BaseSpec(robust, rotten_here),
    "emptied versions": BaseSpec(robust, emptied, filling=frozenset((1,))),
    "undecided": BaseSpec(plain, undecide, filling=frozenset((1,)), undecided=(("b", "small"), ("b", "large"))),
    "set back": BaseSpec(plain, since=later, filling=frozenset((2,))),
}


@dataclass(frozen=True, slots=True)
class Crash:
    """A base: that row, cut short after a share of all that it does."""

    row: str
    share: float
    cut: str
    """keep: the process was killed; or a kind of power cut."""
    mode: str = "fsync"
