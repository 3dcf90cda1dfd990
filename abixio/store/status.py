"""The state of repair, put together for an operator."""

from __future__ import annotations

from functools import partial
from typing import Final

from abixio.errors import Overloaded, VolumeError
from abixio.store.health import UNSETTLED_COUNTED, VolumeStatus
from abixio.store.lane import Lane
from abixio.store.pool import Pool
from abixio.volume.interface import RowId

PAGE: Final = 1000
"""Journal entries per look, as many as a read transaction may span."""


async def volume_status(pool: Pool, slot: int, refill: str) -> VolumeStatus:
    """How one volume is, and how much of it not all others are known to have. `refill`: how its refill is, should it need one."""
    lane, condition = pool.lanes[slot], pool.condition(slot)
    unsettled = 0 if lane is None or not lane.up else await _unsettled(pool, lane)
    if slot in pool.filling and lane is not None and lane.up:
        why = "it went back in time" if slot in pool.regressed else "it was blank"
        return VolumeStatus(slot, "filling", f"{why}; {refill}", condition.since, unsettled)
    return VolumeStatus(slot, condition.state, condition.why, condition.since, unsettled)  # type: ignore[arg-type]


async def _unsettled(pool: Pool, lane: Lane) -> int:
    after: RowId | None = None
    count = 0
    try:
        while count < UNSETTLED_COUNTED:
            ids = await lane.ask(partial(lane.volume.unsettled, after, PAGE))
            count += len(ids)
            if len(ids) < PAGE:
                break
            after = ids[-1]
    except (VolumeError, Overloaded) as error:
        pool.lost(lane, error)
    except TimeoutError:  # its breaker knows
        return count
    return count
