"""All ratios that have to be reached, in one run: `python -m bench.bars [--only WORD] [--rounds 5] [--keys N] [--json FILE]`.

Each group of lines is a module of its own, which says what is compared and how: `bench.kernels` (arithmetic), `bench.data` (get,
put, fsync), `bench.rates` (small, workers), `bench.scale`, `bench.seaweed`, `bench.memory`. What is compared takes turns, so
that a machine that is busy, or throttled, is so for both; a figure is the median over the rounds of the ratio within a round.
Lines are printed as they are found, and once more as a table. With --keys 1000000 the large bucket is as large as its bar says.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import click

from bench import data, kernels, memory, rates, scale, seaweed
from bench.lines import Line, show
from bench.load import LoadFailed, Payload, random_file

MIB: Final = 1 << 20
KEYS: Final = 100_000
"""Half a minute of loading."""
RIVAL_ROUNDS: Final = 3
"""Of the loads beside SeaweedFS: one takes minutes, and its ratios are far from their bars."""
SECONDS: Final = 2
BODY: Final = 256 * MIB
BUDGET: Final = 512 * MIB


@dataclass(frozen=True)
class Setting:
    """What the groups share."""

    home: Path
    payload: Payload
    rounds: int
    keys: int


def in_memory(to: Setting) -> Iterator[Line]:
    yield memory.one_body(to.home, to.payload)
    yield from memory.many(to.home, to.payload, memory.UPLOADS, BODY, BUDGET, 4)


GROUPS: Final[Mapping[str, Callable[[Setting], Iterator[Line]]]] = {
    "kernels": lambda to: kernels.measure(4 * to.rounds + 1),
    "get": lambda to: data.get_large(to.home, to.payload, to.rounds),
    "put": lambda to: data.put_large(to.home, to.payload, to.rounds),
    "small": lambda to: rates.small(to.home, to.payload, to.rounds),
    "fsync": lambda to: data.put_synced(to.home, to.payload, to.rounds),
    "workers": lambda to: rates.workers(to.home, to.payload, to.rounds),
    "seaweedfs": lambda to: seaweed.measure(to.home, to.payload, min(to.rounds, RIVAL_ROUNDS), SECONDS),
    "memory": in_memory,
    "scale": lambda to: scale.measure(to.home, to.keys),
}


def measured(name: str, to: Setting, lines: list[Line]) -> bool:
    """Add the lines of a group; whether it came to its end, for one that fails must not take the others with it."""
    begin = time.monotonic()
    try:
        for line in GROUPS[name](to):
            click.echo(str(line), err=True)
            lines.append(line)
    except (LoadFailed, click.ClickException, AssertionError) as error:
        click.echo(f"{name} NOT MEASURED: {error}", err=True)
        return False
    click.echo(f"[{name}: {time.monotonic() - begin:.0f} s]", err=True)
    return True


@click.command(help=__doc__)
@click.option("--only", multiple=True, help=f"Groups whose name has this in it: {', '.join(GROUPS)}.")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--keys", type=click.IntRange(10_000), default=KEYS, show_default=True, help="Of the large bucket.")
@click.option("--json", "report", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures there, too.")
@click.option("--dir", "directory", type=click.Path(exists=True, file_okay=False), help="Where the volumes are made, 8 GiB.")
def main(only: tuple[str, ...], rounds: int, keys: int, report: Path | None, directory: str | None) -> None:
    chosen = [name for name in GROUPS if not only or any(word in name for word in only)]
    if not chosen:
        raise click.BadParameter(f"no group has {' or '.join(only)} in its name", param_hint="--only")
    lines, whole = list[Line](), True
    with tempfile.TemporaryDirectory(prefix="abixio-bars-", dir=directory) as place:
        for name in chosen:
            home = Path(place) / name
            home.mkdir()
            payload = random_file(home / "random", memory.GIB if name == "memory" else BODY)
            whole &= measured(name, Setting(home, payload, rounds, keys), lines)
            shutil.rmtree(home)
            if report is not None:
                report.write_text(json.dumps([{**asdict(line), "reached": line.reached} for line in lines], indent=2) + "\n")
    show(lines)
    sys.exit(not (whole and all(line.reached for line in lines)))


if __name__ == "__main__":
    main()
