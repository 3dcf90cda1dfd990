"""The checker of histories: it takes the good ones and finds the bad ones, by examples and against a search by brute force."""

from __future__ import annotations

import math
import random
from collections.abc import Hashable
from itertools import combinations, permutations

import pytest

from tests.linear import ABSENT, NotLinearizable, Op, check

NEVER = math.inf


def write(value: Hashable, start: float, end: float = NEVER) -> Op:
    return Op(0, "write", value, start, end)


def read(value: Hashable, start: float, end: float) -> Op:
    return Op(1, "read", value, start, end)


def cas(expected: Hashable, value: Hashable, start: float, end: float = NEVER, held: bool = True) -> Op:
    return Op(2, "cas", value, start, end, expected, held)


GOOD = {
    "nothing": [],
    "one after another": [read(ABSENT, 0, 1), write("a", 2, 3), read("a", 4, 5), write(ABSENT, 6, 7), read(ABSENT, 8, 9)],
    "a read beside a write finds the old": [write("a", 0, 1), write("b", 2, 5), read("a", 3, 4)],
    "a read beside a write finds the new": [write("a", 0, 1), write("b", 2, 5), read("b", 3, 4)],
    "two writes beside each other in either order": [write("a", 0, 9), write("b", 1, 8), read("a", 10, 11)],
    "reads that change their mind while writes are under way": [
        write("a", 0, 9), write("b", 0, 9), read("a", 1, 2), read("b", 3, 4),
    ],
    "a write without an answer that happened": [write("a", 0, 1), write("b", 2), read("a", 3, 4), read("b", 5, 6)],
    "a write without an answer that never happened": [write("a", 0, 1), write("b", 2), read("a", 3, 4)],
    "one of two creators wins": [cas(ABSENT, "a", 0, 5), cas(ABSENT, "b", 1, 4, held=False), read("a", 6, 7)],
    "a creator without an answer won": [cas(ABSENT, "a", 0), cas(ABSENT, "b", 1, 4, held=False), read("a", 6, 7)],
    "counting up": [write(0, 0, 1), cas(0, 1, 2, 5), cas(0, 2, 2, 5, held=False), cas(1, 2, 6, 7), read(2, 8, 9)],
    "a swap without an answer that came too late": [write("a", 0, 1), cas("a", "b", 2), write("c", 3, 4), read("c", 5, 6)],
}
BAD = {
    "a value nobody wrote": [write("a", 0, 1), read("b", 2, 3)],
    "a lost write": [write("a", 0, 1), read(ABSENT, 2, 3)],
    "an old value after the overwrite": [write("a", 0, 1), write("b", 2, 3), read("a", 4, 5)],
    "a delete that comes undone": [write("a", 0, 1), write(ABSENT, 2, 3), read("a", 4, 5)],
    "new, then old again": [write("a", 0, 1), write("b", 2, 9), read("b", 3, 4), read("a", 5, 6)],
    "a write without an answer that goes away once seen": [write("a", 0, 1), write("b", 2), read("b", 3, 4), read("a", 5, 6)],
    "two winners": [cas(ABSENT, "a", 0, 5), cas(ABSENT, "b", 1, 4)],
    "no winner": [cas(ABSENT, "a", 0, 5, held=False), cas(ABSENT, "b", 1, 4, held=False)],
    "a lost update": [write(0, 0, 1), cas(0, 1, 2, 5), cas(0, 1.5, 2, 5), read(1, 6, 7)],
    "a refused write that is seen": [write("a", 0, 1), cas("b", "c", 2, 3, held=False), read("c", 4, 5)],
    "a write from the future": [read("a", 0, 1), write("a", 2, 3)],
}


@pytest.mark.parametrize("history", GOOD.values(), ids=GOOD)
def test_takes(history: list[Op]) -> None:
    check(history)


@pytest.mark.parametrize("history", BAD.values(), ids=BAD)
def test_finds(history: list[Op]) -> None:
    with pytest.raises(NotLinearizable):
        check(history)


def by_brute_force(history: list[Op]) -> bool:
    """Every subset of what has no answer, in every order."""
    sure = [op for op in history if op.end < NEVER]
    unsure = [op for op in history if op.end == NEVER]
    return any(
        _right(order)
        for count in range(len(unsure) + 1) for chosen in combinations(unsure, count) for order in permutations([*sure, *chosen])
    )


def _right(order: tuple[Op, ...]) -> bool:
    state: Hashable = ABSENT
    for number, op in enumerate(order):
        fits, state = op.after(state)
        if not fits or any(later.end < op.start for later in order[number + 1 :]):
            return False
    return True


def random_history(chooser: random.Random, size: int) -> list[Op]:
    found = []
    for _ in range(size):
        start = chooser.randrange(10)
        end = NEVER if chooser.random() < 0.15 else start + chooser.randrange(1, 5)
        kind = chooser.choice(("read", "write", "cas"))
        value, expected = chooser.choice((ABSENT, "a", "b")), chooser.choice((ABSENT, "a", "b"))
        if kind == "read":
            found.append(read(value, start, start + chooser.randrange(1, 5)))
        elif kind == "write":
            found.append(write(value, start, end))
        else:
            found.append(cas(expected, value, start, end, held=end == NEVER or chooser.random() < 0.6))
    return found


def test_agrees_with_brute_force() -> None:
    chooser = random.Random(7)
    verdicts = {True: 0, False: 0}
    for _ in range(1500):
        history = random_history(chooser, chooser.randrange(1, 6))
        try:
            check(history)
            verdict = True
        except NotLinearizable:
            verdict = False
        assert verdict == by_brute_force(history), "\n".join(map(str, history))
        verdicts[verdict] += 1
    assert min(verdicts.values()) > 200


def simulated(chooser: random.Random, clients: int, steps: int) -> list[Op]:
    """What clients of a real register would record; each operation happens at one moment inside its time."""
    now, state, history = [0.0] * clients, "0", list[Op]()
    moments = []
    for number in range(steps):
        client = chooser.randrange(clients)
        start = now[client] + chooser.random()
        moment, end = start + chooser.random(), start + 2
        now[client] = end
        op = chooser.choice((write(str(number), start, end), read("", start, end), cas(str(number - 1), str(number), start, end)))
        moments.append((moment, op))
    for _, op in sorted(moments, key=lambda pair: pair[0]):
        if op.kind == "read":
            op.value = state
        elif op.kind == "cas":
            op.held = op.expected == state
        if op.changes:
            state = str(op.value)
            if chooser.random() < 0.1:
                op.end = NEVER
        history.append(op)
    return history


@pytest.mark.parametrize("seed", range(5))
def test_takes_long_histories_and_finds_one_wrong_answer_in_them(seed: int) -> None:
    chooser = random.Random(seed)
    history = simulated(chooser, 8, 1000)
    check(history, "0")
    victim = chooser.choice([op for op in history if op.kind == "read"])
    victim.value = "nobody wrote this"
    with pytest.raises(NotLinearizable):
        check(history, "0")
