"""Whether shards are what they should be: every byte read, every checksum compared, at the pace of whoever asks.

Nothing here changes anything, and no lock is needed: a shard file never changes, and its owner pins it against unlinking.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from blake3 import blake3

from abixio.codec.checksum import BLOCK, block_count, block_seed, check_blocks
from abixio.config import MIB
from abixio.errors import ShardCorrupt, ShardMissing, Unavailable, VolumeError, VolumeFull, VolumeUnusable
from abixio.store.health import ShardHealth, ShardState
from abixio.store.inline import unpack_shard
from abixio.store.lane import Lane
from abixio.store.layout import shard_size
from abixio.store.pool import Pool
from abixio.store.record import Part
from abixio.store.sources import Copies
from abixio.volume.interface import Row, Shard

STEP: Final = 4 * MIB
"""Bytes read and checked per hand-over to a thread: 2 ms of arithmetic, and a tenth of a second of a slow disk."""
PATIENCE: Final = 30.0
"""Seconds for one step: a disk that needs longer does not answer, until it does."""

Throttle = Callable[[int], Awaitable[None]]
"""Awaited before so many bytes are read."""


async def at_once(size: int) -> None:
    """For those who have no budget."""


async def examine(
    pool: Pool, copies: Copies, part: Part, index: int, throttle: Throttle = at_once, deep: bool = True,
) -> ShardHealth:
    """One shard of one part. Not `deep`: its bytes are not read, only what says how many there are."""
    layout = copies.layout
    slot, size = layout.slots[index], shard_size(layout, index, part.stored)
    lane, row = pool.lanes[slot], copies.rows.get(slot)
    state: ShardState
    if lane is None or not lane.up:
        state = "volume down"
    elif row is None:
        state = "no row"
    else:
        state = await _state(pool, lane, _Check(lane, copies, part, slot, size, row, deep), throttle)
    role, where = "data" if index < layout.k else "parity", "catalog" if copies.inline else "file"
    return ShardHealth(part.number, index, role, slot, state, where, size, part.write_id.hex())  # type: ignore[arg-type]


def check_now(lane: Lane, copies: Copies, part: Part, slot: int, row: Row) -> None:
    """All of a shard at once, on a thread that may wait. ShardMissing and ShardCorrupt are about the shard, other VolumeErrors
    about its volume."""
    size = shard_size(copies.layout, copies.layout.slots.index(slot), part.stored)
    check = _Check(lane, copies, part, slot, size, row, deep=True)
    try:
        while check.left is None or check.left:
            check.work()
    finally:
        check.drop()


async def _state(pool: Pool, lane: Lane, check: _Check, throttle: Throttle) -> ShardState:
    try:
        while check.left is None or check.left:
            await throttle(min(STEP, check.size if check.left is None else check.left))
            await check.step(pool)
    except ShardMissing:
        return "missing"
    except (VolumeUnusable, VolumeFull) as error:
        pool.lost(lane, error)
        return "volume down"
    except Unavailable:
        return "volume down"
    except VolumeError:
        return "corrupt"
    finally:
        check.close()
    return "ok"


class _Check:
    """A shard that is read through in steps, each on a thread."""

    def __init__(self, lane: Lane, copies: Copies, part: Part, slot: int, size: int, row: Row, deep: bool) -> None:
        self.size = size
        self.left: int | None = None
        """Bytes still to be read; None before the first step."""
        self._lane = lane
        self._row = row
        self._inline = copies.inline
        self._deep = deep
        self._write_id = part.write_id
        self._seed = block_seed(part.write_id, part.number, slot)
        self._hash = blake3()
        self._shard: Shard | None = None
        self._running: asyncio.Future[None] | None = None

    async def step(self, pool: Pool) -> None:
        """Check a piece more. A ShardMissing or ShardCorrupt is about the shard, other VolumeErrors are about its volume.
        Unavailable when it hangs: it is down then until it returns and probes find it well."""
        running = self._running = pool.loop.run_in_executor(pool.executor, self.work)
        done, _ = await asyncio.wait((running,), timeout=PATIENCE)
        if not done:
            self._lane.overdue(running)
            pool.spare_thread(running)
            raise Unavailable(f"volume {self._lane.slot}: a read does not return")
        try:
            running.result()
        finally:
            del running  # or an error and this frame keep each other alive

    def close(self) -> None:
        """Let go of the shard, once no thread works on it."""
        if self._running is not None:
            self._running.add_done_callback(self._close)

    def _close(self, done: asyncio.Future[Any]) -> None:
        if not done.cancelled():
            done.exception()
        self.drop()

    def drop(self) -> None:
        """Let go of the shard."""
        if self._shard is not None:
            self._shard.close()

    # ---- on a thread -------------------------------------------------------------------------------------------------
    def work(self) -> None:
        """One step."""
        if self._inline:
            self._catalog()
            self.left = 0
        elif self.left is None:
            self._open()
        elif self._shard is not None:
            self._read(self._shard, self.size - self.left)

    def _catalog(self) -> None:
        if self._row.inline is None:
            raise ShardMissing(f"volume {self._lane.slot}: the row has no shard")
        length = len(unpack_shard(self._lane.volume.inline(self._row.inline), self._seed))
        if length != self.size:
            raise ShardCorrupt(f"an inline shard of {length} bytes should have {self.size}")

    def _open(self) -> None:
        shard = self._shard = self._lane.volume.open_shard(self._write_id)
        if len(shard.view) != self.size or len(shard.checksums) != block_count(self.size):
            raise ShardCorrupt(f"a shard of {len(shard.view)} bytes should have {self.size}")
        self.left = self.size if self._deep else 0
        if self.left:
            self._read(shard, 0)
        elif self._deep:
            self._whole(shard)

    def _read(self, shard: Shard, start: int) -> None:
        stop = min(start + STEP, self.size)
        shard.populate(start, stop - start)
        bad = check_blocks(shard.view, shard.checksums, self._seed, start // BLOCK, block_count(stop))
        if bad is not None:
            raise ShardCorrupt(f"block {bad} does not match its checksum")
        self._hash.update(shard.view[start:stop])
        self.left = self.size - stop
        if not self.left:
            self._whole(shard)

    def _whole(self, shard: Shard) -> None:
        if self._hash.digest() != shard.blake3:
            raise ShardCorrupt("the shard does not match its BLAKE3")
