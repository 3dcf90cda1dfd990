"""What lifecycle rules say of the versions of a key, against a plain reading of AWS's words; and which rows are looked at."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abixio.store.lifecycle_rules import DAY, Calendar, Doom, Filter, Rule, Rules, abortion, decode, encode, expiry, judge
from abixio.store.lifecycle_sweeps import sweeps
from abixio.store.record import NULL, Record
from abixio.volume.interface import Aged

SPACE = bytes(16)
START = 20_000 * DAY
CALENDAR = Calendar()


def version(seq: int, age: float, kind: Any = "object", versioned: bool = True, size: int = 10, **more: Any) -> Record:
    """Made `age` days before START."""
    return Record(kind, SPACE, b"a/k", seq, 1, modified=int(START - age * DAY), versioned=versioned, size=size, **more)


def rules(*found: Rule) -> Rules:
    return Rules(found, "")


def dooms(found: Rules, *versions: Record, now: float = 0) -> list[Any]:
    return [doom.of for doom in judge(found, versions, int(START + now * DAY), CALENDAR).dooms]


# ---- days and midnights ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("made", "days", "due"),
    [
        ("2014-01-15T10:30:00", 3, "2014-01-19T00:00:00"),
        ("2014-01-15T00:00:00.001", 1, "2014-01-17T00:00:00"),
        ("2014-01-15T23:59:59.999", 1, "2014-01-17T00:00:00"),
        ("2014-01-15T00:00:00", 1, "2014-01-17T00:00:00"),
        ("2016-02-28T12:00:00", 1, "2016-03-01T00:00:00"),
    ],
)
def test_an_object_is_due_at_the_midnight_behind_its_age(made: str, days: int, due: str) -> None:
    moment = [int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000) for text in (made, due)]
    assert CALENDAR.due(moment[0], days) == moment[1]


@given(st.integers(0, 10**13), st.integers(1, 4000), st.integers(0, 10**13), st.sampled_from([None, 1, 7, 3600]))
def test_what_is_behind_the_horizon_is_what_is_due(made: int, days: int, now: int, seconds: int | None) -> None:
    calendar = Calendar(seconds)
    assert (made < calendar.horizon(now, days)) == (calendar.due(made, days) <= now)


def test_a_short_day_has_its_own_midnights() -> None:
    assert Calendar(2).due(10_001, 1) == 14_000
    assert Calendar(2).due(11_999, 2) == 16_000


# ---- what is due -----------------------------------------------------------------------------------------------------
def test_a_current_object_goes_when_it_is_old_enough() -> None:
    found = rules(Rule("r", True, days=2))
    assert dooms(found, version(1, 1.5)) == []
    assert dooms(found, version(1, 2.5), now=0.1) == [None]
    assert dooms(rules(Rule("r", False, days=2)), version(1, 9)) == []


def test_a_rule_with_a_date_takes_all_from_that_day_on() -> None:
    found = rules(Rule("r", True, date=START))
    assert dooms(found, version(1, 5), now=-0.01) == []
    assert dooms(found, version(1, 5)) == [None] == dooms(found, version(1, -3), now=4)


@pytest.mark.parametrize(
    ("chosen", "fits"),
    [
        (Filter("a/"), True), (Filter("b"), False), (Filter(""), True), (Filter(tags=(("k", "v"),)), True),
        (Filter(tags=(("k", "w"),)), False), (Filter(tags=(("k", "v"), ("l", "v"))), False), (Filter(larger=9), True),
        (Filter(larger=10), False), (Filter(smaller=11), True), (Filter(smaller=10), False),
        (Filter("a/", (("k", "v"),), 9, 11), True), (Filter("a/", (("k", "v"),), 9, 10), False), (Filter("A/"), False),
    ],
)
def test_a_rule_is_about_what_fits_all_of_its_filter(chosen: Filter, fits: bool) -> None:
    object = version(1, 5, tags={"k": "v", "x": "y"})
    assert chosen.fits("a/k", object) is fits
    assert bool(dooms(rules(Rule("r", True, chosen, days=1)), object)) is fits


def test_a_noncurrent_version_counts_from_when_the_next_one_took_its_place() -> None:
    found = rules(Rule("r", True, noncurrent_days=2))
    assert dooms(found, version(2, 1), version(1, 50)) == []
    assert dooms(found, version(3, 1), version(2, 5), version(1, 50)) == [1]
    assert dooms(found, version(3, 4, "marker"), version(2, 5), version(1, 50, versioned=False)) == [2, NULL]


def test_the_newest_noncurrent_versions_stay_whatever_their_age() -> None:
    found = rules(Rule("r", True, noncurrent_days=1, newer=2))
    history = [version(seq, 100 - seq) for seq in range(6, 0, -1)]
    assert dooms(found, *history) == [3, 2, 1]
    assert dooms(found, *history[:3]) == []


def test_a_delete_marker_goes_once_nothing_is_below_it() -> None:
    found = rules(Rule("r", True, Filter("a"), markers=True))
    assert dooms(found, version(2, 0, "marker"), version(1, 9)) == []
    assert dooms(found, version(2, 0, "marker")) == [2]
    assert dooms(found, version(2, 0, "marker", versioned=False)) == [NULL]
    assert dooms(found, version(2, 0)) == []
    assert dooms(rules(Rule("r", True, markers=False)), version(2, 0, "marker")) == []


def test_a_lone_delete_marker_expires_with_age_too() -> None:
    found = rules(Rule("r", True, days=3))
    assert dooms(found, version(2, 2.5, "marker")) == []
    assert dooms(found, version(2, 5, "marker")) == [2]
    assert dooms(found, version(2, 5, "marker"), version(1, 9)) == []


def test_what_is_locked_stays_until_its_retention_ends() -> None:
    found = rules(Rule("r", True, noncurrent_days=1))
    until = {"mode": "COMPLIANCE", "until": str(START + 5)}
    judged = judge(found, [version(3, 9), version(2, 20, lock=until), version(1, 30, lock={"hold": "ON"})], START, CALENDAR)
    assert (judged.dooms, judged.later) == ([], START + 5)
    judged = judge(found, [version(3, 9), version(2, 20, lock=until), version(1, 30, lock={"hold": "OFF"})], START + 5, CALENDAR)
    assert [doom.of for doom in judged.dooms] == [2, 1]


def test_what_is_locked_may_be_hidden_by_a_delete_marker() -> None:
    assert dooms(rules(Rule("r", True, days=1)), version(1, 9, lock={"hold": "ON"})) == [None]


def test_nothing_is_due_of_a_key_without_versions() -> None:
    assert dooms(rules(Rule("r", True, days=1))) == []


# ---- against a plain reading -----------------------------------------------------------------------------------------
def plainly(found: Rules, versions: list[Record], now: int) -> set[tuple[Any, str]]:
    """Version by version, rule by rule, in calendar time; every rule that takes it."""
    def midnight_behind(ms: int, days: int) -> datetime:
        moment = datetime.fromtimestamp(ms / 1000, UTC) + timedelta(days=days)
        return moment.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)

    today = datetime.fromtimestamp(now / 1000, UTC)
    gone: set[tuple[Any, str]] = set()
    for rule in found.rules:
        if not rule.enabled:
            continue
        for place, each in enumerate(versions):
            chosen = rule.filter
            if chosen.prefix and not each.key.startswith(chosen.prefix.encode()):
                continue
            if not set(chosen.tags) <= set(each.tags.items()):
                continue
            if (chosen.larger is not None and each.size <= chosen.larger) or (
                chosen.smaller is not None and each.size >= chosen.smaller
            ):
                continue
            if place == 0:
                due = (rule.days is not None and midnight_behind(each.modified, rule.days) <= today) or (
                    rule.date is not None and datetime.fromtimestamp(rule.date / 1000, UTC) <= today
                )
                if each.kind == "object" and due:
                    gone.add((None, rule.id))
                elif each.kind == "marker" and len(versions) == 1 and (due or rule.markers):
                    gone.add((each.seq, rule.id))
            elif (
                rule.noncurrent_days is not None and place > (rule.newer or 0)
                and midnight_behind(versions[place - 1].modified, rule.noncurrent_days) <= today
            ):
                gone.add((each.seq, rule.id))
    return gone


FILTERS = st.builds(
    Filter, st.sampled_from([None, "", "a/", "b"]), st.sampled_from([(), (("k", "v"),), (("k", "v"), ("l", "w"))]),
    st.sampled_from([None, 0, 10]), st.sampled_from([None, 5, 11]),
)
ACTIONS = st.one_of(
    st.fixed_dictionaries({"days": st.integers(1, 4)}),
    st.fixed_dictionaries({"date": st.integers(-3, 3).map(lambda day: START + day * DAY)}),
    st.fixed_dictionaries({"markers": st.booleans()}),
    st.fixed_dictionaries({"noncurrent_days": st.integers(1, 4), "newer": st.sampled_from([None, 1, 2])}),
)


@st.composite
def some_rules(draw: st.DrawFn) -> Rules:
    return rules(*(
        Rule(f"r{number}", draw(st.booleans()), draw(FILTERS), **draw(ACTIONS)) for number in range(draw(st.integers(1, 4)))
    ))


@st.composite
def histories(draw: st.DrawFn) -> list[Record]:
    ages = sorted(draw(st.lists(st.floats(0, 8), min_size=1, max_size=6)))
    return [
        version(100 - place, age, draw(st.sampled_from(["object", "object", "marker"])), size=draw(st.sampled_from([0, 5, 10])),
                tags=draw(st.sampled_from([{}, {"k": "v"}, {"k": "v", "l": "w"}])))
        for place, age in enumerate(ages)
    ]


@given(some_rules(), histories(), st.integers(-DAY, 3 * DAY))
def test_what_is_due_is_what_a_plain_reading_says(found: Rules, versions: list[Record], later: int) -> None:
    now = START + later
    judged = judge(found, versions, now, CALENDAR).dooms
    plain = plainly(found, versions, now)
    assert {doom.of for doom in judged} == {of for of, _ in plain}
    assert len(judged) == len({doom.of for doom in judged})
    assert all((doom.of, doom.rule) in plain for doom in judged)


@given(some_rules(), histories(), st.integers(-DAY, 3 * DAY))
def test_what_is_due_is_in_one_of_the_sweeps(found: Rules, versions: list[Record], later: int) -> None:
    """At the row that makes it due: its own, or of a noncurrent version that of any version in place of it."""
    now = START + later
    due = judge(found, versions, now, CALENDAR).dooms
    if not due:
        return
    listed = versions[0].kind == "object"
    rows = [(each, Aged(each.seq, each.key, listed, place < len(versions) - 1)) for place, each in enumerate(versions)]
    for doom in due:
        makers = [row for row in rows if doom.of is None or row[0].seq >= doom.of or len(versions) == 1]
        assert any(
            sweep.wants(aged) and (sweep.days is None or each.modified < CALENDAR.horizon(now, sweep.days))
            for sweep in sweeps(found, now) if not sweep.amended and not sweep.uploads for each, aged in makers
        ), doom


# ---- what answers say, and what is kept ------------------------------------------------------------------------------
def test_the_soonest_rule_is_named() -> None:
    found = rules(Rule("a", True, days=9), Rule("b", True, Filter("a"), date=START + DAY), Rule("c", False, days=1))
    assert expiry(found, version(1, 0.5), CALENDAR) == (START + DAY, "b")
    assert expiry(found, version(1, 9.5), CALENDAR) == (START, "a")
    assert expiry(rules(Rule("m", True, markers=True)), version(1, 1), CALENDAR) is None


def test_uploads_go_by_their_key_and_when_they_began() -> None:
    found = rules(Rule("a", True, Filter("a"), abort_days=2), Rule("b", True, abort_days=3), Rule("c", True, days=1))
    assert abortion(found, "a/k", START + 1, CALENDAR) == (START + 3 * DAY, "a")
    assert abortion(found, "b", START + 1, CALENDAR) == (START + 4 * DAY, "b")
    assert abortion(rules(Rule("c", True, days=1)), "b", START, CALENDAR) is None


@given(some_rules())
def test_rules_are_kept_as_they_are(found: Rules) -> None:
    assert decode(encode(found)) == found


# ---- sweeps ----------------------------------------------------------------------------------------------------------
def test_rules_of_one_age_share_a_sweep_and_look_at_their_own_prefixes_only() -> None:
    found = rules(
        Rule("a", True, Filter("a/"), days=3), Rule("b", True, Filter("b/"), days=3, noncurrent_days=3),
        Rule("c", True, Filter("c/"), noncurrent_days=3), Rule("d", False, days=3),
    )
    by_name = {sweep.name: sweep for sweep in sweeps(found, START)}
    assert set(by_name) == {"3 days", "amended"}
    three = by_name["3 days"]
    assert [three.wants(Aged(1, key, True, False)) for key in (b"a/1", b"b/1", b"c/1", b"d")] == [True, True, False, False]
    assert three.wants(Aged(1, b"c/1", True, True))


def test_expired_markers_are_looked_for_among_unlisted_keys_only() -> None:
    (sweep,) = sweeps(rules(Rule("m", True, Filter("a"), markers=True)), START)
    assert sweep.wants(Aged(1, b"a", False, False))
    assert not sweep.wants(Aged(1, b"a", True, True)) and not sweep.wants(Aged(1, b"b", False, False))


def test_uploads_are_told_by_their_key_without_its_tail() -> None:
    (sweep,) = sweeps(rules(Rule("u", True, Filter("a"), abort_days=1)), START)
    assert sweep.uploads and sweep.wants(Aged(1, b"ab\0" + bytes(16), True, False))
    assert not sweep.wants(Aged(1, b"\0" + b"a" * 16, True, False))


def test_a_date_is_no_sweep_before_its_day() -> None:
    found = rules(Rule("d", True, date=START))
    assert [sweep.name for sweep in sweeps(found, START - 1)] == ["amended"]
    assert f"since {START}" in [sweep.name for sweep in sweeps(found, START)]


def test_a_doom_names_its_rule() -> None:
    assert judge(rules(Rule("x", True, days=1)), [version(1, 9)], START, CALENDAR).dooms == [Doom(None, "x")]
