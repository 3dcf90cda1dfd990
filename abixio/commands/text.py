"""What commands print for people: columns, sizes, and names that cannot write to the terminal on their own."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

import click
import msgspec

from abixio.config import KIB


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns, two blanks apart. Not cut to any width: lines go through grep."""
    lines = [list(head), *([printable(str(cell)) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)


def printable(text: str) -> str:
    """Keys may hold anything, escape sequences of terminals too."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def size(count: float) -> str:
    """1.5 MiB"""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < KIB:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= KIB
    return f"{count:.1f} TiB"


def span(seconds: float) -> str:
    """2 h 5 min"""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = int(seconds // 60)
    hours, days = minutes // 60, minutes // 1440
    if not hours:
        return f"{minutes} min"
    return f"{hours} h {minutes % 60} min" if not days else f"{days} d {hours % 24} h"


def moment(ms: int | None) -> str:
    """A time of this machine's zone."""
    return "" if ms is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(ms / 1000))


def number(count: int, noun: str) -> str:
    """1 object, 1,234 objects"""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def print_json(content: Any) -> None:
    click.echo(msgspec.json.format(msgspec.json.encode(content), indent=2).decode())
