"""Counts what stopped volumes hold, by reading their catalogs and directories: no code of the store takes part."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import apsw

_YES = ctypes.c_int(1)
STATES = ("pending", "committed", "aborted", "answered")


class Census(NamedTuple):
    """Of all volumes together."""

    files: int
    """Finished shard files."""
    orphans: list[Path]
    """Files that no row names and no garbage list, and all that is left in tmp."""
    missing: list[str]
    """Files that a row names and that are not there."""
    unsettled: int
    garbage: int
    states: dict[str, int]
    """Rows by state."""
    uneven: list[str]
    """Keys whose rows differ between volumes."""

    @property
    def at_rest(self) -> bool:
        return not (self.unsettled or self.garbage or self.states["pending"] or self.states["aborted"])


@contextmanager
def catalog(volume: Path) -> Iterator[apsw.Connection]:
    """To read from; the WAL stays as it was."""
    connection = apsw.Connection(str(volume / ".abixio/catalog.db"), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        connection.file_control("main", apsw.SQLITE_FCNTL_PERSIST_WAL, ctypes.addressof(_YES))
        yield connection
    finally:
        connection.close()


def take(volumes: Sequence[Path]) -> Census:
    """Nobody may have them open."""
    files, orphans, missing, unsettled, garbage = 0, list[Path](), list[str](), 0, 0
    states = dict.fromkeys(STATES, 0)
    rows: dict[tuple[bytes, bytes], list[frozenset[bytes]]] = {}
    for volume in volumes:
        own: dict[tuple[bytes, bytes], set[bytes]] = {}
        with catalog(volume) as connection:
            doomed = {id.hex() for (id,) in connection.execute("SELECT write_id FROM garbage")}
            named = {id.hex() for (id,) in connection.execute("SELECT DISTINCT write_id FROM ref WHERE inline IS NULL")}
            unsettled += connection.execute("SELECT count(*) FROM unsettled").get
            for space, key, state, record in connection.execute("SELECT space, key, state, record FROM row"):
                states[STATES[state]] += 1
                own.setdefault((space, key), set()).add(record)
        there = {path.name: path for path in (volume / "shards").rglob("*") if path.is_file()}
        files += len(there)
        garbage += len(doomed)
        orphans += [path for name, path in there.items() if name not in named | doomed]
        orphans += (volume / ".abixio/tmp").iterdir()
        missing += [f"{volume.name}/{name}" for name in sorted(named - set(there))]
        for id, records in own.items():
            rows.setdefault(id, []).append(frozenset(records))
    uneven = [repr(key) for (_, key), found in rows.items() if len(found) < len(volumes) or len(set(found)) > 1]
    return Census(files, orphans, missing, unsettled, garbage, states, uneven)
