"""The crash matrix: every row, every call, every fault. Lists the cases, runs them, counts, and says what went wrong.

A row is played once and written down. From what was written, each moment's power cuts are replayed without playing the row
again. Faults of the living, and kills, need a child for each case.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from random import Random
from typing import Any, Final, NamedTuple

from tests.crash.bases import BASES, BaseSpec, Crash
from tests.crash.child import Ending, Job, spawn
from tests.crash.disk import CUTS, Disk, Image
from tests.crash.layer import BOOT, KINDS, Fault, Point, applies
from tests.crash.model import Model
from tests.crash.report import Result
from tests.crash.rows import CRASHES, ROWS, Row
from tests.crash.run import Script
from tests.crash.shortcuts import shortcuts
from tests.crash.verify import verify
from tests.crash.workbench import Bench, bench

MODES: Final = ("fsync", "page-cache")
FRAME_HEAD: Final = 32
"""Bytes: shorter writes are the heads of frames in SQLite's log."""
DRAIN: Final = 5
"""Every so many cases all is deleted afterwards, and nothing may stay."""


class Case(NamedTuple):
    """One crash."""

    row: Row
    mode: str
    fault: Fault | None
    """None: a power cut."""
    cut: str = ""
    moment: int = 0
    """So many entries of the journal were done when the power went."""

    @property
    def kind(self) -> str:
        return self.fault.kind if self.fault is not None else f"cut: {self.cut}"

    def __str__(self) -> str:
        at = self.fault.point if self.fault is not None else f"entry {self.moment}"
        return f"{self.row.name}, {self.mode}, {self.kind}, at {at}"

    @property
    def seed(self) -> int:
        """The same case takes the same random decisions in every run."""
        return zlib.crc32(str(self).encode())


@dataclass(slots=True)
class Base:
    """A pool at rest, to start from."""

    images: list[Image]
    model: Model
    filling: frozenset[int] = frozenset()
    """Volumes that may be filling."""
    boot: str = BOOT
    undecided: tuple[tuple[str, str], ...] = ()
    killed: list[Disk] | None = None
    """What is certain of the images and what is not, when a process left them that was killed."""
    lossy: bool = False
    """A power cut may take what that process was acknowledged."""

    def disks(self) -> list[Disk]:
        """To replay a journal on."""
        return [Disk(image) for image in self.images] if self.killed is None else [disk.copy() for disk in self.killed]

    @property
    def names(self) -> list[list[str]]:
        return [sorted(image) for image in self.images]


@dataclass(slots=True)
class Played:
    """A row that was played without a fault."""

    base: Base
    ending: Ending

    def points(self) -> list[Point]:
        """Every call that was made."""
        counts = sorted(self.ending.counts.items())
        return [Point(slot, site, number) for (slot, site), count in counts for number in range(count)]


