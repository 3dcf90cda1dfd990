"""Everything that is asked of a catalog. Each thread reads through a connection of its own.

No statement is left half-way: an open one would hold a snapshot, and the WAL could not be reused while it lives.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import apsw

from abixio import _catalog
from abixio.errors import ShardMissing, VolumeError, VolumeUnusable, WouldBlock
from abixio.volume.catalog_errors import sqlite_error, volume_error
from abixio.volume.catalog_schema import ROW_KEY
from abixio.volume.interface import Aged, Row, RowId, State

_STATES: Final = {int(state): state for state in State}
"""Looking it up is four times faster than State(n)."""
_ROTTEN: Final = b""
"""The record of a row whose state cannot be: no hash matches it. So the volume counts as silent for that key, and repair replaces
the row, as it does with a record that is rotten itself. To guess the state could commit what was taken back."""
_CLOSE_PAUSE: Final = 0.005
_CLOSE_TRIES: Final = 600
"""Three seconds in all: a read takes milliseconds, so one that still runs then hangs on its disk."""

WALK_BYTES: Final = 4 << 20
"""Of records in one answer of a walk: those of objects of ten thousand parts are a MiB each."""

_COLUMNS: Final = "seq, rev, state, mask, record, inline"
_ROWS: Final = f"SELECT {_COLUMNS} FROM row INDEXED BY {ROW_KEY} WHERE space = ? AND key = ?"
"""Newest first. Who wants fewer takes no more: with a limit that is bound SQLite takes twice as long."""
_NEWEST: Final = f"""
    SELECT {_COLUMNS}, (SELECT shard FROM inline WHERE id = row.inline) FROM row INDEXED BY {ROW_KEY}
    WHERE space = ? AND key = ? LIMIT 1"""
_SCAN: Final = """
    SELECT row.key, row.seq, row.rev, row.state, row.mask, row.record, row.inline FROM head CROSS JOIN row
    ON row.space = head.space AND row.key = head.key AND row.seq = head.seq AND row.rev = head.rev
    WHERE head.space = ? AND head.key >= ? {stop} ORDER BY head.key LIMIT ?"""
_SCAN_ALL: Final = _SCAN.format(stop="")
_SCAN_STOP: Final = _SCAN.format(stop="AND head.key < ?")
_HISTORY: Final = f"SELECT space, key, {_COLUMNS} FROM row WHERE space = ? AND key >= ? ORDER BY key, seq DESC, rev DESC"
_WALK: Final = f"SELECT space, key, {_COLUMNS} FROM row {{after}} ORDER BY space, key, seq DESC, rev DESC"
_WALK_ALL: Final = _WALK.format(after="")
_WALK_AFTER: Final = _WALK.format(after="WHERE (space, key) > (?, ?)")
_INLINE: Final = "SELECT shard FROM inline WHERE id = ?"
_SKIP: Final = "SELECT space, key FROM head {after} ORDER BY space, key LIMIT 1 OFFSET ?"
_SKIP_ALL: Final = _SKIP.format(after="")
_SKIP_AFTER: Final = _SKIP.format(after="WHERE (space, key) > (?, ?)")
_AGED: Final = """
    SELECT {at}, key, EXISTS (SELECT 1 FROM head WHERE head.space = made.space AND head.key = made.key),
    EXISTS (SELECT 1 FROM row AS old WHERE old.space = made.space AND old.key = made.key AND old.seq < made.seq)
    FROM row AS made INDEXED BY {index} WHERE space = ? AND {at} > ? AND {at} <= ? {some} ORDER BY {at} LIMIT ?"""
_BY_AGE: Final = _AGED.format(at="seq", index="row_age", some="")
_BY_AMENDMENT: Final = _AGED.format(at="seq + rev", index="row_amended", some="AND rev > 0")
_UNSETTLED: Final = "SELECT space, key, seq, rev FROM unsettled {after} ORDER BY space, key, seq, rev LIMIT ?"
_UNSETTLED_ALL: Final = _UNSETTLED.format(after="")
_UNSETTLED_AFTER: Final = _UNSETTLED.format(after="WHERE (space, key, seq, rev) > (?, ?, ?, ?)")
_KEYS: Final = "SELECT DISTINCT key FROM unsettled WHERE space = ? AND key >= ? {stop} ORDER BY key LIMIT ?"
_KEYS_ALL: Final = _KEYS.format(stop="")
_KEYS_STOP: Final = _KEYS.format(stop="AND key < ?")


_READS: Final = {"rows": _ROWS, "newest": _NEWEST, "inline": _INLINE}
_ALL_ROWS: Final = sys.maxsize


class Reader:
    """Answers from any thread, until closed."""

    def __init__(self, connect: Callable[[], apsw.Connection], where: str) -> None:
        self._connect = connect
        self._where = where
        self._local = threading.local()
        self._lock = threading.Lock()
        self._connections: list[tuple[apsw.Connection, _catalog.Lookups]] = []
        self._closed = False

    def rows(self, space: bytes, key: bytes, wait: bool = True) -> list[Row]:
        return self.top(space, key, _ALL_ROWS, wait)

    def top(self, space: bytes, key: bytes, limit: int, wait: bool = True) -> list[Row]:
        """The hot path: one prepared statement, tuples, no more."""
        try:
            found: list[Row] = self._lookups().rows(space, key, limit, wait)
        except apsw.Error as error:
            raise self._error(error) from error
        return found

    def newest(self, space: bytes, key: bytes, shard: bool) -> tuple[Row, bytes | None] | None:
        """One statement, so one snapshot and one lock: a read of the row and one of the shard would cost twice as much."""
        try:
            found: tuple[Row, bytes | None] | None = self._lookups().newest(space, key, shard)
        except apsw.Error as error:
            raise self._error(error) from error
        return found

    def scan(self, space: bytes, start: bytes, stop: bytes | None, limit: int) -> list[Row]:
        found = (
            self._all(_SCAN_ALL, (space, start, limit)) if stop is None else self._all(_SCAN_STOP, (space, start, stop, limit))
        )
        return [_row(space, *columns) for columns in found]

    def history(self, space: bytes, start: bytes, limit: int) -> list[Row]:
        return self._whole_keys(_HISTORY, (space, start), limit)

    def walk(self, after: tuple[bytes, bytes] | None, limit: int) -> list[Row]:
        return self._whole_keys(_WALK_ALL if after is None else _WALK_AFTER, after or (), limit, WALK_BYTES)

    def skip(self, after: tuple[bytes, bytes] | None, count: int) -> tuple[bytes, bytes] | None:
        sql = _SKIP_ALL if after is None else _SKIP_AFTER
        return next(((space, key) for space, key in self._all(sql, (*(after or ()), count - 1))), None)

    def aged(self, space: bytes, after: int, until: int, limit: int) -> list[Aged]:
        return [_aged(*columns) for columns in self._all(_BY_AGE, (space, after, until, limit))]

    def amended(self, space: bytes, after: int, until: int, limit: int) -> list[Aged]:
        return [_aged(*columns) for columns in self._all(_BY_AMENDMENT, (space, after, until, limit))]

    def unsettled(self, after: RowId | None, limit: int) -> list[RowId]:
        found = self._all(_UNSETTLED_ALL, (limit,)) if after is None else self._all(_UNSETTLED_AFTER, (*after, limit))
        return [RowId._make(columns) for columns in found]

    def unsettled_keys(self, space: bytes, start: bytes, stop: bytes | None, limit: int) -> list[bytes]:
        found = (
            self._all(_KEYS_ALL, (space, start, limit)) if stop is None else self._all(_KEYS_STOP, (space, start, stop, limit))
        )
        return [key for (key,) in found]

    def inline(self, where: int, wait: bool = True) -> bytes:
        try:
            shard = self._lookups().inline(where, wait)
        except apsw.Error as error:
            raise self._error(error) from error
        if shard is None:
            raise ShardMissing(f"{self._where}: no inline shard {where}")
        return shard

    def notes(self) -> dict[str, int]:
        return dict(self._all("SELECT name, value FROM note", ()))

    def garbage(self, limit: int) -> list[bytes]:
        return [write_id for (write_id,) in self._all("SELECT write_id FROM garbage LIMIT ?", (limit,))]

    def named(self, write_id: bytes) -> bool:
        """Whether a row keeps that shard alive."""
        return bool(self._all("SELECT 1 FROM ref WHERE write_id = ? LIMIT 1", (write_id,)))

    def meta(self) -> dict[str, str]:
        return dict(self._all("SELECT name, value FROM meta", ()))

    def close(self) -> None:
        """Of all threads; one that is just reading is waited for. Closing twice is harmless."""
        with self._lock:
            self._closed = True
            connections, self._connections = self._connections, []
        for connection, lookups in connections:
            _close(connection, lookups)

    def _whole_keys(self, sql: str, bindings: tuple[Any, ...], limit: int, most: float = math.inf) -> list[Row]:
        """Rows up to the first key boundary past `limit` of them or `most` bytes of records."""
        connection = self._connection()
        cursor = connection.cursor()
        found: list[Row] = []
        size = 0
        try:
            for columns in cursor.execute(sql, bindings):
                row = _row(*columns)
                if (len(found) >= limit or size >= most) and row.id[:2] != found[-1].id[:2]:
                    break
                found.append(row)
                size += len(row.record)
        except apsw.Error as error:
            raise volume_error(error, connection, self._where) from error
        finally:
            cursor.close(True)
        return found

    def _error(self, error: apsw.Error) -> VolumeError:
        return volume_error(error, self._local.connection, self._where)

    def _blocked(self) -> WouldBlock:
        return WouldBlock(f"{self._where}: not in memory")

    # ---- connections -------------------------------------------------------------------------------------------------
    def _all(self, sql: str, bindings: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        connection = self._connection()
        try:
            return connection.execute(sql, bindings).fetchall()
        except apsw.Error as error:
            raise volume_error(error, connection, self._where) from error

    def _connection(self) -> apsw.Connection:
        self._lookups()
        connection: apsw.Connection = self._local.connection
        return connection

    def _lookups(self) -> _catalog.Lookups:
        """Those of this thread, which is connected when it asks for the first time."""
        try:
            lookups: _catalog.Lookups = self._local.lookups
        except AttributeError:
            lookups = self._open()
        return lookups

    def _open(self) -> _catalog.Lookups:
        with self._lock:
            if self._closed:
                raise VolumeUnusable(f"{self._where}: is closed")
            connection = self._connect()
            texts = [_READS[name] for name in _catalog.READS]
            lookups = _catalog.Lookups(connection, sqlite_error, texts, self._blocked, Row, RowId, State)
            self._connections.append((connection, lookups))
        self._local.connection, self._local.lookups = connection, lookups
        return lookups


def _row(space: bytes, key: bytes, seq: int, rev: int, state: int, mask: int, record: bytes, inline: int | None) -> Row:
    if state not in _STATES:
        return Row(RowId(space, key, seq, rev), State.PENDING, mask, _ROTTEN, inline)
    return Row(RowId(space, key, seq, rev), _STATES[state], mask, record, inline)


def _aged(at: int, key: bytes, listed: int, older: int) -> Aged:
    return Aged(at, key, bool(listed), bool(older))


def _close(connection: apsw.Connection, lookups: _catalog.Lookups) -> None:
    """A connection that its thread is just using cannot be closed yet."""
    for _ in range(_CLOSE_TRIES):
        try:
            lookups.close()
            connection.close(True)
            return
        except apsw.ThreadingViolationError:
            time.sleep(_CLOSE_PAUSE)
    raise VolumeUnusable("a read does not end; its connection stays open")
