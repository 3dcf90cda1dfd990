"""A catalog under examination: read without changing a byte on the disk, also when it is damaged, and mended entry by entry.

The server's way of opening would write: the -shm file at least, and the database when the last connection closes. Here
SQLite is told that it is alone (the volume's lock says so too), keeps its index of the WAL in memory, and never checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import apsw

from abixio.errors import CatalogCorrupt, VolumeError
from abixio.volume import catalog_schema
from abixio.volume.catalog_errors import volume_error
from abixio.volume.interface import Row, RowId, State

_ALONE: Final = "unix-none"
"""SQLite's VFS without locks, which a read-only descriptor could not hold anyway."""
_INTEGRITY_MOST: Final = 20
"""Complaints of SQLite about one catalog: a rotten page can make thousands, and the first says it all."""
_TICK: Final = 200_000
"""Steps of SQLite's machine between two signs of life: some milliseconds."""
_CACHE_KIB: Final = 8192

_COLUMNS: Final = "space, key, seq, rev, state, mask, record, inline"
_WALK: Final = f"SELECT {_COLUMNS} FROM row ORDER BY space, key, seq DESC, rev DESC"
_ROWS: Final = f"SELECT {_COLUMNS} FROM row WHERE space = ? AND key = ? ORDER BY seq DESC, rev DESC"
_HEAD: Final = "SELECT seq, rev FROM head WHERE space = ? AND key = ?"
_REF: Final = "SELECT part, inline FROM ref WHERE write_id = ? AND space = ? AND key = ? AND seq = ? AND rev = ?"
_INLINE: Final = "SELECT shard FROM inline WHERE id = ?"
_NAMED: Final = "SELECT 1 FROM ref WHERE write_id = ? LIMIT 1"
_GARBAGE: Final = "SELECT 1 FROM garbage WHERE write_id = ?"
_JOURNAL: Final = "SELECT 1 FROM unsettled WHERE space = ? AND key = ? AND seq = ? AND rev = ?"

_HAS_ROW: Final = f"""EXISTS (SELECT 1 FROM row INDEXED BY {catalog_schema.ROW_KEY}
    WHERE row.space = t.space AND row.key = t.key AND row.seq = t.seq AND row.rev = t.rev)"""
_STRAY_HEADS: Final = f"SELECT space, key FROM head AS t WHERE NOT {_HAS_ROW}"
_STRAY_REFS: Final = f"SELECT write_id, space, key, seq, rev FROM ref AS t WHERE NOT {_HAS_ROW}"
_STRAY_JOURNAL: Final = f"SELECT space, key, seq, rev FROM unsettled AS t WHERE NOT {_HAS_ROW}"
_STRAY_INLINE: Final = "SELECT id FROM inline EXCEPT SELECT inline FROM ref EXCEPT SELECT inline FROM row"
_WRONG_GARBAGE: Final = "SELECT write_id FROM garbage WHERE EXISTS (SELECT 1 FROM ref WHERE ref.write_id = garbage.write_id)"
_KEY_TABLES: Final = ("row", "head", "unsettled")
"""Each of them tells of keys that a rotten page hides in another."""

_ODD_STATES: Final = "SELECT space, key, seq, rev FROM row WHERE state NOT BETWEEN 0 AND 3"
_STATES: Final = frozenset(State)

_BY_ID: Final = "space = ? AND key = ? AND seq = ? AND rev = ?"
_MENDS: Final = {
    "journal": "INSERT OR IGNORE INTO unsettled (space, key, seq, rev) VALUES (?, ?, ?, ?)",
    "drop_journal": f"DELETE FROM unsettled WHERE {_BY_ID}",
    "head": "INSERT OR REPLACE INTO head (space, key, seq, rev) VALUES (?, ?, ?, ?)",
    "drop_head": "DELETE FROM head WHERE space = ? AND key = ?",
    "ref": "INSERT OR REPLACE INTO ref (write_id, space, key, seq, rev, part, inline) VALUES (?, ?, ?, ?, ?, ?, ?)",
    "drop_ref": f"DELETE FROM ref WHERE write_id = ? AND {_BY_ID}",
    "drop_inline": "DELETE FROM inline WHERE id = ?",
    "empty_inline": "INSERT OR IGNORE INTO inline (id, shard) VALUES (?, x'')",
    "keep": "DELETE FROM garbage WHERE write_id = ?",
    "note": "INSERT INTO note (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = max(value, ?2)",
    "state": f"UPDATE row SET state = ? WHERE {_BY_ID}",
    "record": f"UPDATE row SET record = ? WHERE {_BY_ID}",
}
"""By the name that `Mend` uses. `empty_inline` makes a lost inline shard a corrupt one, which repair knows to replace."""


