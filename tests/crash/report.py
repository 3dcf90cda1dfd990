"""What a run of the matrix has seen, and how it is printed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Result:
    """What a run of the matrix has seen."""

    cases: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """(row, mode, kind) -> cases."""
    same: int = 0
    """Cuts that left the very state of a case that was looked at."""
    missed: int = 0
    """Faults at calls that were not made this time: reads depend on how threads meet."""
    sites: set[tuple[str, str]] = field(default_factory=set)
    """(row, site) that were attacked."""
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0
    left: int = 0
    """Cases that the time limit left out."""

    @property
    def size(self) -> int:
        return sum(self.cases.values())


def table(result: Result) -> str:
    """Operations, call sites, kinds of faults, cases and what came of them."""
    kinds = sorted({kind for _, _, kind in result.cases})
    rows = sorted({row for row, _, _ in result.cases})
    lines = []
    for row in rows:
        sites = len({site for name, site in result.sites if name == row})
        cases = sum(count for (name, _, _), count in result.cases.items() if name == row)
        failed = sum(failure.startswith(f"{row}, ") for failure in result.failures)
        lines.append(f"{row:44} {sites:5} sites {cases:7} cases {failed:4} failed")
    per_kind = ", ".join(f"{kind} {sum(c for (_, _, k), c in result.cases.items() if k == kind)}" for kind in kinds)
    lines.append(
        f"{len(rows)} operations x {len({site for _, site in result.sites})} call sites x {len(kinds)} kinds of faults: "
        f"{result.size} cases ({result.same} left a state already looked at, {result.missed} met no such call, "
        f"{result.left} left out), {len(result.failures)} failed, {result.seconds:.0f} s"
    )
    lines.append(per_kind)
    return "\n".join(lines)
