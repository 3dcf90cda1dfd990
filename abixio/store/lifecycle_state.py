"""How far the lifecycle rules of each bucket are carried out: what the runner remembers on the volumes, some 200 bytes for each
bucket that has rules. All of it may be lost: then the old rows are looked at once more."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Final

import msgspec

from abixio.errors import Overloaded, Unavailable, VolumeError
from abixio.store.errand import errand
from abixio.store.lane import Lane
from abixio.store.pool import Pool

_log = logging.getLogger(__name__)

_NAME: Final = "lifecycle"
SAVE_WAIT: Final = 2.0
"""Seconds for a save; it is no loss when it fails, and the end of the server waits for it."""


class Mark(msgspec.Struct, omit_defaults=True):
    """Of one sweep."""

    done: int = 0
    """All rows up to there were judged for good, ..."""
    again: int = 0
    """... but for some that have to be judged again at that moment, ms since 1970 (0: none), ..."""
    origin: int = 0
    """... which are all behind that row."""

    def postpone(self, row: int, moment: int) -> None:
        """That row has to be judged again then."""
        self.origin = min(self.origin, row - 1) if self.again else row - 1
        self.again = min(self.again, moment) if self.again else moment

    def resume(self, now: int) -> int:
        """Where to begin."""
        if self.again and self.again <= now:
            self.done, self.again = min(self.done, self.origin), 0
        return self.done


class Progress(msgspec.Struct, omit_defaults=True):
    """Of one bucket."""

    document: str
    """Which rules it is about."""
    began: int
    """ms since 1970."""
    marks: dict[str, Mark] = {}
    """By the name of the sweep."""


class State(msgspec.Struct, omit_defaults=True):
    saved: int = 0
    finished: int = 0
    """End of the last pass, ms since 1970."""
    deleted: int = 0
    """Versions, markers and uploads so far."""
    buckets: dict[str, Progress] = {}
    """By the bucket's space, in hex."""


async def load(pool: Pool) -> State:
    """The latest that any volume remembers."""
    latest = State()
    for lane in pool.up():
        try:
            text = await errand(pool, lane, partial(lane.volume.remembered, _NAME))
            found = msgspec.json.decode(text or "{}", type=State)
        except (Unavailable, msgspec.MsgspecError) as error:
            _log.info("volume %d does not remember how far the lifecycle rules are: %s", lane.slot, error)
            continue
        if found.saved > latest.saved:
            latest = found
    return latest


async def save(pool: Pool, state: State) -> None:
    """On every volume that can."""
    text = msgspec.json.encode(state).decode()
    asked: dict[asyncio.Future[None], Lane] = {}
    for lane in pool.up():
        try:
            asked[lane.run(partial(lane.volume.remember, _NAME, text))] = lane
        except (VolumeError, Overloaded) as error:
            pool.lost(lane, error)
    if asked:
        await asyncio.wait(asked, timeout=SAVE_WAIT)
    for future, lane in asked.items():
        refusal = future.exception() if future.done() else None
        if isinstance(refusal, VolumeError):
            pool.lost(lane, refusal)
        future.add_done_callback(lambda late: late.cancelled() or late.exception())
