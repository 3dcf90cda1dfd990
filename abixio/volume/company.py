"""A volume that several processes of one server use at the same time: what each of them has to know for that."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from abixio import _shared
from abixio.errors import VolumeError


class Turn:
    """Who may change the volume: one process at a time, in order.

    SQLite's own lock is polled, with growing pauses, so who writes all the time would keep it. Here the kernel wakes who waits.
    It wakes without handing over, but nobody starves: of four processes that did nothing but take turns for two seconds on two
    cores, each had 18 to 31 % of them. (A second lock for who is next made it no fairer.)
    """

    def __init__(self, locks: _shared.Locks, slot: int) -> None:
        self._locks = locks
        self._turn = slot
        self._own = threading.RLock()
        """Within this process: the byte locks do not know its threads."""
        self._depth = 0

    def __enter__(self) -> Self:
        self._own.acquire()
        try:
            if self._depth == 0:
                self._locks.wait(self._turn)
            self._depth += 1
        except OSError as error:
            raise VolumeError(f"its lock between processes does not work: {error.strerror}") from error
        finally:
            if self._depth == 0:
                self._own.release()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._depth -= 1
        try:
            if self._depth == 0:
                self._locks.free(self._turn)
        finally:
            self._own.release()


@dataclass(slots=True)
class Company:
    """One process of several."""

    worker: int
    """Its number: files in the making carry it, and each process clears away its own."""
    joins: bool
    """Whether others may use the volume already. Then nothing on it is left over, but what a process of this number left."""
    turn: Turn
    lock: int | None = None
    """A descriptor that shares the lock of the volume; None: to be locked."""
    last: bool = False
    """Whether all others have ended in good order: then this one may say that all is well."""
