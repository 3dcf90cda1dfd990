"""What nothing names: looked for in catalogs and directories that nobody has open."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import apsw

from abixio.store.record import unpack
from abixio.store.resolve import LISTED_KINDS
from abixio.volume.catalog import _persist_wal as persist_wal
from abixio.volume.interface import State
from tests.crash.histories import MARKER, name, parsed
from tests.crash.model import Thing, Value
from tests.crash.workbench import HOME, Bench

KINDS: Final = ("bucket", "object", "upload", "part", "setting", "marker")


class Row(NamedTuple):
    """Of the table."""

    space: bytes
    key: bytes
    seq: int
    rev: int
    record: bytes
    state: int
    inline: int | None


class Leftovers:
    """Looks for what nothing names, in catalogs and directories that nobody has open."""

    def __init__(self, bench: Bench, seen: Mapping[Thing, Value]) -> None:
        self.bench = bench
        self.seen = seen
        self.wrong: list[str] = []

    def look(self) -> list[str]:
        rows = [self._volume(slot) for slot in range(self.bench.n)]
        for slot, own in enumerate(rows):
            if [row[:5] for row in own] != [row[:5] for row in rows[0]]:
                self.wrong.append(f"volume {slot} does not hold the same rows as volume 0: {len(own)} and {len(rows[0])}")
        self._expected(rows[0])
        return self.wrong

    def _volume(self, slot: int) -> list[Row]:
        connection = apsw.Connection(str(self.bench.paths[slot] / ".abixio/catalog.db"))
        persist_wal(connection)
        try:
            ask = connection.execute
            sound = ask("PRAGMA integrity_check").get
            if sound != "ok":
                self.wrong.append(f"volume {slot}: integrity_check: {sound}")
            for table in ("unsettled", "garbage"):
                if count := ask(f"SELECT count(*) FROM {table}").get:
                    self.wrong.append(f"volume {slot}: {count} entries left in {table}")
            columns = "space, key, seq, rev, record, state, inline"
            rows = [Row._make(row) for row in ask(f"SELECT {columns} FROM row ORDER BY space, key, seq, rev")]
            self._refs(slot, connection, rows)
            self._heads(slot, connection, rows)
            return rows
        finally:
            connection.close()

    def _refs(self, slot: int, connection: apsw.Connection, rows: list[Row]) -> None:
        """Rows name shards, shards are there, and no others."""
        named = {(write_id, *row[:4]) for row in rows for write_id in unpack(row.record).write_ids}
        refs: list[Any] = connection.execute("SELECT write_id, space, key, seq, rev, inline FROM ref").fetchall()
        if {ref[:5] for ref in refs} != named:
            self.wrong.append(f"volume {slot}: rows name {len(named)} shards, there are {len(refs)} references, not the same")
        inline = {ref[5] for ref in refs if ref[5] is not None}
        if {id for (id,) in connection.execute("SELECT id FROM inline")} != inline:
            self.wrong.append(f"volume {slot}: an inline shard that nothing names, or a name without one")
        wanted = {ref[0].hex() for ref in refs if ref[5] is None}
        files = self.bench.files(slot)
        shards = {os.path.basename(name) for name in files if name.startswith("shards/")}
        if shards != wanted:
            self.wrong.append(f"volume {slot}: {len(shards - wanted)} orphan files, {len(wanted - shards)} missing")
        if left := {name for name in files if not name.startswith("shards/")} - HOME:
            self.wrong.append(f"volume {slot}: left over: {sorted(left)}")

    def _heads(self, slot: int, connection: apsw.Connection, rows: list[Row]) -> None:
        """Each key points to the newest of its rows, if that is to be listed; rows that only hide others are gone."""
        newest = {row[:2]: row for row in rows}
        listed = {row[:4] for row in newest.values() if unpack(row.record).kind in LISTED_KINDS}
        heads = set(connection.execute("SELECT space, key, seq, rev FROM head"))
        if heads != listed:
            self.wrong.append(f"volume {slot}: {len(newest)} keys, {len(listed)} to be listed, {len(heads)} heads")
        if kinds := sorted({unpack(row.record).kind for row in rows} - {*KINDS}):
            self.wrong.append(f"volume {slot}: rows of kind {kinds} are left")
        if any(row.state != State.COMMITTED for row in rows):
            self.wrong.append(f"volume {slot}: a row is not marked committed")

    def _expected(self, rows: list[Row]) -> None:
        """One row for each thing that is there, one for each version of a history, and no more."""
        histories = [version for thing, value in self.seen.items() if thing[0] == "history" for version in parsed(value)]
        kinds = [unpack(row.record).kind for row in rows]
        for kind in KINDS:
            want = sum(thing[0] == kind and value is not None for thing, value in self.seen.items())
            if kind in ("object", "marker"):
                want += sum((name(version) == MARKER) == (kind == "marker") for version in histories)
            if kinds.count(kind) != want:
                self.wrong.append(f"{kinds.count(kind)} rows of kind {kind} for {want} that are there")
