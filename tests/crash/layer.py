"""The layer under the volumes: it numbers every call to the operating system, and fails it or ends the process there; and it
can write down all that a disk is asked to do.

`LayerFiles` stands under `LocalVolume`, `LayerVFS` under its SQLite; both report to one `Layer` per process, under one lock,
so that there is a single order of calls over all volumes and threads. A call is named by a `Point`: which volume, which
site (what is called on which kind of file), and how many such calls came before. Threads of different volumes race, so
a number over all of them would name another call in every run.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any, Final, NamedTuple

BOOT: Final = "boot-before"
"""The kernel's boot id during a run; another one after a power cut."""


class Point(NamedTuple):
    """The `number`-th call (from 0) of `site` on the volume of `slot`."""

    slot: int
    site: str
    number: int

    def __str__(self) -> str:
        return f"volume {self.slot}, {self.site} #{self.number}"


class Fault(NamedTuple):
    """What happens at a point. `kind` is one of KINDS."""

    kind: str
    point: Point


WRITES: Final = frozenset(("create", "writev", "mkdir", "rename", "xWrite", "xOpen", "lock"))
"""Calls that a full disk refuses."""
OPENS: Final = frozenset(("create", "open", "lock", "xOpen", "names"))
"""Calls that need a descriptor."""
SYNCS: Final = frozenset(("fdatasync", "syncfs", "fsync_directory", "xSync"))
CHANGES: Final = frozenset(("create", "writev", "mkdir", "rename", "unlink", "xWrite", "xTruncate", "xDelete")) | SYNCS
"""Calls behind which the disk is in another state than before."""
SHORT: Final = frozenset(("writev", "xWrite"))
KINDS: Final = ("kill", "eio", "dead", "plague", "enospc", "full", "emfile", "short", "lost sync")
"""kill: SIGKILL before the call. eio, enospc, emfile: this call fails. dead: from this change of it on, every call on the volume
fails. plague: from this change on, every such call on all volumes fails.
full: from here on no volume takes new data. short: half of the data is written. lost sync: the call fails and what it was to
make durable is dropped; the power is cut at the end."""


_NEVER_FAILS: Final = "xTruncate catalog.db-wal"
"""A log that SQLite cannot shorten stays as long as it is; apsw would make an error of that (see layer_vfs.Connection)."""
_MEANS: Final = {
    "eio": "EIO", "dead": "EIO", "plague": "EIO", "lost sync": "EIO", "enospc": "ENOSPC", "full": "ENOSPC", "emfile": "EMFILE",
}


def applies(kind: str, site: str) -> bool:
    """Whether that fault can happen to such a call."""
    call = site.partition(" ")[0]
    match kind:
        case "kill":
            return call in CHANGES
        case "enospc" | "full":
            return call in WRITES
        case "emfile":
            return call in OPENS
        case "short":
            return call in SHORT
        case "lost sync":
            return call in SYNCS
        case "dead" | "plague":
            return call in CHANGES and site != _NEVER_FAILS
    return call != "close" and site != _NEVER_FAILS


class Layer:
    """One process's counts, fault and journal."""

    def __init__(self, fault: Fault | None = None, record: bool = False, boot: str = BOOT) -> None:
        self.lock = threading.RLock()
        self.counts: Counter[tuple[int, str]] = Counter()
        self.fault = fault
        self.tripped = False
        self.boot = boot
        self.journal: list[tuple[Any, ...]] | None = [] if record else None
        self.doomed: Callable[[], None] = lambda: None
        """Called right before the process is killed."""

    def note(self, *entry: Any) -> None:
        """Write down something that was done."""
        if self.journal is not None:
            with self.lock:
                self.journal.append(entry)

    def enter(self, slot: int, site: str) -> str | None:
        """Count a call; what is to go wrong with it: an errno's name, "short" or None. The lock is held."""
        number = self.counts[slot, site]
        self.counts[slot, site] += 1
        fault = self.fault
        if fault is None:
            return None
        point = fault.point
        if not self.tripped:
            if (slot, site, number) != point:
                return None
            self.tripped = True
            if fault.kind == "kill":
                self.doomed()
                os.kill(os.getpid(), signal.SIGKILL)
            return _MEANS.get(fault.kind, fault.kind)
        if fault.kind == "dead" and slot == point.slot and applies("eio", site):
            return "EIO"
        if fault.kind == "plague" and site == point.site:
            return "EIO"
        if fault.kind == "full" and applies("full", site):
            return "ENOSPC"
        return None


def kind_of(name: str) -> str:
    """What a path (relative to its volume) is: the second half of a site."""
    if name.startswith("shards/"):
        return "shard" if name.count("/") == 2 else "directory"
    if name.startswith(".abixio/tmp/"):
        return "tmp"
    return {"": "root", ".": "root", ".abixio": "home", ".abixio/tmp": "directory", "shards": "directory"}.get(
        name, os.path.basename(name)
    )
