"""What the comparison of servers says, and does not say."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from bench.chart import chart
from bench.compare import Cell, compare
from bench.rivals import PAGE_CACHE, SYNCED, UNKNOWN, parse


def cells() -> list[Cell]:
    rates = {("ours", PAGE_CACHE): [100.0, 50.0, 80.0], ("ours synced", SYNCED): [10.0, 10.0, 10.0]}
    rates |= {("fast", PAGE_CACHE): [50.0, 100.0, 40.0], ("safe", SYNCED): [5.0, 5.0, 5.0], ("foreign", UNKNOWN): [1.0, 1.0, 1.0]}
    return [Cell(name, "PUT", rule, rate) for (name, rule), rate in rates.items()]


def test_writes_are_compared_under_one_rule_of_acknowledgement_only() -> None:
    found = cells()
    compare(found, writes=True)
    assert {cell.target: cell.ratio for cell in found} == {
        "ours": 1.0, "ours synced": 1.0, "fast": 0.5, "safe": 0.5, "foreign": None,
    }


def test_reads_are_compared_with_the_first_server_round_by_round() -> None:
    found = cells()
    compare(found, writes=False)
    assert found[1].ratio == 0.125
    assert found[2].ratio == 0.5, "the median of 0.5, 2.0 and 0.5"
    assert found[4].ratio == 0.0125


def test_an_endpoint_is_a_name_a_url_and_keys() -> None:
    target = parse("mine=http://127.0.0.1:9000/,key,secret,synced")
    assert (target.name, target.url, target.access, target.secret, target.rule) == (
        "mine", "http://127.0.0.1:9000", "key", "secret", SYNCED,
    )
    assert parse("mine=http://h,key,secret").rule == UNKNOWN
    for text in ("http://h,key,secret", "mine=http://h,key", "=http://h,a,b", "mine=http://h,a,b,c,d"):
        with pytest.raises(ValueError, match="expected NAME=URL"):
            parse(text)


def test_the_chart_has_a_bar_for_each_value() -> None:
    picture = ElementTree.fromstring(chart([("GET", "a<b", 1.0), ("GET", "b", 0.25), ("PUT", "a<b", 2.0)]))
    name = "{http://www.w3.org/2000/svg}"
    bars = [bar for bar in picture.iter(f"{name}rect") if bar.get("height") == "12"]
    assert [float(bar.get("width", "")) for bar in bars] == [250.0, 62.5, 500.0]
    assert {text.text for text in picture.iter(f"{name}text")} >= {"GET", "PUT", "a<b", "b", "0.25"}
