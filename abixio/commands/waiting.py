"""Starts a job on the server and shows how it gets on: a live line on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import click

from abixio.admin.client import Client
from abixio.commands.text import number, print_json, printable, size, span

QUICK: Final = 0.1
"""Seconds to the first look: healing one key takes less."""
SLOW: Final = 1.0
"""Between later ones."""
LINE_SECONDS: Final = 30.0
"""Between lines where nobody sees them live: a log of a long night stays readable."""
INTERRUPTED: Final = 130

Tell = Callable[[dict[str, Any]], None]


def run(client: Client, path: str, content: dict[str, Any], what: str, wait: bool, as_json: bool) -> int:
    """POST `content` to `path`, which starts a job, and see it to its end; the exit status."""
    job: dict[str, Any] = {"id": client.post(path, content)["job"]}
    number_of = job["id"]
    if not wait:
        print_json(job) if as_json else click.echo(f"job {number_of}; `abixio jobs {number_of}` shows how it gets on")
        return 0
    try:
        with _teller(what) as tell:
            for job in _looks(client, number_of):
                tell(job)
    except KeyboardInterrupt:
        click.echo(f"job {number_of} goes on; `abixio jobs {number_of} --cancel` ends it", err=True)
        return INTERRUPTED
    return report(job, what, as_json)


def report(job: dict[str, Any], what: str, as_json: bool) -> int:
    """How it ended, or is; the exit status."""
    if as_json:
        print_json(job)
    else:
        click.echo(f"{what}: {job['state']}; {summary(job)}")
        for failure in job["failures"]:
            click.echo(printable(f"s3://{failure['bucket']}/{failure['key']}: {failure['error']}"))
        unnamed = job["counts"]["failed"] - len(job["failures"])
        if unnamed:
            click.echo(f"... and {unnamed:,} more")
        if job["error"]:
            click.echo(printable(job["error"]))
    well = job["state"] in ("waiting", "running", "done") and not job["counts"]["failed"]
    return 0 if well else 1


def summary(job: dict[str, Any]) -> str:
    """What was done so far."""
    counts, started, scan = job["counts"], job["started"], job["scan"]
    if scan is not None:
        return scanned(scan)
    found = [number(counts["objects"], "object"), f"{counts['changed']:,} changed"]
    if counts["examined_shards"]:
        found.append(f"{counts['rebuilt_shards']:,} of {number(counts['examined_shards'], 'shard')} rebuilt")
    found += [size(counts["bytes"]) + " written", f"{counts['failed']:,} failed"]
    if started is not None:
        found.append(span(max(0, (job["ended"] or time.time() * 1000) - started) / 1000))
    return ", ".join(found)


def scanned(scan: dict[str, Any]) -> str:
    """What the scanner has found so far."""
    return (
        f"{number(scan['objects'], 'key')}, {size(scan['bytes'])} read, {scan['bad']:,} bad, {scan['repaired']:,} repaired, "
        f"{number(scan['orphans'], 'orphan file')} removed"
    )


def _looks(client: Client, number_of: str) -> Iterator[dict[str, Any]]:
    """The job, again and again until it has ended."""
    pause = QUICK
    while True:
        job: dict[str, Any] = client.get(f"jobs/{number_of}")
        yield job
        if job["ended"] is not None:
            return
        time.sleep(pause)
        pause = min(2 * pause, SLOW)


@contextmanager
def _teller(what: str) -> Iterator[Tell]:
    if sys.stderr.isatty():
        from rich.console import Console  # here: 50 ms that no other command waits for
        from rich.text import Text

        with Console(stderr=True).status(Text(what)) as live:
            yield lambda job: live.update(Text(f"{what}: {job['state']}; {summary(job)}"))
    else:
        last = time.monotonic()

        def line(job: dict[str, Any]) -> None:
            nonlocal last
            if time.monotonic() - last > LINE_SECONDS:
                last = time.monotonic()
                click.echo(f"{what}: {job['state']}; {summary(job)}", err=True)

        yield line
