"""What is checked before a pool serves: volumes that went back in time, and what a power cut may have torn."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from typing import Final

from abixio.codec.checksum import block_seed, check_blocks
from abixio.errors import VolumeError
from abixio.store.assembly import FILLING
from abixio.store.lane import Lane
from abixio.store.pool import Pool
from abixio.store.record import Part, unpack
from abixio.store.resolve import DATA_KINDS
from abixio.store.settle import drop
from abixio.store.versions import shown
from abixio.volume.interface import Head, Mark, Note, Op, Row, RowId, State, Volume

_log = logging.getLogger(__name__)

SINCE: Final = "since"
"""Note of a filling volume: the seq above which its silence counts."""

PAGE: Final = 1000
"""Journal entries per look."""
BLANK: Final = 1
REGRESSED: Final = 2
"""The note `filling` of a volume that was blank, and of one that went back in time."""


async def newest_seq(pool: Pool) -> int:
    """The greatest seq that any volume ever held: the clock starts above it."""
    return max([(await _notes(lane)).get("seq", 0) for lane in pool.up()], default=0)


async def mark_regressed(pool: Pool) -> None:
    """A volume whose commit counter is behind what its peers recorded was restored from an older state: it is filling, and what
    only it shows may have been deleted since. One that never held a row is just blank.

    The counter then goes on above what they recorded. Or one of them that was away meanwhile could take the volume for older
    once more, long after it was filled.
    """
    notes = {lane.slot: await _notes(lane) for lane in pool.up()}
    older: set[int] = set()
    for lane in pool.up():
        own = notes[lane.slot]
        recorded = max((other.get(f"peer{lane.slot}", 0) for slot, other in notes.items() if slot != lane.slot), default=0)
        behind = own.get("commits", 0) < recorded
        if own.get(FILLING) == REGRESSED or (behind and own.get("seq", 0)):
            pool.filling.add(lane.slot)
            pool.regressed.add(lane.slot)
        if behind:
            older.add(lane.slot)
            state = REGRESSED if lane.slot in pool.regressed else BLANK
            if state == REGRESSED:
                _log.warning("volume %d is older than its peers remember, and counts again once it was compared", lane.slot)
            pool.filling.add(lane.slot)
            try:
                await lane.apply((Note(FILLING, state), Note("commits", recorded)), durable=True)
            except VolumeError as error:
                lane.fail(error)
    await _date_silence(pool, notes, older)


async def adopt(pool: Pool) -> None:
    """For a process that joins others: what they found out of the volumes when they began, from the notes that they made."""
    for lane in pool.up():
        own = await _notes(lane)
        state = own.get(FILLING)
        if state:
            pool.filling.add(lane.slot)
        if state == REGRESSED:
            pool.regressed.add(lane.slot)
        if state and own.get(SINCE, 0):
            pool.since[lane.slot] = own[SINCE]


async def _date_silence(pool: Pool, notes: Mapping[int, Mapping[str, int]], older: set[int]) -> None:
    """From which seq on the silence of a filling volume counts; `older`: those whose own word for it is not to be trusted.

    What was answered before it came is on H - 1 other volumes at least, and R others that are not filling meet them: so no such
    row has a seq above all that these R ever held. The clock starts above that: every write with the volume has a greater one.
    """
    whole = [notes[lane.slot] for lane in pool.up() if lane.slot not in pool.filling]
    known = [own["seq"] for own in whole if "seq" in own]
    for lane in [lane for lane in pool.up() if lane.slot in pool.filling]:
        since = 0 if lane.slot in older else notes[lane.slot].get(SINCE, 0)
        if not since and len(known) >= pool.quorum.r:
            since = max(1, *known, notes[lane.slot].get("seq", 0))
            try:
                await lane.apply((Note(SINCE, since),), durable=True)
            except VolumeError as error:
                lane.fail(error)
                continue
        if since:
            pool.since[lane.slot] = since


async def _notes(lane: Lane) -> Mapping[str, int]:
    """The volume's book-keeping; one that cannot tell it is left out."""
    try:
        return await lane.run(lane.volume.notes)
    except VolumeError as error:
        lane.fail(error)
        return {}


async def verify_unclean(pool: Pool) -> None:
    """After a power cut: rows of the journal whose shard files did not survive go, since no barrier covered them; and those that
    were answered are pending again, for other volumes may have lost theirs. After a mere kill nothing is lost; but where answers
    are synced, what a process of the other mode left in the kernel's memory is made certain first."""
    for lane in pool.up():
        try:
            if lane.volume.clean:
                if pool.durable and not lane.volume.orderly:
                    await lane.run(lane.volume.barrier)
                continue
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
                await lane.apply((drop(row), _head_without(rows, id), *_without_half(lane.volume, row)), durable=True)
                _log.warning("volume %d: a write that no sync covered is gone", lane.slot)
            elif row is not None and row.state is State.ANSWERED:
                await lane.apply((Mark(id, State.PENDING),), durable=True)
        after = ids[-1]


def _head_without(rows: list[Row], gone: RowId) -> Head:
    """What LIST shows of the key on that volume once that row is not there."""
    return Head(gone.space, gone.key, shown(row for row in rows if row.id != gone))


def _without_half(volume: Volume, row: Row) -> list[Op]:
    """Of a row that goes, what takes the other one of its rename along: they count as one, until a barrier covered them."""
    pair = unpack(row.record).pair
    rows = volume.rows(row.id.space, pair) if pair else []
    other = next((other for other in rows if other.id[2:] == row.id[2:] and other.state is not State.COMMITTED), None)
    return [] if other is None else [drop(other), _head_without(rows, other.id)]


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
