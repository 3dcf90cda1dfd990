"""The changes of a catalog: the statements of which the operations of `interface` are made. One thread at a time.

One transaction takes many changes, so that they share a sync; a change that is refused leaves no trace in it. Which statements
an operation runs is said in `_catalog_write.h`: a transaction is one call, without the GIL.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import apsw

from abixio import _catalog
from abixio.errors import NewerExists, VolumeFull
from abixio.volume.catalog_errors import sqlite_error
from abixio.volume.catalog_schema import ROW_KEY
from abixio.volume.interface import Change, Drop, Head, Insert, Mark, Note, Settle

Answer = NewerExists | VolumeFull | None

_BEGIN: Final = "BEGIN IMMEDIATE"
_COMMIT: Final = "COMMIT"
_ROLLBACK: Final = "ROLLBACK"
_BY_ID: Final = "space = ? AND key = ? AND seq = ? AND rev = ?"
_NEWEST: Final = f"SELECT seq, rev FROM row INDEXED BY {ROW_KEY} WHERE space = ? AND key = ? LIMIT 1"
_NEWEST_REV: Final = f"SELECT rev FROM row INDEXED BY {ROW_KEY} WHERE space = ? AND key = ? AND seq = ? LIMIT 1"
_ROW: Final = f"SELECT record, inline FROM row WHERE {_BY_ID}"
_INSERT: Final = "INSERT INTO row (space, key, seq, rev, state, mask, record, inline) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_UPDATE: Final = f"UPDATE row SET state = ?, mask = ?, inline = ? WHERE {_BY_ID}"
_MARK: Final = f"UPDATE row SET state = ?, mask = ifnull(?, mask) WHERE {_BY_ID}"
_DROP: Final = f"DELETE FROM row WHERE {_BY_ID}"
_UNSETTLE: Final = "INSERT OR IGNORE INTO unsettled (space, key, seq, rev) VALUES (?, ?, ?, ?)"
_SETTLE: Final = f"DELETE FROM unsettled WHERE {_BY_ID}"
_HEAD: Final = "INSERT OR REPLACE INTO head (space, key, seq, rev) VALUES (?, ?, ?, ?)"
_BEHEAD: Final = "DELETE FROM head WHERE space = ? AND key = ?"
_REF: Final = "INSERT OR REPLACE INTO ref (write_id, space, key, seq, rev, part, inline) VALUES (?, ?, ?, ?, ?, ?, ?)"
_UNREF: Final = f"DELETE FROM ref WHERE write_id = ? AND {_BY_ID}"
_OWN: Final = f"SELECT inline FROM ref WHERE write_id = ? AND {_BY_ID}"
_REFS: Final = "SELECT inline FROM ref WHERE write_id = ? LIMIT 1"
_MOVE_REFS: Final = "UPDATE ref SET inline = ?1 WHERE write_id = ?2"
_MOVE_ROWS: Final = """UPDATE row SET inline = ?1 FROM ref WHERE ref.write_id = ?2 AND ref.part = 0 AND row.space = ref.space
    AND row.key = ref.key AND row.seq = ref.seq AND row.rev = ref.rev"""
_ADD_INLINE: Final = "INSERT INTO inline (id, shard) VALUES (?, ?)"
_SET_INLINE: Final = "INSERT OR REPLACE INTO inline (id, shard) VALUES (?, ?)"
_DROP_INLINE: Final = "DELETE FROM inline WHERE id = ?"
_DISCARD: Final = "INSERT OR IGNORE INTO garbage (write_id) VALUES (?)"
_KEEP: Final = "DELETE FROM garbage WHERE write_id = ?"
_NOTE: Final = "INSERT OR REPLACE INTO note (name, value) VALUES (?, ?)"
_RAISE_NOTE: Final = "UPDATE note SET value = ?2 WHERE name = ?1 AND value < ?2"
_META: Final = "INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)"
_COUNT: Final = "UPDATE note SET value = value + 1 WHERE name = 'commits'"
_LAST_INLINE: Final = "SELECT value FROM note WHERE name = 'inline'"


_STATEMENTS: Final = {
    "begin": _BEGIN, "commit": _COMMIT, "rollback": _ROLLBACK, "savepoint": "SAVEPOINT change", "undo": "ROLLBACK TO change",
    "release": "RELEASE change", "newest": _NEWEST, "newest_rev": _NEWEST_REV, "row": _ROW, "insert": _INSERT, "update": _UPDATE,
    "mark": _MARK, "drop": _DROP, "unsettle": _UNSETTLE, "settle": _SETTLE, "head": _HEAD, "behead": _BEHEAD, "ref": _REF,
    "unref": _UNREF, "refs": _REFS, "own": _OWN, "move_refs": _MOVE_REFS, "move_rows": _MOVE_ROWS, "add_inline": _ADD_INLINE,
    "set_inline": _SET_INLINE, "drop_inline": _DROP_INLINE, "discard": _DISCARD, "keep": _KEEP, "note": _NOTE,
    "raise_note": _RAISE_NOTE, "count": _COUNT, "last_inline": _LAST_INLINE,
}
_KINDS: Final = (Insert, Mark, Drop, Settle, Head, Note)


class Writer:
    """Applies changes through the one connection that writes."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._run = connection.cursor().execute
        texts = [_STATEMENTS[name] for name in _catalog.WRITES]
        self._native = _catalog.Transactions(connection, sqlite_error, texts, _KINDS, _refusal, VolumeFull)
        self.pages, self.emptied = self._native.pages, self._native.emptied

    def transact(self, changes: Sequence[Change], full: str | None) -> list[Answer]:
        """All changes in one transaction. With `full` set, those that store new data are refused for that reason: deletes and
        settings name no shards, repairs set no guard."""
        return self._native.transact(changes, full)

    def forget(self, write_ids: Sequence[bytes]) -> None:
        """Delete entries of the garbage list."""
        with self._transaction():
            for write_id in write_ids:
                self._run(_KEEP, (write_id,))
            self._run(_COUNT)

    def set_meta(self, values: dict[str, str]) -> None:
        """What the volume remembers about itself."""
        with self._transaction():
            for name, value in values.items():
                self._run(_META, (name, value))

    def close(self) -> None:
        """Before its connection."""
        self._native.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._run(_BEGIN)
        try:
            yield
            self._run(_COMMIT)
        except BaseException:
            if self._connection.in_transaction:
                self._run(_ROLLBACK)
            raise


def _refusal(late: Insert, newest: tuple[int, int] | None) -> NewerExists:
    """`newest`: the row that it comes too late for; None: another record has its id."""
    seq, rev = late.id[2:]
    if newest is None:
        return NewerExists(f"another record is here as seq {seq} rev {rev}")
    return NewerExists(f"seq {newest[0]} rev {newest[1]} is here, seq {seq} rev {rev} comes too late")
