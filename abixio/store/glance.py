"""What can be told of a bucket and a small object of it at once: one lookup on each volume, and no coroutine.

Most requests are for an object whose volumes are all well, in memory and of one mind. This is the part of the read path that
serves them; whatever is not so plain is left to the rest, which knows what to do about it. The rules are its own: rows that agree
(`Committer.agreed`) and shards that match their checksums (`sources.from_data`), checked whenever they are sent.

What was found is kept, and holds as long as no volume's `stamp` has changed, which is to say: until the next commit, of whatever
process. So where more is read than written most lookups cost nothing; where not, an entry lives for a moment.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Final, NamedTuple

from xxhash import xxh3_64_intdigest

from abixio.codec.checksum import SUM, block_seed
from abixio.config import MIB
from abixio.errors import CatalogCorrupt, ShardMissing, VolumeError
from abixio.store.bucketstore import bucket_of
from abixio.store.commit import Committer
from abixio.store.lane import STALL, Lane
from abixio.store.lookup import Found
from abixio.store.record import ROOT, Part
from abixio.store.sources import Copies, from_data
from abixio.store.types import AtHand, Bucket, info_of
from abixio.volume.interface import Row

KEPT_BYTES: Final = 8 * MIB
"""Of shards and records that are kept: two thousand objects of 4 KiB."""
KEPT_LEAST: Final = 1024
"""Bytes that an entry counts for besides its shards: two records, and what is made of them."""
KEPT_BUCKETS: Final = 1000
"""Of some KiB each, where they have settings."""

Shards = dict[int, bytes]
Stamps = tuple[bytes, ...]


class _Kept(NamedTuple):
    at_hand: AtHand
    stamps: Stamps
    size: int


class _Home(NamedTuple):
    bucket: Bucket
    stored: bytes
    stamps: Stamps


class Glances:
    """Looks, and never waits."""

    def __init__(self, committer: Committer) -> None:
        self._committer = committer
        self._pool = committer.pool
        self._kept: OrderedDict[tuple[str, str, bool], _Kept] = OrderedDict()
        self._size = 0
        self._buckets: dict[str, _Home] = {}

    def look(self, name: str, key: str, data: bool) -> AtHand | None:
        """As `StoreAPI.at_hand`."""
        stamps = self._stamps()
        if stamps is None:
            return None
        kept = self._kept.get((name, key, data))
        if kept is not None and kept.stamps == stamps:
            self._pool.asked += 1
            return kept.at_hand
        shards: Shards = {}
        found = self._look(name, key, shards, data, stamps)
        if kept is not None or (found is not None and stamps):
            self._keep((name, key, data), found, stamps, sum(map(len, shards.values())))
        return found

    def bucket(self, name: str) -> Bucket | None:
        """As `StoreAPI.bucket_at_hand`."""
        stamps = self._stamps()
        if stamps is None:
            return None
        home = self._home(name, stamps)
        return None if home is None else home.bucket

    def _look(self, name: str, key: str, shards: Shards, data: bool, stamps: Stamps) -> AtHand | None:
        home = self._home(name, stamps)
        if home is None:
            return None
        found = self._newest(home.bucket.space, key.encode(), shards if data else None)
        if found is None or found.record.kind != "object":
            return None
        self._pool.asked += 1
        stored = (home.stored, _stored(found))
        return AtHand(home.bucket, info_of(found.record), stored, self._source(found, shards) if data else _nothing)

    def _home(self, name: str, stamps: Stamps) -> _Home | None:
        """The bucket of that name, kept like what is in it; many keys of one bucket are read without a commit in between."""
        kept = self._buckets.get(name)
        if kept is not None and stamps and kept.stamps == stamps:
            return kept
        found = self._newest(ROOT, name.encode(), None)
        if found is None or found.record.kind != "bucket":
            return None
        if len(self._buckets) >= KEPT_BUCKETS:
            self._buckets.clear()
        home = self._buckets[name] = _Home(bucket_of(found), _stored(found), stamps)
        return home

    def _stamps(self) -> Stamps | None:
        """Of all volumes; empty when one has none, None when one is not well."""
        stamps = []
        for lane in self._pool.lanes:
            if lane is None or not lane.well or not lane.up:
                return None
            stamps.append(lane.volume.stamp())
        return () if None in stamps or self._pool.filling else tuple(stamps)  # type: ignore[arg-type]

    def _keep(self, at: tuple[str, str, bool], found: AtHand | None, stamps: Stamps, size: int) -> None:
        """In place of what was kept before; `stamps` were taken before it was looked for."""
        before = self._kept.pop(at, None)
        if before is not None:
            self._size -= before.size
        if found is not None and stamps:
            self._kept[at] = _Kept(found, stamps, size + KEPT_LEAST)
            self._size += size + KEPT_LEAST
            while self._size > KEPT_BYTES:
                self._size -= self._kept.popitem(last=False)[1].size

    # ---- the volumes -------------------------------------------------------------------------------------------------
    def _newest(self, space: bytes, key: bytes, shards: Shards | None) -> Found | None:
        """The newest row of a key, where every volume has the same at hand; their inline shards go to `shards`."""
        rows: dict[int, tuple[Row]] = {}
        for lane in self._pool.lanes:
            found = None if lane is None else self._ask(lane, space, key, shards is not None)
            if lane is None or found is None:
                return None
            rows[lane.slot] = (found[0],)
            if shards is not None and found[1] is not None:
                shards[lane.slot] = found[1]
        try:
            return self._committer.agreed(rows)
        except CatalogCorrupt:
            return None

    def _ask(self, lane: Lane, space: bytes, key: bytes, shard: bool) -> tuple[Row, bytes | None] | None:
        before = monotonic()
        try:
            return lane.volume.newest(space, key, shard)
        except VolumeError:
            return None  # asked again by those who know what follows from it
        finally:
            took = monotonic() - before
            if took > STALL:
                lane.stalled(took)

    def _source(self, found: Found, shards: Shards) -> Callable[[], bytes | None]:
        """Gives the bytes of an object, out of the shards that came with its rows."""
        record = found.record
        if not record.size or record.layout is None:
            return _nothing
        if len(record.parts) != 1 or not shards:
            return _unknown

        if record.layout.k == 1:
            data = self._sole(found, record.layout.slots[0], record.parts[0], shards)
            if data is not None:
                return data

        def stored(lane: Lane, where: int) -> bytes:
            if lane.slot not in shards:
                raise ShardMissing(f"no inline shard {where}")
            return shards[lane.slot]

        return partial(from_data, self._pool, Copies(record, record.layout, found.rows), stored)


    @staticmethod
    def _sole(found: Found, slot: int, part: Part, shards: Shards) -> Callable[[], bytes | None] | None:
        """The same where one shard is all of the object: what `inline.unpack_shard` checks is taken apart once."""
        row, shard = found.rows.get(slot), shards.get(slot)
        if row is None or row.inline is None or shard is None or len(shard) != part.stored + SUM:
            return None
        seed, wanted = block_seed(part.write_id, part.number, slot), int.from_bytes(shard[-SUM:], "little")

        def checked() -> bytes | None:
            data = shard[:-SUM]
            return data if xxh3_64_intdigest(data, seed) == wanted else None

        return checked


def _stored(found: Found) -> bytes:
    """The record as it is on the volumes."""
    return next(iter(found.rows.values())).record


def _nothing() -> bytes | None:
    return b""


def _unknown() -> bytes | None:
    return None
