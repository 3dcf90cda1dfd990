"""The hybrid logical clock behind seq: microseconds since 1970 where the wall clock runs ahead, else one more than the last."""

from __future__ import annotations

import random
import time

from abixio.store.crew import Crew


class Clock:
    """Never backwards, also over restarts: start it above every seq that the volumes remember. A crew has one."""

    def __init__(self, above: int = 0, crew: Crew | None = None) -> None:
        self._last = above
        self._crew = crew
        if crew is not None:
            crew.advance(above)

    def tick(self, above: int = 0) -> int:
        """A seq greater than every one before and than `above`."""
        if self._crew is not None:
            return self._crew.advance(max(time.time_ns() // 1000, above + 1))
        self._last = max(time.time_ns() // 1000, self._last + 1, above + 1)
        return self._last


def write_id() -> bytes:
    """16 bytes: the time in ms, so that an index of them grows at its end, then 80 random bits. Ids have to be different, not
    hard to guess; and a call of the system for each would give the GIL away, to a volume's thread that waits for it: 30 us."""
    return (time.time_ns() // 1_000_000).to_bytes(6, "big") + random.getrandbits(80).to_bytes(10, "big")
