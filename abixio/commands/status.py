"""`abixio status`: the volumes and the state of repair, on one screen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import click

from abixio.admin.client import Client
from abixio.commands.remote import remote
from abixio.commands.text import moment, number, print_json, printable, size, span, table
from abixio.commands.waiting import scanned

COUNTED: Final = 10_000
"""The server counts unsettled rows up to this."""


@click.command(short_help="Show the volumes and the state of repair.")
@remote
def status(client: Client, as_json: bool) -> int:
    """Show the volumes, what is being refilled, and what repair has found.

    \b
    Exit status: 0 every volume is up and nothing waits for repair,
    1 something is not so, 2 the server does not answer.
    """
    found = client.get("status")
    if as_json:
        print_json(found)
    else:
        for line in _lines(client.endpoint, found):
            click.echo(line)
    repair = found["repair"]
    ill = any(volume["state"] != "up" or volume["why"] for volume in repair["volumes"])
    return 1 if ill or repair["bad"] or repair["waiting"] else 0


def _lines(endpoint: str, found: dict[str, Any]) -> Iterator[str]:
    repair = found["repair"]
    yield f"abixio {found['version']} at {endpoint}, up {span(found['up_seconds'])}"
    yield ""
    yield table(("slot", "state", "unsettled", "volume", ""), (_volume(volume, found) for volume in repair["volumes"]))
    yield ""
    for refill in repair["refill"]:
        yield _refill(refill)
    if repair["scan"] is not None:
        yield _scan(repair["scan"])
    if repair.get("lifecycle") is not None and repair["lifecycle"]["buckets"]:
        yield _lifecycle(repair["lifecycle"])
    yield f"repair: {number(repair['bad'], 'bad shard')} and {number(repair['waiting'], 'key')} waiting"
    for bucket, key in repair["undecided"]:
        yield f"undecided: {printable(f's3://{bucket}/{key}')}"
    busy = [job for job in found["jobs"] if job["ended"] is None]
    if busy:
        yield f"jobs: {len(busy)} not ended, see `abixio jobs`"


def _volume(volume: dict[str, Any], found: dict[str, Any]) -> tuple[str, ...]:
    unsettled = volume["unsettled"]
    counted = f"{unsettled:,}" + ("+" if unsettled >= COUNTED else "")
    why = volume["why"] + (f", since {moment(int(volume['since'] * 1000))}" if volume["why"] and volume["since"] else "")
    return str(volume["slot"]), volume["state"], counted, found["directories"].get(str(volume["slot"]), "-"), why


def _refill(refill: dict[str, Any]) -> str:
    of = f" of about {refill['of_objects']:,}" if refill["of_objects"] else ""
    left = "" if refill["eta"] is None else f", {span(refill['eta'])} left"
    done = f"{refill['objects']:,}{of} objects, {size(refill['bytes'])}"
    return f"refill of slot {refill['slot']}: {done}, {size(refill['rate'])}/s{left}"


def _lifecycle(found: dict[str, Any]) -> str:
    finished = moment(found["finished"]) if found["finished"] else "never"
    waiting = f"; {found['waiting']:,} to be judged again" if found["waiting"] else ""
    done = f"rules of {number(found['buckets'], 'bucket')}, {found['deleted']:,} deleted, {found['judged']:,} looked at"
    return f"lifecycle: {'running' if found['running'] else 'waiting for the next day'}; {done}{waiting}; last pass: {finished}"


def _scan(scan: dict[str, Any]) -> str:
    finished = moment(scan["finished"]) if scan["finished"] else "never"
    state = "running" if scan["running"] else "waiting for the next pass" if scan["rate"] else "off"
    return f"scanner: {state}; {scanned(scan)}; last full pass: {finished}"
