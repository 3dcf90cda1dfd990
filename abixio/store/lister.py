"""LIST: a range scan of one volume that is not filling, merged with the unsettled keys of that range from all others.

Only unsettled keys, and rows that are not committed yet, go through the reader's rule; so a page costs what it shows.
The journal is read before the scan: a key acknowledged before the call is either in the journal, or settled and then
in every volume's scan.
"""

from __future__ import annotations

from bisect import bisect_left
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Literal

from abixio.errors import CatalogCorrupt, Unavailable, VolumeError
from abixio.store.commit import Committer
from abixio.store.lane import Lane
from abixio.store.lookup import Doubt, Found
from abixio.store.pace import Pace
from abixio.store.pool import Pool
from abixio.store.record import unpack
from abixio.volume.interface import Row, State

BATCH: Final = 1000
"""Rows per scan: the most a read transaction may span."""
LEAST: Final = 32
"""Journal entries per look, however short the scan: most looks then see all there are."""
PAST_ALL: Final = b"\xff"
"""No UTF-8 begins with it."""


@dataclass(frozen=True, slots=True)
class Query:
    """One page: keys of `space` behind `prefix` from `start` on. The last `tail` bytes of a key are no part of its name."""

    space: bytes
    prefix: bytes
    delimiter: bytes
    start: bytes
    limit: int
    tail: int = 0


@dataclass(slots=True)
class Page:
    """What one look found."""

    entries: dict[bytes, Found | None] = field(default_factory=dict)
    """What the reader's rule found; None: only the key lock can tell."""
    prefixes: list[bytes] = field(default_factory=list)
    truncated: bool = False
    last: bytes = b""
    """The last key or prefix covered."""

    def __len__(self) -> int:
        return len(self.entries) + len(self.prefixes)


def successor(prefix: bytes) -> bytes | None:
    """The least key above all keys that start with `prefix`; None when there is none."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else None


def rolled(query: Query, key: bytes) -> bytes | None:
    """The common prefix that the key belongs to, if any."""
    if not query.delimiter:
        return None
    at = key.find(query.delimiter, len(query.prefix), len(key) - query.tail)
    return None if at < 0 else key[: at + len(query.delimiter)]


def vouching(pool: Pool) -> list[Lane]:
    """The volumes whose silence counts, slow ones last."""
    return sorted((lane for lane in pool.up() if lane.slot not in pool.filling), key=lambda lane: not lane.well)


class Lister:
    """Makes a page. Runs in a thread; touches nothing but the volumes' reading side. Slow volumes are asked when the others are
    not enough."""

    def __init__(self, committer: Committer, pace: Pace) -> None:
        self._committer = committer
        self._pool = committer.pool
        self._pace = pace

    def page(self, query: Query) -> Page:
        """Unavailable when too few volumes answer to rule out what they do not show."""
        page, position, batch = Page(), max(query.start, query.prefix), min(query.limit + 1, BATCH)
        stop = successor(query.prefix) if query.prefix else None
        while True:
            keys, rows, end = self._range(query.space, position, stop, batch)
            skip = self._take(query, page, keys, rows)
            if page.truncated or (skip is None and end is None):
                return page
            batch = 1 if skip is not None else min(2 * batch, BATCH)
            following = skip if skip is not None else end
            if following is None or (stop is not None and following >= stop):
                return page
            position = following

    def first(self, space: bytes) -> set[bytes]:
        """The first keys of a space as each volume by itself would list them."""
        keys = set[bytes]()
        heard = 0
        for lane in vouching(self._pool):
            if not lane.well and heard >= self._pool.quorum.r:
                break
            with suppress(VolumeError), self._pace.at(lane):
                keys.update(row.id.key for row in lane.volume.scan(space, b"", None, BATCH))
                heard += 1
        return keys


    def _take(self, query: Query, page: Page, keys: list[bytes], rows: dict[bytes, Row]) -> bytes | None:
        """Add what is visible of `keys`; returns where to go on when the rest of the range belongs to a common prefix."""
        at = 0
        while at < len(keys):
            key = keys[at]
            found = self._visible(query.space, key, rows.get(key))
            if found is False:
                at += 1
                continue
            if len(page) == query.limit:
                page.truncated = True
                return None
            prefix = rolled(query, key)
            if prefix is None:
                page.entries[key] = found
                page.last = key
                at += 1
                continue
            page.prefixes.append(prefix)
            page.last = prefix
            beyond = successor(prefix) or PAST_ALL
            if beyond > keys[-1]:
                return beyond
            at = bisect_left(keys, beyond)
        return None

    def _visible(self, space: bytes, key: bytes, row: Row | None) -> Found | Literal[False] | None:
        """What a reader would find: False when nothing, None when it would have to take the key lock."""
        if row is not None and row.state is State.COMMITTED:
            with suppress(CatalogCorrupt):
                return Found(unpack(row.record), {})
        try:
            found = self._committer.tell(self._committer.look(space, key, self._pace), reading=False)
        except Doubt:
            return None
        return found if found is not None and found.record.kind != "marker" else False

    def _range(
        self, space: bytes, start: bytes, stop: bytes | None, limit: int
    ) -> tuple[list[bytes], dict[bytes, Row], bytes | None]:
        """Keys that may be listed, in order; the rows that need no rule; where the range ended if there may be more."""
        lanes = vouching(self._pool)
        heard, pending, end = 0, set[bytes](), None
        most = max(limit, LEAST)
        for lane in lanes:
            if not lane.well and heard >= self._pool.quorum.r:
                break
            found = self._journal(lane, space, start, stop, most)
            if found is None:
                continue
            heard += 1
            pending.update(found)
            if len(found) == most:
                end = found[-1] if end is None else min(end, found[-1])
        if heard < self._pool.quorum.r:
            raise Unavailable(f"only {heard} volumes can tell what is there")
        rows = self._scan(lanes, space, start, stop, limit)
        if len(rows) == limit:
            end = rows[-1].id.key if end is None else min(end, rows[-1].id.key)
        keys = {row.id.key for row in rows} | pending
        if end is not None:
            keys = {key for key in keys if key <= end}
        return sorted(keys), {row.id.key: row for row in rows if row.id.key not in pending}, None if end is None else end + b"\0"

    def _journal(self, lane: Lane, space: bytes, start: bytes, stop: bytes | None, limit: int) -> list[bytes] | None:
        with suppress(VolumeError), self._pace.at(lane):
            return lane.volume.unsettled_keys(space, start, stop, limit)
        return None

    def _scan(self, lanes: list[Lane], space: bytes, start: bytes, stop: bytes | None, limit: int) -> list[Row]:
        """From the first volume that can."""
        for lane in lanes:
            with suppress(VolumeError), self._pace.at(lane):
                return lane.volume.scan(space, start, stop, limit)
        raise Unavailable("no volume could be listed")
