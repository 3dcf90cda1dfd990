"""A small write on its way to the volumes: what goes to each of them, what they said, and who is to be told of the end.

See `instant`, which decides such writes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from abixio.codec.checksum import block_seed
from abixio.errors import AbixioError
from abixio.store.encoder import Encoder, cut
from abixio.store.inline import pack_shard
from abixio.store.lane import answer
from abixio.store.layout import piece_size
from abixio.store.lookup import Found
from abixio.store.record import Layout, Part, Record, unpack
from abixio.store.settle import drop
from abixio.store.types import Bucket, Deleted, ObjectInfo, PutSpec, Says, Source
from abixio.volume.interface import Change, Drop, Head, Insert, Op, Row, RowId, Settle, State


class Place(NamedTuple):
    """A key and its bucket, locked, and what the volumes hold of it."""

    name: bytes
    """Of the bucket."""
    space: bytes
    key: bytes
    rows: dict[int, list[Row]]
    found: Found | None
    highest_m: int


class End(NamedTuple):
    """Who is told of an end, and what."""

    future: asyncio.Future[Any]
    says: Says[Any, Any]
    result: ObjectInfo | Deleted | None

    def good(self) -> None:
        """It is acknowledged."""
        self._tell(self.says.done, self.result)

    def bad(self, error: BaseException) -> None:
        """It is not, or nobody knows."""
        if isinstance(error, AbixioError):
            self._tell(self.says.refused, error)
        elif not self.future.done():
            self.future.set_exception(error)

    def _tell(self, say: Callable[[Any], Any], what: object) -> None:
        """Whoever still waits. Nothing may be raised here: others are told of their ends after this one."""
        if self.future.done():
            return
        try:
            self.future.set_result(say(what))
        except Exception as error:  # a defect of the caller, for whoever waits
            self.future.set_exception(error)


class Asked(NamedTuple):
    """A small PUT, until it is decided."""

    bucket: Bucket
    key: str
    spec: PutSpec
    source: Source
    data: bytes
    layout: Layout
    says: Says[ObjectInfo, Any]
    future: asyncio.Future[Any]


class Whole:
    """All that a source would give, as a source."""

    def __init__(self, source: Source, data: bytes) -> None:
        self.length, self.algorithms, self.verify = source.length, source.algorithms, source.verify
        self._rest = memoryview(data)

    async def readinto(self, view: memoryview) -> int:
        """As `Source.readinto`."""
        taken, self._rest = self._rest[: len(view)], self._rest[len(view) :]
        view[: len(taken)] = taken
        return len(taken)


class Flight:
    """One write."""

    __slots__ = ("_done", "_failed", "_left", "began", "behind", "ends", "heard", "id", "place", "record", "settled", "waits")

    def __init__(
        self, place: Place, record: Record, ends: list[End], n: int, began: float,
        done: Callable[[Flight], None], failed: Callable[[Flight], None],
    ) -> None:
        """`done`: all `n` volumes have the row; `failed`: one has not, as the first of them says."""
        self._done, self._failed, self._left = done, failed, n
        self.place = place
        self.record = record
        self.id = RowId(record.space, record.key, record.seq, record.rev)
        self.ends = ends
        self.began = began
        self.settled = False
        """Nothing is left to be done once it is answered."""
        self.heard: dict[int, Exception | None] = {}
        self.waits: dict[int, asyncio.Future[None]] | None = None
        """For those who wait for single volumes, once somebody has to."""

    def told(self, slot: int, error: Exception | None) -> None:
        """What became of it on a volume."""
        if self.waits is not None:
            answer(self.waits[slot], error)
            return
        self.heard[slot] = error
        self._left -= 1
        if error is not None:
            self._failed(self)
        elif not self._left:
            self._done(self)

    def change(self, stored: bytes, shard: bytes | None, n: int) -> Change:
        """What a volume is to do."""
        if self.settled:
            return _alone(self.id, self.record, stored, shard, self.place.rows[0])
        listed = None if self.record.kind == "tombstone" else self.id[2:]
        return (
            Insert(self.id, State.PENDING, (1 << n) - 1, stored, self.record.write_ids, shard, True),
            Head(self.id.space, self.id.key, listed),
        )


def _alone(id: RowId, record: Record, stored: bytes, shard: bytes | None, older: Collection[Row]) -> Change:
    """All of it at once, for the only volume: the row, committed, and without those that it hides."""
    insert = Insert(id, State.COMMITTED, 1, stored, record.write_ids, shard, True)
    rest: list[Op] = [drop(row) for row in older]
    if record.kind == "tombstone":  # which has nothing left to hide, and nobody else to tell
        return (insert, *rest, Drop(id), Head(id.space, id.key, None))
    return (insert, *rest, Settle(id), Head(id.space, id.key, id[2:]))


def in_catalog(row: Row) -> bool:
    """Whether dropping it unlinks nothing."""
    return row.inline is not None or not unpack(row.record).write_ids


def shards_of(layout: Layout, part: Part, data: bytes) -> Mapping[int, bytes]:
    """A small body as the catalogs keep it, by slot."""
    if layout.k + layout.m == 1:
        slot = layout.slots[0]
        return {slot: pack_shard(data, block_seed(part.write_id, part.number, slot))}
    room = memoryview(bytearray((layout.k + layout.m) * piece_size(len(data), layout.k)))
    room[: len(data)] = data
    shards = Encoder(layout, part.write_id, part.number, ()).inline(cut(layout, room, len(data), len(data), True))
    return dict(zip(layout.slots, shards, strict=True))
