"""Bits to flip in shard files, and which shard files are sound, by docs/format.md alone."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import apsw
from blake3 import blake3

from abixio.store.record import unpack
from tests.census import catalog

TRAILER = 104
MAGIC = b"ABXSHARD"


class ShardFile(NamedTuple):
    """A shard file that a row names."""

    path: Path
    write_id: bytes
    m: int
    """How many shards its object can lose."""


def shard_files(volume: Path) -> list[ShardFile]:
    """Those of a volume, also of one in use."""
    query = "SELECT DISTINCT ref.write_id, row.record FROM ref JOIN row USING (space, key, seq, rev) WHERE ref.inline IS NULL"
    try:
        with catalog(volume) as connection:
            rows = list(connection.execute(query))
    except apsw.Error:
        return []
    found = []
    for write_id, stored in rows:
        layout = unpack(stored).layout
        path = volume / "shards" / f"{write_id[-1]:02x}" / write_id.hex()
        if layout is not None and path.exists():
            found.append(ShardFile(path, write_id, layout.m))
    return sorted(found)


def flip(path: Path, chooser: random.Random) -> None:
    """One bit, anywhere in the file."""
    with path.open("r+b") as file:
        at = chooser.randrange(path.stat().st_size)
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1 << chooser.randrange(8)]))


def sound(path: Path) -> bool:
    """Whether a shard file's bytes are what its footer says."""
    content = path.read_bytes()
    trailer = content[-TRAILER:]
    if len(trailer) < TRAILER or trailer[-8:] != MAGIC or trailer[32:48].hex() != path.name:
        return False
    length = int.from_bytes(trailer[48:56], "little")
    return blake3(content[:length]).digest() == trailer[:32]


def unsound(volumes: Sequence[Path]) -> Iterator[Path]:
    """All shard files that are not sound."""
    for volume in volumes:
        yield from (path for path in (volume / "shards").rglob("*") if path.is_file() and not sound(path))
