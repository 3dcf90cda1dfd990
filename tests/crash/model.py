"""What clients were told, and so what a store may show after a crash.

The child says before each operation what it will set, and afterwards how it was answered. From that the model knows for each
thing (a bucket, an object, an upload, a part) which values it may have: the acknowledged one; that of a write which was
under way or answered with an unknown outcome; and, when the mode is page-cache and the power was cut, those acknowledged
since the last barrier and the one before them, but none older: never both the new and the old.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.crash.histories import MARKER, History, name, parsed

Thing = tuple[str, ...]
"""("bucket", name), ("object", bucket, key), ("upload", bucket, key, label), ("part", label, number), ("m", bucket, key),
("tag", bucket, key), ("note", bucket), ("setting", bucket, name), ("versioning", bucket), ("history", bucket, key)."""
Value = str | None
"""None: it is not there. Of a history see `histories`."""


@dataclass(slots=True)
class Cell:
    """One thing."""

    sure: Value = None
    unsure: list[Value] = field(default_factory=list)
    older: list[Value] = field(default_factory=list)
    """What was acknowledged and replaced, and not covered by a barrier; the oldest was."""

    def begin(self, value: Value) -> None:
        self.unsure.append(value)

    def ack(self, value: Value) -> None:
        self.older += [self.sure, *(other for other in self.unsure if other != value)]
        self.sure, self.unsure = value, []

    def refused(self, value: Value) -> None:
        self.unsure.remove(value)
        self.older.append(value)  # of no concern but to a cut that also takes the taking back

    def barrier(self) -> None:
        self.older.clear()

    def copy(self) -> Cell:
        return Cell(self.sure, [*self.unsure], [*self.older])

    def settled(self) -> Cell:
        """At rest, with all that was acknowledged."""
        return Cell(self.sure)

    def allowed(self, lossy: bool) -> set[Value]:
        return {self.sure, *self.unsure, *(self.older if lossy else ())}


@dataclass(slots=True)
class Operation:
    """One call of the store: what it sets, in the order in which that may be seen."""

    name: str
    sets: list[tuple[Thing, Value]]
    state: str = "under way"


class Model:
    """Reads a child's events."""

    def __init__(self) -> None:
        self.cells: dict[Thing, Cell | History] = {}
        self.operations: list[Operation] = []
        self.ids: dict[str, str] = {}
        """Label of an upload -> its id."""
        self.crashes: list[str] = []
        """Exceptions that are none of the errors the store may raise."""
        self.called: set[str] = set()
        self.tripped = False
        self.ended = False
        self.errors: list[str] = []

    @property
    def versions(self) -> set[str]:
        """What versions of histories may be called."""
        states = [parsed(v) for thing, cell in self.cells.items() if thing[0] == "history" for v in cell.allowed(True)]
        return {name(version) for state in states for version in state} - {MARKER}

    def copy(self) -> Model:
        """The same again, to go on from."""
        other = Model()
        other.cells = {thing: cell.copy() for thing, cell in self.cells.items()}
        other.operations = [Operation(op.name, op.sets, op.state) for op in self.operations]
        other.ids = dict(self.ids)
        return other

    def forget(self) -> Model:
        """As the base of a run: all that happened is settled and safe."""
        other = Model()
        other.cells = {thing: cell.settled() for thing, cell in self.cells.items()}
        other.ids = dict(self.ids)
        return other

    def crashed(self) -> Model:
        """As the base of a run that follows a crash: what was under way may have come to pass or not."""
        other = self.copy()
        other.operations = []
        return other

    def read(self, lines: Iterable[str]) -> Model:
        for line in lines:
            self.event(line)
        return self

    def event(self, line: str) -> None:
        """One line of a child."""
        event: dict[str, Any] = json.loads(line)
        match event["at"]:
            case "begin":
                sets = [(tuple(thing), value) for thing, value in event["sets"]]
                self.operations.append(Operation(event["name"], sets))
                for thing, value in sets:
                    self.cells.setdefault(thing, History() if thing[0] == "history" else Cell()).begin(value)
            case "ack":
                self._ack(self.operations[event["op"]], event)
            case "refused":
                self._refused(self.operations[event["op"]])
                self.errors.append(event["error"])
            case "unknown":
                self.operations[event["op"]].state = "unknown"
                self.errors.append(event["error"])
            case "safe":
                for cell in self.cells.values():
                    cell.barrier()
            case "crash":
                self.crashes.append(event["text"])
            case "called":
                self.called.update(event["methods"])
            case "killed":
                self.tripped = True
            case "end":
                self.ended = True
                self.tripped = event["tripped"]

    def _ack(self, op: Operation, event: dict[str, Any]) -> None:
        op.state = "acknowledged"
        self.ids.update(event.get("ids", {}))
        for thing, value in op.sets:
            self.cells[thing].ack(value)

    def _refused(self, op: Operation) -> None:
        op.state = "refused"
        for thing, value in op.sets:
            self.cells[thing].refused(value)

    # ---- judging -----------------------------------------------------------------------------------------------------
    def judge(self, seen: dict[Thing, Value], lossy: bool) -> list[str]:
        """What is wrong with that state of all things."""
        wrong = []
        for thing, cell in self.cells.items():
            if thing in seen and seen[thing] not in cell.allowed(lossy):
                told = " or ".join(sorted(map(str, cell.allowed(lossy))))
                wrong.append(f"{'/'.join(thing)} is {seen[thing]}, it should be {told}")
        for op in self.operations:
            if op.name == "complete_upload" and op.state != "acknowledged" and not lossy:
                wrong += self._out_of_order(op, seen)
        return wrong + self._torn(seen, lossy)

    def _torn(self, seen: dict[Thing, Value], lossy: bool) -> list[str]:
        """Of renames that nothing followed, those of which only one end came to pass."""
        last = {thing: op for op in self.operations for thing, _ in op.sets}
        wrong = []
        for op in self.operations:
            if op.name != "rename":
                continue
            (source, _), (target, value) = [each for each in op.sets if each[0][0] == "object"]
            if last[source] is not op or last[target] is not op or not {source, target} <= seen.keys():
                continue
            gone, there = seen[source] is None, seen[target] == value
            cell = self.cells[source]
            assert isinstance(cell, Cell)
            # That it is gone says something only if there is no other reason: an earlier write that failed, or was cut away.
            known = not lossy and cell.sure is not None and cell.unsure == [None]
            if (there and not gone) or (gone and not there and known):
                wrong.append(f"{source[2]} was renamed: it is {seen[source]}, and {target[2]} is {seen[target]}")
        return wrong

    def _out_of_order(self, op: Operation, seen: dict[Thing, Value]) -> list[str]:
        """Of an operation in several steps, the last may only be seen with the first."""
        first, last = op.sets[0], op.sets[-1]
        if self.cells[last[0]].allowed(False) == {last[1]}:
            return []
        if seen.get(last[0], "?") == last[1] and seen.get(first[0], first[1]) != first[1]:
            return [f"{op.name}: {'/'.join(last[0])} is {last[1]}, but {'/'.join(first[0])} is {seen[first[0]]}"]
        return []
