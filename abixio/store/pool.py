"""The pool: the lanes of N volumes and what every part of the store shares."""

from __future__ import annotations

import asyncio
import logging
import resource
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from abixio.config import Config
from abixio.errors import AbixioError, Overloaded, VolumeError
from abixio.store.breaker import State
from abixio.store.bytelocks import ByteLocks
from abixio.store.crew import Crew
from abixio.store.gang import Gang
from abixio.store.lane import Lane
from abixio.store.record import Record
from abixio.volume.interface import Volume

if TYPE_CHECKING:
    from abixio.store.buffers import BufferPool

_log = logging.getLogger(__name__)

MAX_MAPS: Final = 32_768
"""Maps of shards at a time: half of what Linux gives a process (vm.max_map_count), for threads and memory need maps too."""
FILES_SHARE: Final = 4
"""A quarter of the descriptors is for shards being written: half is for connections, the rest for catalogs and reads."""
LOOKERS: Final = 8
"""Listings and searches of the journal at a time: 256 descriptors on 16 volumes; more would only wait for a processor."""
WAIT: Final = 30.0
"""Seconds to wait for a shard that another process makes: as long as for a key."""
QUIET: Final = 30.0
"""Seconds between two lines of log on errors of one volume."""
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


@dataclass(frozen=True, slots=True)
class Condition:
    """How a volume is: "up", "slow", "down" (it will be tried again), "failed" (out until the next start), "missing"."""

    state: str
    why: str
    """Of one that is up: what the last write that failed said."""
    since: float
    """Seconds since 1970; 0: since the start."""


class Places:
    """So many of something that a process has only so many of."""

    def __init__(self, most: int, users: str) -> None:
        self.most = most
        self.taken = 0
        self._users = users

    def take(self, count: int) -> None:
        """Overloaded when there are not so many left."""
        if self.taken + count > self.most:
            raise Overloaded(f"{self.taken} of {self.most} files are open for {self._users}")
        self.taken += count

    def give_back(self, count: int) -> None:
        self.taken -= count


class InUse(Counter[bytes]):
    """Write ids whose files somebody uses, and how many do. `told`: where the other processes of a crew see it."""

    def __init__(self, told: Callable[[Collection[bytes], int], None] | None = None) -> None:
        super().__init__()
        self._told = told

    def take(self, write_ids: Collection[bytes]) -> None:
        """One user of each of them more."""
        self.update(write_ids)
        if self._told is not None:
            self._told(write_ids, 1)

    def let_go(self, write_ids: Collection[bytes]) -> None:
        """One user of each of them less."""
        for write_id in write_ids:
            self[write_id] -= 1
            if not self[write_id]:
                del self[write_id]
        if self._told is not None:
            self._told(write_ids, -1)


