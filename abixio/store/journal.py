"""The journal of missed writes: works off every `unsettled` row that no settling cycle sees to. After a crash, a write that
missed its quorum, or a volume that was away, it resolves the key, puts the committed row (and its shard) where it is
missing, and collects what was aborted everywhere. It goes on for ever, with back-off per key.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from typing import Final

from abixio.errors import AbixioError, VolumeError
from abixio.store.commit import Committer
from abixio.store.lane import Lane
from abixio.store.resolve import Fate, Version, View
from abixio.store.settle import Settler, drop
from abixio.volume.interface import Head, RowId, State

_log = logging.getLogger(__name__)

PAUSE: Final = 1.0
"""Seconds between passes: what a volume missed is healed within seconds of its return."""
PAGE: Final = 1000
"""Entries looked at per volume and pass."""
LONGEST: Final = 300.0
"""Seconds a key that cannot be settled now waits at most for the next try."""

Key = tuple[bytes, bytes]


class Journal:
    """Runs passes over the unsettled rows of all volumes."""

    def __init__(self, committer: Committer, settler: Settler) -> None:
        self._committer = committer
        self._settler = settler
        self._pool = committer.pool
        self._later: dict[Key, tuple[float, float]] = {}
        self._cursor: dict[int, RowId | None] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Run passes until `stop`."""
        self._task = asyncio.get_running_loop().create_task(self._work())

    async def stop(self) -> None:
        """End; a key that is being worked on is left as a crash would leave it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _work(self) -> None:
        while True:
            self._settler.wake()  # files that a reader held, or that were too many for one cycle
            try:
                await self.run_once()
            except AbixioError as error:
                _log.warning("repair goes on later: %s", error)
            await asyncio.sleep(PAUSE)

    async def run_once(self) -> int:
        """One pass over at most PAGE entries of each volume; returns how many keys came to rest."""
        keys: set[Key] = set()
        for lane in self._pool.up():
            keys |= await self._entries(lane)
        now, done = self._pool.loop.time(), 0
        self._later = {key: later for key, later in self._later.items() if later[0] > now - LONGEST}
        for key in keys:
            if self._later.get(key, (0.0, 0.0))[0] <= now:
                done += await self._try(key)
        return done

    async def _entries(self, lane: Lane) -> set[Key]:
        """The next page of a volume's entries; from the start again after the last."""
        try:
            after = self._cursor.get(lane.slot)
            ids = await self._pool.loop.run_in_executor(self._pool.executor, lane.volume.unsettled, after, PAGE)
        except VolumeError as error:
            self._pool.lost(lane, error)
            return set()
        self._cursor[lane.slot] = ids[-1] if len(ids) == PAGE else None
        return {(id.space, id.key) for id in ids if not self._settler.busy(id)}

    async def _try(self, key: Key) -> bool:
        try:
            settled = await self.settle(*key)
        except AbixioError as error:
            _log.info("key %r stays unsettled: %s", key[1], error)
            settled = False
        if settled:
            self._later.pop(key, None)
        else:
            delay = min(2 * self._later.get(key, (0.0, PAUSE / 2))[1], LONGEST)
            self._later[key] = self._pool.loop.time() + delay, delay
        return settled

    # ---- one key -----------------------------------------------------------------------------------------------------
    async def settle(self, space: bytes, key: bytes) -> bool:
        """Bring one key to rest as far as the volumes allow; True when nothing is left to do."""
        committer = self._committer
        owner = self._upload_of(committer.look(space, key))
        async with AsyncExitStack() as held:
            if owner is not None:
                await held.enter_async_context(committer.locks.shared(*owner))
            await held.enter_async_context(committer.locks.exclusive(space, key))
            if owner is not None and committer.glance(*owner) is None:
                return await self._orphan(committer.look(space, key))
            await committer.resolve(committer.look(space, key))
            view = committer.look(space, key)
            for version in view.versions:
                if view.judge(version) is Fate.COMMITTED:
                    return len(await committer.spread(view, version)) == self._pool.n
                await self._collect(view, version)
        return True

    @staticmethod
    def _upload_of(view: View) -> tuple[bytes, bytes] | None:
        """The space and key of the upload that a part belongs to."""
        record = view.versions[0].record if view.versions else None
        return (record.upload[:16], record.upload[16:]) if record is not None and record.kind == "part" else None

    async def _orphan(self, view: View) -> bool:
        """A part of an upload that has ended goes, wherever it is."""
        for lane in self._pool.up():
            for row in view.rows.get(lane.slot, []):
                await lane.apply((drop(row), Head(row.id.space, row.id.key, None)), durable=False)
        self._settler.wake()
        return True

    async def _collect(self, view: View, version: Version) -> None:
        """An aborted row: goes once every slot holds it as aborted, in a way that survives a power cut."""
        if len(view.rows) < self._pool.n or view.vouching < self._pool.n:
            return
        rows = version.copies
        if len(rows) < self._pool.n or any(row.state is not State.ABORTED for row in rows.values()):
            lanes, stored = self._pool.up(), version.stored
            await self._committer.insert(version.id, version.record, State.ABORTED, lanes, None, view, stored=stored)
            return
        if len(await self._settler.barrier()) < self._pool.n:
            return
        for lane in self._pool.up():
            head = self._committer.head(version.id, version.record, State.ABORTED, view, lane.slot)
            await lane.apply((drop(rows[lane.slot]), head), durable=False)
        self._settler.wake()
