"""What a check finds, and the report that it ends in."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from abixio.volume.catalog_check import Mend
from abixio.volume.interface import RowId

REMEMBERED: Final = 100_000
"""Findings kept with their texts and cures, some 50 MiB; beyond that they are only counted. Repair works in rounds of as
many."""


class Level(StrEnum):
    """How bad it is."""

    LOST = "lost"
    """Bytes that nothing on these volumes can bring back."""
    DAMAGE = "damage"
    """Not as it should be; repair can make it whole."""
    NOTICE = "notice"
    """Work that a server finishes by itself, or something that is not ours."""


class Kind(StrEnum):
    """What it is about. These words are part of the JSON output."""

    IDENTITY = "identity"
    VOLUME = "volume"
    CATALOG = "catalog"
    AGE = "age"
    RECORD = "record"
    ROW = "row"
    HEAD = "head"
    REF = "ref"
    INLINE = "inline"
    JOURNAL = "journal"
    GARBAGE = "garbage"
    NOTE = "note"
    SHARD = "shard"
    ORPHAN = "orphan"
    UNFINISHED = "unfinished"
    FOREIGN = "foreign"
    BUCKET = "bucket"
    DATA = "data"


@dataclass(frozen=True, slots=True)
class Finding:
    """One of them. `cures` are changes of that slot's catalog; `row` is for the healer where no catalog change helps."""

    level: Level
    kind: Kind
    text: str
    slot: int | None = None
    row: RowId | None = None
    cures: tuple[Mend, ...] = ()


@dataclass(slots=True)
class Report:
    """The findings of one check, in the order they were made. Added to by one thread at a time."""

    findings: list[Finding] = field(default_factory=list)
    counts: Counter[Level] = field(default_factory=Counter)
    kinds: Counter[tuple[Level, Kind]] = field(default_factory=Counter)
    versions: int = 0
    shards: int = 0
    bytes: int = 0
    commits: dict[int, int] = field(default_factory=dict)
    """Of each catalog that could be read, how many changes it had seen: tells whether a repair comes too late."""

    def add(self, finding: Finding) -> None:
        self.counts[finding.level] += 1
        self.kinds[finding.level, finding.kind] += 1
        if len(self.findings) < REMEMBERED:
            self.findings.append(finding)

    @property
    def clean(self) -> bool:
        """Nothing but notices."""
        return not self.counts[Level.DAMAGE] and not self.counts[Level.LOST]

    @property
    def unlisted(self) -> int:
        """Findings that were only counted."""
        return self.counts.total() - len(self.findings)

    def plain(self) -> dict[str, Any]:
        """For --json."""
        return {
            "clean": self.clean,
            "versions": self.versions,
            "shards": self.shards,
            "bytes": self.bytes,
            "counts": {level.value: self.counts[level] for level in Level},
            "kinds": {f"{level.value}/{kind.value}": count for (level, kind), count in sorted(self.kinds.items())},
            "findings": [
                {"level": one.level.value, "kind": one.kind.value, "slot": one.slot, "text": one.text} for one in self.findings
            ],
            "unlisted": self.unlisted,
        }
