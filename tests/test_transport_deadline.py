"""The one timer of a connection."""

from __future__ import annotations

import pytest

from abixio.transport.deadline import Deadline
from tests.transport_kit import ManualLoop

Case = tuple[ManualLoop, Deadline, list[float]]


@pytest.fixture
async def case() -> Case:
    loop, calls = ManualLoop(), list[float]()
    return loop, Deadline(loop, lambda: calls.append(loop.now - 1000.0)), calls  # type: ignore[arg-type]


def test_calls_once_when_the_time_has_come(case: Case) -> None:
    loop, deadline, calls = case
    deadline.set(10)
    loop.advance(9.9)
    assert calls == []
    loop.advance(100)
    assert calls == [10]


def test_can_be_moved_later_and_earlier(case: Case) -> None:
    loop, deadline, calls = case
    deadline.set(10)
    loop.advance(5)
    deadline.set(10)
    loop.advance(9)
    assert calls == []
    deadline.set(0.5)
    loop.advance(3)
    assert calls == [14.5]


def test_a_cleared_deadline_never_comes(case: Case) -> None:
    loop, deadline, calls = case
    deadline.set(10)
    deadline.clear()
    loop.advance(100)
    assert calls == []
    deadline.set(1)
    loop.advance(100)
    assert calls == [101]


def test_requests_in_a_row_touch_no_timer(case: Case) -> None:
    loop, deadline, calls = case
    deadline.set(75)
    for _ in range(50):
        deadline.clear()
        loop.advance(1)
        deadline.set(75)
    assert loop.armed == 1
    assert calls == []


def test_closing_leaves_nothing_in_the_loop(case: Case) -> None:
    loop, deadline, calls = case
    deadline.set(10)
    deadline.close()
    deadline.close()
    assert loop.pending() == []
    loop.advance(100)
    assert calls == []
