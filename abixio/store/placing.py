"""One row onto several volumes at the same time: who is waited for, for how long, and what became of it there."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from functools import partial
from typing import Final, NamedTuple

from abixio.errors import AbixioError, Exhausted, InsufficientStorage, Overloaded, Unavailable, VolumeError, VolumeFull
from abixio.store.lane import Lane
from abixio.store.pool import Pool
from abixio.store.record import Record, pack
from abixio.store.resolve import LISTED_KINDS, Fate, Version, View
from abixio.store.versions import Shadow
from abixio.volume.interface import Change, Head, Insert, Mark, Op, RowId, State

STRAGGLER: Final = 2.0
"""Seconds to wait for the last volumes once W have answered: longer than a disk's usual hiccup."""
DEADLINE: Final = 30.0
"""Seconds after which a volume that has not answered counts as failed for this write."""


class Along(NamedTuple):
    """The other row of a rename, which goes with the first in one transaction of each volume: see `pairs`."""

    id: RowId
    record: Record
    stored: bytes
    view: View


class Placer:
    """Puts rows on volumes."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    def takers(self, holders: Collection[int] | None, w: int) -> list[Lane]:
        """Where to put a row: on all volumes that are up, but not behind a slow one's backlog when there are W others."""
        lanes = [lane for lane in self.pool.up() if holders is None or lane.slot in holders]
        prompt = [lane for lane in lanes if not lane.behind]
        return prompt if len(prompt) >= w else lanes

    async def insert(
        self, id: RowId, record: Record, state: State, lanes: list[Lane], inline: Mapping[int, bytes] | None,
        view: View, to: int | None = None, guard: bool = False, stored: bytes | None = None, along: Along | None = None,
    ) -> set[int]:
        """Put a row on those lanes; return the slots that have it. `guard`: not where a newer row is."""
        stored = pack(record) if stored is None else stored
        mask = sum(1 << lane.slot for lane in lanes) if to is None else to
        futures: dict[asyncio.Future[None], Lane] = {}
        for lane in lanes:
            shard = inline.get(lane.slot) if inline else None
            row = Insert(id, state, mask, stored, record.write_ids, shard, guard)
            ops: tuple[Op, ...] = (row, self.head(id, record, state, view, lane.slot))
            if along is not None:
                other = Insert(along.id, state, mask, along.stored, along.record.write_ids, None, guard)
                ops = (*ops, other, self.head(along.id, along.record, state, along.view, lane.slot))
            try:
                futures[lane.apply(ops, self.pool.durable)] = lane
            except (VolumeError, Overloaded) as error:
                self.pool.lost(lane, error)
        return await self.outcome(futures, record)

    async def outcome(self, futures: Mapping[asyncio.Future[None], Lane], record: Record) -> set[int]:
        """Wait for a row that is on its way to those volumes; the slots that have it."""
        deadline = self.pool.loop.time() + DEADLINE
        await self._wait(futures, record.w, deadline)
        return {lane.slot for future, lane in futures.items() if self._took(future, lane, record.write_ids, deadline)}

    def as_committed(self, version: Version) -> State:
        """As what repair puts a committed row on further volumes. In mode page-cache no such word may outlive the copies on which
        it rests, and only the mark of a settling cycle says that these survive a power cut."""
        marked = any(row.state is State.COMMITTED for row in version.copies.values())
        return State.COMMITTED if marked or self.pool.durable else State.ANSWERED

    async def confirm(self, id: RowId, slots: Collection[int], enough: int, *others: RowId) -> bool:
        """Mark a row that is there on W volumes at least as answered, in a way that lasts as long as the row itself. Whether so
        many took the mark that one is left when the key loses as many volumes as it can; one that is lost meanwhile counts as one
        of these."""
        state = State.COMMITTED if self.pool.durable else State.ANSWERED
        marked, refused = await self.mark({slot: [Mark(each, state) for each in (id, *others)] for slot in slots}, enough)
        return marked > 0 and (marked >= enough or not refused)

    async def mark(self, changes: Mapping[int, Change], enough: int) -> tuple[int, int]:
        """Change what volumes say of rows, by slot; how many did, and how many are up and did not."""
        futures: dict[asyncio.Future[None], Lane] = {}
        for lane in self.pool.up():
            if lane.slot in changes:
                try:
                    futures[lane.apply(changes[lane.slot], self.pool.durable)] = lane
                except (VolumeError, Overloaded) as error:
                    self.pool.lost(lane, error)
        deadline = self.pool.loop.time() + DEADLINE
        await self._wait(futures, min(enough, len(futures)), deadline)
        marked = sum([self._took(future, lane, (), deadline) for future, lane in futures.items()])
        return marked, sum(future.done() and future.exception() is not None and lane.up for future, lane in futures.items())

    @staticmethod
    def head(id: RowId, record: Record, state: State, view: View, slot: int) -> Head:
        """What LIST shows of the key on that volume once the row is there: the newest version that did commit. (Not the newest
        pending one: that may be aborted next, and a head that points to nothing hides the key.)"""
        shadow, new = Shadow(), state is not State.ABORTED
        for version in view.versions:
            if new and version.id[2:] <= id[2:]:
                if not shadow.covers(id.seq, record) and record.kind != "kill":
                    break
                new = False
                shadow.add(record)
            if version.id == id or shadow.covers(version.id.seq, version.stored) or view.judge(version) is not Fate.COMMITTED:
                continue
            shadow.add(version.record)
            if version.record.kind != "kill":
                listed = version.record.kind in LISTED_KINDS and slot in version.present
                return Head(id.space, id.key, version.id[2:] if listed else None)
        shows = new and record.kind in LISTED_KINDS and not shadow.covers(id.seq, record)
        return Head(id.space, id.key, (id.seq, id.rev) if shows else None)

    async def _wait(self, futures: Mapping[asyncio.Future[None], Lane], w: int, deadline: float) -> None:
        """Until all are done; not for stragglers once W are, and not at all for slow volumes when the others are W."""
        if not futures:
            return
        prompt = [future for future, lane in futures.items() if lane.well]
        _, late = await asyncio.wait(prompt if len(prompt) >= w else futures, timeout=STRAGGLER)
        while waiting := [future for future in futures if not future.done()]:
            left = deadline - self.pool.loop.time()
            if sum(future.done() and future.exception() is None for future in futures) >= w:
                for future in late & set(waiting):
                    futures[future].breaker.slow(f"a commit takes longer than {STRAGGLER:.0f} s, and other volumes are done")
                return
            if left <= 0:
                return
            await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)

    def _took(self, future: asyncio.Future[None], lane: Lane, write_ids: tuple[bytes, ...], deadline: float) -> bool:
        """Whether the row is there for sure; what a straggler does later is found by the journal."""
        if not future.done():
            self.pool.writing.take(write_ids)
            future.add_done_callback(partial(self._late, write_ids))
            self.pool.loop.call_at(deadline, self._give_up, future, lane)
            return False
        error = future.exception()
        if error is None:
            lane.trouble = None
            return True
        if not isinstance(error, VolumeError):
            raise error
        lane.trouble = error
        self.pool.lost(lane, error)
        return False

    def _late(self, write_ids: tuple[bytes, ...], late: asyncio.Future[None]) -> None:
        """Until now that row could still come to be, and need its files."""
        self.pool.writing.let_go(write_ids)
        if not late.cancelled():
            late.exception()

    @staticmethod
    def _give_up(future: asyncio.Future[None], lane: Lane) -> None:
        """Past its deadline a volume counts as not answering."""
        if not future.done():
            lane.overdue(future)


def refusal(lanes: Collection[Lane], why: str) -> AbixioError:
    """The error of a write that too few volumes took: their want of room or of descriptors, if that was it."""
    if any(isinstance(lane.trouble, Exhausted) for lane in lanes):
        return Overloaded("no descriptors or no memory for another write")
    if any(isinstance(lane.trouble, VolumeFull) for lane in lanes):
        return InsufficientStorage("too few volumes have room")
    return Unavailable(why)
