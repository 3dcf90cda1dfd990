"""The rows of several catalogs, key by key."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterator
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

from abixio.errors import CatalogCorrupt, VolumeError
from abixio.fsck.volumes import Site
from abixio.store.record import unpack
from abixio.volume.interface import Row, State

Failed = Callable[[Site, VolumeError], None]
"""Told that the rest of a catalog cannot be read."""


class Shown(NamedTuple):
    """One key, and what each catalog that has it shows of it."""

    space: bytes
    key: bytes
    rows: dict[int, list[Row]]


def in_order(sites: Collection[Site], failed: Failed) -> Iterator[Shown]:
    """Every key once, in order of (space, key)."""
    streams = [_stream(site, failed) for site in sites if site.catalog is not None]
    for (space, key), found in groupby(heapq.merge(*streams, key=itemgetter(0, 1)), itemgetter(0, 1)):
        yield Shown(space, key, {slot: rows for _, _, slot, rows in found})


def _stream(site: Site, failed: Failed) -> Iterator[tuple[bytes, bytes, int, list[Row]]]:
    assert site.catalog is not None
    try:
        for rows in site.catalog.walk():
            yield rows[0].id.space, rows[0].id.key, site.slot, rows if site.clean else [_after_a_cut(row) for row in rows]
    except VolumeError as error:
        failed(site, error)


def from_ruins(sites: Collection[Site]) -> Iterator[Shown]:
    """Every key once that any of these catalogs still shows, however damaged they are, with its sound rows; in no order."""
    catalogs = [site for site in sites if site.catalog is not None]
    for number, site in enumerate(catalogs):
        assert site.catalog is not None
        for space, key in site.catalog.every_key():
            rows = {other.slot: rows_of(other, space, key) for other in catalogs}
            if any(rows.values()) and not any(rows[earlier.slot] for earlier in catalogs[:number]):
                yield Shown(space, key, rows)


def rows_of(site: Site, space: bytes, key: bytes) -> list[Row]:
    """Those with a sound record; none where the catalog cannot be read."""
    try:
        rows = [] if site.catalog is None else [row for row in site.catalog.rows(space, key) if is_sound(row)]
    except VolumeError:
        return []
    return rows if site.clean else [_after_a_cut(row) for row in rows]


def _after_a_cut(row: Row) -> Row:
    """What was only answered is pending again, as the next start has it: the other copies may not have survived."""
    return row._replace(state=State.PENDING) if row.state is State.ANSWERED else row


def is_sound(row: Row) -> bool:
    """Whether the record matches its hash and is about this row."""
    try:
        record = unpack(row.record)
    except CatalogCorrupt:
        return False
    return (record.space, record.key, record.seq, record.rev) == tuple(row.id)
