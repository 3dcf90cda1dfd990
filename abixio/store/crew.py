"""What the processes that serve one pool know of each other. One of them, the runner, does the background work of all.

Everything is in one piece of memory that they share (`abixio._shared`), so that asking costs no system call and a process that
dies leaves nothing locked. A pool that one process serves has no `Crew` and pays for nothing of this.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import Final

from abixio import _shared
from abixio.volume.company import Company, Turn

_CLOCK: Final = 0
_NEWS: Final = 8
"""The first cell of `Topic`."""
_ASKED: Final = 64
"""The first cell of the requests that each process had."""
KEYS: Final = 1 << 62
"""The first byte of the key locks; below are the turns of volumes."""


class Topic(IntEnum):
    """What the others have to look up anew. One cell counts for each."""

    RULES = 0
    """Lifecycle rules of some bucket."""
    WHOLE = 1
    """A volume is filling no more."""


class _Table(IntEnum):
    """Counters of each process, by id."""

    PINS = 0
    """Write ids whose files somebody reads."""
    WRITING = 1
    """Write ids whose files are made."""
    WANTED = 2
    """Key locks that somebody waits for, to be alone."""


class Crew:
    """All of them, as process `number` of `count` sees them; 0 is the runner."""

    def __init__(self, fd: int, number: int, count: int, born: float) -> None:
        """`fd`: from `create`. `born`: time.time() when the first of them began; nobody wrote to the volumes between that and the
        end of those who had them before."""
        self.number = number
        self.count = count
        self.born = born
        self.locks = _shared.Locks(fd)
        self._memory = _shared.Memory(fd, count * len(_Table))
        self._others = [other for other in range(count) if other != number]

    @property
    def runner(self) -> bool:
        """Whether this process does what is to be done once for all."""
        return self.number == 0

    def company(self, slot: int, joins: bool, lock: int | None = None) -> Company:
        """How this process uses a volume beside the others. `joins`: others have opened it before; `lock`: and locked it."""
        return Company(self.number, joins, Turn(self.locks, slot), lock)

    def advance(self, least: int) -> int:
        """The clock of all: `least` at least, and more than anybody got before."""
        return self._memory.advance(_CLOCK, least)

    # ---- news --------------------------------------------------------------------------------------------------------
    def tell(self, topic: Topic) -> None:
        """The others have to look."""
        self._memory.add(_NEWS + topic, 1)

    def heard(self, topic: Topic) -> int:
        """How often it was told."""
        return self._memory.load(_NEWS + topic)

    def publish(self, asked: int) -> None:
        """How many requests this process had."""
        self._memory.store(_ASKED + self.number, asked)

    def asked(self) -> int:
        """How many the others had, as they last said."""
        return sum(self._memory.load(_ASKED + other) for other in self._others)

    # ---- files -------------------------------------------------------------------------------------------------------
    def pin(self, write_ids: Iterable[bytes], more: int = 1) -> None:
        self._memory.count(self._own(_Table.PINS), write_ids, more)

    def unpin(self, write_ids: Iterable[bytes]) -> None:
        self.pin(write_ids, -1)

    def write(self, write_ids: Iterable[bytes], more: int = 1) -> None:
        self._memory.count(self._own(_Table.WRITING), write_ids, more)

    def read_elsewhere(self, write_id: bytes) -> bool:
        """Whether another process may be reading that file: a counter stands for one in 65,536 ids."""
        return self._elsewhere(_Table.PINS, write_id)

    def written_elsewhere(self, write_id: bytes) -> bool:
        """Whether another process may be making that file."""
        return self._elsewhere(_Table.WRITING, write_id)

    # ---- key locks ---------------------------------------------------------------------------------------------------
    def want(self, name: bytes, more: int) -> None:
        """Somebody here waits to be alone with that key, or does so no more."""
        self._memory.count(self._own(_Table.WANTED), (name,), more)

    def wanted_elsewhere(self, name: bytes) -> bool:
        return self._elsewhere(_Table.WANTED, name)

    def _own(self, table: _Table) -> int:
        return self.number * len(_Table) + table

    def _elsewhere(self, table: _Table, id: bytes) -> bool:
        memory = self._memory
        return any(memory.counted(other * len(_Table) + table, id) for other in self._others)


def create(count: int) -> int:
    """The memory for so many processes; a descriptor of it."""
    return _shared.create(count * len(_Table))


def bury(fd: int, number: int, count: int) -> None:
    """What a process that is dead had pinned and wanted counts no more."""
    memory = _shared.Memory(fd, count * len(_Table))
    for table in _Table:
        memory.clear(number * len(_Table) + table)
    memory.store(_ASKED + number, 0)
