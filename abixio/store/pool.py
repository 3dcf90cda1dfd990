"""The pool: the lanes of N volumes and what every part of the store shares."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from abixio.config import Config
from abixio.errors import AbixioError
from abixio.store.lane import Lane
from abixio.store.record import Record
from abixio.volume.interface import Volume

if TYPE_CHECKING:
    from abixio.store.buffers import BufferPool

_log = logging.getLogger(__name__)

MAX_BAD: Final = 10_000
"""Bad shards remembered between repairs: some MiB. What is forgotten, the next read of it reports again."""


@dataclass(frozen=True, slots=True)
class Quorum:
    """The numbers of design.md, *Commit*, for N slots."""

    n: int

    @property
    def h(self) -> int:
        """A majority: every write is on at least so many volumes."""
        return self.n // 2 + 1

    @property
    def r(self) -> int:
        """So many volumes meet every majority: a negative answer needs them."""
        return self.n - self.h + 1


class Pool:
    """Lanes by slot; None where a member is missing. Everything here is used from the event loop only."""

    def __init__(
        self, volumes: Mapping[int, Volume], n: int, filling: Collection[int], config: Config,
        executor: ThreadPoolExecutor, buffers: BufferPool, loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.n = n
        self.quorum = Quorum(n)
        self.config = config
        self.executor = executor
        self.buffers = buffers
        self.loop = loop
        self.lanes: list[Lane | None] = [Lane(volumes[slot], loop) if slot in volumes else None for slot in range(n)]
        self.filling = set(filling)
        self.regressed: set[int] = set()
        self.pins: Counter[bytes] = Counter()
        self.bad: dict[tuple[bytes, int], Record] = {}

    @property
    def durable(self) -> bool:
        """Whether an answer waits for a sync."""
        return self.config.durability == "fsync"

    def up(self) -> list[Lane]:
        """The lanes that answer, as far as is known, in slot order."""
        return [lane for lane in self.lanes if lane is not None and lane.up]

    def vouching(self, slots: Collection[int]) -> int:
        """How many of those slots may speak by silence: all that are not filling."""
        return sum(slot not in self.filling for slot in slots)

    def lost(self, lane: Lane, error: AbixioError) -> None:
        """A volume failed to answer a read: said once per error, the volume stays in service."""
        _log.warning("volume %d: %s", lane.slot, error)

    def spare_thread(self, hung: asyncio.Future[Any]) -> None:
        """That job keeps its thread for as long as its disk hangs: another thread takes its place meanwhile. Or as many reads as
        there are threads, all on one hung disk, would stop everybody."""
        self.executor._max_workers += 1
        hung.add_done_callback(self._returned)

    def _returned(self, _job: asyncio.Future[Any]) -> None:
        self.executor._max_workers -= 1

    def report_bad(self, record: Record, slot: int) -> None:
        """A read met a shard that is gone or rotten: remembered for repair, up to MAX_BAD of them."""
        for write_id in record.write_ids:
            if len(self.bad) < MAX_BAD:
                self.bad.setdefault((write_id, slot), record)

    async def close(self) -> None:
        """Finish what is queued and close every volume."""
        for lane in self.lanes:
            if lane is not None:
                await lane.close()
