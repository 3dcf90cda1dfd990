"""Conditional requests: RFC 9110 precedence, S3's answers."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abixio.errors import NoSuchKey, PreconditionFailed
from abixio.s3 import conditions
from abixio.s3.conditions import Conditions, Doom, check_read, check_source, for_delete, for_write, range_applies
from abixio.s3.errors import S3Error
from abixio.store.record import Record
from abixio.store.types import ObjectInfo, always

NOON = "Sun, 06 Nov 1994 12:00:00 GMT"
BEFORE = "Sun, 06 Nov 1994 11:59:59 GMT"
AFTER = "Sun, 06 Nov 1994 12:00:01 GMT"
NOON_MS = 784_123_200_000


@dataclass
class Object:
    etag: str = "abc"
    modified: int = NOON_MS + 999


def stored(etag: str = "abc", modified: int = NOON_MS + 999) -> ObjectInfo:
    return ObjectInfo("k", 1, etag, modified, Record("object", b"", b"k", 1, 1))


def outcome(**given: str) -> int:
    """The status of a GET."""
    try:
        return 200 if check_read(Conditions(**given), Object()) else 304
    except PreconditionFailed:
        return 412


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({}, 200),
        ({"match": '"abc"'}, 200),
        ({"match": "abc"}, 200),
        ({"match": "*"}, 200),
        ({"match": '"x", "abc"'}, 200),
        ({"match": '"x","y"'}, 412),
        ({"match": 'W/"abc"'}, 412),
        ({"match": '"ABC"'}, 412),
        ({"match": ""}, 412),
        ({"none_match": '"abc"'}, 304),
        ({"none_match": 'W/"abc"'}, 304),
        ({"none_match": "*"}, 304),
        ({"none_match": '"x", W/"abc"'}, 304),
        ({"none_match": '"x"'}, 200),
        ({"modified_since": BEFORE}, 200),
        ({"modified_since": NOON}, 304),
        ({"modified_since": AFTER}, 304),
        ({"modified_since": "yesterday"}, 200),
        ({"unmodified_since": BEFORE}, 412),
        ({"unmodified_since": NOON}, 200),
        ({"unmodified_since": AFTER}, 200),
        ({"unmodified_since": "yesterday"}, 200),
    ],
)
def test_each_condition_alone(given: dict[str, str], status: int) -> None:
    assert outcome(**given) == status


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"match": "abc", "unmodified_since": BEFORE}, 200),
        ({"match": "x", "unmodified_since": AFTER}, 412),
        ({"none_match": "abc", "modified_since": BEFORE}, 304),
        ({"none_match": "x", "modified_since": AFTER}, 200),
        ({"match": "abc", "none_match": "abc"}, 304),
        ({"match": "x", "none_match": "abc"}, 412),
        ({"unmodified_since": BEFORE, "modified_since": AFTER}, 412),
        ({"unmodified_since": AFTER, "modified_since": AFTER}, 304),
        ({"match": "abc", "modified_since": AFTER}, 304),
    ],
)
def test_an_etag_takes_precedence_over_a_date(given: dict[str, str], status: int) -> None:
    assert outcome(**given) == status


@pytest.mark.parametrize("date", ["Sunday, 06-Nov-94 12:00:00 GMT", "Sun Nov  6 12:00:00 1994", NOON])
def test_all_three_date_forms_are_read_as_gmt(date: str) -> None:
    assert outcome(modified_since=date) == 304
    assert outcome(unmodified_since=date) == 200


@given(st.text(max_size=60))
def test_no_date_can_break_a_read(text: str) -> None:
    assert outcome(modified_since=text) in (200, 304)
    assert outcome(unmodified_since=text) in (200, 412)


@given(st.text(max_size=60))
def test_no_tag_can_break_a_read(text: str) -> None:
    assert outcome(match=text) in (200, 412)
    assert outcome(none_match=text) in (200, 304)


@given(st.lists(st.from_regex(r"[a-f0-9]{1,8}", fullmatch=True), max_size=5), st.booleans())
def test_a_tag_matches_exactly_when_it_is_in_the_list(tags: list[str], there: bool) -> None:
    tags = [*(tag for tag in tags if tag != "abc"), *(["abc"] if there else [])]
    assert outcome(match=", ".join(f'"{tag}"' for tag in tags)) == (200 if there else 412)


def test_a_tag_may_hold_a_comma() -> None:
    assert check_read(Conditions(match='"a,b"'), Object(etag="a,b"))


def test_the_failed_condition_is_named() -> None:
    with pytest.raises(PreconditionFailed, match=r"^If-Unmodified-Since$"):
        check_read(Conditions(unmodified_since=BEFORE), Object())


def test_headers_are_read_with_and_without_prefix() -> None:
    headers = {"if-match": "a", "if-none-match": "b", "if-modified-since": "c", "if-unmodified-since": "d"}
    assert conditions.read(headers) == Conditions("a", "b", "c", "d")
    prefixed = {"x-amz-copy-source-" + name: value for name, value in headers.items()}
    assert conditions.read(prefixed, "x-amz-copy-source-") == Conditions("a", "b", "c", "d")
    assert not conditions.read({})


@pytest.mark.parametrize(
    "given", [{"match": "x"}, {"none_match": "abc"}, {"modified_since": AFTER}, {"unmodified_since": BEFORE}]
)
def test_whatever_fails_on_a_copy_source_is_412(given: dict[str, str]) -> None:
    with pytest.raises(PreconditionFailed, match=r"^x-amz-copy-source-If-"):
        check_source(Conditions(**given), Object())


def test_a_copy_source_that_passes_passes() -> None:
    check_source(Conditions(match="abc", unmodified_since=BEFORE), Object())


# ---- writes ----------------------------------------------------------------------------------------------------------
def test_a_write_without_conditions_is_unconditional() -> None:
    assert for_write({"if-modified-since": AFTER}) is always


def test_if_none_match_star_wants_no_object() -> None:
    condition = for_write({"if-none-match": "*"})
    condition(None)
    with pytest.raises(PreconditionFailed, match="If-None-Match"):
        condition(stored())


@pytest.mark.parametrize("value", ['"abc"', "abc", '*, "abc"', ""])
def test_if_none_match_with_a_tag_is_not_implemented_on_writes(value: str) -> None:
    with pytest.raises(S3Error) as caught:
        for_write({"if-none-match": value})
    assert caught.value.code == "NotImplemented"


def test_if_match_wants_that_object() -> None:
    condition = for_write({"if-match": '"abc"'})
    condition(stored())
    with pytest.raises(PreconditionFailed, match="If-Match"):
        condition(stored(etag="other"))
    with pytest.raises(NoSuchKey):
        condition(None)


def test_if_unmodified_since_holds_on_writes_too() -> None:
    condition = for_write({"if-unmodified-since": BEFORE})
    condition(None)
    with pytest.raises(PreconditionFailed, match="If-Unmodified-Since"):
        condition(stored())


def test_a_conditional_delete_of_nothing_succeeds_unless_it_demands_an_etag() -> None:
    condition = for_delete(Doom(None, NOON, "1"))
    condition(None)
    condition(stored())
    assert for_delete(Doom()) is always
    for etag in ('"abc"', "*"):
        condition = for_delete(Doom(etag))
        condition(stored())
        with pytest.raises(NoSuchKey):
            condition(None)


@pytest.mark.parametrize(
    ("doom", "conditions", "name"),
    [
        (Doom('"other"'), Conditions(), "If-Match"),
        (Doom(""), Conditions(), "If-Match"),
        (Doom(modified=BEFORE), Conditions(), "x-amz-if-match-last-modified-time"),
        (Doom(modified=AFTER), Conditions(), "x-amz-if-match-last-modified-time"),
        (Doom(size="4"), Conditions(), "x-amz-if-match-size"),
        (Doom('"abc"', NOON, "4"), Conditions(), "x-amz-if-match-size"),
        (Doom(), Conditions(unmodified_since=BEFORE), "If-Unmodified-Since"),
        (Doom(), Conditions(none_match="*"), "If-None-Match"),
        (Doom('"abc"'), Conditions(none_match='"abc"', unmodified_since=BEFORE), "If-None-Match"),
    ],
)
def test_a_delete_of_another_object_than_expected_fails(doom: Doom, conditions: Conditions, name: str) -> None:
    with pytest.raises(PreconditionFailed) as caught:
        for_delete(doom, conditions)(stored())
    assert caught.value.args == (name,)


@pytest.mark.parametrize(
    ("doom", "conditions"),
    [
        (Doom("*"), Conditions()), (Doom('"x", "abc"'), Conditions()), (Doom(modified="1994-11-06T12:00:00Z"), Conditions()),
        (Doom(modified="1994-11-06T12:00:00.000Z"), Conditions()), (Doom(size="001"), Conditions()),
        (Doom('"abc"'), Conditions(unmodified_since=BEFORE)), (Doom(), Conditions(modified_since=AFTER)),
    ],
)
def test_a_delete_of_the_expected_object_goes_ahead(doom: Doom, conditions: Conditions) -> None:
    for_delete(doom, conditions)(stored())


@pytest.mark.parametrize(
    "doom", [Doom(size="x"), Doom(size="-1"), Doom(size="9" * 30), Doom(modified="yesterday"), Doom(modified="")]
)
def test_a_condition_that_cannot_be_read_stops_a_delete(doom: Doom) -> None:
    with pytest.raises(S3Error, match="InvalidArgument"):
        for_delete(doom)


# ---- If-Range --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("value", "applies"),
    [
        (None, True), ('"abc"', True), ("abc", True), ('W/"abc"', False), ('"x"', False), ("x", False),
        (NOON, True), (BEFORE, False), (AFTER, False),
    ],
)
def test_if_range_serves_a_range_only_of_the_same_object(value: str | None, applies: bool) -> None:
    assert range_applies(value, Object()) is applies
