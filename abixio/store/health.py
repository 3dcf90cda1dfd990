"""How a key and the pool are doing: what inspecting, healing and the state of repair tell an operator. Plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

ShardState = Literal["ok", "missing", "corrupt", "no row", "volume down"]
"""Of one shard. "no row": the volume does not have the record, so what it may have of the shard does not count."""
RowState = Literal["pending", "answered", "committed", "aborted", "none", "rotten", "down"]
"""Of a record on one volume. "answered": as good as committed until the next power cut. "rotten": a row that does not match its
hash. "down": the volume does not answer."""
VolumeState = Literal["up", "slow", "down", "failed", "missing", "filling"]
"""Of one slot. "slow": asked last. "down": tried again by itself. "failed", "missing": out until the next start. "filling": it
answers, but what it does not show may be there all the same."""


@dataclass(frozen=True, slots=True)
class ShardHealth:
    """One shard of one part."""

    part: int
    """The part's number; 1 of a plain object."""
    index: int
    """Its place in shard order."""
    role: Literal["data", "parity"]
    slot: int
    state: ShardState
    where: Literal["file", "catalog"]
    bytes: int
    write_id: str


@dataclass(frozen=True, slots=True)
class KeyHealth:
    """One version of a key on all volumes."""

    bucket: str
    key: str
    seq: int
    rev: int
    kind: str
    size: int
    etag: str
    k: int
    """Data shards; 0 of a record without data."""
    m: int
    row_states: dict[int, RowState]
    """By slot."""
    shards: list[ShardHealth]
    """Of all parts, by part and shard order."""
    readable: bool
    """Committed, and of every part k shards at least are sound."""
    whole: bool
    """Committed on every volume, and every shard is sound."""
    undecided: bool = False
    """A write that can be neither completed nor taken back with the volumes that answer."""


@dataclass(frozen=True, slots=True)
class Discarded:
    """An undecided write that an operator gave up."""

    seq: int
    rev: int
    kind: str
    modified: int
    """ms since 1970."""
    size: int


@dataclass(frozen=True, slots=True)
class Healed:
    """What healing a key did."""

    examined_shards: int = 0
    rebuilt_shards: int = 0
    rebuilt_bytes: int = 0
    rows: int = 0
    """Rows that were missing or rotten and were put in their place."""
    failed: tuple[str, ...] = ()
    """What could not be made whole, and why."""

    def __add__(self, other: Healed) -> Healed:
        return Healed(
            self.examined_shards + other.examined_shards, self.rebuilt_shards + other.rebuilt_shards,
            self.rebuilt_bytes + other.rebuilt_bytes, self.rows + other.rows, self.failed + other.failed,
        )


@dataclass(frozen=True, slots=True)
class VolumeStatus:
    """One slot of the pool."""

    slot: int
    state: VolumeState
    why: str
    """Why it is not up; of one that is, what the last write that failed said."""
    since: float
    """When that began, seconds since 1970; 0: at the start."""
    unsettled: int
    """Rows that it has and not all others are known to have, counted up to `UNSETTLED_COUNTED`."""


@dataclass(frozen=True, slots=True)
class RefillStatus:
    """How far the refill of a volume is."""

    slot: int
    objects: int
    bytes: int
    of_objects: int
    """Estimate; 0 while it is not known."""
    rate: float
    """Bytes per second, lately."""
    eta: float | None
    """Seconds; None while it is not known."""


@dataclass(frozen=True, slots=True)
class ScanStatus:
    """What the scanner has done in this pass."""

    running: bool
    position: str
    """How far it is: bucket id and key, for people."""
    objects: int
    bytes: int
    bad: int
    repaired: int
    orphans: int
    """Files removed that nothing named."""
    rate: int
    """Bytes per second that it may read; 0: it is off."""
    started: int
    """ms since 1970; 0: never."""
    finished: int
    """End of the last full pass, ms since 1970; 0: never."""


@dataclass(frozen=True, slots=True)
class LifecycleStatus:
    """What the lifecycle rules of all buckets did."""

    running: bool
    buckets: int
    """Of which some rules are known."""
    deleted: int
    """Versions, delete markers and uploads so far."""
    judged: int
    """Keys and uploads that were looked at since the start."""
    waiting: int
    """Sweeps that have to judge some keys again: a retention ends, or volumes did not answer."""
    finished: int
    """End of the last pass, ms since 1970; 0: never."""


@dataclass(frozen=True, slots=True)
class RepairStatus:
    """The state of repair in the whole pool."""

    volumes: list[VolumeStatus]
    refill: list[RefillStatus]
    scan: ScanStatus | None
    bad: int
    """Bad shards that reads met and that wait for repair."""
    waiting: int
    """Keys that could not be brought to rest and wait for their next try."""
    lifecycle: LifecycleStatus | None = None
    undecided: Sequence[tuple[str, str]] = ()
    """Bucket and key of writes that nobody can decide with these volumes; the first `UNDECIDED_NAMED` that were met."""


UNDECIDED_NAMED = 100
"""More than an operator wants to read at a time; the others come when these are decided."""
UNSETTLED_COUNTED = 10_000
"""More is not counted: it takes a second, and says no more."""
