"""The rule *Resolve* on hand-made views: what the volumes show, and what that means."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from abixio.errors import DataLost
from abixio.store.record import PAIRED, Layout, Record, pack
from abixio.store.resolve import Fate, View, same_content
from abixio.volume.interface import Row, RowId, State

SPACE = b"s" * 16
P, C, A = State.PENDING, State.COMMITTED, State.ABORTED
ALL = 0b1111


def row(state: State, seq: int = 5, m: int = 1, w: int = 3, to: int = ALL, n: int = 4) -> Row:
    layout = Layout(n - m, m, tuple(range(n)), 65536)
    return Row(RowId(SPACE, b"k", seq, 0), state, to, pack(Record("object", SPACE, b"k", seq, w, layout=layout)), None)


def judge(copies: dict[int, State], silent: set[int] | None = None, filling: set[int] | None = None, to: int = ALL) -> Fate:
    """On 4 volumes, FTT 1 (k = W = 3): slots in `silent` are down."""
    rows = {slot: [row(copies[slot], to=to)] if slot in copies else [] for slot in range(4) if slot not in (silent or set())}
    view = View.of(4, rows, frozenset(filling or ()))
    return view.judge(view.versions[0])


def test_one_committed_copy_is_proof() -> None:
    assert judge({2: C}) is Fate.COMMITTED


def test_w_pending_copies_are_proof() -> None:
    assert judge({0: P, 1: P, 2: P}) is Fate.COMMITTED


def test_n_minus_w_plus_one_aborted_copies_are_proof() -> None:
    assert judge({0: A, 1: A, 2: P}) is Fate.ABORTED


def test_too_few_copies_with_everybody_answering_never_committed() -> None:
    assert judge({0: P, 1: P}) is Fate.NEVER


def test_a_silent_volume_that_was_addressed_leaves_it_possible() -> None:
    assert judge({0: P, 1: P}, silent={3}) is Fate.OPEN


def test_a_silent_volume_that_was_not_addressed_does_not_count() -> None:
    assert judge({0: P, 1: P}, silent={3}, to=0b0111) is Fate.NEVER


def test_a_filling_volume_without_the_row_is_silent() -> None:
    assert judge({0: P, 1: P}, filling={3}) is not Fate.NEVER


def test_a_filling_volume_with_the_row_counts_as_a_copy() -> None:
    assert judge({0: P, 1: P, 3: P}, filling={3}) is Fate.COMMITTED


def test_enough_copies_to_serve_and_enough_volumes_to_store_are_finished() -> None:
    # FTT 2 on 4 volumes: k = 2 copies serve, W = 4 volumes must store.
    rows = {slot: [row(P, m=2, w=3)] if slot < 2 else [] for slot in range(3)}
    view = View.of(4, rows, frozenset())
    assert view.judge(view.versions[0]) is Fate.FINISH


def test_an_unsound_copy_makes_its_volume_silent_and_leaves_the_others_to_speak() -> None:
    good = row(C)
    bad = good._replace(record=good.record[:-1] + bytes([good.record[-1] ^ 1]))
    view = View.of(4, {0: [good], 1: [bad], 2: [good], 3: [good]}, frozenset())
    assert sorted(view.rows) == [0, 2, 3]
    assert view.versions[0].record.seq == 5


def test_an_only_copy_that_is_unsound_is_lost_data() -> None:
    good = row(C)
    view = View.of(1, {0: [good._replace(record=good.record[:-1] + bytes([good.record[-1] ^ 1]))]}, frozenset())
    with pytest.raises(DataLost):
        view.judge(view.versions[0])


def test_versions_come_newest_first_with_their_copies() -> None:
    view = View.of(4, {0: [row(P, 7), row(C, 5)], 1: [row(C, 5)]}, frozenset())
    assert [(v.id.seq, sorted(v.copies)) for v in view.versions] == [(7, [0]), (5, [0, 1])]
    assert view.newest_seq == 7
    assert view.highest_m == 1
    assert view.vouching == 2


def test_another_layout_of_a_renamed_object_shows_the_same() -> None:
    layout = Layout(3, 1, (0, 1, 2, 3), 65536)
    renamed = Record("object", SPACE, b"k", 5, 3, layout=layout, pair=b"old", incompat=(PAIRED,), size=7)
    again = replace(renamed, rev=9, w=4, top=2, layout=Layout(2, 2, (0, 1, 2, 3), 65536), pair=b"", incompat=())
    assert same_content(again, renamed)
    assert not same_content(replace(again, size=8), renamed)
