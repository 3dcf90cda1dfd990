"""SQLite's own interface: its functions are where they should be, transactions are all or nothing, and let go of everything."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from abixio import _catalog
from abixio.errors import CatalogCorrupt, NewerExists, VolumeError
from abixio.volume import names
from abixio.volume.catalog_errors import sqlite_error
from abixio.volume.interface import Change, Drop, Head, Insert, Mark, Note, Settle, State
from abixio.volume.local import LocalVolume
from tests.volume_contract import SPACE, apply, insert, listed, row_id, write_id
from tests.volume_fixtures import FaultyFiles, formatted
from tests.volume_vfs import FaultyVFS

SOURCE = Path(_catalog.__file__).parent
EXTENSION_HEADER = Path("/usr/include/sqlite3ext.h")
FOUR = "SELECT ?1, ?2, ?3, ?4"
VERSION = int("".join(f"{int(part):03}" for part in apsw.sqlite_lib_version().split(".")))


@pytest.fixture
def path(tmp_path: Path) -> str:
    return formatted(tmp_path / "volume")


@pytest.fixture
def volume(path: str) -> Iterator[LocalVolume]:
    volume = LocalVolume.open(path)
    apply(volume, [Note("warm", 1)])
    yield volume
    volume.close()


def limit(volume: LocalVolume, most: int) -> None:
    """From now on SQLite refuses longer values."""
    volume._catalog._connection.limit(apsw.SQLITE_LIMIT_LENGTH, most)


def integrity(path: str) -> str:
    connection = apsw.Connection(names.catalog(path))
    try:
        return str(connection.pragma("integrity_check"))
    finally:
        connection.close()


# ---- SQLite's functions --------------------------------------------------------------------------------------------------
def positions() -> dict[str, int]:
    """Of the functions of `_catalog.h`, by the names that SQLite gives them."""
    text = (SOURCE / "_catalog.h").read_text()
    return {name.lower(): int(number) for name, number in re.findall(r"CAT_(\w+) = (\d+)", text[text.index("CAT_COLUMN_BLOB") :])}


@pytest.mark.skipif(not EXTENSION_HEADER.exists(), reason="SQLite's own header is not installed")
def test_the_positions_of_sqlites_functions_are_those_of_its_own_header() -> None:
    text = EXTENSION_HEADER.read_text()
    table = text[text.index("struct sqlite3_api_routines {") :].split("\n};")[0]
    found = positions()
    assert len(found) == 18
    members = [match[1] for line in table.split(";") if (match := re.search(r"\(\s*\*\s*(\w+)\s*\)\s*\(", line))]
    assert {name: members.index(name) for name in found} == found


def test_a_sqlite_of_another_version_is_refused() -> None:
    connection = apsw.Connection(":memory:")
    _catalog.check(connection, FOUR, VERSION)
    with pytest.raises(ImportError, match="step 1"):
        _catalog.check(connection, FOUR, VERSION + 1)
    connection.close()


@pytest.mark.parametrize("sql", ["SELECT 1, 2, 3, 4", "SELECT ?2, ?1, ?3, ?4", "SELECT ?1, ?2, ?3, 4, ?4", "SELECT", ""])
def test_a_check_that_does_not_give_back_what_was_bound_is_refused(sql: str) -> None:
    connection = apsw.Connection(":memory:")
    with pytest.raises(ImportError):
        _catalog.check(connection, sql, VERSION)
    connection.close()


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("COLUMN_INT64", 28), ("COLUMN_BYTES", 28), ("COLUMN_TYPE", 28), ("BIND_INT64", 4), ("GET_AUTOCOMMIT", 53),
        ("RESET", 118), ("CLEAR_BINDINGS", 77), ("EXTENDED_ERRCODE", 60), ("LIBVERSION_NUMBER", 107),
    ],
)
def test_a_function_at_a_wrong_position_is_refused(tmp_path: Path, name: str, wrong: int) -> None:
    """Those whose neighbours take the same arguments: others would not live to be refused."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no compiler")
    text = (SOURCE / "_catalog.h").read_text()
    spoilt = re.sub(rf"CAT_{name} = \d+", f"CAT_{name} = {wrong}", text)
    assert spoilt != text
    source, library = tmp_path / "probe.c", tmp_path / "probe.so"
    source.write_text(
        spoilt + f'int sqlite3_probe_init(sqlite3 *db, char **m, const cat_slot *api) {{ (void)m; cat_api = api;\n'
        f'return cat_probe(db, "{FOUR}", {VERSION}); }}'
    )
    subprocess.run([compiler, "-w", "-shared", "-fPIC", "-o", library, source], check=True)
    connection = apsw.Connection(":memory:")
    connection.enable_load_extension(True)
    with pytest.raises(apsw.ExtensionLoadingError):
        connection.load_extension(str(library), "sqlite3_probe_init")
    connection.close()


