"""A key of a bucket with versions, as the model sees it: one thing whose value is the whole history, newest version first.

What an operation sets is not that value but a change of it, because the value depends on what became of the ones before:

    =a    the object a in place of all there was     =      nothing in place of all there was (never versioned)
    +a    the version a on top                       0a     the null version a, in place of the one there was
    -a    the version a goes                         ~a t   the version a is tagged t

A version is called by its content, or `marker`; in the value a null version has 0 in front, a tag follows behind a space.
"""

from __future__ import annotations

from dataclasses import dataclass, field

MARKER = "marker"
State = tuple[str, ...]


def name(version: str) -> str:
    """Of a version in a history: without 0 and tag."""
    return version.partition(" ")[0].removeprefix("0")


def shown(state: State) -> str | None:
    return " / ".join(state) or None


def parsed(value: str | None) -> State:
    return tuple(value.split(" / ")) if value else ()


def changed(state: State, change: str) -> State:
    """A history after a change."""
    how, what = change[0], change[1:]
    match how:
        case "=":
            return ("0" + what,) if what else ()
        case "+":
            return (what, *state)
        case "0":
            return (change, *(version for version in state if version[0] != "0"))
        case "-":
            return tuple(version for version in state if name(version) != what)
    what, _, tag = what.partition(" ")
    return tuple(f"{version.partition(' ')[0]} {tag}" if name(version) == what else version for version in state)


@dataclass(slots=True)
class History:
    """What a key may look like. As `model.Cell`."""

    now: set[State] = field(default_factory=lambda: {()})
    """After all that was answered."""
    safe: set[State] = field(default_factory=lambda: {()})
    """At the last barrier."""
    since: list[str] = field(default_factory=list)
    """Changes begun after that."""
    running: list[str] = field(default_factory=list)

    def begin(self, change: str | None) -> None:
        self.running.append(change or "=")
        self.since.append(change or "=")

    def ack(self, change: str | None) -> None:
        self.running.remove(change or "=")
        self.now = {changed(state, change or "=") for state in self.now}

    def refused(self, change: str | None) -> None:
        self.running.remove(change or "=")

    def barrier(self) -> None:
        self.safe, self.since = set(self.now), list(self.running)

    def copy(self) -> History:
        return History(set(self.now), set(self.safe), [*self.since], [*self.running])

    def settled(self) -> History:
        return History(set(self.now), set(self.now))

    def allowed(self, lossy: bool) -> set[str | None]:
        """`lossy`: of what no barrier covered, anything may be missing, but not what it replaced with it."""
        states = set(self.now)
        for change in self.running:
            states |= {changed(state, change) for state in states}
        if lossy:
            some = set(self.safe)
            for change in self.since:
                some |= {changed(state, change) for state in some}
            states |= some
        return {shown(state) for state in states}
