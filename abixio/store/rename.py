"""RenameObject: an object gets another key, at once and whole, and no byte of it is copied.

Its record goes under the new key and a tombstone under the old one, in one transaction of each volume that has the shards
(`pairs` says why both come to one end). The new record names the same shards, and all that it says of the object stays.
"""

from __future__ import annotations

import hashlib
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from abixio.errors import CannotRename, IdempotencyMismatch, NoSuchKey, Unavailable
from abixio.store.bucketstore import Buckets, certain
from abixio.store.commit import Committer
from abixio.store.lookup import Found
from abixio.store.objects import Objects, check_against, stamp
from abixio.store.placing import Along, refusal
from abixio.store.record import PAIRED, Record, pack, unpaired
from abixio.store.resolve import View
from abixio.store.retention import check_unlocked
from abixio.store.types import Bucket, Move, ObjectInfo, info_of
from abixio.volume.interface import RowId

TOKEN: Final = "rename-token"
ASKED: Final = "rename-asked"
"""Settings of a renamed object: the client's token, and a digest of what it asked for with it."""


@dataclass(frozen=True, slots=True)
class _Ends:
    """Both keys, locked, with what is there."""

    source: View
    target: View
    found: Found
    over: Found | None


class Renamer:
    """Renames objects."""

    def __init__(self, committer: Committer, buckets: Buckets, objects: Objects) -> None:
        self._committer = committer
        self._buckets = buckets
        self._objects = objects
        self._pool = committer.pool

    async def rename(self, bucket: Bucket, key: str, move: Move) -> ObjectInfo:
        """As `StoreAPI.rename`."""
        return info_of(await self._objects.sheltered(self._rename(certain(bucket), move.source.encode(), key.encode(), move)))

    async def _rename(self, bucket: Bucket, source: bytes, target: bytes, move: Move) -> Record:
        if source == target:
            raise CannotRename("an object to its own name")
        async with self._buckets.kept(bucket) as kept, AsyncExitStack() as locks:
            if stamp(kept)[0] != "older":
                raise CannotRename("an object in a bucket with versions")
            for name in (source, target):  # what is unsettled is mostly settled here, with none of the locks that it takes held
                await self._committer.current(bucket.space, name, False)
            for name in sorted((source, target)):  # in one order, or two would wait for each other
                await locks.enter_async_context(self._committer.locks.exclusive(bucket.space, name))
            return await self._locked(bucket.space, source, target, move)

    async def _locked(self, space: bytes, source: bytes, target: bytes, move: Move) -> Record:
        asked = _digest(move)
        over, below = await self._look(space, target, (source, target), 0)
        if over is not None and move.token and over.record.settings.get(TOKEN) == move.token:
            if over.record.settings.get(ASKED) != asked:
                raise IdempotencyMismatch
            return over.record
        check_against(move.target_check, over)
        found, above = await self._look(space, source, (source, target), 0)
        if found is None:
            raise NoSuchKey(move.source)
        check_against(move.source_check, found)
        check_unlocked(found.record, False)
        w = max(self._least(found, above), self._least(found, below))
        found, above = await self._look(space, source, (source, target), w)
        over, below = await self._look(space, target, (source, target), w)
        if found is None:
            raise Unavailable("the volumes that know the object are gone")
        for view in (above, below):
            await self._committer.pairs.vouch(view)
        return await self._commit(_Ends(above, below, found, over), source, target, w, move.token, asked)

    async def _look(self, space: bytes, key: bytes, held: tuple[bytes, bytes], least: int) -> tuple[Found | None, View]:
        """What is there, and the view of at least so many volumes that says so."""
        view = await self._committer.settled(await self._committer.admit(space, key, least), None, held)
        return self._committer.pick(view, False), view

    def _least(self, found: Found, view: View) -> int:
        assert found.record.layout is not None
        return self._committer.quorum(view, found.record.layout.k)

    async def _commit(self, ends: _Ends, source: bytes, target: bytes, w: int, token: str, asked: str) -> Record:
        old = ends.found.record
        if any(row.record != pack(old) for row in ends.found.rows.values()):
            raise Unavailable("a record with fields that this version does not know cannot be written again")
        lanes = self._committer.placer.takers(ends.found.rows, w)
        if len(lanes) < w:
            raise refusal(self._pool.up(), f"{len(lanes)} volumes have the object, {w} are needed")
        seq = self._committer.clock.tick(max(ends.source.newest_seq, ends.target.newest_seq))
        new = _renamed(old, source, target, seq, w, token, asked)
        grave = Record(
            "tombstone", old.space, source, seq, w, modified=time.time_ns() // 1_000_000, layout=old.layout, pair=target,
            incompat=(PAIRED,),
        )
        along = Along(RowId(old.space, source, seq, 0), grave, pack(grave), ends.source)
        await self._committer.write(new, lanes, None, ends.target, along)
        return new


def _renamed(old: Record, source: bytes, target: bytes, seq: int, w: int, token: str, asked: str) -> Record:
    """All that is said of the object stays, its Last-Modified too."""
    plain = unpaired(old)
    settings = {name: value for name, value in plain.settings.items() if name not in (TOKEN, ASKED)}
    if token:
        settings |= {TOKEN: token, ASKED: asked}
    return replace(
        plain, key=target, seq=seq, rev=0, w=w, hides="older", hidden=0, pair=source, incompat=(*plain.incompat, PAIRED),
        settings=settings,
    )


def _digest(move: Move) -> str:
    return hashlib.sha256("\0".join((move.source, *move.asked)).encode()).hexdigest()[:32]
