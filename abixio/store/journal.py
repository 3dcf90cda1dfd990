"""The journal of missed writes: works off every `unsettled` row that no settling cycle sees to. After a crash, a write that
missed its quorum, or a volume that was away, each key is brought to rest. It goes on for ever, with back-off per key.

A volume that is away for hours leaves an entry for every write of that time on all others. So the entries are looked at page by
page on a thread, which costs little, and only keys for which something can be done now are worked on, several at a time.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from typing import Final

from abixio.errors import AbixioError, DataLost, Overloaded, VolumeError
from abixio.store.background import Background
from abixio.store.health import UNDECIDED_NAMED
from abixio.store.lane import Lane
from abixio.store.mend import Mender
from abixio.store.pace import Pace, paced
from abixio.store.resolve import Fate, View
from abixio.store.versions import walk
from abixio.volume.interface import RowId, State

_log = logging.getLogger(__name__)

PAUSE: Final = 1.0
"""Seconds between passes that found nothing to do: what a volume missed is healed within seconds of its return."""
PAGE: Final = 1000
"""Entries looked at per volume and page: 0.1 s of a thread."""
PAGES: Final = 4
"""Pages of a pass in which nothing can be done now: so few seconds of each minute are spent on looking."""
AT_ONCE: Final = 16
"""Keys in work: their rows share transactions and syncs, and a client between them waits for no more than 3 ms of them."""
LONGEST: Final = 300.0
"""Seconds a key that cannot be settled now waits at most for the next try; all are tried when a volume comes back."""
YOUNG: Final = 5.0
"""Seconds for which rows are left to whoever wrote them: some settling cycles of a busy server."""
REMEMBERED: Final = 10_000
"""Keys for which the next try is remembered: 3 MiB. Those beyond are tried whenever their page comes up."""

Key = tuple[bytes, bytes]


class Journal(Background):
    """Runs passes over the unsettled rows of all volumes."""

    def __init__(self, mender: Mender) -> None:
        self._mender = mender
        self._settler = mender.settler
        self._pool = mender.pool
        self._later: dict[Key, tuple[float, float]] = {}
        """When a key is tried again, and after which pause."""
        self.undecided: dict[Key, None] = {}
        """Of those, keys that nobody can decide with the volumes there are: the first that were met."""
        self._cursor: dict[int, RowId | None] = {}
        self._seen: tuple[object, ...] = ()
        """Which volumes were up in the last pass."""
        self._worked = False
        """Whether the last pass found something to do."""

    @property
    def waiting(self) -> int:
        """Keys that could not be brought to rest, and wait for their next try."""
        return len(self._later)

    async def _work(self) -> None:
        while True:
            self._settler.wake()  # files that a reader held, or that were too many for one cycle
            self._worked = False
            try:
                await self.run_once()
            except AbixioError as error:
                _log.warning("repair goes on later: %s", error)
            # After a page of keys that cannot be settled the next one comes at once too: they wait by themselves now.
            await asyncio.sleep(0 if self._worked and len(self._later) < REMEMBERED else PAUSE)

    # ---- one pass ----------------------------------------------------------------------------------------------------
    async def run_once(self) -> int:
        """Work off the next page in which there is something to do; returns how many keys came to rest."""
        self._look_around()
        for _ in range(PAGES):
            keys = await self._page()
            if not keys:
                break
            now = self._pool.loop.time()
            due = [key for key in keys if self._later.get(key, (0.0, 0.0))[0] <= now]
            if chosen := await paced(self._pool, partial(self._workable, due)):
                self._worked = True
                return await self._settle_all(chosen)
            if not any(self._cursor.values()):
                break
        return 0

    def _look_around(self) -> None:
        """When a volume came back, everything is due, from the start."""
        pool = self._pool
        seen = (frozenset(lane.slot for lane in pool.up()), frozenset(pool.filling), frozenset(pool.regressed))
        if seen != self._seen:
            self._seen = seen
            self.undecided.clear()
            self._later.clear()
            self._cursor.clear()
        now = pool.loop.time()
        self._later = {key: later for key, later in self._later.items() if later[0] > now - LONGEST}

    async def _page(self) -> set[Key]:
        """The keys of the next page of each volume."""
        keys: set[Key] = set()
        for lane in self._pool.up():
            keys |= await self._entries(lane)
        return keys

    async def _entries(self, lane: Lane) -> set[Key]:
        """The next page of a volume's entries; from the start again after the last."""
        try:
            ids = await lane.ask(partial(lane.volume.unsettled, self._cursor.get(lane.slot), PAGE))
        except (VolumeError, Overloaded) as error:
            self._pool.lost(lane, error)
            return set()
        except TimeoutError:  # its breaker knows
            return set()
        self._cursor[lane.slot] = ids[-1] if len(ids) == PAGE else None
        return {(id.space, id.key) for id in ids if not self._settler.busy(id) and not self._young(id)}

    def _young(self, id: RowId) -> bool:
        """Whether another process may be about to settle that row. To do it twice would do no harm but cost time, so a clock that
        was put back does none either."""
        made = (id.seq + id.rev) / 1_000_000
        return self._pool.crew is not None and abs(time.time() - made) < YOUNG

    def _workable(self, keys: Iterable[Key], pace: Pace) -> list[Key]:
        """On a thread: the keys for which something can be done."""
        asker = self._mender.committer.asker
        return [key for key in keys if not at_rest(asker.blocking(*key, lambda view: False, pace))]

    async def _settle_all(self, keys: list[Key]) -> int:
        """Work on several keys at a time; returns how many came to rest."""
        rest = iter(keys)

        async def work() -> int:
            done = 0
            for key in rest:
                done += await self._try(key)
            return done

        return sum(await asyncio.gather(*(work() for _ in range(min(AT_ONCE, len(keys))))))

    async def _try(self, key: Key) -> bool:
        try:
            settled = (await self._mender.settle(*key)).settled
        except AbixioError as error:
            _log.info("key %r stays unsettled: %s", key[1], error)
            settled = False
            await self._note(key)
        if settled:
            self.undecided.pop(key, None)
            self._later.pop(key, None)
        elif key in self._later or len(self._later) < REMEMBERED:
            delay = min(2 * self._later.get(key, (0.0, PAUSE / 2))[1], LONGEST)
            self._later[key] = self._pool.loop.time() + delay, delay
        return settled

    async def _note(self, key: Key) -> None:
        """Remember the key for the operator if it waits for volumes that may never come back."""
        with suppress(AbixioError):
            view = await self._mender.view(*key)
            if not any(fate is Fate.OPEN for _, fate in walk(view)):
                self.undecided.pop(key, None)
            elif len(self.undecided) < UNDECIDED_NAMED:
                self.undecided[key] = None


def at_rest(view: View) -> bool:
    """Whether nothing can be done for a key until another volume comes back."""
    if view.heard.keys() != view.rows.keys():
        return False  # a rotten row
    try:
        standing = list(walk(view))
    except DataLost:
        return True
    if len(standing) < len(view.versions):
        return False  # what is hidden has to be purged
    for version, fate in standing:
        if fate is Fate.COMMITTED:
            if version.present.keys() != view.rows.keys() or any(x.state is not State.COMMITTED for x in version.copies.values()):
                return False
            if len(version.present) == view.n:
                return False  # only its entries are left
        elif fate is not Fate.ABORTED or version.copies.keys() != view.rows.keys() or len(view.rows) == view.n:
            return False
    return True
