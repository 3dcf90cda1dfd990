"""What is checked before a pool serves: volumes that went back in time, and what a power cut may have torn."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from typing import Final

from abixio.codec.checksum import block_seed, check_blocks
from abixio.errors import VolumeError
from abixio.store.lane import Lane
from abixio.store.pool import Pool
from abixio.store.record import Part, unpack
from abixio.store.resolve import DATA_KINDS, LISTED_KINDS
from abixio.store.settle import drop
from abixio.volume.interface import Head, Note, Row, RowId, State, Volume

_log = logging.getLogger(__name__)

PAGE: Final = 1000
"""Journal entries per look."""
REGRESSED: Final = 2
"""The note `filling` of a volume that went back in time; 1 for one that was blank."""


async def newest_seq(pool: Pool) -> int:
    """The greatest seq that any volume ever held: the clock starts above it."""
    return max([(await _notes(lane)).get("seq", 0) for lane in pool.up()], default=0)


async def mark_regressed(pool: Pool) -> None:
    """A volume whose commit counter is behind what its peers recorded was restored from an older state: it is filling."""
    notes = {lane.slot: await _notes(lane) for lane in pool.up()}
    for lane in pool.up():
        own = notes[lane.slot]
        recorded = max((other.get(f"peer{lane.slot}", 0) for slot, other in notes.items() if slot != lane.slot), default=0)
        if own.get("filling") == REGRESSED:
            pool.regressed.add(lane.slot)
        elif lane.slot not in pool.filling and own.get("commits", 0) < recorded:
            _log.warning("volume %d is older than its peers remember: its silence does not count until it is compared", lane.slot)
            pool.filling.add(lane.slot)
            pool.regressed.add(lane.slot)
            try:
                await lane.apply((Note("filling", REGRESSED),), durable=True)
            except VolumeError as error:
                lane.fail(error)


async def _notes(lane: Lane) -> Mapping[str, int]:
    """The volume's book-keeping; one that cannot tell it is left out."""
    try:
        return await lane.run(lane.volume.notes)
    except VolumeError as error:
        lane.fail(error)
        return {}


async def verify_unclean(pool: Pool) -> None:
    """After a power cut, drop rows from the journal whose shard files did not survive: no barrier covered them."""
    for lane in pool.up():
        if lane.volume.clean:
            continue
        try:
            await _verify(lane)
            lane.volume.clean = True
        except VolumeError as error:
            _log.warning("volume %d: cannot be verified, and is left out: %s", lane.slot, error)
            lane.fail(error)


async def _verify(lane: Lane) -> None:
    after: RowId | None = None
    while ids := await lane.run(partial(lane.volume.unsettled, after, PAGE)):
        for id in ids:
            rows = lane.volume.rows(id.space, id.key)
            row = next((row for row in rows if row.id == id), None)
            if row is not None and not await lane.run(partial(whole, lane.volume, row)):
                await lane.apply((drop(row), _head_without(rows, id)), durable=True)
                _log.warning("volume %d: a write that no sync covered is gone", lane.slot)
        after = ids[-1]


def _head_without(rows: list[Row], gone: RowId) -> Head:
    """What LIST shows of the key on that volume once that row is not there."""
    for row in rows:
        if row.id != gone and row.state is not State.ABORTED:
            return Head(gone.space, gone.key, row.id[2:] if unpack(row.record).kind in LISTED_KINDS else None)
    return Head(gone.space, gone.key, None)


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