# ---- all or nothing ------------------------------------------------------------------------------------------------------
def test_an_error_in_the_middle_of_a_batch_leaves_nothing_of_it(volume: LocalVolume) -> None:
    before = volume.notes()
    limit(volume, 3000)
    changes = [
        [insert(row_id(b"a"), shards=(write_id(1),), inline=b"1"), insert(row_id(b"b"))],
        [insert(row_id(b"c"), bytes(5000))],
        [insert(row_id(b"d"))],
    ]
    with pytest.raises(VolumeError, match="too big"):
        volume.apply(changes, False)
    assert volume.history(SPACE, b"", 10) == [] and volume.unsettled(None, 10) == []
    assert volume.notes() == before
    limit(volume, 10**6)
    assert volume.apply(changes, False) == [None] * 3
    assert volume.notes()["inline"] == before["inline"] + 1
    assert integrity(volume.path) == "ok"


def test_refusals_among_hundreds_of_changes_leave_no_trace_of_theirs(volume: LocalVolume) -> None:
    apply(volume, *[[insert(row_id(b"%03d" % n, 100))] for n in range(0, 300, 3)])
    fresh = [insert(row_id(b"x%03d" % n, 5), shards=(write_id(n),), inline=b"%d" % n) for n in range(300)]
    changes: list[Change] = [[fresh[n], insert(row_id(b"%03d" % n, 50)), Note(f"n{n}", n)] for n in range(300)]
    answers = apply(volume, *changes)
    assert [type(answer) for answer in answers] == [NewerExists, type(None), type(None)] * 100
    assert str(answers[3]) == "seq 100 rev 0 is here, seq 50 rev 0 comes too late"
    assert [row.id.key for row in volume.history(SPACE, b"x", 1000)] == [b"x%03d" % n for n in range(300) if n % 3]
    assert not volume.named(write_id(3)) and volume.named(write_id(4))
    assert "n3" not in volume.notes() and volume.notes()["n4"] == 4
    assert integrity(volume.path) == "ok"


def test_what_is_no_operation_is_a_mistake_of_the_caller_and_nothing_is_done(volume: LocalVolume) -> None:
    fields: list[dict[str, Any]] = [{"id": "not an id"}, {"record": "text"}, {"shards": 7}, {"inline": "text"}, {"state": None}]
    number: Any = "y"
    wrong: list[Any] = [
        "insert", (row_id(),), insert(row_id(seq=1 << 64)), Note("x", number), Head(SPACE, b"key", (1, number)),
        *(insert(row_id())._replace(**field) for field in fields),
    ]
    for op in wrong:
        with pytest.raises((TypeError, OverflowError, ValueError)):
            volume.apply([[insert(row_id(b"before"))], [op]], False)
    assert volume.history(SPACE, b"", 10) == []
    assert apply(volume, [insert(row_id())]) == [None]


def test_without_the_note_of_inline_ids_none_is_given(volume: LocalVolume) -> None:
    volume._catalog._connection.execute("DELETE FROM note WHERE name = 'inline'")
    with pytest.raises(CatalogCorrupt):
        apply(volume, [insert(row_id(), shards=(write_id(1),), inline=b"x")])
    assert apply(volume, [insert(row_id())]) == [None]


