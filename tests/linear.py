"""Is a history of one register linearizable? The search of Wing and Gong with Lowe's memory of what was tried before.

A history is what concurrent clients asked of one key, when, and what they were told. It is linearizable when each
operation can be given one moment between its start and its end so that, one after another in that order, all answers are
right. An operation without an answer may have happened at any moment after its start, or never.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

Kind = Literal["read", "write", "cas"]
ABSENT = None
"""The value of a key that has no object."""
SHOWN = 12
"""Operations named in an error."""


@dataclass(slots=True)
class Op:
    """One operation. `cas` writes `value` if the register holds `expected`."""

    client: int
    kind: Kind
    value: Hashable
    """What a read found, or what is to be written; ABSENT: a delete."""
    start: float
    end: float = math.inf
    """Infinite: no answer came."""
    expected: Hashable = ABSENT
    held: bool = True
    """Whether the condition of a `cas` held, as far as was told."""

    def after(self, state: Hashable) -> tuple[bool, Hashable]:
        """Whether it can happen in that state with that answer, and the state then."""
        if self.kind == "write":
            return True, self.value
        if self.kind == "read":
            return state == self.value, state
        if self.held:
            return state == self.expected, self.value
        return state != self.expected, state

    @property
    def changes(self) -> bool:
        return self.kind == "write" or (self.kind == "cas" and self.held)

    def __str__(self) -> str:
        condition = f" if {self.expected!r}{'' if self.held else ' (did not hold)'}" if self.kind == "cas" else ""
        return f"[{self.start:.6f} .. {self.end:.6f}] client {self.client}: {self.kind} {self.value!r}{condition}"


class NotLinearizable(AssertionError):
    """No order of the operations explains the answers."""


def check(history: Sequence[Op], first: Hashable = ABSENT) -> None:
    """NotLinearizable. `first`: what the register held before."""
    search = _Search(history)
    if not search.explains(first):
        left = [op for number, op in enumerate(search.sure) if not search.best >> number & 1]
        raise NotLinearizable(
            f"{len(search.sure) - len(left)} of {len(search.sure)} answers can be explained; none of the next can follow:\n"
            + "\n".join(map(str, left[:SHOWN]))
        )


class _Search:
    """Depth first over the orders. What was done is a set of bits of `sure` and one of `open`."""

    def __init__(self, history: Sequence[Op]) -> None:
        ordered = sorted(history, key=lambda op: op.start)
        self.sure = [op for op in ordered if op.end < math.inf]
        self.open = [op for op in ordered if op.end == math.inf and op.changes]
        """Without an answer. (A read that got none says nothing.)"""
        self.best = 0
        self._tried: dict[tuple[int, Hashable], list[int]] = {}

    def explains(self, first: Hashable) -> bool:
        everything = (1 << len(self.sure)) - 1
        stack: list[tuple[int, int, Hashable]] = [(0, 0, first)]
        while stack:
            done, used, state = stack.pop()
            if done == everything:
                return True
            if self._known(done, used, state):
                continue
            if done.bit_count() > self.best.bit_count():
                self.best = done
            stack += reversed(self._next(done, used, state))
        return False

    def _known(self, done: int, used: int, state: Hashable) -> bool:
        """Whether the search was here before, with no more of the open operations used up."""
        before = self._tried.setdefault((done, state), [])
        if any(other & ~used == 0 for other in before):
            return True
        before.append(used)
        return False

    def _next(self, done: int, used: int, state: Hashable) -> list[tuple[int, int, Hashable]]:
        """Where to go from here."""
        numbers, ended = self._candidates(done)
        fitting = [number for number in numbers if self.sure[number].after(state)[0]]
        for number in fitting:
            if not self.sure[number].changes:
                # What changes nothing and is right now may as well happen now: no other order is lost by that.
                return [(done | 1 << number, used, state)]
        found = [(done | 1 << number, used, self.sure[number].after(state)[1]) for number in fitting]
        return found + self._opened(done, used, state, ended, [self.sure[n] for n in numbers if n not in fitting])

    def _candidates(self, done: int) -> tuple[list[int], float]:
        """The answers that may be next, whose calls did not begin after another had ended that is still to come; and the first of
        those ends."""
        found: list[int] = []
        ended = math.inf
        number = (~done & (done + 1)).bit_length() - 1
        while number < len(self.sure) and self.sure[number].start <= ended:
            if not done >> number & 1:
                found.append(number)
                ended = min(ended, self.sure[number].end)
            number += 1
        return found, ended

    def _opened(
        self, done: int, used: int, state: Hashable, ended: float, waiting: Sequence[Op]
    ) -> list[tuple[int, int, Hashable]]:
        """An operation without an answer can always happen later, so now is the time only if it makes possible what comes right
        behind it; and of several with the same effect one is enough."""
        free = [
            (number, op) for number, op in enumerate(self.open)
            if not used >> number & 1 and op.start <= ended and op.after(state)[0]
        ]
        found, effects = [], set()
        others = [op for number, op in enumerate(self.open) if not used >> number & 1 and op.kind == "cas" and op.start <= ended]
        for number, op in free:
            then = op.value
            if then in effects:
                continue
            if any(other.after(then)[0] for other in waiting) or any(o.expected == then != state for o in others if o is not op):
                effects.add(then)
                found.append((done, used | 1 << number, then))
        return found


class History:
    """Records operations of many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.ops: list[Op] = []

    @contextmanager
    def asks(self, client: int, kind: Kind, value: Hashable = ABSENT, expected: Hashable = ABSENT) -> Iterator[Op]:
        """Around a call. Who gets an answer calls `told` inside; whose call had no effect for sure, `forget`."""
        op = Op(client, kind, value, time.monotonic(), expected=expected)
        with self._lock:
            self.ops.append(op)
        yield op

    @staticmethod
    def told(op: Op, value: Hashable = ABSENT, held: bool = True) -> None:
        """An answer came: of a read its value, of a `cas` whether the condition held."""
        op.end = time.monotonic()
        if op.kind == "read":
            op.value = value
        op.held = held

    def forget(self, op: Op) -> None:
        """It was refused and changed nothing."""
        with self._lock:
            self.ops.remove(op)
