"""`abixio fsck`: the command line of the offline checker."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from typing import Final

import click
import msgspec
from rich.console import Console

from abixio import logs
from abixio.commands.text import number, size
from abixio.fsck.check import check_ages, check_catalog
from abixio.fsck.findings import Level, Report
from abixio.fsck.identities import restore_identities
from abixio.fsck.outcome import Rebuilt
from abixio.fsck.progress import Bar, Lines, Meter, Silent
from abixio.fsck.rebuild import rebuild
from abixio.fsck.repair import repair
from abixio.fsck.run import check
from abixio.fsck.volumes import Volumes
from abixio.options import volumes_option
from abixio.volume.files import Files

FOUND: Final = 1
"""Exit status when anything was wrong, repaired or not."""
SHOWN: Final = 200
"""Findings printed for people; --json has more of them."""
_AUTO: Final = "auto"


def _slots(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, ...] | str | None:
    """`auto`, or slots: 2 or 0,3."""
    if value is None or value == _AUTO:
        return value
    try:
        return tuple(sorted({int(slot) for slot in value.split(",")}))
    except ValueError:
        raise click.BadParameter(f"{value!r} is neither `auto` nor a list of slots such as 0,3") from None


@click.command(short_help="Check the volumes of a stopped server, and repair them.")
@volumes_option("Directories of the pool, as the server has them.")
@click.option("--repair", "mend", is_flag=True, help="Make whole what is damaged. Without it nothing is written.")
@click.option(
    "--rebuild-catalog", "slots", callback=_slots, metavar="SLOTS|auto", default=None,
    help="Make a new catalog for these slots, or for all whose own is lost or rotten.",
)
@click.option(
    "--without-peers", is_flag=True,
    help="With --rebuild-catalog, where too few catalogs are left: take what no catalog knows from shard files. Deleted objects "
         "may return.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def fsck(
    ctx: click.Context, volumes: tuple[str, ...], mend: bool, slots: tuple[int, ...] | str | None, without_peers: bool,
    as_json: bool,
) -> None:
    """Check every row, every reference and every byte of every shard on the volumes of a stopped server.

    \b
    Exit status: 0 all is well, 1 something was wrong (repaired or not), 2 it could not be tried.
    """
    if without_peers and slots is None:
        raise click.UsageError("--without-peers goes with --rebuild-catalog")
    logs.configure("error", as_json=False)
    with _meter(as_json) as meter:
        run = _Run(volumes, meter)
        if mend:
            run.identities()
        if slots is not None:
            run.rebuild(slots, without_peers)
        run.check()
        if mend:
            run.repair()
    click.echo(run.json() if as_json else run.text())
    ctx.exit(FOUND if run.wrong else 0)


def _meter(as_json: bool) -> AbstractContextManager[Meter]:
    if sys.stderr.isatty():
        return Bar(Console(stderr=True))
    return Silent() if as_json else Lines(lambda line: click.echo(line, err=True))


class _Run:
    """The steps asked for, and what they say at the end."""

    def __init__(self, paths: Sequence[str], meter: Meter) -> None:
        self._paths = paths
        self._meter = meter
        self._files = Files()
        self._found: Report | None = None
        self._after: Report | None = None
        self._rebuilt: Rebuilt | None = None
        self._done: list[str] = []
        self._failed: list[str] = []

    @property
    def wrong(self) -> bool:
        """Whether anything was found, or had to be done."""
        return self._rebuilt is not None or bool(self._done) or self._found is None or not self._found.clean

    def identities(self) -> None:
        with Volumes(self._paths, self._files) as volumes:
            done, left = restore_identities(volumes)
        self._done += done
        self._failed += left

    def rebuild(self, slots: Collection[int] | str, without_peers: bool) -> None:
        with Volumes(self._paths, self._files) as volumes:
            self._meter.phase("catalogs", len(volumes.sites))
            for site in list(volumes.sites.values()):
                check_catalog(site, self._files.boot_id(), self._meter, lambda finding: None)
            check_ages(volumes, lambda finding: None)
            broken = {slot for slot, site in volumes.sites.items() if not site.sound}
            wanted = broken if isinstance(slots, str) else set(slots)
            for slot in sorted(wanted - broken):
                why = "its catalog is sound, there is nothing to rebuild" if slot in volumes.sites else "its volume is not here"
                raise click.UsageError(f"slot {slot}: {why}")
            if wanted:
                self._rebuilt = rebuild(volumes, wanted, without_peers, self._meter)

    def check(self) -> None:
        self._found = check(self._paths, self._files, self._meter)

    def repair(self) -> None:
        """In rounds, when there is more than one check remembers."""
        assert self._found is not None
        before = self._found
        if before.clean and self._rebuilt is None:
            return
        while True:
            try:
                # What a rebuild without peers could not use may be all that is left of something.
                keep = self._rebuilt is not None and bool(self._rebuilt.unknown)
                self._failed += repair(self._paths, self._files, before, self._meter, keep)
            finally:
                self._after = check(self._paths, self._files, self._meter)
            if not before.unlisted or self._after.clean or self._after.counts.total() >= before.counts.total():
                return
            before = self._after

    # ---- saying it ---------------------------------------------------------------------------------------------------
    def json(self) -> str:
        content = {
            "clean": not self.wrong,
            "found": None if self._found is None else self._found.plain(),
            "rebuilt": self._rebuilt,
            "after": None if self._after is None else self._after.plain(),
            "done": self._done,
            "failed": self._failed,
        }
        return msgspec.json.format(msgspec.json.encode(content), indent=2).decode()

    def text(self) -> str:
        lines = list(self._done)
        if self._rebuilt is not None:
            lines += _rebuilt(self._rebuilt)
        if self._found is not None:
            lines += _report(self._found)
        lines += [f"not repaired: {text}" for text in self._failed]
        if self._after is not None:
            left = self._after
            lines.append("after the repair all is well" if left.clean else "after the repair this is left:")
            lines += _report(left)
        return "\n".join(lines)


def _report(report: Report) -> list[str]:
    lines = [f"{finding.level.value}: {finding.text}" for finding in report.findings[:SHOWN]]
    more = report.counts.total() - len(lines)
    if more > 0:
        lines.append(f"... and {number(more, 'finding')} more")
    looked = f"{number(report.versions, 'object')}, {number(report.shards, 'shard')}, {size(report.bytes)} read"
    if report.clean:
        return [*lines, f"sound: {looked}"]
    counts = ", ".join(f"{report.counts[level]} {level.value}" for level in Level if report.counts[level])
    return [*lines, f"{counts}: {looked}"]


def _rebuilt(outcome: Rebuilt) -> list[str]:
    slots = ", ".join(map(str, outcome.slots))
    lines = [
        f"the catalog of slot {slots} is rebuilt: {number(outcome.from_peers, 'version')} from peers, {outcome.from_old} from "
        f"what the old one still showed, {outcome.from_footers} from shard files; {number(outcome.left, 'shard')} to be remade"
    ]
    lines += [f"bucket {name} stands for one whose name is lost" for name in outcome.buckets]
    lines += [f"cannot be known: {text}" for text in outcome.unknown]
    lines += [f"the old catalog is kept in {path}" for path in outcome.kept]
    return lines


