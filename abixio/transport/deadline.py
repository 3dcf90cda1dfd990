"""The one timer of a connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Deadline:
    """Calls `expired` once when a time set has come and was neither moved nor cleared.

    Moving it later, or clearing it, leaves the event loop's timer as it is: that wakes up, finds that it is too early and
    goes to sleep for the rest. So a request that arrives in one piece and is answered at once touches no timer at all.
    """

    __slots__ = ("_at", "_expired", "_handle", "_loop", "_wakes")

    def __init__(self, loop: asyncio.AbstractEventLoop, expired: Callable[[], None]) -> None:
        self._loop = loop
        self._expired = expired
        self._handle: asyncio.TimerHandle | None = None
        self._at: float | None = None
        self._wakes = 0.0

    def set(self, seconds: float) -> None:
        """From now on, `seconds`."""
        self._at = at = self._loop.time() + seconds
        if self._handle is None:
            self._arm(at)
        elif at < self._wakes:
            self._handle.cancel()
            self._arm(at)

    def clear(self) -> None:
        """No limit until the next `set`."""
        self._at = None

    def close(self) -> None:
        """No limit, and nothing left in the event loop."""
        self._at = None
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _arm(self, at: float) -> None:
        self._wakes = at
        self._handle = self._loop.call_at(at, self._wake)

    def _wake(self) -> None:
        self._handle = None
        if self._at is None:
            return
        if self._at > self._loop.time():
            self._arm(self._at)
        else:
            self._at = None
            self._expired()
