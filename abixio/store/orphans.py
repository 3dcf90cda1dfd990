"""Shard files that no row names: what is left of an upload when the process dies between the file and its row.

A file is one only if no row of its volume names it, it is not garbage (which is unlinked soon anyway), nobody makes or reads it,
and so many other volumes deny it that no committed row can name it: were a row hidden by a rotten page of this volume's
catalog, its file would be what the catalog is rebuilt from.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Final

from abixio.errors import AbixioError, Unavailable
from abixio.store.errand import done_by, errand
from abixio.store.lane import Lane
from abixio.store.pool import Pool
from abixio.volume.interface import Volume

DIRECTORIES: Final = 256
"""Of shard files on a volume."""
AGE: Final = 3600.0
"""Seconds since a write began until its file may count as one, unless somebody asks for all of them. What is being written is
known, also of other processes (`Pool.writing`, `Crew`); the hour is for what nobody thought of."""
GARBAGE: Final = 1_000_000
"""Entries read to see whether a file is garbage: 16 MB, and never so many in practice."""


class Orphans:
    """Looks for them directory by directory."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._born = time.time() if pool.crew is None else pool.crew.born
        """What was written before had another server as its writer, which is gone: the volumes are locked."""

    async def sweep(self, directory: int, at_once: bool = False) -> int:
        """Remove those of one directory on every volume that is up; how many there were. `at_once`: also recent ones."""
        lanes = self._pool.up()
        counts = await asyncio.gather(*(self._sweep(lane, directory, at_once) for lane in lanes))
        return sum(counts)

    async def _sweep(self, lane: Lane, directory: int, at_once: bool) -> int:
        try:
            found = await errand(self._pool, lane, partial(_unnamed, lane.volume, directory))
            old = [write_id for write_id in found if at_once or self._is_old(write_id)]
            denied = await self._denied(lane, old) if old else []
            return await done_by(lane, lane.run(partial(self._remove, lane.volume, denied))) if denied else 0
        except Unavailable:
            return 0
        except AbixioError as error:
            self._pool.lost(lane, error)
            return 0

    def _is_old(self, write_id: bytes) -> bool:
        began = int.from_bytes(write_id[:6], "big") / 1000
        return began < self._born or time.time() - began > AGE

    async def _denied(self, lane: Lane, write_ids: list[bytes]) -> list[bytes]:
        """Those that no row of any other volume names, as far as enough of them can tell."""
        others = [other for other in self._pool.up() if other is not lane and other.slot not in self._pool.filling]
        if len(others) < min(self._pool.quorum.r, self._pool.n - 1):
            return []
        for other in others:
            write_ids = await errand(self._pool, other, partial(_not_named, other.volume, write_ids))
        return write_ids

    def _remove(self, volume: Volume, write_ids: list[bytes]) -> int:
        """On the volume's thread, behind all rows that were on their way; the volume itself keeps what a row names."""
        pool = self._pool
        free = [write_id for write_id in write_ids if write_id not in pool.writing and write_id not in pool.pins]
        free = _not_named(volume, [write_id for write_id in free if not pool.used_elsewhere(write_id)])
        if free:
            volume.unlink(free, pool.used_elsewhere)
        return len(free)


def _unnamed(volume: Volume, directory: int) -> list[bytes]:
    found = _not_named(volume, volume.shard_files(directory))
    garbage = set(volume.garbage(GARBAGE)) if found else set()
    return [write_id for write_id in found if write_id not in garbage]


def _not_named(volume: Volume, write_ids: list[bytes]) -> list[bytes]:
    return [write_id for write_id in write_ids if not volume.named(write_id)]