class Mend(NamedTuple):
    """One change of a catalog, as `_MENDS` names it."""

    what: str
    values: tuple[Any, ...]


class Extent(NamedTuple):
    """How much there is to look at."""

    rows: int
    files: int


class Examiner:
    """An open catalog. Used by one thread at a time."""

    def __init__(self, path: str, wal: bool) -> None:
        """`wal`: whether there is a -wal file; without one SQLite must not look for it, or it would make one. CatalogCorrupt
        when the file is no database, VolumeError when it cannot be read."""
        self._path = path
        self._connection: apsw.Connection | None = None
        mode = "mode=ro" if wal else "immutable=1"
        flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
        try:
            self._connection = apsw.Connection(f"file:{quote(path)}?{mode}", flags=flags, vfs=_ALONE)
            self._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            self._connection.pragma("locking_mode", "exclusive")
            self._connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}; PRAGMA cell_size_check = ON")
            self._connection.pragma("schema_version")
        except apsw.Error as error:
            failure = self._failure(error)
            self.close()
            raise failure from error

    def close(self) -> None:
        """Closing twice is harmless."""
        if self._connection is not None:
            self._connection.close(True)
            self._connection = None

    # ---- the whole ---------------------------------------------------------------------------------------------------
    def refusal(self, volume: str) -> str | None:
        """Why a server would not take it for the catalog of that volume."""
        try:
            catalog_schema.check(self._open, self._path, volume)
        except CatalogCorrupt as error:
            return str(error)
        except apsw.Error as error:
            return str(self._failure(error))
        return None

    def integrity(self, alive: Callable[[], None]) -> list[str]:
        """What SQLite finds wrong with the file; `alive` is called now and then meanwhile."""

        def tick() -> bool:
            alive()
            return False

        self._open.set_progress_handler(tick, _TICK)
        try:
            found = [text for (text,) in self._open.execute(f"PRAGMA integrity_check({_INTEGRITY_MOST})")]
        except apsw.Error as error:
            return [str(self._failure(error))]
        finally:
            self._open.set_progress_handler(None)
        return [] if found == ["ok"] else [f"{self._path}: {' '.join(text.split())}" for text in found]

    def size(self) -> Extent:
        rows = self._one("SELECT count(*) FROM row", ())[0]
        return Extent(rows, self._one("SELECT count(*) FROM ref WHERE inline IS NULL", ())[0])

    def notes(self) -> dict[str, int]:
        return dict(self._all("SELECT name, value FROM note"))

    def meta(self) -> dict[str, str]:
        return dict(self._all("SELECT name, value FROM meta"))

    def greatest(self) -> dict[str, int]:
        """What the notes `seq` and `inline` may not be less than."""
        seq = self._one(f"SELECT max(seq) FROM row INDEXED BY {catalog_schema.ROW_KEY}", ())[0]
        return {"seq": seq or 0, "inline": self._one("SELECT max(id) FROM inline", ())[0] or 0}

    # ---- rows --------------------------------------------------------------------------------------------------------
    def walk(self) -> Iterator[list[Row]]:
        """The rows of every key, newest first, in order of (space, key); VolumeError where the file is rotten."""
        for _, rows in groupby(self._stream(_WALK), lambda columns: columns[:2]):
            yield [_row(*columns) for columns in rows]

    def every_key(self) -> Iterator[tuple[bytes, bytes]]:
        """Every (space, key) that a damaged catalog still tells of, each once, in no order. From both ends of each table, for
        a rotten page stops a walk."""
        seen: set[tuple[bytes, bytes]] = set()
        for table in _KEY_TABLES:
            for direction in ("ASC", "DESC"):
                try:
                    for space, key in self._stream(
                        f"SELECT space, key FROM {table} ORDER BY space {direction}, key {direction}"
                    ):
                        if (space, key) not in seen:
                            seen.add((space, key))
                            yield space, key
                except VolumeError:
                    continue
                break

    def rows(self, space: bytes, key: bytes) -> list[Row]:
        """All rows of a key, newest first; VolumeError."""
        return [_row(*columns) for columns in self._all(_ROWS, (space, key))]

    def head(self, space: bytes, key: bytes) -> tuple[int, int] | None:
        found: tuple[int, int] | None = self._one(_HEAD, (space, key))
        return found

    def ref(self, write_id: bytes, row: RowId) -> tuple[int, int | None] | None:
        """Place and inline id of that shard, as the row's entry says; None: there is no entry."""
        found: tuple[int, int | None] | None = self._one(_REF, (write_id, *row))
        return found

    def inline(self, where: int) -> bytes | None:
        found = self._one(_INLINE, (where,))
        return None if found is None else bytes(found[0])

    def named(self, write_id: bytes) -> bool:
        """Whether a row keeps that shard alive."""
        return self._one(_NAMED, (write_id,)) is not None

    def garbage(self, write_id: bytes) -> bool:
        """Whether that file is about to be removed."""
        return self._one(_GARBAGE, (write_id,)) is not None

    def journaled(self, row: RowId) -> bool:
        return self._one(_JOURNAL, row) is not None

    # ---- entries that nothing stands behind --------------------------------------------------------------------------
    def stray_heads(self) -> Iterator[tuple[bytes, bytes]]:
        return self._stream(_STRAY_HEADS)

    def stray_refs(self) -> Iterator[tuple[bytes, bytes, bytes, int, int]]:
        return self._stream(_STRAY_REFS)

    def stray_journal(self) -> Iterator[tuple[bytes, bytes, int, int]]:
        return self._stream(_STRAY_JOURNAL)

    def stray_inline(self) -> Iterator[int]:
        return (id for (id,) in self._stream(_STRAY_INLINE))

    def odd_states(self) -> Iterator[tuple[bytes, bytes, int, int]]:
        return self._stream(_ODD_STATES)

    def wrong_garbage(self) -> Iterator[bytes]:
        """Shards on their way out that a row needs."""
        return (write_id for (write_id,) in self._stream(_WRONG_GARBAGE))

    # ---- inside ------------------------------------------------------------------------------------------------------
    @property
    def _open(self) -> apsw.Connection:
        if self._connection is None:
            raise CatalogCorrupt(f"{self._path}: is closed")
        return self._connection

    def _failure(self, error: apsw.Error) -> VolumeError:
        return volume_error(error, self._connection, self._path)

    def _stream(self, sql: str) -> Iterator[Any]:
        try:
            yield from self._open.cursor().execute(sql)
        except apsw.Error as error:
            raise self._failure(error) from error

    def _all(self, sql: str, bindings: tuple[Any, ...] = ()) -> list[Any]:
        try:
            return self._open.execute(sql, bindings).fetchall()
        except apsw.Error as error:
            raise self._failure(error) from error

    def _one(self, sql: str, bindings: tuple[Any, ...]) -> Any:
        found = self._all(sql, bindings)
        return found[0] if found else None


def mend(path: str, vfs: str, mends: Iterable[Mend]) -> None:
    """Make these changes in one transaction, synced; for a catalog that nobody has open. VolumeError."""
    connection: apsw.Connection | None = None
    try:
        connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE, vfs=vfs or None)
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        connection.execute("PRAGMA synchronous = FULL")
        with connection:
            for one in mends:
                connection.execute(_MENDS[one.what], one.values)
            connection.execute("UPDATE note SET value = value + 1 WHERE name = 'commits'")
    except apsw.Error as error:
        raise volume_error(error, connection, path) from error
    finally:
        if connection is not None:
            connection.close(True)


def _row(space: bytes, key: bytes, seq: int, rev: int, state: int, mask: int, record: bytes, inline: int | None) -> Row:
    """A state that cannot be is shown as pending, which promises least; `odd_states` tells of it."""
    known = State(state) if state in _STATES else State.PENDING
    return Row(RowId(space, key, seq, rev), known, mask, record, inline)
