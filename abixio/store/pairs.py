"""Renames: two rows of one seq, the object under its new key and the tombstone of the old one, which have one fate.

A commit decides one row; these two are decided by the same numbers. They go onto each volume in one transaction, with the same
W, k and mask, and are finished and taken back so too. So each has as many copies as the other, and who sees only one of them, a
reader or a listing, comes to the end that the other's reader comes to. What single rows do on their own (marks, repair once
they are committed, purging) changes nothing about that, but for two things:

- A row may be gone or hidden because a newer write of its key took its place, and then says nothing of the other any more. So
  whoever writes over such a row first has N-W+1 volumes say that both are committed (`vouch`). Then W volumes that could
  finish the other row meet one that says so; where none does, the newer write did not see the rename, which is taken back.
- What a row hides may go only when both rows are safe: with them the object was moved, not copied (`joint`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from abixio.errors import Unavailable
from abixio.store.locks import KeyLocks
from abixio.store.placing import Along, Placer
from abixio.store.pool import Pool
from abixio.store.resolve import Fate, Version, View
from abixio.store.versions import walk
from abixio.volume.interface import Mark, RowId, State

OUT_OF_ORDER: Final = 0.2
"""Seconds to wait for the lock of a key while holding that of a greater one. Two who settle one rename from its two ends would
wait for each other; the lock is mostly free, and who gave up is tried again by its client."""


@dataclass(frozen=True, slots=True)
class Half:
    """One row of a rename, as the volumes show it."""

    view: View
    version: Version | None
    fate: Fate | None
    """None: no volume shows it, or a committed row hides it for good."""
    below: bool = False
    """Under a newer write that may have been answered, and is not settled."""

    @property
    def seen(self) -> Version | None:
        """The row, if nothing hides it."""
        return self.version if self.fate is not None else None


class Pairs:
    """Settles the rows of renames."""

    def __init__(
        self, pool: Pool, placer: Placer, locks: KeyLocks, look: Callable[[bytes, bytes], Awaitable[View]],
        finish: Callable[[View, Version, Version | None, View], Awaitable[None]],
    ) -> None:
        """`look`: what all volumes show of a key; `finish`: completes a row, and its other one along with it."""
        self._pool = pool
        self._placer = placer
        self._locks = locks
        self._look = look
        self._finish = finish

    # ---- deciding ----------------------------------------------------------------------------------------------------
    async def settle(self, version: Version, held: Collection[bytes]) -> None:
        """Bring a row that could be finished, or never committed, to the end that its rename has; `held`: keys that are locked,
        its own among them. Unavailable when that cannot be told now."""
        other = version.other
        assert other is not None
        async with self._locked(other, held):
            mine, his = await self._half(version.id), await self._half(other)
            if mine.version is None or mine.fate is None:
                return
            if mine.fate is Fate.NEVER:
                await self._take_back(mine.view, mine.version, his)
            elif mine.fate is Fate.FINISH:
                await self._decide(mine.version, mine, his)
            elif mine.fate is Fate.OPEN:
                raise Unavailable("a rename can be neither completed nor taken back with these volumes")

    async def _decide(self, version: Version, mine: Half, his: Half) -> None:
        """Of a row that could be finished."""
        w = version.record.w
        if his.fate is Fate.COMMITTED:
            await self._finish(mine.view, version, None, his.view)
        elif his.fate is Fate.FINISH and not his.below:
            await self._finish(mine.view, version, his.version, his.view)
        elif his.fate is Fate.ABORTED or (his.fate is None and len(his.view.rows) >= w):
            if len(await self.abort(mine.view, version, his)) < self._pool.n - w + 1:
                raise Unavailable("an unfinished rename could not be taken back")
        else:
            raise Unavailable("a rename can be neither completed nor taken back with these volumes")

    async def _take_back(self, view: View, version: Version, his: Half) -> None:
        """One that never committed: say so where the volumes can be reached."""
        if len(view.rows) >= self._pool.n - version.record.w + 1:
            await self.abort(view, version, his)
        elif view.vouching < self._pool.quorum.r:
            raise Unavailable("too few volumes answer to take an unfinished rename back")

    async def abort(self, view: View, version: Version, his: Half) -> set[int]:
        """Abort a row, and the other one with it unless that is hidden, or known to be committed. The slots that have it so."""
        other = his.seen if his.fate is not Fate.COMMITTED else None
        along = Along(other.id, other.record, other.stored, his.view) if other is not None else None
        return await self._placer.insert(
            version.id, version.record, State.ABORTED, self._pool.up(), None, view, stored=version.stored, along=along
        )

    @asynccontextmanager
    async def other_half(self, version: Version) -> AsyncIterator[Half]:
        """The other row of a rename, its key locked; that of the first is."""
        other = version.other
        assert other is not None
        async with self._locked(other, (version.id.key,)):
            yield await self._half(other)

    async def _half(self, id: RowId) -> Half:
        view = await self._look(id.space, id.key)
        version = next((version for version in view.versions if version.id == id), None)
        below = False
        for seen, fate in walk(view):
            if seen.id == id:
                return Half(view, version, fate, below)
            below = below or fate in (Fate.FINISH, Fate.OPEN)
        return Half(view, version, None)

    @asynccontextmanager
    async def _locked(self, other: RowId, held: Collection[bytes]) -> AsyncIterator[None]:
        async with AsyncExitStack() as locks:
            if other.key not in held:
                try:
                    async with asyncio.timeout(OUT_OF_ORDER if other.key < max(held) else None):
                        await locks.enter_async_context(self._locks.exclusive(other.space, other.key))
                except TimeoutError as error:
                    raise Unavailable("an unfinished rename is just being settled") from error
            yield

    # ---- once it is decided ------------------------------------------------------------------------------------------
    async def vouch(self, view: View) -> None:
        """Ahead of a write that hides rows of a key: where one is of a committed rename, and its other row is still there,
        have so many volumes say so that nobody can come to another end. Unavailable when too few do."""
        if all(version.other is None for version in view.versions):
            return  # nearly always; to judge them costs each write several microseconds
        for version, fate in list(walk(view)):
            other = version.other
            if other is None or fate is not Fate.COMMITTED:
                continue
            his = await self._half(other)
            if his.seen is None:
                continue
            least = self._pool.n - version.record.w + 1
            marked, _ = await self._placer.mark(
                {slot: self._marks(version, his.seen, slot) for slot in his.seen.present}, least
            )
            if marked < least:
                raise Unavailable("too few volumes could note that the object was renamed")

    def _marks(self, mine: Version, his: Version, slot: int) -> list[Mark]:
        """Also of what is marked: not every mark survives a power cut. None of those that do becomes a lesser one."""
        state = State.COMMITTED if self._pool.durable else State.ANSWERED
        copies = [(each.id, each.present.get(slot)) for each in (his, mine)]
        weaker = [id for id, row in copies if row is not None and (self._pool.durable or row.state is not State.COMMITTED)]
        return [Mark(id, state) for id in weaker]

    async def joint(self, version: Version, slots: Collection[int]) -> Collection[int]:
        """Of the slots that have a committed row, those that may be counted for what it hides to go. In mode `page-cache` a row
        on W volumes survives a power cut by a barrier; here that is wanted of both rows."""
        other = version.other
        if other is None or self._pool.durable:
            return slots
        his = (await self._half(other)).seen
        if his is None or any(row.state is State.COMMITTED for row in his.copies.values()):
            return slots
        return set(slots) & his.present.keys()