class Pool:
    """Lanes by slot; None where a member is missing. Everything here is used from the event loop only."""

    def __init__(
        self, volumes: Mapping[int, Volume], n: int, filling: Collection[int], config: Config,
        executor: ThreadPoolExecutor, buffers: BufferPool, loop: asyncio.AbstractEventLoop, crew: Crew | None = None,
    ) -> None:
        """`crew`: the processes that serve the pool, when this is not the only one."""
        self.n = n
        self.crew = crew
        self.joins = False
        """Whether other processes have the volumes open already."""
        self.quorum = Quorum(n)
        self.config = config
        self.executor = executor
        self.gang = Gang(executor, loop)
        self.lookers = ThreadPoolExecutor(LOOKERS, thread_name_prefix="looker")
        """For jobs that ask all catalogs: each thread keeps two descriptors for each of them."""
        self.buffers = buffers
        self.loop = loop
        self.lanes: list[Lane | None] = [Lane(volumes[slot], loop) if slot in volumes else None for slot in range(n)]
        self.filling = set(filling)
        self.regressed: set[int] = set()
        self.since: dict[int, int] = {}
        """Of filling volumes: the seq above which their silence counts."""
        self.asked = 0
        """Requests of clients for objects so far: background work steps back while it grows."""
        self.maps = Places(MAX_MAPS, "reads")
        self.files = Places(resource.getrlimit(resource.RLIMIT_NOFILE)[0] // FILES_SHARE, "uploads")
        self.pins = InUse(None if crew is None else crew.pin)
        """Write ids whose files somebody reads: they are not unlinked meanwhile."""
        self.writing = InUse(None if crew is None else crew.write)
        """Write ids whose files are made, or are there, for a row that is not: they are no orphans."""
        self.bad: dict[tuple[bytes, int], Record] = {}
        """Shards, by write id and slot, that reads found missing or corrupt, and the records that name them."""
        self._makers = None if crew is None else ByteLocks(crew, b"make")
        self.making: dict[tuple[bytes, int], asyncio.Future[None]] = {}
        """Shards, by write id and slot, that are being made again: nobody makes one of them a second time meanwhile."""

    @property
    def durable(self) -> bool:
        """Whether an answer waits for a sync."""
        return self.config.durability == "fsync"

    def up(self) -> list[Lane]:
        """The lanes that answer, as far as is known, in slot order."""
        return [lane for lane in self.lanes if lane is not None and lane.up]

    def whole(self, slot: int) -> None:
        """That volume is filling no more: its silence counts again."""
        self.filling.discard(slot)
        self.since.pop(slot, None)
        self.regressed.discard(slot)

    def vouching(self, slots: Collection[int]) -> int:
        """How many of those slots may speak by silence: all that are not filling."""
        return sum(slot not in self.filling for slot in slots)

    def lost(self, lane: Lane, error: AbixioError) -> None:
        """A volume failed to answer. Said now and then; its breaker decides what follows."""
        if isinstance(error, VolumeError):
            lane.erred(error)
        now = self.loop.time()
        if now >= lane.quiet_until:
            _log.warning("volume %d: %s%s", lane.slot, error, f" ({lane.unsaid} more errors)" if lane.unsaid else "")
            lane.quiet_until, lane.unsaid = now + QUIET, 0
        else:
            lane.unsaid += 1

    def condition(self, slot: int) -> Condition:
        """How a volume is."""
        lane = self.lanes[slot]
        if lane is None:
            return Condition("missing", "it was not there, or could not be opened, when the server started", 0.0)
        breaker = lane.breaker
        if lane.failed is not None:
            return Condition("failed", str(lane.failed), breaker.since)
        if not lane.up and breaker.state is not State.DOWN:
            return Condition("down", "a call on it hangs", breaker.since)
        return Condition(breaker.state.value, breaker.why or str(lane.trouble or ""), breaker.since)

    def spare_thread(self, hung: asyncio.Future[Any], executor: ThreadPoolExecutor | None = None) -> None:
        """That job keeps its thread for as long as its disk hangs: another thread takes its place meanwhile. Or as many reads as
        there are threads, all on one hung disk, would stop everybody."""
        short = executor or self.executor
        short._max_workers += 1
        hung.add_done_callback(lambda job: self._returned(short))

    @staticmethod
    def _returned(executor: ThreadPoolExecutor) -> None:
        executor._max_workers -= 1

    @contextmanager
    def writes(self, write_ids: Collection[bytes]) -> Iterator[None]:
        """While inside, files of those ids are in the making."""
        self.writing.take(write_ids)
        try:
            yield
        finally:
            self.writing.let_go(write_ids)

    @contextmanager
    def reads(self, write_ids: Collection[bytes]) -> Iterator[None]:
        """While inside, files of those ids are not unlinked."""
        self.pins.take(write_ids)
        try:
            yield
        finally:
            self.pins.let_go(write_ids)

    def read_elsewhere(self, write_id: bytes) -> bool:
        """Whether another process may be reading that file. From any thread."""
        return self.crew is not None and self.crew.read_elsewhere(write_id)

    def used_elsewhere(self, write_id: bytes) -> bool:
        """Whether another process may be reading or making that file. From any thread."""
        crew = self.crew
        return crew is not None and (crew.written_elsewhere(write_id) or crew.read_elsewhere(write_id))

    @property
    def load(self) -> int:
        """Requests of clients so far, of all processes."""
        return self.asked if self.crew is None else self.asked + self.crew.asked()

    def makes(self, write_id: bytes, slot: int) -> AbstractAsyncContextManager[None]:
        """While inside, no other process makes that shard (this one sees to that with `making`). Overloaded."""
        return nullcontext() if self._makers is None else self._makers.hold((write_id, bytes((slot,))), True, WAIT)

    def report_bad(self, record: Record, write_id: bytes, slot: int) -> None:
        """A read met a shard that is gone or rotten: remembered for repair, up to MAX_BAD of them."""
        if len(self.bad) < MAX_BAD:
            self.bad.setdefault((write_id, slot), record)

    async def close(self) -> None:
        """Finish what is queued and close every volume."""
        self.lookers.shutdown(wait=False, cancel_futures=True)
        for lane in self.lanes:
            if lane is not None:
                await lane.close()