class Matrix:
    """Runs cases on benches that are used again and again."""

    def __init__(self, thorough: bool = False) -> None:
        self.thorough = thorough
        """Every fault on every volume, where else one volume per call has it in turn, for volumes are alike; every kind of power
        cut at every moment, where else there are two, one of them in turn."""
        self.result = Result()
        self._stack = ExitStack()
        self._benches: dict[int, Bench] = {}
        self._bases: dict[tuple[str, int], Base] = {}
        self._played: dict[tuple[str, str], Played] = {}
        self._looked: set[int] = set()

    def __enter__(self) -> Matrix:
        self._stack.enter_context(shortcuts())
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # ---- what stands before ------------------------------------------------------------------------------------------
    def _bench(self, n: int) -> Bench:
        if n not in self._benches:
            self._benches[n] = self._stack.enter_context(bench(n))
            self._benches[n].format()
        return self._benches[n]

    def base(self, name: str, n: int) -> Base:
        """That base, made by a child and brought to rest."""
        if (name, n) not in self._bases:
            crash = CRASHES.get(name)
            self._bases[name, n] = self._made(BASES[name], n) if crash is None else self._crashed(crash)
        return self._bases[name, n]

    def _crashed(self, crash: Crash) -> Base:
        """Another row, cut short."""
        played = self.played(next(row for row in ROWS if row.name == crash.row), crash.mode)
        disks, model = self._until(played, int(crash.share * len(played.ending.journal)))
        rng = Random(crash.share)
        killed = crash.cut == "keep"
        return Base(
            [disk.after(crash.cut, rng) for disk in disks], model.crashed(), played.base.filling,
            BOOT if killed else "boot-between", killed=[disk.killed() for disk in disks] if killed else None,
            lossy=killed and crash.mode == "page-cache",
        )

    def _made(self, spec: BaseSpec, n: int) -> Base:
        with bench(n) as used:
            used.format()
            model = self._settled(used, Model(), spec.script)
            before = used.images()
            if spec.since is not None:
                model = self._settled(used, model, spec.since)
                used.lay([*used.images()[:-1], before[-1]])
            spec.damage(used)
            return Base(used.images(), model, spec.filling, undecided=spec.undecided)

    @staticmethod
    def _settled(used: Bench, before: Model, script: Script) -> Model:
        ending = spawn(Job(used.root, used.n, "fsync", script, ids=before.ids))
        model = before.copy().read(ending.lines)
        assert not model.crashes and not model.errors, (model.crashes, model.errors)
        wrong = verify(used, model, "fsync", False, False)
        assert not wrong, wrong
        return model.forget()

    def played(self, row: Row, mode: str) -> Played:
        """The row without a fault, written down."""
        key = row.name, mode
        if key not in self._played:
            base = self.base(row.base, row.n)
            ending = self._spawn(row, mode, base, None, record=True)
            model = base.model.copy().read(ending.lines)
            assert model.ended and not model.crashes, (row.name, model.crashes)
            assert row.methods <= model.called, f"{row.name} does not call {row.methods - model.called}"
            self._played[key] = Played(base, ending)
        return self._played[key]

    def _spawn(self, row: Row, mode: str, base: Base, fault: Fault | None, record: bool = False, close: bool = True) -> Ending:
        used = self._bench(row.n)
        used.lay(base.images)
        return spawn(Job(
            used.root, row.n, mode, row.script, fault, record, close, base.model.ids, base.names, base.boot, row.short_log
        ))

    # ---- the cases ---------------------------------------------------------------------------------------------------
    def cases(self, row: Row, mode: str, kinds: Iterable[str] = (*KINDS, *CUTS)) -> Iterator[Case]:
        """All of a row."""
        played, kinds = self.played(row, mode), set(kinds)
        for point in played.points():
            for kind in KINDS:
                if kind in kinds and applies(kind, point.site) and (self.thorough or _its_turn(point, kind, row.n)):
                    yield Case(row, mode, Fault(kind, point))
        for moment, entry in enumerate(played.ending.journal, 1):
            if _matters(entry):
                turn = CUTS[1 + moment % (len(CUTS) - 1)]
                for cut in CUTS:
                    if cut in kinds and (cut in ("drop", turn) or self.thorough):
                        yield Case(row, mode, None, cut, moment)

    def run(self, cases: Iterable[Case], until: float = float("inf"), said: Callable[[str], None] = lambda _: None) -> Result:
        """Run them, as far as the time reaches."""
        started = time.monotonic()
        for case in cases:
            if time.monotonic() > until:
                self.result.left += 1
                continue
            self.result.cases[case.row.name, case.mode, case.kind] += 1
            wrong = self.live(case) if case.fault is not None else self.cut(case)
            if wrong:
                self.result.failures.append(f"{case}: " + "; ".join(wrong[:4]))
                said(self.result.failures[-1])
        self.result.seconds += time.monotonic() - started
        return self.result

    def live(self, case: Case) -> list[str]:
        """Play the row with a fault, then look."""
        assert case.fault is not None
        base, row, fault = self.played(case.row, case.mode).base, case.row, case.fault
        lost = fault.kind == "lost sync"
        ending = self._spawn(row, case.mode, base, fault, record=lost, close=not lost and case.seed % 2 == 0)
        model = base.model.copy().read(ending.lines)
        self.result.sites.add((row.name, fault.point.site))
        if not model.tripped:
            self.result.missed += 1
        if ending.hung:
            return ["the process hangs"]
        if model.crashes:
            return model.crashes
        if ending.killed is not (fault.kind == "kill" and model.tripped):
            return ["the process was killed" if ending.killed else "the process was not killed"]
        used = self._bench(row.n)
        if lost:
            disks = base.disks()
            for entry in ending.journal:
                step(disks, entry)
            used.lay([disk.after("drop", Random(0)) for disk in disks], after_cut=True)
        return verify(
            used, model, case.mode, lost, case.seed % DRAIN == 0, base.filling, base.boot, base.undecided, base.lossy
        )

    def cut(self, case: Case) -> list[str]:
        """Cut the power at that moment of the row that was played, then look."""
        played = self.played(case.row, case.mode)
        disks, model = self._until(played, case.moment)
        rng = Random(case.seed)
        states: list[Image] = [disk.after(case.cut, rng) for disk in disks]
        told = tuple((thing, frozenset(map(str, cell.allowed(True)))) for thing, cell in sorted(model.cells.items()))
        mark = hash((case.mode, told, tuple(frozenset(state.items()) for state in states)))
        if mark in self._looked:
            self.result.same += 1
            return []
        self._looked.add(mark)
        last = played.ending.journal[case.moment - 1]
        self.result.sites.add((case.row.name, last[0]))
        used = self._bench(case.row.n)
        used.lay(states, after_cut=True)
        base = played.base
        return verify(
            used, model, case.mode, True, case.seed % DRAIN == 0, base.filling, base.boot, base.undecided, base.lossy
        )


    @staticmethod
    def _until(played: Played, moment: int) -> tuple[list[Disk], Model]:
        """The disks, and what was said, after so many entries of the journal."""
        disks = played.base.disks()
        model = played.base.model.copy()
        for entry in played.ending.journal[:moment]:
            step(disks, entry)
            if entry[0] == "event":
                model.event(entry[1])
        return disks, model


