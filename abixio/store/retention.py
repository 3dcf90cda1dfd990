"""What object lock protects: a version under retention or a legal hold is not deleted before its time."""

from __future__ import annotations

import time

from abixio.errors import ObjectLocked
from abixio.store.record import Record


def check_unlocked(record: Record, bypass: bool) -> None:
    """ObjectLocked while the version must not be deleted. `bypass`: the caller may set governance retention aside."""
    lock = record.lock
    if not lock:
        return
    if lock.get("hold") == "ON":
        raise ObjectLocked("a legal hold is on")
    if int(lock.get("until", 0)) > time.time_ns() // 1_000_000 and not (bypass and lock["mode"] == "GOVERNANCE"):
        raise ObjectLocked(f"{lock['mode'].lower()} retention until {lock['until']}")