# ---- deletes that hide all there was -------------------------------------------------------------------------------------
def test_a_row_that_its_own_change_takes_away_again_leaves_nothing_but_its_seq(volume: LocalVolume) -> None:
    apply(volume, listed(row_id(seq=5), shards=(write_id(5),), inline=b"old"))
    gone = row_id(seq=9)
    delete: Change = [insert(gone, b"tombstone"), Head(SPACE, b"key", None), Drop(row_id(seq=5), (write_id(5),)), Drop(gone)]
    assert apply(volume, delete) == [None]
    assert volume.rows(SPACE, b"key") == [] and volume.unsettled(None, 9) == [] and volume.scan(SPACE, b"", None, 9) == []
    assert volume.garbage(9) == [] and not volume.named(write_id(5))
    assert volume.notes()["seq"] == 9
    tables = ("row", "head", "ref", "inline", "unsettled", "garbage")
    assert [volume._catalog._connection.execute(f"SELECT count(*) FROM {table}").get for table in tables] == [0] * 6


def test_it_is_refused_like_any_other(volume: LocalVolume) -> None:
    apply(volume, [insert(row_id(seq=9))])
    late: Change = [insert(row_id(seq=5)), Drop(row_id(seq=5)), Drop(row_id(seq=9))]
    assert isinstance(apply(volume, late)[0], NewerExists)
    other: Change = [insert(row_id(seq=9), b"other"), Drop(row_id(seq=9))]
    assert isinstance(apply(volume, other)[0], NewerExists)
    assert [row.id.seq for row in volume.rows(SPACE, b"key")] == [9]
    assert volume.notes()["seq"] == 9


def test_one_that_was_there_before_goes_too(volume: LocalVolume) -> None:
    apply(volume, [insert(row_id(seq=9))])
    assert apply(volume, [insert(row_id(seq=9)), Drop(row_id(seq=9))]) == [None]
    assert volume.rows(SPACE, b"key") == [] and volume.unsettled(None, 9) == []


def test_between_the_two_it_counts_for_the_guard_of_others(volume: LocalVolume) -> None:
    change: Change = [insert(row_id(seq=9)), insert(row_id(seq=7)), Drop(row_id(seq=9))]
    assert isinstance(apply(volume, change)[0], NewerExists)
    assert volume.rows(SPACE, b"key") == []


def test_another_row_of_the_same_seq_or_key_does_not_take_it_away(volume: LocalVolume) -> None:
    others = [row_id(seq=9, rev=1), row_id(b"kez", 9), row_id(b"ke", 9), row_id(seq=8), row_id(space=bytes(16), seq=9)]
    apply(volume, [insert(row_id(seq=9)), *map(Drop, others)])
    assert [row.id for row in volume.rows(SPACE, b"key")] == [row_id(seq=9)]
    shards = (write_id(1),)
    apply(volume, [insert(row_id(b"b", 9), shards=shards), Drop(row_id(b"b", 9), shards)], [Drop(row_id(b"c", 9), shards)])
    assert volume.garbage(9) == [write_id(1)]


def test_shards_that_only_one_of_the_two_names_are_seen_to(volume: LocalVolume) -> None:
    apply(volume, [insert(row_id(seq=9)), Drop(row_id(seq=9), (write_id(1),))])
    assert volume.garbage(9) == [write_id(1)]
    apply(volume, [insert(row_id(seq=10), shards=(write_id(2),)), Drop(row_id(seq=10))])
    assert volume.named(write_id(2)), "as when two changes do it"
    assert volume.rows(SPACE, b"key") == [] and volume.unsettled(None, 9) == []


