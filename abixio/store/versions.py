"""Which versions of a key show: what committed records above them hide, how versions are named, and what LIST may show. No I/O.

A record hides what lies below it for good: all older versions (`older`, in a bucket that was never versioned), the null version
(`null`, while versioning is suspended), one version that was deleted by its id (`one`), or nothing. A greater rev of a version
always hides the lesser ones: tags, retention and a new layout make a new rev. A volume may delete what is hidden here, and with
it what that hid: so whatever hides a record hides all that this record hides.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final, Literal

from abixio.errors import CatalogCorrupt, InvalidVersionId
from abixio.store.record import NULL, Record, unpack, version_name
from abixio.store.resolve import LISTED_KINDS, Fate, Version, View
from abixio.volume.interface import Row, State

FLEETING: Final = frozenset({"tombstone", "kill"})
"""Kinds whose records go once every volume holds them and nothing that they hide."""
VERSION_KINDS: Final = frozenset({"object", "marker"})

_ID: Final = re.compile(r"[A-Za-z0-9._]{32}")
"""As S3 makes version ids; here they are hex digits."""
_OURS: Final = re.compile(r"[0-9a-f]{32}")

Which = int | Literal["null"] | None
"""The seq of a version, the null version, or the current one."""
EVERY: Final = -2
"""A `Which` that no version is, and on which all that is unsettled has a bearing."""


def which(space: bytes, id: str | None) -> Which:
    """What a version id names; -1, the seq of nothing, for one that this bucket never gave out. InvalidVersionId."""
    if id is None:
        return None
    if id == NULL:
        return NULL
    if not _ID.fullmatch(id):
        raise InvalidVersionId(id)
    seq = int(id[:16], 16) if _OURS.fullmatch(id) else -1
    return seq if seq >= 0 and id == version_name(space, seq) else -1


class Shadow:
    """What the committed records seen so far hide, walking from the newest row to the oldest."""

    __slots__ = ("_killed", "_null", "_shown", "total")

    def __init__(self) -> None:
        self.total = False
        """Nothing below shows."""
        self._null = False
        self._killed: set[int] = set()
        self._shown = -1

    def add(self, record: Record) -> None:
        """A committed record that shows."""
        self._shown = record.seq
        if record.hides == "older":
            self.total = True
        elif record.hides == "null":
            self._null = True
        if record.hidden:
            self._killed.add(record.hidden)

    def covers(self, seq: int, record: Record | bytes) -> bool:
        """Whether a row below is hidden. One whose stored record cannot be read is not taken for the null version."""
        return self.total or seq == self._shown or seq in self._killed or (self._null and _is_null(record))


def _is_null(record: Record | bytes) -> bool:
    if isinstance(record, bytes):
        try:
            record = unpack(record)
        except CatalogCorrupt:
            return False
    return record.kind in VERSION_KINDS and not record.versioned


def walk(view: View) -> Iterator[tuple[Version, Fate]]:
    """The rows of a key that nothing committed above them hides, newest first, each with its fate."""
    shadow = Shadow()
    for version in view.versions:
        if shadow.covers(version.id.seq, version.stored):
            continue
        fate = view.judge(version)
        yield version, fate
        if fate is Fate.COMMITTED:
            shadow.add(version.record)
            if shadow.total:
                return


def is_wanted(record: Record, wanted: Which) -> bool:
    """Whether a visible record is the one asked for."""
    if wanted is None:
        return record.kind != "kill"
    if record.kind not in VERSION_KINDS:
        return False
    return not record.versioned if wanted == NULL else record.versioned and record.seq == wanted


def matters(record: Record, wanted: Which) -> bool:
    """Whether the answer depends on what becomes of this unsettled record."""
    if wanted is None or wanted == EVERY or is_wanted(record, wanted) or record.hides == "older":
        return True
    return record.hides == "null" if wanted == NULL else record.hides == "one" and record.hidden == wanted


def hides(record: Record, row: Row) -> bool:
    """Whether a committed record makes that row of the same key invisible for good."""
    if (row.id.seq, row.id.rev) >= (record.seq, record.rev):
        return False
    shadow = Shadow()
    shadow.add(record)
    return shadow.covers(row.id.seq, row.record)


def shown(rows: Iterable[Row]) -> tuple[int, int] | None:
    """The seq and rev of the row that LIST shows of a key, going by the rows of one volume, newest first."""
    shadow = Shadow()
    for row in rows:
        if row.state is State.ABORTED or shadow.covers(row.id.seq, row.record):
            continue
        record = unpack(row.record)
        if record.kind != "kill":
            return row.id[2:] if record.kind in LISTED_KINDS else None
        shadow.add(record)
    return None
