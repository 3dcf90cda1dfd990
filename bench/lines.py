"""What a measurement says: a figure, the bar that it has to reach, and what it was made of."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Console
from rich.table import Table

WIDTH: Final = 180
"""Of tables that go to a file."""


@dataclass(frozen=True)
class Line:
    """One line of a table."""

    what: str
    figure: float
    bar: float | None
    """None: nothing is demanded."""
    detail: str = ""
    """Medians over all rounds."""
    at_most: bool = False
    """Whether the figure has to stay below the bar."""

    @property
    def reached(self) -> bool:
        if self.bar is None:
            return True
        return self.figure <= self.bar if self.at_most else self.figure >= self.bar

    @property
    def demand(self) -> str:
        return "" if self.bar is None else f"{'<=' if self.at_most else '>='} {self.bar:g}"

    @property
    def verdict(self) -> str:
        return "" if self.bar is None else "reached" if self.reached else "MISSED"

    def __str__(self) -> str:
        words = [f"{self.what}: {self.figure:,.2f}", self.demand, self.verdict, self.detail]
        return "  ".join(word for word in words if word)


def ratio(over: Sequence[float], under: Sequence[float]) -> float:
    """The median of the ratios within a round."""
    return statistics.median(a / b for a, b in zip(over, under, strict=True))


def rates(name: str, seconds: Sequence[float], size: int) -> str:
    return f"{name} {size / statistics.median(seconds) / 1e6:,.0f} MB/s"


def show(lines: Sequence[Line]) -> None:
    table = Table("line", "figure", "bar", "", "medians")
    for line in lines:
        table.add_row(line.what, f"{line.figure:,.2f}", line.demand, line.verdict, line.detail)
    Console(width=None if sys.stdout.isatty() else WIDTH).print(table)