# ---- rows that are settled at once ---------------------------------------------------------------------------------------
def test_a_row_that_its_own_change_settles_is_not_in_the_journal(volume: LocalVolume) -> None:
    change: Change = [insert(row_id(seq=5), state=State.COMMITTED), Head(SPACE, b"key", (5, 0)), Settle(row_id(seq=5))]
    assert apply(volume, change) == [None]
    assert volume.unsettled(None, 9) == [] and [row.id.seq for row in volume.rows(SPACE, b"key")] == [5]
    others = [row_id(seq=6), row_id(seq=7, rev=1), row_id(b"kez", 7), row_id(b"ke", 7), row_id(space=bytes(16), seq=7)]
    apply(volume, [insert(row_id(seq=7)), *map(Settle, others)])
    assert volume.unsettled(None, 9) == [row_id(seq=7)]
    assert apply(volume, [insert(row_id(seq=7)), Settle(row_id(seq=7))]) == [None]
    assert volume.unsettled(None, 9) == []


def test_settled_before_it_comes_or_come_again_it_is_in_the_journal(volume: LocalVolume) -> None:
    apply(volume, [Settle(row_id(seq=5)), insert(row_id(seq=5))])
    assert volume.unsettled(None, 9) == [row_id(seq=5)]
    apply(volume, [insert(row_id(seq=7)), Settle(row_id(seq=7)), insert(row_id(seq=7))])
    assert volume.unsettled(None, 9) == [row_id(seq=5), row_id(seq=7)]
    apply(volume, [insert(row_id(seq=9)), insert(row_id(seq=9)), Settle(row_id(seq=9))])
    assert volume.unsettled(None, 9) == [row_id(seq=5), row_id(seq=7)]


# ---- bytes ---------------------------------------------------------------------------------------------------------------
def test_keys_with_zeros_and_empty_values_are_stored_as_they_are(volume: LocalVolume) -> None:
    keys = [b"\0", b"\0\0", b"a\0", b"a\0b", b"a", bytes(1024)]
    for seq, key in enumerate(keys, 1):
        apply(volume, listed(row_id(key, seq), b"", shards=(write_id(seq),), inline=b""))
    for seq, key in enumerate(keys, 1):
        (row,) = volume.rows(SPACE, key)
        assert (row.id.seq, row.record, volume.newest(SPACE, key, True)) == (seq, b"", (row, b""))
        assert row.inline is not None and volume.inline(row.inline) == b""
    assert [row.id.key for row in volume.scan(SPACE, b"", None, 10)] == sorted(keys)
    apply(volume, [Mark(row_id(b"a\0", 3), State.ABORTED), Settle(row_id(b"a\0b", 4)), Head(SPACE, b"a", None)])
    assert volume.rows(SPACE, b"a\0")[0].state is State.ABORTED and volume.rows(SPACE, b"a")[0].state is State.COMMITTED
    assert row_id(b"a\0b", 4) not in volume.unsettled(None, 10) and row_id(b"a\0", 3) in volume.unsettled(None, 10)


def test_long_records_and_shards_come_back(volume: LocalVolume) -> None:
    record, shard = os.urandom(5 << 20), os.urandom(3 << 20)
    apply(volume, *[listed(row_id(b"%d" % n, 1), record + b"%d" % n, shards=(write_id(n),), inline=shard) for n in range(4)])
    for n in range(4):
        (row,) = volume.rows(SPACE, b"%d" % n)
        assert row.record == record + b"%d" % n
        assert row.inline is not None and volume.inline(row.inline) == shard
    assert apply(volume, [insert(row_id(b"1", 1), record + b"2")])[0] is not None, "the last byte of the record differs"
    assert integrity(volume.path) == "ok"


