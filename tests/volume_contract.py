"""What every `Volume` must do. A test module for an implementation subclasses `VolumeContract` and makes the `volume` fixture."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import pytest
from blake3 import blake3
from xxhash import xxh3_64_intdigest

from abixio.errors import NewerExists, ShardMissing, VolumeUnusable
from abixio.volume.interface import Change, Drop, Head, Insert, Mark, Note, Row, RowId, Settle, State, Volume

SPACE = bytes(range(16))
OTHER = bytes(range(1, 17))
BLOCK = 65536


def row_id(key: bytes = b"key", seq: int = 1, rev: int = 0, space: bytes = SPACE) -> RowId:
    return RowId(space, key, seq, rev)


def write_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def insert(row: RowId, record: bytes = b"record", state: State = State.PENDING, to: int = 15, **more: Any) -> Insert:
    return Insert(row, state, to, record, **more)


def listed(row: RowId, record: bytes = b"record", **more: Any) -> list[Insert | Head]:
    return [insert(row, record, State.COMMITTED, **more), Head(row.space, row.key, (row.seq, row.rev))]


def apply(volume: Volume, *changes: Change, durable: bool = False) -> list[object]:
    return list(volume.apply(changes, durable))


def checksums(data: bytes) -> bytes:
    return b"".join(xxh3_64_intdigest(data[at : at + BLOCK]).to_bytes(8, "little") for at in range(0, len(data), BLOCK))


def store_shard(volume: Volume, name: bytes, data: bytes, record: bytes = b"record", durable: bool = False) -> None:
    writer = volume.create_shard(name)
    half = len(data) // 2
    writer.write([data[:half], memoryview(data)[half:]])
    writer.finish(checksums(data), record, blake3(data).digest(), durable)


class VolumeContract:
    """Rows, listings, journal, shards, garbage."""

    # ---- rows ----
    def test_rows_of_an_unknown_key_are_none(self, volume: Volume) -> None:
        assert volume.rows(SPACE, b"key") == []

    def test_an_inserted_row_comes_back_as_it_was(self, volume: Volume) -> None:
        assert apply(volume, [insert(row_id(), b"\0rec", State.PENDING, 5)]) == [None]
        assert volume.rows(SPACE, b"key") == [Row(row_id(), State.PENDING, 5, b"\0rec", None)]
        assert isinstance(volume.rows(SPACE, b"key")[0].state, State)

    @pytest.mark.parametrize("durable", [False, True])
    def test_both_durabilities_commit(self, volume: Volume, durable: bool) -> None:
        apply(volume, [insert(row_id())], durable=durable)
        volume.barrier()
        assert len(volume.rows(SPACE, b"key")) == 1

    def test_rows_come_newest_first_by_seq_then_rev(self, volume: Volume) -> None:
        ids = [(1, 0), (2, 0), (2, 1), (3, 0), (10, 0)]
        for seq, rev in ids:
            apply(volume, [insert(row_id(seq=seq, rev=rev))])
        assert [(row.id.seq, row.id.rev) for row in volume.rows(SPACE, b"key")] == ids[::-1]

    def test_the_newest_row_comes_with_its_shard_where_it_is_asked_for(self, volume: Volume) -> None:
        assert volume.newest(SPACE, b"key", True) is None
        apply(volume, listed(row_id(seq=5), b"five", shards=(write_id(5),), inline=b"shard five"))
        apply(volume, listed(row_id(seq=7), b"seven", shards=(write_id(7),), inline=b"shard seven"))
        apply(volume, listed(row_id(b"kez", seq=9), b"nine"))
        newest = volume.rows(SPACE, b"key")[0]
        assert newest.record == b"seven"
        assert volume.newest(SPACE, b"key", True) == (newest, b"shard seven")
        assert volume.newest(SPACE, b"key", False) == (newest, None)
        assert volume.newest(SPACE, b"kez", True) == (volume.rows(SPACE, b"kez")[0], None)

    def test_the_stamp_is_the_same_as_long_as_nothing_is_committed(self, volume: Volume) -> None:
        apply(volume, listed(row_id()))
        before = volume.stamp()
        volume.rows(SPACE, b"key")
        assert volume.stamp() == before
        apply(volume, [Mark(row_id(), State.COMMITTED)])
        assert before is None or volume.stamp() not in (before, None)

    def test_keys_and_spaces_are_told_apart_byte_by_byte(self, volume: Volume) -> None:
        keys = [b"a", b"a/", b"a/b", b"a\0", b"A", b"..", b"a//b", "ä".encode(), b"x" * 1024, b"x" * 1023, b"%", b"\xff"]
        for seq, key in enumerate(keys, 1):
            apply(volume, [insert(row_id(key, seq)), insert(row_id(key, seq + 100, space=OTHER))])
        for seq, key in enumerate(keys, 1):
            assert [row.id for row in volume.rows(SPACE, key)] == [row_id(key, seq)]
            assert [row.id for row in volume.rows(OTHER, key)] == [row_id(key, seq + 100, space=OTHER)]

    def test_a_mark_changes_state_and_mask_of_that_row_only(self, volume: Volume) -> None:
        apply(volume, [insert(row_id(seq=1), to=3), insert(row_id(seq=2), to=3)])
        marks = Mark(row_id(seq=1), State.COMMITTED), Mark(row_id(seq=2), State.ABORTED, 7), Mark(row_id(seq=9), State.ABORTED)
        apply(volume, marks)
        assert [(row.state, row.to) for row in volume.rows(SPACE, b"key")] == [(State.ABORTED, 7), (State.COMMITTED, 3)]

    # ---- in order of age ----
    def test_rows_come_in_order_of_age_without_those_before_and_behind(self, volume: Volume) -> None:
        for seq, key in ((7, b"a"), (3, b"z"), (5, b"m"), (9, b"b")):
            apply(volume, listed(row_id(key, seq)))
        apply(volume, [insert(row_id(b"a", 6, space=OTHER))])
        assert [(each.at, each.key) for each in volume.aged(SPACE, 0, 100, 10)] == [(3, b"z"), (5, b"m"), (7, b"a"), (9, b"b")]
        assert [each.at for each in volume.aged(SPACE, 3, 7, 10)] == [5, 7]
        assert [each.at for each in volume.aged(SPACE, 3, 100, 2)] == [5, 7]
        assert volume.aged(SPACE, 9, 100, 10) == []

    def test_what_is_told_of_aged_rows_is_whether_their_keys_are_listed_and_have_older_rows(self, volume: Volume) -> None:
        apply(volume, listed(row_id(b"one", 1)), listed(row_id(b"two", 2)), listed(row_id(b"two", 3)))
        apply(volume, [insert(row_id(b"gone", 4)), Head(SPACE, b"gone", None)])
        assert [each[1:] for each in volume.aged(SPACE, 0, 100, 10)] == [
            (b"one", True, False), (b"two", True, False), (b"two", True, True), (b"gone", False, False),
        ]

    def test_a_row_that_is_gone_is_in_no_order(self, volume: Volume) -> None:
        apply(volume, [insert(row_id(seq=1))], [insert(row_id(seq=1, rev=2))])
        apply(volume, [Drop(row_id(seq=1)), Drop(row_id(seq=1, rev=2))])
        assert volume.aged(SPACE, 0, 100, 10) == volume.amended(SPACE, 0, 100, 10) == []

    def test_later_revs_come_in_the_order_in_which_they_were_made(self, volume: Volume) -> None:
        apply(volume, [insert(row_id(b"a", 10))], [insert(row_id(b"b", 20))], [insert(row_id(b"c", 30))])
        apply(volume, [insert(row_id(b"b", 20, 90))], [insert(row_id(b"a", 10, 50))], [insert(row_id(b"a", 10, 120))])
        found = [(each.at, each.key) for each in volume.amended(SPACE, 0, 200, 10)]
        assert found == [(60, b"a"), (110, b"b"), (130, b"a")]
        assert [each.at for each in volume.amended(SPACE, 60, 129, 10)] == [110]
        assert volume.amended(OTHER, 0, 200, 10) == []

    # ---- refusals ----
    def test_an_older_row_is_refused(self, volume: Volume) -> None:
        apply(volume, [insert(row_id(seq=5))])
        (answer,) = apply(volume, [insert(row_id(seq=4))])
        assert isinstance(answer, NewerExists)
        assert [row.id.seq for row in volume.rows(SPACE, b"key")] == [5]
        assert volume.unsettled(None, 10) == [row_id(seq=5)]

    def test_an_older_row_is_taken_without_guard(self, volume: Volume) -> None:
        apply(volume, [insert(row_id(seq=5))])
        assert apply(volume, [insert(row_id(seq=4), guard=False)]) == [None]
        assert [row.id.seq for row in volume.rows(SPACE, b"key")] == [5, 4]

    def test_a_newer_row_of_another_key_refuses_nothing(self, volume: Volume) -> None:
        apply(volume, [insert(row_id(b"key2", 9)), insert(row_id(b"ke", 9)), insert(row_id(b"key", 9, space=OTHER))])
        assert apply(volume, [insert(row_id(seq=4))]) == [None]

    def test_a_rev_is_refused_by_a_greater_rev_of_the_same_seq_only(self, volume: Volume) -> None:
        apply(volume, [insert(row_id(seq=5)), insert(row_id(seq=5, rev=2)), insert(row_id(seq=8))])
        assert apply(volume, [insert(row_id(seq=5, rev=3))]) == [None]
        (answer,) = apply(volume, [insert(row_id(seq=5, rev=1))])
        assert isinstance(answer, NewerExists)
        assert apply(volume, [insert(row_id(seq=5, rev=1), guard=False)]) == [None]

    def test_a_rev_of_the_same_seq_does_not_refuse_its_first(self, volume: Volume) -> None:
        apply(volume, [insert(row_id(seq=5, rev=1))])
        assert apply(volume, [insert(row_id(seq=5, rev=0))]) == [None]

    def test_the_same_record_again_takes_the_new_state_and_mask_even_below_newer_ones(self, volume: Volume) -> None:
        apply(volume, [insert(row_id(seq=1), to=3)], [insert(row_id(seq=2))], [Settle(row_id(seq=1))])
        assert apply(volume, [insert(row_id(seq=1), state=State.COMMITTED, to=15)]) == [None]
        assert volume.rows(SPACE, b"key")[1] == Row(row_id(seq=1), State.COMMITTED, 15, b"record", None)
        assert volume.unsettled(None, 10) == [row_id(seq=1), row_id(seq=2)]

    def test_another_record_under_the_same_id_is_refused_with_and_without_guard(self, volume: Volume) -> None:
        apply(volume, [insert(row_id())])
        for guard in (True, False):
            (answer,) = apply(volume, [insert(row_id(), b"other", guard=guard)])
            assert isinstance(answer, NewerExists)
        assert volume.rows(SPACE, b"key")[0].record == b"record"

    def test_a_refused_change_leaves_no_trace_and_the_others_go_on(self, volume: Volume) -> None:
        apply(volume, [insert(row_id(seq=5))])
        answers = apply(
            volume,
            [insert(row_id(b"a"))],
            [insert(row_id(b"b")), Note("mine", 1), insert(row_id(seq=4)), Head(SPACE, b"key", (4, 0))],
            [Mark(row_id(seq=5), State.COMMITTED), insert(row_id(seq=3))],
            [insert(row_id(b"c"))],
        )
        assert [type(answer) for answer in answers] == [type(None), NewerExists, NewerExists, type(None)]
        assert volume.rows(SPACE, b"b") == []
        assert volume.rows(SPACE, b"key")[0].state is State.PENDING
        assert "mine" not in volume.notes()
        assert volume.scan(SPACE, b"", None, 10) == []
        assert volume.rows(SPACE, b"a") and volume.rows(SPACE, b"c")

    def test_a_change_is_done_in_order(self, volume: Volume) -> None:
        apply(volume, [insert(row_id(seq=5))])
        assert apply(volume, [Drop(row_id(seq=5)), insert(row_id(seq=4))]) == [None]
        assert [row.id.seq for row in volume.rows(SPACE, b"key")] == [4]

    def test_nothing_to_apply_is_no_error(self, volume: Volume) -> None:
        assert apply(volume) == []
        assert apply(volume, []) == [None]

    # ---- listing ----
    def test_scan_shows_what_heads_point_to_in_key_order(self, volume: Volume) -> None:
        for key in (b"b", b"a", b"c", b"a/b", b"\xff"):
            apply(volume, listed(row_id(key, 1)))
        apply(volume, listed(row_id(b"b", 2), b"new"), listed(row_id(b"z", 1, space=OTHER)))
        apply(volume, [insert(row_id(b"hidden", 1))], [Head(SPACE, b"c", None)])
        rows = volume.scan(SPACE, b"", None, 100)
        assert [(row.id.key, row.id.seq) for row in rows] == [(b"a", 1), (b"a/b", 1), (b"b", 2), (b"\xff", 1)]
        assert rows[2] == volume.rows(SPACE, b"b")[0]

    def test_scan_keeps_to_its_range_and_limit(self, volume: Volume) -> None:
        keys = [b"%03d" % number for number in range(50)]
        apply(volume, *[listed(row_id(key, 1)) for key in keys])
        assert [row.id.key for row in volume.scan(SPACE, b"010", b"020", 100)] == keys[10:20]
        assert [row.id.key for row in volume.scan(SPACE, b"010\0", None, 5)] == keys[11:16]
        assert volume.scan(SPACE, b"9", None, 5) == []

    def test_a_head_taken_away_twice_is_no_error(self, volume: Volume) -> None:
        apply(volume, listed(row_id()), [Head(SPACE, b"key", None)], [Head(SPACE, b"key", None)])
        assert volume.scan(SPACE, b"", None, 10) == []

    def test_history_gives_whole_keys(self, volume: Volume) -> None:
        for key in (b"a", b"b", b"c"):
            for seq in (1, 2, 3):
                apply(volume, [insert(row_id(key, seq))])
        def seen(start: bytes, limit: int) -> list[tuple[bytes, int]]:
            return [(row.id.key, row.id.seq) for row in volume.history(SPACE, start, limit)]
        assert seen(b"", 1) == [(b"a", 3), (b"a", 2), (b"a", 1)]
        assert seen(b"", 3) == [(b"a", 3), (b"a", 2), (b"a", 1)]
        assert seen(b"", 4) == [(b"a", 3), (b"a", 2), (b"a", 1), (b"b", 3), (b"b", 2), (b"b", 1)]
        assert len(seen(b"", 100)) == 9
        assert seen(b"c", 100) == [(b"c", 3), (b"c", 2), (b"c", 1)]
        assert seen(b"c\0", 100) == []

    # ---- walking ----
    def test_a_walk_gives_whole_keys_of_all_spaces_in_order(self, volume: Volume) -> None:
        for space in (OTHER, SPACE):
            for key in (b"b", b"a", b"a\0"):
                for seq in (1, 2):
                    apply(volume, [insert(row_id(key, seq, space=space), b"record of " + key)])
        every = [row_id(key, seq, space=space) for space in (SPACE, OTHER) for key in (b"a", b"a\0", b"b") for seq in (2, 1)]
        assert [row.id for row in volume.walk(None, 100)] == every
        assert volume.walk(None, 100)[0] == volume.rows(SPACE, b"a")[0]
        assert [row.id for row in volume.walk(None, 1)] == every[:2]
        assert [row.id for row in volume.walk(None, 3)] == every[:4]
        assert [row.id for row in volume.walk((SPACE, b"a\0"), 100)] == every[4:]
        assert [row.id for row in volume.walk((SPACE, b"zzz"), 2)] == every[6:8]
        assert volume.walk((OTHER, b"b"), 100) == []

    def test_skipping_counts_the_keys_that_are_listed(self, volume: Volume) -> None:
        for space in (OTHER, SPACE):
            for key in (b"c", b"a", b"b"):
                apply(volume, listed(row_id(key, 1, space=space)), [insert(row_id(b"not listed", 1, space=space))])
        assert volume.skip(None, 1) == (SPACE, b"a")
        assert volume.skip(None, 4) == (OTHER, b"a")
        assert volume.skip((SPACE, b"a"), 2) == (SPACE, b"c")
        assert volume.skip((SPACE, b"a"), 5) == (OTHER, b"c")
        assert volume.skip((SPACE, b"a"), 6) is None
        assert volume.skip((OTHER, b"c"), 1) is None

    def test_the_shard_files_of_a_directory_are_told_whether_rows_name_them_or_not(self, volume: Volume) -> None:
        here, there, also = write_id(7), write_id(8), write_id(7 + 256)
        for name in (here, there, also):
            store_shard(volume, name, b"data")
        volume.create_shard(write_id(7 + 512)).abort()
        apply(volume, [insert(row_id(), shards=(here,))])
        assert sorted(volume.shard_files(7)) == [here, also]
        assert volume.shard_files(8) == [there]
        assert volume.shard_files(9) == []

    def test_a_shard_is_named_while_a_row_names_it(self, volume: Volume) -> None:
        assert not volume.named(write_id(1))
        apply(volume, [insert(row_id(), shards=(write_id(1), write_id(2)))])
        apply(volume, [insert(row_id(b"i"), shards=(write_id(3),), inline=b"x")])
        assert volume.named(write_id(1)) and volume.named(write_id(2)) and volume.named(write_id(3))
        apply(volume, [Drop(row_id(), (write_id(1), write_id(2)))])
        assert not volume.named(write_id(1)) and not volume.named(write_id(2))

    # ---- journal ----
    def test_the_journal_is_paged_in_order_of_ids(self, volume: Volume) -> None:
        keys, numbers = (b"a", b"a/b", b"b"), (0, 1)
        ids = [row_id(key, seq + 1, rev, space) for space in (SPACE, OTHER) for key in keys for seq in numbers for rev in numbers]
        for row in ids:
            apply(volume, [insert(row)])
        got: list[RowId] = []
        while page := volume.unsettled(got[-1] if got else None, 5):
            assert len(page) <= 5
            got += page
        assert got == ids
        assert isinstance(got[0], RowId)

    def test_settle_takes_the_entry_and_leaves_the_row(self, volume: Volume) -> None:
        apply(volume, [insert(row_id(seq=1)), insert(row_id(seq=2))], [Settle(row_id(seq=1)), Settle(row_id(seq=7))])
        assert volume.unsettled(None, 10) == [row_id(seq=2)]
        assert len(volume.rows(SPACE, b"key")) == 2

    def test_keys_of_the_journal_are_distinct_and_in_range(self, volume: Volume) -> None:
        for key in (b"a", b"b", b"c", b"d"):
            apply(volume, [insert(row_id(key, 1)), insert(row_id(key, 2)), insert(row_id(key, 1, space=OTHER))])
        assert volume.unsettled_keys(SPACE, b"", None, 10) == [b"a", b"b", b"c", b"d"]
        assert volume.unsettled_keys(SPACE, b"b", b"d", 10) == [b"b", b"c"]
        assert volume.unsettled_keys(SPACE, b"", None, 2) == [b"a", b"b"]

    # ---- notes ----
    def test_notes_count_commits_and_remember_the_greatest_seq(self, volume: Volume) -> None:
        before = volume.notes()["commits"]
        apply(volume, [insert(row_id(seq=70))], [insert(row_id(b"other", 40))])
        apply(volume, [Drop(row_id(seq=70))])
        assert volume.notes()["commits"] == before + 2
        assert volume.notes()["seq"] == 70

    def test_a_refused_seq_is_not_remembered(self, volume: Volume) -> None:
        apply(volume, [insert(row_id(seq=7))])
        before = volume.notes()["commits"]
        refused: Change = [Note("x", 1), insert(row_id(b"fresh", 99)), insert(row_id(seq=6))]
        apply(volume, refused)
        assert volume.notes()["commits"] == before
        apply(volume, refused, [insert(row_id(b"fine", 5))])
        assert volume.notes()["seq"] == 7

    def test_a_note_is_set_and_set_again(self, volume: Volume) -> None:
        apply(volume, [Note("filling", 1), Note("peer", -5)])
        apply(volume, [Note("filling", 0)])
        assert volume.notes()["filling"] == 0
        assert volume.notes()["peer"] == -5

    def test_words_are_remembered_by_name(self, volume: Volume) -> None:
        assert volume.remembered("scan") is None
        volume.remember("scan", "half way")
        volume.remember("closed", "of mine")
        volume.remember("scan", "done")
        assert volume.remembered("scan") == "done"
        assert volume.remembered("boot") is None

    # ---- inline shards ----
    @pytest.mark.parametrize("size", [0, 1, 4096, 16392])
    def test_inline_bytes_come_back(self, volume: Volume, size: int) -> None:
        data = os.urandom(size)
        apply(volume, [insert(row_id(), shards=(write_id(1),), inline=memoryview(data))])
        where = volume.rows(SPACE, b"key")[0].inline
        assert where is not None
        assert volume.inline(where) == data

    def test_an_inline_shard_is_shared_between_revs_until_the_last_is_dropped(self, volume: Volume) -> None:
        shards = (write_id(1),)
        apply(volume, [insert(row_id(rev=0), shards=shards, inline=b"bytes")])
        apply(volume, [insert(row_id(rev=1), b"tags", shards=shards)])
        rows = volume.rows(SPACE, b"key")
        assert rows[0].inline == rows[1].inline
        where = rows[0].inline
        assert where is not None
        apply(volume, [Drop(row_id(rev=0), shards)])
        assert volume.inline(where) == b"bytes"
        apply(volume, [Drop(row_id(rev=1), shards)])
        with pytest.raises(ShardMissing):
            volume.inline(where)
        assert volume.garbage(10) == []

    def test_the_place_of_a_dropped_inline_shard_is_never_given_to_another(self, volume: Volume) -> None:
        apply(volume, [insert(row_id(seq=1), shards=(write_id(1),), inline=b"old")])
        where = volume.rows(SPACE, b"key")[0].inline
        assert where is not None
        apply(volume, [Drop(row_id(seq=1), (write_id(1),))], [insert(row_id(seq=2), shards=(write_id(2),), inline=b"new")])
        with pytest.raises(ShardMissing):
            volume.inline(where)

    def test_inserting_the_same_row_with_bytes_brings_a_missing_inline_shard_to_all_its_revs(self, volume: Volume) -> None:
        shards = (write_id(1),)
        apply(volume, [insert(row_id(rev=0), shards=shards)], [insert(row_id(rev=1), b"tags", shards=shards)])
        apply(volume, [insert(row_id(seq=9), b"parts", shards=(write_id(2), write_id(1)))])
        assert apply(volume, [insert(row_id(rev=0), shards=shards, inline=b"rebuilt", guard=False)]) == [None]
        parts, tags, first = volume.rows(SPACE, b"key")
        assert first.inline is not None and first.inline == tags.inline
        assert parts.inline is None
        assert volume.inline(first.inline) == b"rebuilt"

    def test_inserting_the_same_row_with_bytes_replaces_rotten_ones(self, volume: Volume) -> None:
        op = insert(row_id(), shards=(write_id(1),), inline=b"rotten")
        apply(volume, [op], [op._replace(inline=b"good", guard=False)])
        (row,) = volume.rows(SPACE, b"key")
        assert row.inline is not None
        assert volume.inline(row.inline) == b"good"
        apply(volume, [Drop(row.id, (write_id(1),))])
        with pytest.raises(ShardMissing):
            volume.inline(row.inline)

    def test_inserting_the_same_row_without_bytes_keeps_its_inline_shard(self, volume: Volume) -> None:
        op = insert(row_id(), shards=(write_id(1),), inline=b"bytes")
        apply(volume, [op], [op._replace(inline=None, state=State.COMMITTED)])
        (row,) = volume.rows(SPACE, b"key")
        assert row.inline is not None
        assert volume.inline(row.inline) == b"bytes"

    # ---- shard files ----
    @pytest.mark.parametrize("durable", [False, True])
    @pytest.mark.parametrize("size", [0, 1, 7, 8, 65535, 65536, 65537, 1 << 20, (1 << 20) + 12345])
    def test_a_shard_comes_back_with_its_checksums_and_record(self, volume: Volume, size: int, durable: bool) -> None:
        data = os.urandom(size)
        store_shard(volume, write_id(7), data, b"the record", durable)
        shard = volume.open_shard(write_id(7))
        shard.populate(0, size)
        assert shard.view.readonly
        assert shard.view == data
        assert shard.checksums.format == "Q"
        assert bytes(shard.checksums) == checksums(data)
        assert shard.record == b"the record"
        shard.close()

    def test_a_large_footer_comes_back(self, volume: Volume) -> None:
        data, record = os.urandom(3 << 20), os.urandom(100_001)
        store_shard(volume, write_id(7), data, record)
        shard = volume.open_shard(write_id(7))
        assert (bytes(shard.checksums), shard.record) == (checksums(data), record)
        shard.close()

    def test_a_shard_that_was_never_finished_is_missing(self, volume: Volume) -> None:
        writer = volume.create_shard(write_id(1))
        writer.write([b"half"])
        with pytest.raises(ShardMissing):
            volume.open_shard(write_id(1))
        writer.abort()
        writer.abort()
        with pytest.raises(ShardMissing):
            volume.open_shard(write_id(1))

    def test_abort_after_finish_does_no_harm(self, volume: Volume) -> None:
        writer = volume.create_shard(write_id(1))
        writer.finish(b"", b"", bytes(32), False)
        writer.abort()
        volume.open_shard(write_id(1)).close()

    def test_a_shard_that_is_made_again_replaces_the_old_one_under_its_readers(self, volume: Volume) -> None:
        old, new = os.urandom(100_000), os.urandom(100_000)
        store_shard(volume, write_id(1), old)
        reader = volume.open_shard(write_id(1))
        store_shard(volume, write_id(1), new)
        assert reader.view == old
        reader.close()
        reader = volume.open_shard(write_id(1))
        assert reader.view == new
        reader.close()

    def test_an_open_shard_outlives_its_removal_and_a_slice_outlives_its_close(self, volume: Volume) -> None:
        data = os.urandom(200_000)
        store_shard(volume, write_id(1), data)
        shard = volume.open_shard(write_id(1))
        volume.unlink([write_id(1)])
        with pytest.raises(ShardMissing):
            volume.open_shard(write_id(1))
        piece = shard.view[100_000:150_000]
        shard.populate(100_000, 50_000)
        shard.close()
        shard.close()
        assert piece == data[100_000:150_000]

    def test_populate_beyond_the_shard_is_a_mistake_of_the_caller(self, volume: Volume) -> None:
        store_shard(volume, write_id(1), bytes(1000))
        shard = volume.open_shard(write_id(1))
        for offset, length in ((0, 1001), (1001, 0), (-1, 5)):
            with pytest.raises(ValueError, match="populate"):
                shard.populate(offset, length)
        shard.close()

    # ---- garbage ----
    def test_a_file_becomes_garbage_when_the_last_row_that_names_it_goes(self, volume: Volume) -> None:
        shards = (write_id(1), write_id(2))
        for name in shards:
            store_shard(volume, name, b"data")
        apply(volume, [insert(row_id(rev=0), shards=shards)], [insert(row_id(rev=1), b"tags", shards=shards)])
        apply(volume, [Drop(row_id(rev=0), shards)])
        assert volume.garbage(10) == []
        apply(volume, [Drop(row_id(rev=1), shards)])
        assert sorted(volume.garbage(10)) == list(shards)
        assert len(volume.garbage(1)) == 1
        assert volume.rows(SPACE, b"key") == []
        assert volume.unsettled(None, 10) == []
        volume.unlink(volume.garbage(10))
        assert volume.garbage(10) == []
        for name in shards:
            with pytest.raises(ShardMissing):
                volume.open_shard(name)

    def test_a_row_that_comes_back_takes_its_file_off_the_garbage_list(self, volume: Volume) -> None:
        store_shard(volume, write_id(1), b"data")
        op = insert(row_id(), shards=(write_id(1),))
        apply(volume, [op], [Drop(row_id(), (write_id(1),))], [op])
        assert volume.garbage(10) == []

    def test_a_file_that_a_row_names_is_not_unlinked(self, volume: Volume) -> None:
        store_shard(volume, write_id(1), b"data")
        apply(volume, [insert(row_id(), shards=(write_id(1),))])
        volume.unlink([write_id(1)])
        volume.open_shard(write_id(1)).close()

    def test_dropping_a_row_that_is_not_there_still_gives_up_its_file(self, volume: Volume) -> None:
        store_shard(volume, write_id(1), b"data")
        apply(volume, [Drop(row_id(), (write_id(1),))])
        assert volume.garbage(10) == [write_id(1)]

    def test_unlinking_what_is_not_there_is_no_error(self, volume: Volume) -> None:
        volume.unlink([write_id(3)])
        volume.unlink([])

    # ---- threads and the end ----
    def test_readers_of_other_threads_see_whole_changes_only(self, volume: Volume) -> None:
        stop, torn = threading.Event(), []

        def read() -> None:
            while not stop.is_set():
                both = [row.id.key for row in volume.scan(SPACE, b"", None, 10)]
                if both not in ([], [b"a", b"b"]):
                    torn.append(both)

        threads = [threading.Thread(target=read) for _ in range(2)]
        for thread in threads:
            thread.start()
        for seq in range(1, 101):
            apply(volume, [*listed(row_id(b"a", seq)), *listed(row_id(b"b", seq))])
            apply(volume, [Head(SPACE, b"a", None), Head(SPACE, b"b", None)])
        stop.set()
        for thread in threads:
            thread.join()
        assert torn == []

    def test_a_closed_volume_answers_nothing(self, volume: Volume) -> None:
        writer = volume.create_shard(write_id(1))
        volume.rows(SPACE, b"key")
        volume.close()
        volume.close()
        calls: list[Callable[[], object]] = [
            lambda: volume.rows(SPACE, b"key"), lambda: volume.scan(SPACE, b"", None, 1), lambda: volume.history(SPACE, b"", 1),
            lambda: volume.unsettled(None, 1), lambda: volume.unsettled_keys(SPACE, b"", None, 1), lambda: volume.inline(1),
            lambda: volume.notes(), lambda: volume.apply([[insert(row_id())]], False), lambda: volume.barrier(),
            lambda: volume.create_shard(write_id(1)), lambda: volume.open_shard(write_id(1)), lambda: volume.garbage(1),
            lambda: volume.walk(None, 1), lambda: volume.skip(None, 1), lambda: volume.shard_files(1),
            lambda: volume.named(write_id(1)), lambda: volume.remembered("scan"), lambda: volume.remember("scan", "x"),
            lambda: volume.unlink([write_id(1)]), lambda: writer.write([b"more"]),
        ]
        for call in calls:
            with pytest.raises(VolumeUnusable):
                call()
        writer.abort()
