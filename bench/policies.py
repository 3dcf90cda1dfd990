"""Settings of the store that a benchmark has to choose: `python -m bench.policies [--rounds 5] [--objects 3000] [--only WORD]`.

In one process, through the store, one store of its own for each candidate, in turn. Pages in the WAL before a checkpoint, and
the volumes of a pool committed at the same time or in turn, by PUTs of 4 KiB that come 64 at a time; the length of a stripe, by
PUT and GET of 64 MiB. A figure is the median over the rounds of what is in use over the candidate, in elapsed seconds and in
processor time of the process: less than 1 means that what is in use is better. Checkpoints, on their own thread, are counted too.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import click
from rich.console import Console
from rich.table import Table

from abixio.store import buffers, layout
from abixio.volume import catalog
from abixio.volume.local import LocalVolume
from bench.lines import ratio
from bench.stores import Bench

KIB, MIB = 1 << 10, 1 << 20
SMALL: Final = 4 * KIB
LARGE: Final = 64 * MIB
SLACK: Final = 64 * KIB
"""Of a buffer over its stripe."""


@dataclass(frozen=True)
class Candidate:
    """A setting, and how it gets one."""

    name: str
    set: Callable[[ExitStack], object]


def as_it_is(stack: ExitStack) -> None:
    """What is in use."""


def pages(count: int) -> Candidate:
    return Candidate(f"{count:,} pages", lambda stack: stack.enter_context(patch.object(catalog, "CHECKPOINT_PAGES", count)))


def stripe(mib: int) -> Candidate:
    def change(stack: ExitStack) -> None:
        sizes = (*buffers._SIZES[:-1], 2 * mib * MIB + SLACK)
        stack.enter_context(patch.object(layout, "STRIPE", mib * MIB))
        stack.enter_context(patch.object(layout, "STRIPE_BUFFER", 2 * mib * MIB))
        stack.enter_context(patch.object(buffers, "_SIZES", tuple(sorted(sizes))))

    return Candidate(f"{mib} MiB", change)


def in_turn() -> Candidate:
    turn, apply = threading.Lock(), LocalVolume.apply

    def alone(own: LocalVolume, *arguments: Any) -> Any:
        with turn:
            return apply(own, *arguments)

    return Candidate("in turn", lambda stack: stack.enter_context(patch.object(LocalVolume, "apply", alone)))


@dataclass(frozen=True)
class Policy:
    """What is in use first, then the others."""

    name: str
    candidates: Sequence[Candidate]
    volumes: Sequence[int] = (1, 4)
    large: bool = False


POLICIES: Final = (
    Policy("checkpoint after 1,000 pages", (Candidate("in use", as_it_is), pages(250), pages(4000))),
    Policy("volumes at the same time", (Candidate("in use", as_it_is), in_turn()), (4,)),
    Policy("stripe of 4 MiB", (Candidate("in use", as_it_is), stripe(2), stripe(8)), large=True),
)

Cost = tuple[float, float]
"""Elapsed and processor seconds."""


# ---- measuring ---------------------------------------------------------------------------------------------------------
class Side:
    """One candidate, with a store of its own that it was made for."""

    def __init__(self, candidate: Candidate, home: Path, volumes: int, durability: str) -> None:
        self.candidate = candidate
        self._round = 0
        with self._set():
            self.bench = Bench(home, volumes, durability)
        self.costs: dict[str, list[Cost]] = {}

    @contextmanager
    def _set(self) -> Iterator[None]:
        with ExitStack() as stack:
            self.candidate.set(stack)
            yield

    def small(self, objects: int) -> None:
        keys, self._round = (f"{self._round}/{number}" for number in range(objects)), self._round + 1
        self._run("PUT 4 KiB", lambda: self.bench.runner.run(self.bench.put_many(keys, bytes(SMALL))))

    def large(self, data: memoryview) -> None:
        bench = self.bench
        self._run("PUT 64 MiB", lambda: bench.runner.run(bench.put("large", data, LARGE)))
        pieces = self._run("GET 64 MiB", lambda: bench.runner.run(bench.get("large")))
        assert sum(map(len, pieces)) == LARGE
        assert pieces[0][:KIB] == data[:KIB]

    def _run(self, name: str, work: Callable[[], Any]) -> Any:
        os.sync()
        with self._set():
            begin, spent = time.perf_counter(), time.process_time()
            found = work()
            self.costs.setdefault(name, []).append((time.perf_counter() - begin, time.process_time() - spent))
        return found


def rows(policy: Policy, volumes: int, durability: str, home: Path, rounds: int, objects: int) -> Iterator[list[str]]:
    data, sides = memoryview(os.urandom(LARGE)), list[Side]()
    try:
        for number, candidate in enumerate(policy.candidates):
            sides.append(Side(candidate, home / str(number), volumes, durability))
        for number in range(rounds + 1):
            for side in sides:
                if policy.large:
                    side.large(data)
                else:
                    side.small(objects)
                if not number:  # who comes first finds all caches cold
                    side.costs.clear()
    finally:
        for side in sides:
            side.bench.close()
    base, *others = sides
    for name in base.costs:
        before = [list(column) for column in zip(*base.costs[name], strict=True)]
        for other in others:
            after = [list(column) for column in zip(*other.costs[name], strict=True)]
            ratios = [f"{ratio(a, b):.2f}" for a, b in zip(before, after, strict=True)]
            medians = f"{statistics.median(after[0]):.2f} / {statistics.median(before[0]):.2f}"
            yield [policy.name, other.candidate.name, f"{name}, {volumes} vol, {durability}", *ratios, medians]


@click.command(help=__doc__)
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--objects", type=click.IntRange(1), default=3000, show_default=True, help="Small ones in a round.")
@click.option("--only", default="", help="Policies whose name has this in it.")
@click.option("--home", type=click.Path(file_okay=False, path_type=Path), help="On the disk that is to be measured.")
def main(rounds: int, objects: int, only: str, home: Path | None) -> None:
    table = Table("in use", "instead", "load", "elapsed", "processor", "seconds, instead / in use")
    for policy in POLICIES:
        for volumes in policy.volumes if only in policy.name else ():
            for durability in ("page-cache", "fsync"):
                with tempfile.TemporaryDirectory(dir=home) as directory:
                    for row in rows(policy, volumes, durability, Path(directory), rounds, objects):
                        table.add_row(*row)
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
