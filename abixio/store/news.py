"""What one process of a crew has to learn of the others: looked up several times a second, in memory that they share."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from abixio.errors import AbixioError
from abixio.store.assembly import FILLING
from abixio.store.background import Background
from abixio.store.crew import Crew, Topic
from abixio.store.pool import Pool

_log = logging.getLogger(__name__)

EVERY: Final = 0.25
"""Seconds: as often as background work looks whether clients are busy. A look costs some us."""


class News(Background):
    """Listens for this process."""

    def __init__(self, pool: Pool, crew: Crew, rules: Callable[[], None]) -> None:
        """`rules`: called in the runner when lifecycle rules were changed elsewhere."""
        self._pool = pool
        self._crew = crew
        self._rules = rules
        self._known = {topic: crew.heard(topic) for topic in Topic}

    async def _work(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(EVERY)

    async def look(self) -> None:
        """Once."""
        self._crew.publish(self._pool.asked)
        if self._is_new(Topic.RULES) and self._crew.runner:
            self._rules()
        if not self._crew.runner and self._is_new(Topic.WHOLE) and not await self._whole():
            self._known[Topic.WHOLE] = -1  # some could not be asked: once more

    def _is_new(self, topic: Topic) -> bool:
        now = self._crew.heard(topic)
        new, self._known[topic] = now != self._known[topic], now
        return new

    async def _whole(self) -> bool:
        """Volumes that are filling no more, as their catalogs say, the only place where that is certain. Whether all answered."""
        asked = True
        for slot in sorted(self._pool.filling):
            lane = self._pool.lanes[slot]
            if lane is None:
                continue
            if not lane.up:
                asked = False
                continue
            try:
                filling = (await lane.run(lane.volume.notes)).get(FILLING)
            except AbixioError as error:
                self._pool.lost(lane, error)
                asked = False
                continue
            if not filling:
                self._pool.whole(slot)
                _log.debug("volume %d was filled by the runner", slot)
        return asked
