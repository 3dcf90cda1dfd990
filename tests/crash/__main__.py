"""python -m tests.crash: the whole matrix, or a part of it."""

from __future__ import annotations

import sys
import time
from random import Random

import click

from tests.crash.disk import CUTS
from tests.crash.layer import KINDS
from tests.crash.matrix import MODES, Matrix
from tests.crash.report import table
from tests.crash.rows import ROWS


@click.command()
@click.option("--row", default="", help="Only operations whose name has this in it.")
@click.option("--mode", multiple=True, type=click.Choice(MODES), default=MODES)
@click.option("--kind", multiple=True, type=click.Choice((*KINDS, *CUTS)), default=(*KINDS, *CUTS))
@click.option("--at", default="", help="Only cases whose line has this in it.")
@click.option("--seconds", default=float("inf"), help="Stop then; cases come in random order.")
@click.option("--seed", default=0)
@click.option("--thorough", is_flag=True, help="Every fault on every volume, every power cut at every moment.")
def main(row: str, mode: tuple[str, ...], kind: tuple[str, ...], at: str, seconds: float, seed: int, thorough: bool) -> None:
    """Run cases of the crash matrix; print what fails, then the table. Status 1 when anything failed."""
    until = time.monotonic() + seconds
    with Matrix(thorough) as matrix:
        chosen = [one for one in ROWS if row == one.name] or [one for one in ROWS if row in one.name]
        cases = [case for one in chosen for m in mode for case in matrix.cases(one, m, kind) if at in str(case)]
        if seconds != float("inf"):
            Random(seed).shuffle(cases)
        result = matrix.run(cases, until, lambda failure: print(failure, flush=True))
        print(table(result))
        sys.exit(bool(result.failures))


main()