def step(disks: Sequence[Disk], entry: tuple[Any, ...]) -> None:
    """The next entry of a journal."""
    if entry[0] == "lost":
        disks[entry[2]].lose(entry[1], *entry[3:])
    elif entry[0] != "event":
        disks[entry[1]].do(entry[0], *entry[2:])


def _matters(entry: tuple[Any, ...]) -> bool:
    """Whether a power cut behind it may leave something new: no news are what a client was not told, and the head of a frame of
    SQLite's log, whose page follows."""
    if entry[0] == "event":
        return "ack" in entry[1]
    return entry[0] != "write" or len(entry[4]) >= FRAME_HEAD


def _its_turn(point: Point, kind: str, n: int) -> bool:
    """One volume for each (site, number), another for the next."""
    return zlib.crc32(f"{point.site}{point.number}{kind}".encode()) % n == point.slot


def sample(matrix: Matrix, modes: Sequence[str], seed: int, count: int) -> list[Case]:
    """So many cases, spread evenly over rows and kinds, each row in one mode; with the same seed the same, as far as the same
    calls are made."""
    rng = Random(seed)
    piles: dict[str, list[Case]] = {}
    for number, row in enumerate(ROWS):
        for case in matrix.cases(row, modes[(number + seed) % len(modes)]):
            piles.setdefault(f"{row.name} {case.kind}", []).append(case)
    names = sorted(piles)
    rng.shuffle(names)
    return [rng.choice(piles[names[number % len(names)]]) for number in range(count)]
