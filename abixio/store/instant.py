"""Small writes and deletes that are decided in the call that brings them: no coroutine, no task, one callback.

Most small writes meet volumes that are all well, in memory and of one mind, and a key that nobody else is writing. Then all that
a commit has to know is at hand, and what it writes goes to the volumes with the other writes of the same turn of the event
loop. Whatever is not so plain is left to `Objects`, which does the same with waits in it; and when a volume fails or dawdles, the
write is handed to the same code at that point (`Committer.conclude`). The rules are those of `commit`:

- The key is locked, and its bucket shared, until the write has ended.
- All volumes answer, and with the same newest row, which is so committed, or with none.
- Only writes that hide all that is older are done here, and only those whose rows need no word more before they are answered.

Where there is one volume, its transaction is the commit: the row is committed with it, and what it hides goes with it. That
is so only as long as no files are involved: in mode page-cache a transaction may be lost in a power cut, and an unlinked file
cannot be brought back. Such a write is never taken back: if it was done after all, nothing is left of what was there before.

PUTs that come while their key is taken wait for it together, and are then one write: nobody can tell that all
but the last of them were overwritten before they were stored. Each is checked, and answered when the last one is committed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeVar

from abixio.codec.digest import digests_of
from abixio.errors import (
    AbixioError,
    CatalogCorrupt,
    Exhausted,
    NewerExists,
    OutcomeUnknown,
    Overloaded,
    VolumeError,
    VolumeFull,
    VolumeReadOnly,
)
from abixio.store.asking import FEW
from abixio.store.clock import write_id
from abixio.store.commit import Committer
from abixio.store.flight import Asked, End, Flight, Place, Whole, in_catalog, shards_of
from abixio.store.inline import INLINE_LIMIT
from abixio.store.lane import answer
from abixio.store.layout import piece_size
from abixio.store.objects import Objects, check_against, object_record, stamp
from abixio.store.placing import refusal
from abixio.store.record import ROOT, Part, Record, pack, unpack, version_id
from abixio.store.retention import check_unlocked
from abixio.store.types import Bucket, Condition, Deleted, ObjectInfo, PutSpec, Says, Source, always, info_of
from abixio.store.upload import ON_LOOP, etag_of, is_md5

T = TypeVar("T")

LATE: Final = 0.5
"""Seconds after which a write is no more a matter of a moment, and somebody has to wait for the volumes."""
_NOT_DONE: Final = (NewerExists, VolumeFull, VolumeReadOnly, Exhausted)
"""Errors of a volume that has done nothing of what it was asked, for sure."""
BEHIND: Final = 256
"""PUTs that wait for one write of their key: as many connections as write one key at the same time in earnest."""


class Instant:
    """Decides small writes at once."""

    def __init__(self, committer: Committer, objects: Objects, bucket: Callable[[str], Bucket | None]) -> None:
        """`bucket`: as it is now, if that is at hand."""
        self._committer = committer
        self._objects = objects
        self._bucket = bucket
        self._pool = committer.pool
        self._locks = committer.locks
        self._flying: dict[tuple[bytes, bytes], Flight] = {}
        """By space and key; oldest first."""
        self._behind: dict[tuple[bytes, bytes], list[Asked]] = {}
        """PUTs that wait for their key."""
        self._tasks: set[asyncio.Task[Any]] = set()
        self._watch: asyncio.TimerHandle | None = None

    # ---- what is asked -----------------------------------------------------------------------------------------------
    def put(
        self, bucket: Bucket, key: str, spec: PutSpec, source: Source, data: bytes, says: Says[ObjectInfo, T]
    ) -> asyncio.Future[T] | None:
        """Store `data`, which is all that `source` would give: None, with nothing done, where that is not a matter of a moment.
        Raises what the condition and `source.verify` raise."""
        name = key.encode()
        if spec.seal is not None or len(data) > ON_LOOP or stamp(bucket) != ("older", False):
            return None
        layout = self._objects.layout(bucket, spec.ftt, name)
        if piece_size(len(data), layout.k) > INLINE_LIMIT:
            return None
        asked = Asked(bucket, key, spec, source, data, layout, says, self._pool.loop.create_future())
        place = self._enter(bucket, name)
        if place is None:
            return asked.future if spec.condition is always and self._stands_behind(asked, name) else None
        try:
            check_against(spec.condition, place.found)
            made = self._made(asked, place)
            if made is None:
                self._leave(place)
                return None
            self._write(place, *made, [End(asked.future, says, info_of(made[0]))])
        except BaseException:
            self._leave(place)
            raise
        return asked.future

    def delete(
        self, bucket: Bucket, key: str, condition: Condition, bypass: bool, says: Says[Deleted | None, T]
    ) -> asyncio.Future[T] | None:
        """Delete the current object: as `put`."""
        pool, name = self._pool, key.encode()
        place = self._enter(bucket, name) if stamp(bucket) == ("older", False) else None
        if place is None:
            return None
        flies = False
        try:
            w = max(pool.quorum.h, 1 + place.highest_m)
            if w + max(place.highest_m, 0) > pool.n:
                return None
            check_against(condition, place.found)
            end: asyncio.Future[T] = pool.loop.create_future()
            if place.found is None:
                end.set_result(says.done(None))
                return end
            gone = place.found.record
            check_unlocked(gone, bypass)
            seq = self._committer.clock.tick(gone.seq)
            record = Record("tombstone", bucket.space, name, seq, w, modified=time.time_ns() // 1_000_000)
            self._write(place, record, {}, [End(end, says, Deleted(version_id(gone), False))])
            flies = True
            return end
        finally:
            if not flies:
                self._leave(place)

    async def drain(self) -> None:
        """Wait for the writes under way."""
        def waiting() -> list[asyncio.Future[Any]]:
            flying = [end.future for flight in self._flying.values() for end in flight.ends]
            return flying + [asked.future for behind in self._behind.values() for asked in behind] + list(self._tasks)

        while futures := waiting():
            await asyncio.wait(futures)

    # ---- the key -----------------------------------------------------------------------------------------------------
    def _enter(self, bucket: Bucket, key: bytes, locked: bool = False) -> Place | None:
        """Lock, and look. None where either takes more than a moment, or what is seen needs a closer look. `locked`: the key is,
        which ends in that case."""
        name = bucket.name.encode()
        if not self._locks.attempt(ROOT, name, False):
            if locked:
                self._locks.release(bucket.space, key, True)
            return None
        if not locked and not self._locks.attempt(bucket.space, key, True):
            self._locks.release(ROOT, name, False)
            return None
        place = None
        try:
            if self._pool.crew is None or self._bucket(bucket.name) == bucket:  # or another process changed it just now
                place = self._look(name, bucket.space, key)
        finally:
            if place is None:
                self._release(name, bucket.space, key)
        return place

    def _look(self, name: bytes, space: bytes, key: bytes) -> Place | None:
        pool = self._pool
        pool.asked += 1
        if pool.filling:
            return None
        rows, rest = self._committer.asker.at_hand(space, key, pool.n > 1)
        if rest or len(rows) < pool.n or not all(lane is not None and lane.takes for lane in pool.lanes):
            return None
        place = Place(name, space, key, rows, None, -1)
        try:
            return self._seen(place) if any(rows.values()) else place
        except CatalogCorrupt:
            return None

    def _seen(self, place: Place) -> Place | None:
        """With the newest row, and what the others say."""
        found = self._committer.agreed(place.rows)
        if found is None or found.record.hides != "older":
            return None
        highest = -1
        for own in place.rows.values():
            if self._pool.n > 1 and len(own) >= FEW:  # or they all go with this write
                return None
            for row in own:
                record = unpack(row.record)
                if record.pair:
                    return None
                if record.layout is not None:
                    highest = max(highest, record.layout.m)
        return place._replace(found=found, highest_m=highest)

    def _release(self, name: bytes, space: bytes, key: bytes) -> None:
        self._locks.release(space, key, True)
        self._locks.release(ROOT, name, False)

    def _leave(self, place: Place) -> None:
        self._release(place.name, place.space, place.key)

    # ---- the commit --------------------------------------------------------------------------------------------------
    def _made(self, asked: Asked, place: Place) -> tuple[Record, Mapping[int, bytes]] | None:
        """The record and its shards; None where marks would have to come before the answer. Raises what the source says of a body
        that is not what was announced."""
        pool, layout, data = self._pool, asked.layout, asked.data
        w = max(layout.k, pool.quorum.h, 1 + place.highest_m)
        if w + max(layout.m, place.highest_m) > pool.n:
            return None
        md5 = is_md5(pool.config.etag, asked.spec.real_md5, True)
        digests = digests_of({*asked.source.algorithms, "md5" if md5 else "xxh64"}, data)
        checksums = asked.source.verify(digests)
        part = Part(write_id(), 1, len(data), len(data))
        etag = etag_of(pool.config.etag, md5, digests, len(data))
        seq = self._committer.clock.tick(place.found.record.seq if place.found is not None else 0)
        record = object_record(asked.bucket, place.key, seq, w, asked.spec, part, etag, layout, checksums)
        return record, shards_of(layout, part, data)

    def _write(self, place: Place, record: Record, shards: Mapping[int, bytes], ends: list[End]) -> None:
        pool, stored = self._pool, pack(record)
        flight = Flight(place, record, ends, pool.n, pool.loop.time(), self._done, self._hand_over)
        flight.settled = pool.n == 1 and all(map(in_catalog, place.rows[0]))
        for lane in pool.lanes:
            assert lane is not None  # or it would not have answered
            told = partial(flight.told, lane.slot)
            try:
                lane.submit(flight.change(stored, shards.get(lane.slot), pool.n), pool.durable, told)
            except (VolumeError, Overloaded) as error:
                pool.loop.call_soon(told, error)
        self._flying[place.space, place.key] = flight
        if self._watch is None:
            self._watch = pool.loop.call_later(LATE, self._look_after)

    def _done(self, flight: Flight) -> None:
        """All volumes have the row: it is acknowledged."""
        if flight.settled:
            self._committer.settler.owe()
        else:
            self._committer.settler.add(flight.id, flight.record, range(self._pool.n))
        for lane in self._pool.lanes:
            if lane is not None and lane.trouble is not None:
                lane.trouble = None
        self._ended(flight)
        for end in flight.ends:
            end.good()

    def _ended(self, flight: Flight) -> None:
        place = flight.place
        del self._flying[place.space, place.key]
        self._leave(place)

    # ---- those behind ------------------------------------------------------------------------------------------------
    def _stands_behind(self, asked: Asked, key: bytes) -> bool:
        """Wait for the key together with others, if it is taken."""
        at = asked.bucket.space, key
        behind = self._behind.get(at)
        if behind is None:
            mine = self._locks.queue(*at)
            if mine is None:
                return False
            behind = self._behind[at] = []
            mine.add_done_callback(lambda done: self._go_on(at, done.exception()))
        elif len(behind) >= BEHIND:
            return False
        behind.append(asked)
        return True

    def _go_on(self, at: tuple[bytes, bytes], error: BaseException | None) -> None:
        """The key is ours: store the last of those that waited, in place of all."""
        behind = self._behind.pop(at)
        if error is not None:
            for asked in behind:
                End(asked.future, asked.says, None).bad(error)
            return
        fresh: Bucket | None = None
        place: Place | None = None
        with suppress(AbixioError):  # each hears of it on the long way
            place = self._enter(behind[0].bucket, at[1], True)
            fresh = self._bucket(behind[0].bucket.name)
        last: tuple[Record, Mapping[int, bytes]] | None = None
        ends: list[End] = []
        for asked in behind:
            made = None
            if place is not None and asked.bucket == fresh:
                try:
                    made = self._made(asked, place)
                except Exception as wrong:  # also a defect must not keep the key locked
                    End(asked.future, asked.says, None).bad(wrong)
                    continue
            if made is None:
                self._take_the_long_way(asked)
                continue
            last = made
            ends.append(End(asked.future, asked.says, info_of(made[0])))
        if place is not None and last is not None:
            self._write(place, *last, ends)
        elif place is not None:
            self._leave(place)

    def _take_the_long_way(self, asked: Asked) -> None:
        """One that could not be done at once after all."""
        source = Whole(asked.source, asked.data)
        task = self._pool.loop.create_task(self._objects.put(asked.bucket, asked.key, asked.spec, source))
        self._tasks.add(task)

        def ended(task: asyncio.Task[ObjectInfo]) -> None:
            self._tasks.discard(task)
            error = task.exception()
            if error is not None:
                End(asked.future, asked.says, None).bad(error)
            else:
                End(asked.future, asked.says, task.result()).good()

        task.add_done_callback(ended)

    # ---- when it is not a matter of a moment -------------------------------------------------------------------------
    def _hand_over(self, flight: Flight) -> None:
        """To those who can wait."""
        if flight.waits is not None:
            return
        flight.waits = {slot: self._pool.loop.create_future() for slot in range(self._pool.n)}
        for slot, error in flight.heard.items():
            answer(flight.waits[slot], error)
        task = self._pool.loop.create_task(self._conclude(flight, flight.waits))
        self._tasks.add(task)
        task.add_done_callback(partial(self._concluded, flight))

    async def _conclude(self, flight: Flight, waits: Mapping[int, asyncio.Future[None]]) -> None:
        lanes = {waits[lane.slot]: lane for lane in self._pool.lanes if lane is not None}
        try:
            done = await self._committer.placer.outcome(lanes, flight.record)
            if flight.settled:
                self._conclude_alone(waits[0], done)
            else:
                view = self._committer.asker.view(flight.place.rows)
                await self._committer.conclude(flight.id, flight.record, list(lanes.values()), view, done)
        finally:
            self._ended(flight)

    def _conclude_alone(self, wait: asyncio.Future[None], done: Collection[int]) -> None:
        """What a sole volume says of a whole commit."""
        if done:
            self._committer.settler.owe()
        elif wait.done() and isinstance(wait.exception(), _NOT_DONE):
            raise refusal(self._pool.up(), "the volume refused the write; nothing was stored")
        else:
            raise OutcomeUnknown("the volume may have done the write, or may do it yet")

    def _concluded(self, flight: Flight, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = task.exception()
        for end in flight.ends:
            if error is None:
                end.good()
            else:
                end.bad(error)

    def _look_after(self) -> None:
        """Of the writes that take long by now."""
        loop, self._watch = self._pool.loop, None
        for flight in list(self._flying.values()):
            if flight.began + LATE > loop.time():
                self._watch = loop.call_at(flight.began + LATE, self._look_after)
                return
            self._hand_over(flight)