def test_all_kinds_of_buffers_are_taken_and_let_go_of(volume: LocalVolume) -> None:
    room = bytearray(b"..a shard..")
    views: list[Any] = [room, memoryview(room)[2:9], memoryview(b"bytes"), memoryview(bytearray(8)).cast("Q"), b"plain"]
    for number, view in enumerate(views, 1):
        apply(volume, [insert(row_id(seq=number), shards=(write_id(number),), inline=view)])
        apply(volume, [insert(row_id(seq=number), b"another", shards=(write_id(number),), inline=view)])
    found = [volume.inline(row.inline) for row in reversed(volume.rows(SPACE, b"key")) if row.inline is not None]
    assert found == [b"..a shard..", b"a shard", b"bytes", bytes(8), b"plain"]
    limit(volume, 100)
    with pytest.raises(VolumeError):
        apply(volume, [insert(row_id(seq=99), shards=(write_id(99),), inline=room)], [insert(row_id(b"x"), bytes(200))])
    with pytest.raises(TypeError):
        apply(volume, [insert(row_id(seq=99), shards=(write_id(99),), inline=room)], ["no operation"])  # type: ignore[list-item]
    views.clear()
    room.append(1)  # BufferError while anybody holds it


def test_references_are_given_back(volume: LocalVolume) -> None:
    shard, record, key = os.urandom(100), os.urandom(100), os.urandom(100)
    ops: Change = [insert(row_id(key), record, shards=(write_id(1),), inline=shard), Head(SPACE, key, (1, 0)), Note("a note", 1)]
    before = [sys.getrefcount(each) for each in (shard, record, key, ops[2])]
    for _ in range(5):
        apply(volume, ops, [insert(row_id(key), b"refused")])
        volume.newest(SPACE, key, True)
    assert [sys.getrefcount(each) for each in (shard, record, key, ops[2])] == before


# ---- connections ---------------------------------------------------------------------------------------------------------
def test_nothing_is_left_open_when_a_volume_is_closed(path: str) -> None:
    volume = LocalVolume.open(path)
    apply(volume, listed(row_id(), shards=(write_id(1),), inline=b"x"))
    assert volume.newest(SPACE, b"key", True) is not None
    assert [name for name in open_files() if name.startswith(path)]
    volume.close()
    assert [name for name in open_files() if name.startswith(path)] == []


def open_files() -> list[str]:
    links = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
    return [os.readlink(link) for link in links if os.path.islink(link)]


def test_a_transaction_within_another_and_an_end_within_one_are_refused(path: str) -> None:
    vfs, files = FaultyVFS(), FaultyFiles()
    files.vfs = vfs.name
    volume = LocalVolume.open(path, files)
    writer, caught = volume._catalog._writer, []
    apply(volume, [Note("warm", 1)])

    def check(_operation: str, _suffix: str) -> None:
        for call in (lambda: writer.transact([[insert(row_id(b"within"))]], None), writer.close):
            try:
                call()
            except apsw.Error as error:
                caught.append(type(error))

    vfs.check = check  # type: ignore[method-assign, assignment]
    assert apply(volume, [insert(row_id())]) == [None]
    assert set(caught) == {apsw.ThreadingViolationError}
    del vfs.check
    assert apply(volume, [insert(row_id(seq=2))]) == [None]
    assert [row.id for row in volume.history(SPACE, b"", 9)] == [row_id(seq=2), row_id()]
    volume.close()
    vfs.unregister()


def test_after_the_end_a_transaction_is_refused(volume: LocalVolume) -> None:
    writer = volume._catalog._writer
    volume.close()
    writer.close()
    with pytest.raises(apsw.ConnectionClosedError):
        writer.transact([[insert(row_id())]], None)


def test_the_wrong_number_of_statements_is_refused() -> None:
    connection = apsw.Connection(":memory:")
    kinds = (Insert, Mark, Drop, Settle, Head, Note)
    with pytest.raises(ValueError, match="1 statements"):
        _catalog.Transactions(connection, sqlite_error, ["COMMIT"], kinds, str, str)
    with pytest.raises(ValueError, match="0 statements"):
        _catalog.Lookups(connection, sqlite_error, [], ValueError, tuple, tuple, State)
    with pytest.raises(ValueError, match="1000 statements"):
        _catalog.Lookups(connection, sqlite_error, ["COMMIT"] * 1000, ValueError, tuple, tuple, State)
    connection.close()
