"""What the volumes say of a key: asked on the event loop where the answer is in memory, by reader threads where it is not.

A lookup costs 3 us and a hand-over to a thread 100, so the loop asks well volumes itself, but never waits for a disk: a volume
that would have to read one is asked by a thread, and a slow one only when the others are not enough. So the first hang of a
disk costs the loop nothing. A question is answered by the first set of volumes that suffices.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import Final

from abixio.errors import Overloaded, VolumeError, WouldBlock
from abixio.store.lane import STALL, Lane
from abixio.store.pace import Pace
from abixio.store.pool import Pool
from abixio.store.resolve import View
from abixio.volume.interface import Row

COLD: Final = 0.05
"""Seconds to wait for well volumes whose answers are not in memory, also when the others suffice: to have the data shard from a
disk costs less than to rebuild it."""

FEW: Final = 8
"""Rows of a key that are looked at first. Most keys have one or two, while a write settles; a lookup of eight costs a few
microseconds more than that of one."""

Rows = dict[int, list[Row]]
Enough = Callable[[View], bool]


class Asker:
    """Asks the volumes of a pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def view(self, rows: Rows) -> View:
        pool = self._pool
        return View.of(pool.n, rows, frozenset(pool.filling), frozenset(pool.regressed), dict(pool.since))

    def few(self, rows: Rows) -> View:
        """What volumes say that were asked for few rows. If they have more, the view is brief: of the rows that all have shown,
        or would have."""
        floors = [own[-1].id[2:] for own in rows.values() if len(own) >= FEW]
        if not floors:
            return self.view(rows)
        floor = max(floors)
        return replace(self.view({slot: [row for row in own if row.id[2:] >= floor] for slot, own in rows.items()}), brief=True)

    def at_hand(self, space: bytes, key: bytes, few: bool = False) -> tuple[Rows, list[Lane]]:
        """On the loop: what can be told at once, and the volumes that would have to be waited for. `few`: of the newest rows."""
        rows: Rows = {}
        rest: list[Lane] = []
        before = monotonic()
        for lane in self._pool.lanes:
            if lane is None or lane.failed is not None:
                continue
            if not lane.well:
                if lane.up:
                    rest.append(lane)
                continue
            try:
                volume = lane.volume
                rows[lane.slot] = volume.top(space, key, FEW, False) if few else volume.rows(space, key, False)
            except WouldBlock:
                rest.append(lane)
            except VolumeError as error:
                self._pool.lost(lane, error)
            now = monotonic()
            if now - before > STALL:
                lane.stalled(now - before)
            elif lane.breaker.errors and lane.slot in rows:
                lane.breaker.errors = 0
            before = now
        return rows, rest

    async def rest(self, space: bytes, key: bytes, rows: Rows, rest: list[Lane], enough: Enough, few: bool = False) -> View:
        """The same, once those of `rest` answered whose answers are needed, or can be had at the price of reading a page."""
        cold = self._ask([lane for lane in rest if lane.prompt], space, key, few)
        if cold:
            self._hear(cold, rows, await asyncio.wait(cold, timeout=COLD))
        for late, lane in cold.items():
            lane.dawdles(late)
        view = self.few(rows) if few else self.view(rows)
        if enough(view):
            return view
        slow = [lane for lane in rest if lane not in cold.values() and lane.slot not in rows]
        waiting = cold | self._ask(slow, space, key, few)
        while waiting and not enough(view):
            self._hear(waiting, rows, await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED))
            view = self.few(rows) if few else self.view(rows)
        return view

    def blocking(self, space: bytes, key: bytes, enough: Enough, pace: Pace) -> View:
        """The same on a thread that may wait, as `pace` allows."""
        rows: Rows = {}
        view = self.view(rows)
        for well in (True, False):
            for lane in self._pool.up():
                if lane.well is not well or lane.slot in rows:
                    continue
                with suppress(VolumeError), pace.at(lane):
                    rows[lane.slot] = lane.volume.rows(space, key)
            view = self.view(rows)
            if enough(view):
                break
        return view

    # ---- inside ------------------------------------------------------------------------------------------------------
    def _ask(self, lanes: list[Lane], space: bytes, key: bytes, few: bool) -> dict[asyncio.Future[list[Row]], Lane]:
        asked: dict[asyncio.Future[list[Row]], Lane] = {}
        for lane in lanes:
            try:
                volume = lane.volume
                asked[lane.ask(partial(volume.top, space, key, FEW) if few else partial(volume.rows, space, key))] = lane
            except Overloaded as error:
                self._pool.lost(lane, error)
        return asked

    def _hear(
        self, waiting: dict[asyncio.Future[list[Row]], Lane], rows: Rows, come: tuple[set[asyncio.Future[list[Row]]], object],
    ) -> None:
        """Take in what has come; `waiting` keeps the rest."""
        for answer in come[0]:
            lane = waiting.pop(answer)
            try:
                rows[lane.slot] = answer.result()
            except VolumeError as error:
                self._pool.lost(lane, error)
            except TimeoutError:
                continue
