"""Comparing what all volumes show, one key range after the other: what refill and scanner go by.

Volumes are walked page by page, each on a thread of its own. The pages end at different keys; only what lies before the first
of these ends is compared, the rest is read again with the next range. What is found here is a hint: whoever acts on it
looks again under the key's lock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from typing import Final, NamedTuple

from abixio.errors import Unavailable
from abixio.store.errand import errand
from abixio.store.lane import Lane
from abixio.store.pool import Pool
from abixio.volume.interface import Row, RowId, Volume

PAGE: Final = 500
"""Rows read per volume and range: 2 ms on their thread, and a MiB of usual records with 4 volumes."""
_LAST: Final = (1 << 63) - 1
"""Greater than any seq or rev."""
_STRIDES: Final = (10_000, 1000, 100, 10, 1)

Key = tuple[bytes, bytes]
"""Space and key."""


class Range(NamedTuple):
    """A run of keys, as the volumes that answered show them."""

    keys: dict[Key, dict[int, list[Row]]]
    """In order; by slot, where there are rows."""
    slots: frozenset[int]
    """Who answered."""
    open: frozenset[RowId]
    """Rows of these keys that are unsettled on any of them."""
    end: Key | None
    """The last key that was compared; None: there are no more."""


class _Page(NamedTuple):
    rows: list[Row]
    open: list[RowId]


async def read_range(pool: Pool, after: Key | None, limit: int = PAGE) -> Range:
    """What comes behind `after` (None: from the start) on every volume that is up."""
    lanes = pool.up()
    asked = (errand(pool, lane, partial(_read, lane.volume, after, limit)) for lane in lanes)
    answers = await asyncio.gather(*asked, return_exceptions=True)
    pages: dict[int, _Page] = {}
    for lane, answer in zip(lanes, answers, strict=True):
        if isinstance(answer, _Page):
            pages[lane.slot] = answer
        elif not isinstance(answer, Unavailable):
            raise answer
    return await pool.loop.run_in_executor(pool.executor, _merged, pages)


def _read(volume: Volume, after: Key | None, limit: int) -> _Page:
    rows = volume.walk(after, limit)
    found: list[RowId] = []
    last = rows[-1].id[:2] if rows else None
    cursor = None if after is None else RowId(*after, _LAST, _LAST)
    while last is not None and (ids := volume.unsettled(cursor, limit)):
        found += [id for id in ids if id[:2] <= last]
        cursor = ids[-1]
        if cursor[:2] > last:
            break
    return _Page(rows, found)


def _merged(pages: dict[int, _Page]) -> Range:
    end = min((page.rows[-1].id[:2] for page in pages.values() if page.rows), default=None)
    keys: dict[Key, dict[int, list[Row]]] = {}
    for slot, page in pages.items():
        for row in page.rows:
            key = row.id[:2]
            if end is not None and key <= end:
                keys.setdefault(key, {}).setdefault(slot, []).append(row)
    unsettled = frozenset(id for page in pages.values() for id in page.open if end is not None and id[:2] <= end)
    return Range({key: keys[key] for key in sorted(keys)}, frozenset(pages), unsettled, end)


async def count_keys(pool: Pool, lanes: Iterable[Lane]) -> int:
    """How many keys are listed, by the volume that knows of most; 0 when none can tell."""
    counts = [0]
    for lane in lanes:
        with suppress(Unavailable):
            counts.append(await _count(pool, lane))
    return max(counts)


async def _count(pool: Pool, lane: Lane) -> int:
    """In strides, so that no look at the catalog takes long."""
    count, at = 0, None
    for stride in _STRIDES:
        while (there := await errand(pool, lane, partial(lane.volume.skip, at, stride))) is not None:
            count, at = count + stride, there
    return count
