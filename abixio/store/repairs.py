"""Reads heal: the bad shards that they met (`pool.bad`) are looked at again and made again, for ever, with back-off per key.

The queue is in memory and bounded. Nothing is lost with it: what is bad still after a restart, the next read of it or the
scanner finds again.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from abixio.errors import AbixioError
from abixio.store.background import Background
from abixio.store.heal import Healer
from abixio.store.health import Healed
from abixio.store.pool import Pool

_log = logging.getLogger(__name__)

PAUSE: Final = 1.0
"""Seconds between looks at the queue."""
AT_ONCE: Final = 4
"""Keys in work: repair must not take the disks from clients, and one after another would leave them idle between syncs."""
LONGEST: Final = 300.0
"""Seconds that a shard which cannot be repaired now waits at most for the next try."""

Key = tuple[bytes, bytes]
Shards = set[tuple[bytes, int]]


class Repairs(Background):
    """Works off the queue of bad shards."""

    def __init__(self, healer: Healer, pool: Pool) -> None:
        self._healer = healer
        self._pool = pool
        self._later: dict[Key, tuple[float, float]] = {}
        """When a key is tried again, and after which pause. Never more keys than the queue has."""

    async def _work(self) -> None:
        while True:
            if self._pool.bad:
                await self.run_once()
            await asyncio.sleep(PAUSE)

    async def run_once(self) -> int:
        """Try every key that is due; returns how many are off the queue."""
        bad: dict[Key, Shards] = {}
        for shard, record in self._pool.bad.items():
            bad.setdefault((record.space, record.key), set()).add(shard)
        self._later = {key: later for key, later in self._later.items() if key in bad}
        now = self._pool.loop.time()
        due = iter([key for key in bad if self._later.get(key, (0.0, 0.0))[0] <= now])

        async def work() -> int:
            done = 0
            for key in due:
                done += await self._try(key, bad[key])
            return done

        return sum(await asyncio.gather(*(work() for _ in range(AT_ONCE))))

    async def _try(self, key: Key, shards: Shards) -> bool:
        """Whether they are good now, or needed no more."""
        try:
            healed = await self._healer.heal_key(*key, only=shards)
        except AbixioError as error:
            healed = Healed(failed=(str(error),))
        if not healed.failed:
            for shard in shards:
                self._pool.bad.pop(shard, None)
            if healed.rebuilt_shards:
                _log.info("key %r: %d bad shards made again", key[1], healed.rebuilt_shards)
            return True
        delay = min(2 * self._later.get(key, (0.0, PAUSE / 2))[1], LONGEST)
        self._later[key] = self._pool.loop.time() + delay, delay
        _log.warning("key %r cannot be repaired now: %s", key[1], "; ".join(healed.failed))
        return False
