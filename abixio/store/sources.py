"""Where the shards of an object can be had: on which volumes, as files or in their catalogs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from time import monotonic
from typing import Final, NamedTuple

from abixio.codec.checksum import block_seed
from abixio.errors import DataLost, VolumeError
from abixio.store.decoder import Decoder
from abixio.store.inline import InlineShard, unpack_shard
from abixio.store.lane import STALL, Lane
from abixio.store.layout import stripe_at
from abixio.store.pool import Pool
from abixio.store.record import Layout, Part, Record
from abixio.volume.interface import Row, Shard, Volume

_NO_ROOM: Final = memoryview(bytearray())


class Copies(NamedTuple):
    """A record and the rows that are known to hold it, by slot."""

    record: Record
    layout: Layout
    rows: Mapping[int, Row]

    @property
    def inline(self) -> bool:
        """Whether the shards live in the catalogs; all of them do, or none."""
        return any(row.inline is not None for row in self.rows.values())


def decoder(
    pool: Pool, copies: Copies, part: Part, avoid: Collection[int] = (), without: int | None = None, wait: bool = True,
) -> Decoder:
    """A decoder of that part. Shards of slow volumes, and of the indexes in `avoid`, are asked last, `without` never; without
    `wait`, those in catalogs only where they are in memory.

    A shard file is looked for on every volume that is up, also where the row is not known, but there only after the others.
    """
    known: dict[int, Callable[[], Shard]] = {}
    unknown: dict[int, Callable[[], Shard]] = {}
    slow = set(avoid)
    inline = copies.inline
    for index, slot in enumerate(copies.layout.slots):
        lane = pool.lanes[slot]
        if lane is None or not lane.up or index == without:
            continue
        if not lane.well:
            if not wait:
                continue
            slow.add(index)
        row = copies.rows.get(slot)
        if not inline:
            (unknown if row is None else known)[index] = partial(lane.volume.open_shard, part.write_id)
        elif row is not None and row.inline is not None:
            seed = block_seed(part.write_id, part.number, slot)
            known[index] = partial(_open_inline, lane.volume, row.inline, seed, row.record, wait)
    return Decoder(copies.layout, part, known | unknown, slow)


def _open_inline(volume: Volume, where: int, seed: int, record: bytes, wait: bool) -> Shard:
    return InlineShard(volume.inline(where, wait), seed, record)


def report(pool: Pool, copies: Copies, found: Decoder) -> None:
    """Tell the pool which shards the decoder met missing or corrupt; not those that nobody said are there."""
    for index in found.bad:
        if copies.layout.slots[index] in copies.rows:
            pool.report_bad(copies.record, found.part.write_id, copies.layout.slots[index])


def from_data(pool: Pool, copies: Copies, stored: Callable[[Lane, int], bytes]) -> bytes | None:
    """The whole of an object of one part and one stripe that lives in the catalogs, from its data shards alone, the common case;
    None when one of them is not to be had. `stored` gives the inline shard of that id on a volume, or VolumeError."""
    layout, (part,) = copies.layout, copies.record.parts
    stripe = stripe_at(layout, part.stored, 0)
    data = []
    for index in range(layout.k):
        length = stripe.stored(index, layout.k)
        if not length:
            break
        slot = layout.slots[index]
        lane, row = pool.lanes[slot], copies.rows.get(slot)
        if lane is None or not lane.well or not lane.up or row is None or row.inline is None:
            return None
        try:
            shard = unpack_shard(stored(lane, row.inline), block_seed(part.write_id, part.number, slot))
        except VolumeError:
            return None
        if len(shard) != length:
            return None
        data.append(shard)
    return b"".join(data)


def at_hand(pool: Pool, copies: Copies) -> bytes | None:
    """The whole of an object that lives in the catalogs, of one stripe and one part; None when a disk has to be waited for, or
    too little is left."""
    return from_data(pool, copies, lambda lane, where: lane.volume.inline(where, False)) or _read_any(pool, copies)


def peek(pool: Pool, copies: Copies, part: Part, room: memoryview) -> bool:
    """On the event loop: fill `room` with a part of one stripe from the first k shards whose volumes are well, if all of them are
    in the page cache and good. Whatever is missing or rotten is left to a thread, which reports it."""
    layout, stripe = copies.layout, stripe_at(copies.layout, part.stored, 0)
    openers: dict[int, Callable[[], Shard]] = {}
    for index, slot in enumerate(layout.slots):
        lane = pool.lanes[slot]
        if lane is not None and lane.well and lane.up and slot in copies.rows and len(openers) < layout.k:
            size = stripe.stored(index, layout.k)
            place = room[index * stripe.piece :][:size] if index < layout.k else memoryview(bytearray(size))
            openers[index] = partial(_peek, lane, part.write_id, place)
    if len(openers) < layout.k:
        return False
    source = Decoder(layout, part, openers)
    try:
        views = source.read(stripe, 0, part.stored, memoryview(bytearray(source.room(stripe, 0, part.stored))))
    except DataLost:
        return False
    finally:
        source.close()
    if views is None:
        return False
    start = 0
    for view in views:
        if view.obj is not room.obj:  # it was rebuilt
            room[start : start + len(view)] = view
        start += len(view)
    return True


def open_now(pool: Pool, copies: Copies, source: Decoder) -> bool:
    """On the event loop: open what the decoder asks first, if nothing has to be asked of a disk for that. False where something
    has to be, or anything is wrong: the decoder then opens the rest, and whoever uses it hears what is wrong."""
    wanted = source.first()
    if copies.inline or len(wanted) < copies.layout.k:
        return False
    for index in wanted:
        slot = copies.layout.slots[index]
        lane = pool.lanes[slot]
        if lane is None or not lane.well or not lane.up or slot not in copies.rows:
            return False
        before = monotonic()
        try:
            source.adopt(index, lane.volume.open_shard(source.part.write_id, False))
        except VolumeError:
            return False
        finally:
            if (seconds := monotonic() - before) > STALL:
                lane.stalled(seconds)
    return True


def _peek(lane: Lane, write_id: bytes, room: memoryview) -> Shard:
    before = monotonic()
    try:
        return lane.volume.peek_shard(write_id, room)
    finally:
        if (seconds := monotonic() - before) > STALL:
            lane.stalled(seconds)


def whole(source: Decoder) -> bytes:
    """All of a part of one stripe. DataLost."""
    stored = source.part.stored
    views = source.read(stripe_at(source.layout, stored, 0), 0, stored, memoryview(bytearray(stored)))
    return b"".join(views or ())


def _read_any(pool: Pool, copies: Copies) -> bytes | None:
    (part,) = copies.record.parts
    source = decoder(pool, copies, part, wait=False)
    try:
        return whole(source)
    except DataLost:
        return None
    finally:
        report(pool, copies, source)
        source.close()
