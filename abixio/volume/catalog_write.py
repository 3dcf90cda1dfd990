"""The changes of a catalog: what each operation of `interface` does to the tables. One thread at a time.

One transaction takes many changes, so that they share a sync; a change that is refused leaves no trace in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import apsw

from abixio.errors import NewerExists, VolumeFull
from abixio.message import Buffer
from abixio.volume.catalog_schema import ROW_KEY
from abixio.volume.interface import Change, Drop, Head, Insert, Mark, Note, Op, RowId, Settle

Answer = NewerExists | VolumeFull | None

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
_UNREF: Final = f"DELETE FROM ref WHERE write_id = ? AND {_BY_ID} RETURNING inline"
_REFS: Final = "SELECT inline FROM ref WHERE write_id = ? LIMIT 1"
_MOVE_REFS: Final = "UPDATE ref SET inline = ? WHERE write_id = ?"
_MOVE_ROWS: Final = """UPDATE row SET inline = ?1 FROM ref WHERE ref.write_id = ?2 AND ref.part = 0 AND row.space = ref.space
    AND row.key = ref.key AND row.seq = ref.seq AND row.rev = ref.rev"""
_ADD_INLINE: Final = "INSERT INTO inline (id, shard) VALUES (?, ?)"
_SET_INLINE: Final = "INSERT OR REPLACE INTO inline (shard, id) VALUES (?, ?)"
_DROP_INLINE: Final = "DELETE FROM inline WHERE id = ?"
_DISCARD: Final = "INSERT OR IGNORE INTO garbage (write_id) VALUES (?)"
_KEEP: Final = "DELETE FROM garbage WHERE write_id = ?"
_NOTE: Final = "INSERT OR REPLACE INTO note (name, value) VALUES (?, ?)"
_RAISE_NOTE: Final = "UPDATE note SET value = ?1 WHERE name = ?2 AND value < ?1"
_META: Final = "INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)"
_COUNT: Final = "UPDATE note SET value = value + 1 WHERE name = 'commits'"
_LAST_INLINE: Final = "SELECT value FROM note WHERE name = 'inline'"


class Writer:
    """Applies changes through the one connection that writes."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._run = connection.cursor().execute
        self._seq = 0
        self._inline: int | None = None

    def transact(self, changes: Sequence[Change], full: str | None) -> list[Answer]:
        """All changes in one transaction. With `full` set, those that store new data are refused for that reason."""
        self._seq, self._inline = 0, None
        answers: list[Answer] = []
        with self._transaction():
            for change in changes:
                answers.append(VolumeFull(full) if full and _stores(change) else self._change(change))
            if any(answer is None for answer in answers):
                self._count()
        return answers

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

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._run("BEGIN IMMEDIATE")
        try:
            yield
            self._run("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._run("ROLLBACK")
            raise

    def _count(self) -> None:
        self._run(_COUNT)
        if self._seq:
            self._run(_RAISE_NOTE, (self._seq, "seq"))
        if self._inline is not None:
            self._run(_RAISE_NOTE, (self._inline, "inline"))

    def _change(self, change: Change) -> Answer:
        """Only an Insert refuses; where it stands first, there is nothing to undo and no savepoint to pay for."""
        if not any(type(op) is Insert for op in change[1:]):
            return self._ops(change)
        self._run("SAVEPOINT change")
        seq, answer = self._seq, self._ops(change)
        if answer is not None:
            self._run("ROLLBACK TO change")
            self._seq = seq
        self._run("RELEASE change")
        return answer

    def _ops(self, change: Change) -> NewerExists | None:
        for op in change:
            if type(op) is Insert:
                refusal = self._insert(op)
                if refusal is not None:
                    return refusal
            else:
                self._other(op)
        return None

    def _other(self, op: Op) -> None:
        match op:
            case Mark():
                self._run(_MARK, (op.state, op.to, *op.id))
            case Settle():
                self._run(_SETTLE, op.id)
            case Head(row=None):
                self._run(_BEHEAD, (op.space, op.key))
            case Head(row=(seq, rev)):
                self._run(_HEAD, (op.space, op.key, seq, rev))
            case Drop():
                self._drop(op)
            case Note():
                self._run(_NOTE, (op.name, op.value))
            case _:
                raise TypeError(f"not an operation: {op!r}")

    # ---- rows --------------------------------------------------------------------------------------------------------
    def _insert(self, op: Insert) -> NewerExists | None:
        space, key, seq, rev = op.id
        newest = self._one(_NEWEST, (space, key))
        if newest is not None and newest >= (seq, rev):
            stored = self._one(_ROW, op.id)
            if stored is not None:
                return self._again(op, *stored)
            if op.guard and self._newer(op.id, newest):
                return NewerExists(f"seq {newest[0]} rev {newest[1]} is here, seq {seq} rev {rev} comes too late")
        inline = self._keep(op)
        self._run(_INSERT, (space, key, seq, rev, op.state, op.to, op.record, inline))
        self._run(_UNSETTLE, op.id)
        self._seq = max(self._seq, seq + rev)  # the moment when a rev was made: the clock must not give that one out again
        return None

    def _newer(self, row: RowId, newest: tuple[int, int]) -> bool:
        if row.rev == 0:
            return newest[0] > row.seq
        same = self._one(_NEWEST_REV, (row.space, row.key, row.seq))
        return same is not None and same[0] > row.rev

    def _again(self, op: Insert, record: bytes, inline: int | None) -> NewerExists | None:
        """A row that is here already: an attempt is repeated, a repair finishes it or brings the shard that was missing."""
        if record != op.record:
            return NewerExists(f"another record is here as seq {op.id.seq} rev {op.id.rev}")
        kept = self._keep(op)
        self._run(_UPDATE, (op.state, op.to, inline if kept is None else kept, *op.id))
        self._run(_UNSETTLE, op.id)
        return None

    def _drop(self, op: Drop) -> None:
        self._run(_DROP, op.id)
        self._run(_SETTLE, op.id)
        for write_id in op.shards:
            gone = self._one(_UNREF, (write_id, *op.id))
            if self._one(_REFS, (write_id,)) is not None:
                continue
            if gone is not None and gone[0] is not None:
                self._run(_DROP_INLINE, (gone[0],))
            else:
                self._run(_DISCARD, (write_id,))

    # ---- shards ------------------------------------------------------------------------------------------------------
    def _keep(self, op: Insert) -> int | None:
        """Note that the row names its shards, store the bytes of the first if they came along. Where is that one inline?"""
        first: int | None = None
        for index, write_id in enumerate(op.shards):
            known = self._one(_REFS, (write_id,))
            inline: int | None = known[0] if known is not None else None
            if index == 0:
                if op.inline is not None:
                    inline = self._store(op.inline, write_id, inline, known is not None)
                first = inline
            self._run(_REF, (write_id, *op.id, index, inline))
            if inline is None:
                self._run(_KEEP, (write_id,))
        return first

    def _store(self, shard: Buffer, write_id: bytes, inline: int | None, shared: bool) -> int:
        """Ids are never used twice: a reader that looked a row up may ask for the bytes after the row is gone, and must not
        get another object's."""
        if inline is not None:
            self._run(_SET_INLINE, (shard, inline))
            return inline
        if self._inline is None:
            self._inline = self._one(_LAST_INLINE, ())[0]
        self._inline += 1
        self._run(_ADD_INLINE, (self._inline, shard))
        if shared:
            self._run(_MOVE_REFS, (self._inline, write_id))
            self._run(_MOVE_ROWS, (self._inline, write_id))
        return self._inline

    def _one(self, sql: str, bindings: tuple[Any, ...]) -> Any:
        """The first row or None; the statement is over when this returns."""
        return self._run(sql, bindings).fetchone()


def _stores(change: Change) -> bool:
    """Whether it brings new data, which the last bytes of the disk are not for. Deletes and settings name no shards,
    repairs set no guard."""
    return any(type(op) is Insert and op.guard and bool(op.shards) for op in change)
