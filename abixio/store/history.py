"""Pages of ListObjectVersions: every version and delete marker of a range of keys, newest first within a key.

Keys come from the rows of one volume, merged with the unsettled keys of all others, as in `lister`; only unsettled keys are
judged by what all volumes say. A key that only the key lock can tell about is settled under it, and asked again.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final

from abixio.errors import Unavailable, VolumeError
from abixio.store.commit import Committer
from abixio.store.lane import Lane
from abixio.store.lister import PAST_ALL, Lister, Query, rolled, successor, vouching
from abixio.store.pace import Pace, paced
from abixio.store.record import NULL, Record
from abixio.store.resolve import Fate, View
from abixio.store.versions import EVERY, VERSION_KINDS, Which, walk
from abixio.volume.interface import Row, State

BATCH: Final = 1000
"""Rows per look, beyond the last key's: the most a read transaction may span, but for a key of more versions."""


@dataclass(slots=True)
class HistoryPage:
    """`versions` in order, each with whether it is its key's latest; prefixes in order."""

    versions: list[tuple[Record, bool]] = field(default_factory=list)
    prefixes: list[bytes] = field(default_factory=list)
    truncated: bool = False
    last: bytes = b""
    """The last key or prefix covered, as far as it fits."""
    doubt: bytes | None = None
    """A key that has to be settled before the page can go on."""

    def __len__(self) -> int:
        return len(self.versions) + len(self.prefixes)


class History:
    """Gets pages."""

    def __init__(self, committer: Committer) -> None:
        self._committer = committer
        self._pool = committer.pool

    async def page(self, query: Query, behind: Which = None) -> HistoryPage:
        """Versions of keys from `query.start` on; of that key itself only those behind the version `behind`, if one is named."""
        committer = self._committer
        tried: bytes | None = None
        while True:
            page = await paced(self._pool, lambda pace: _Looker(committer, pace).page(query, behind))
            if page.doubt is None:
                return page
            if page.doubt == tried:
                raise Unavailable(f"an unfinished write of {tried!r} cannot be settled with these volumes")
            tried = page.doubt
            async with committer.locks.exclusive(query.space, tried):
                await committer.settled(await committer.view(query.space, tried, lambda view: False), EVERY)

    async def empty(self, space: bytes) -> bool:
        """Whether no version of anything is there, and nothing that any volume lists: one that forgot its keys must not decide
        alone."""
        if len(await self.page(Query(space, b"", b"", b"", 1))):
            return False
        for key in await paced(self._pool, lambda pace: Lister(self._committer, pace).first(space)):
            if await self._committer.current(space, key, reading=False) is not None:
                return False
        return True


class _Looker:
    """Makes a page, on a thread."""

    def __init__(self, committer: Committer, pace: Pace) -> None:
        self._committer = committer
        self._pool = committer.pool
        self._pace = pace

    def page(self, query: Query, behind: Which) -> HistoryPage:
        """Unavailable when too few volumes answer to rule out what they do not show."""
        page, position = HistoryPage(), max(query.start, query.prefix)
        stop = successor(query.prefix) if query.prefix else None
        while True:
            keys, end = self._range(query.space, position, stop)
            skip = self._take(query, behind, page, keys)
            following = skip if skip is not None else end
            if page.truncated or page.doubt is not None or following is None or (stop is not None and following >= stop):
                return page
            position = following

    def _take(self, query: Query, behind: Which, page: HistoryPage, keys: dict[bytes, list[Row] | None]) -> bytes | None:
        """Add the versions of those keys; returns where to go on when the rest of the range belongs to a common prefix."""
        covered = b""
        for key, rows in keys.items():
            if key < covered:
                continue
            found = self._versions(query.space, key, rows)
            if found is None:
                page.doubt = key
                return None
            if not found:
                continue
            prefix = rolled(query, key)
            if prefix is not None:
                if len(page) == query.limit:
                    page.truncated = True
                    return None
                page.prefixes.append(prefix)
                page.last, covered = prefix, successor(prefix) or PAST_ALL
            elif self._add(query, page, found if key != query.start or behind is None else _behind(found, behind), key):
                return None
        return covered if covered and covered > next(reversed(keys)) else None

    @staticmethod
    def _add(query: Query, page: HistoryPage, found: list[tuple[Record, bool]], key: bytes) -> bool:
        """Whether the page is full."""
        room = query.limit - len(page)
        page.versions += found[:room]
        page.truncated = len(found) > room
        if found[:room]:
            page.last = key
        return page.truncated

    def _versions(self, space: bytes, key: bytes, rows: list[Row] | None) -> list[tuple[Record, bool]] | None:
        """The visible versions of a key, with whether each is the latest; None when only the key lock can tell."""
        if rows is not None and all(row.state is State.COMMITTED for row in rows):
            view = View(self._pool.n, {0: rows}, frozenset())
        else:
            view = self._committer.look(space, key, self._pace, lambda view: False)
            if view.vouching < self._pool.quorum.r:
                raise Unavailable(f"only {view.vouching} volumes can tell what is there")
        found: list[tuple[Record, bool]] = []
        for version, fate in walk(view):
            if fate is Fate.COMMITTED:
                if version.record.kind in VERSION_KINDS:
                    found.append((version.record, not found))
            elif fate is not Fate.ABORTED:
                return None
        return found

    def _range(self, space: bytes, start: bytes, stop: bytes | None) -> tuple[dict[bytes, list[Row] | None], bytes | None]:
        """Keys in order with their rows, None where all volumes have to be asked; where the range ended if there may be more."""
        lanes = vouching(self._pool)
        heard, pending, end = 0, set[bytes](), None
        for lane in lanes:
            if not lane.well and heard >= self._pool.quorum.r:
                break
            with suppress(VolumeError), self._pace.at(lane):
                found = lane.volume.unsettled_keys(space, start, stop, BATCH)
                heard += 1
                pending.update(found)
                if len(found) == BATCH:
                    end = found[-1] if end is None else min(end, found[-1])
        if heard < self._pool.quorum.r:
            raise Unavailable(f"only {heard} volumes can tell what is there")
        rows = self._history(lanes, space, start)
        if len(rows) >= BATCH:
            end = rows[-1].id.key if end is None else min(end, rows[-1].id.key)
        by_key: dict[bytes, list[Row] | None] = {key: list(own) for key, own in groupby(rows, key=lambda row: row.id.key)}
        keys = sorted(key for key in by_key.keys() | pending if (end is None or key <= end) and (stop is None or key < stop))
        return {key: None if key in pending else by_key[key] for key in keys}, None if end is None else end + b"\0"

    def _history(self, lanes: list[Lane], space: bytes, start: bytes) -> list[Row]:
        """From the first volume that can."""
        for lane in lanes:
            with suppress(VolumeError), self._pace.at(lane):
                return lane.volume.history(space, start, BATCH)
        raise Unavailable("no volume could be listed")


def _behind(found: list[tuple[Record, bool]], marker: Which) -> list[tuple[Record, bool]]:
    """The versions below a marker; none when the marker is the null version and that is gone."""
    if marker != NULL:
        return [each for each in found if isinstance(marker, int) and each[0].seq < marker]
    at = next((number for number, (record, _) in enumerate(found) if not record.versioned), len(found))
    return found[at + 1 :]
