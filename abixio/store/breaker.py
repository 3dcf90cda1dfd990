"""The circuit breaker of one volume: whether it is asked first, last or not at all, and when that is tried again.

A volume that keeps others waiting is slow: reads ask it last and writes do not wait for it. One that errs on read after
read, or hangs, is down: nobody asks it. Both are probed on threads of their own, with back-off, and end by themselves once
the disk answers again; what was missed meanwhile is in the journal. A volume that failed stays out: after a failed sync
nobody knows what it holds.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from typing import Final

from abixio.errors import VolumeError, VolumeUnusable

_log = logging.getLogger(__name__)

ERRORS: Final = 3
"""Failed reads in a row after which a volume is down. Fewer may be three rotten pages; more is a client's wait for each."""
QUICK: Final = 0.05
"""Seconds of a probe that finds a well disk: a spinning one under load needs half of that, most need a hundredth."""
SUSPECT: Final = 0.25
"""Seconds of a probe that confirm a suspicion: several times what a loaded disk, or a loaded processor, explains."""
GOOD: Final = 2
"""Quick probes in a row that end it: a disk that hangs now and then answers one by chance."""
SHORTEST: Final = 0.25
LONGEST: Final = 15.0
"""Seconds between probes, twice as many after each in vain: a disk that is back is used again within that time."""
CALM: Final = 60.0
"""Seconds of health after which back-off starts anew. A volume that comes and goes is asked more and more rarely."""


class State(Enum):
    UP = "up"
    SLOW = "slow"
    DOWN = "down"
    FAILED = "failed"


class Breaker:
    """Used on the event loop; only the probe itself runs elsewhere."""

    def __init__(
        self, slot: int, probe: Callable[[], None], loop: asyncio.AbstractEventLoop, changed: Callable[[], None],
    ) -> None:
        """`changed` is called after each change of the state."""
        self.state = State.UP
        self.why = ""
        self.since = time.time()
        """When the state began."""
        self.errors = 0
        """Failed reads since the last good one."""
        self._slot = slot
        self._probe = probe
        self._loop = loop
        self._changed = changed
        self._pause = SHORTEST
        self._good = 0
        self._timer: asyncio.TimerHandle | None = None
        self._probing = False
        self._closed = False

    def erred(self, error: VolumeError) -> None:
        """A read failed."""
        self.errors += 1
        if self.errors >= ERRORS:
            self.down(str(error))

    def suspect(self) -> None:
        """It may keep others waiting: a probe tells."""
        if self.state is State.UP and not self._probing and not self._closed:
            self._start()

    def slow(self, why: str) -> None:
        """It keeps others waiting."""
        if self.state is State.UP:
            self._trip(State.SLOW, why)

    def down(self, why: str) -> None:
        """It is not to be asked."""
        if self.state in (State.UP, State.SLOW):
            self._trip(State.DOWN, why)

    def fail(self, why: str) -> None:
        """Out for good."""
        if self.state is not State.FAILED:
            _log.error("volume %d is out of service: %s", self._slot, why)
            self._become(State.FAILED, why)

    def close(self) -> None:
        """No more probes; one that runs is not waited for."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()

    # ---- inside ------------------------------------------------------------------------------------------------------
    def _become(self, state: State, why: str) -> None:
        self.state, self.why, self.since = state, why, time.time()
        self.errors = self._good = 0
        self._changed()

    def _trip(self, state: State, why: str) -> None:
        if self.state is State.UP and time.time() - self.since > CALM:
            self._pause = SHORTEST
        first = self.state is State.UP
        meaning = "asked last" if state is State.SLOW else "not asked"
        _log.warning("volume %d is %s, and %s until it is well again: %s", self._slot, state.value, meaning, why)
        self._become(state, why)
        if first and not self._probing:
            self._schedule()

    def _schedule(self) -> None:
        if not self._closed:
            self._timer = self._loop.call_later(self._pause, self._start)

    def _start(self) -> None:
        """A thread for each probe, for it may never come back; then it was the last one."""
        self._probing = True
        threading.Thread(target=self._run, name=f"probe-{self._slot}", daemon=True).start()

    def _run(self) -> None:
        began = time.monotonic()
        error: VolumeError | None = None
        try:
            self._probe()
        except VolumeError as raised:
            error = raised
        seconds = time.monotonic() - began
        with suppress(RuntimeError):  # the loop is closed, for a hung disk outlasts everything
            self._loop.call_soon_threadsafe(self._probed, error, seconds)

    def _probed(self, error: VolumeError | None, seconds: float) -> None:
        self._probing = False
        if self._closed or self.state is State.FAILED:
            return
        if isinstance(error, VolumeUnusable):
            self.fail(str(error))
            return
        if self.state is State.UP:
            if seconds > SUSPECT:
                self.slow(f"a probe took {seconds:.1f} s")
            return
        if error is not None:
            self.down(str(error))
            self._good = 0
        elif seconds > QUICK:
            if self.state is State.DOWN:
                self._become(State.SLOW, f"a probe took {seconds:.1f} s")
            self._good = 0
        else:
            self._good += 1
        if self._good >= GOOD:
            _log.warning("volume %d is well again after %.1f s", self._slot, time.time() - self.since)
            self._become(State.UP, "")
            return
        if not self._good:
            self._pause = min(2 * self._pause, LONGEST)
        self._schedule()
