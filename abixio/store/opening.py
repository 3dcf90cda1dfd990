"""What is checked before a pool serves: volumes that went back in time, and what a power cut may have torn."""

from __future__ import annotations

import logging
from typing import Final

from abixio.codec.checksum import block_seed, check_blocks
from abixio.errors import VolumeError
from abixio.store.pool import Pool
from abixio.store.record import Part, unpack
from abixio.store.resolve import DATA_KINDS
from abixio.store.settle import drop
from abixio.volume.interface import Note, Row, Volume

_log = logging.getLogger(__name__)

PAGE: Final = 1000
"""Journal entries per look."""


def newest_seq(pool: Pool) -> int:
    """The greatest seq that any volume ever held: the clock starts above it."""
    return max((lane.volume.notes().get("seq", 0) for lane in pool.up()), default=0)


async def mark_regressed(pool: Pool) -> None:
    """A volume whose commit counter is behind what its peers recorded was restored from an older state: it is filling."""
    notes = {lane.slot: lane.volume.notes() for lane in pool.up()}
    for lane in pool.up():
        recorded = max((own.get(f"peer{lane.slot}", 0) for slot, own in notes.items() if slot != lane.slot), default=0)
        if lane.slot not in pool.filling and notes[lane.slot].get("commits", 0) < recorded:
            _log.warning("volume %d is older than its peers remember: its silence does not count until it is compared", lane.slot)
            pool.filling.add(lane.slot)
            await lane.apply((Note("filling", 1),), durable=True)


async def verify_unclean(pool: Pool) -> None:
    """After a power cut, drop rows from the journal whose shard files did not survive: no barrier covered them."""
    for lane in pool.up():
        if lane.volume.clean:
            continue
        after = None
        while ids := await lane.run(lambda lane=lane, after=after: lane.volume.unsettled(after, PAGE)):  # type: ignore[misc]
            for id in ids:
                rows = [row for row in lane.volume.rows(id.space, id.key) if row.id == id]
                if rows and not await lane.run(lambda lane=lane, row=rows[0]: whole(lane.volume, row)):  # type: ignore[misc]
                    await lane.apply((drop(rows[0]),), durable=True)
                    _log.warning("volume %d: a write that no sync covered is gone", lane.slot)
            after = ids[-1]


def whole(volume: Volume, row: Row) -> bool:
    """Whether every shard file that a row needs is there and sound."""
    record = unpack(row.record)
    if record.kind not in DATA_KINDS or row.inline is not None:
        return True
    return all(_sound(volume, part) for part in record.parts)


def _sound(volume: Volume, part: Part) -> bool:
    try:
        shard = volume.open_shard(part.write_id)
    except VolumeError:
        return False
    try:
        shard.populate(0, len(shard.view))
        seed = block_seed(part.write_id, part.number, volume.slot)
        return check_blocks(shard.view, shard.checksums, seed, 0, len(shard.checksums)) is None
    except VolumeError:
        return False
    finally:
        shard.close()
