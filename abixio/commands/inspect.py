"""`abixio inspect`: where the shards of one object are, and whether they are good."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any, Final

import click

from abixio.admin.client import Client
from abixio.commands.remote import Place, place_argument, remote
from abixio.commands.text import print_json, printable, table

MANY_PARTS: Final = 16
"""Of more parts than that, whole ones are only counted: an object may have 10,000."""


@click.command("inspect", short_help="Show where the shards of an object are, and their state.")
@click.argument("place", metavar="S3URL", callback=place_argument)
@click.option("--quick", is_flag=True, help="Look at sizes and footers only, not at every byte.")
@remote
def inspect_key(client: Client, place: Place, quick: bool, as_json: bool) -> int:
    """Read every shard of S3URL (s3://bucket/key) and show its volume and state. Changes nothing.

    \b
    Exit status: 0 every shard is there and good, 1 some are not,
    2 it could not be told.
    """
    if not place.key:
        raise click.UsageError(f"{place} names no key")
    found = client.get("inspect", bucket=place.bucket, key=place.key, quick=str(quick).lower())
    if as_json:
        print_json(found)
    else:
        click.echo(printable(str(place)))
        for version in found["versions"]:
            click.echo()
            for line in _version(version, found["directories"]):
                click.echo(line)
    return 0 if all(version["whole"] for version in found["versions"]) else 1


def _version(version: dict[str, Any], directories: dict[str, str]) -> Iterator[str]:
    """One version, newest first in the list it comes from."""
    k, m = version["k"], version["m"]
    layout = f", {version['size']:,} bytes, ETag {version['etag']}, FTT {m} ({k} data + {m} parity)" if k else ""
    state = "whole" if version["whole"] else "readable, but not whole" if version["readable"] or not k else "NOT READABLE"
    if version["undecided"]:
        state = "UNDECIDED: it can be neither completed nor taken back with these volumes"
    yield f"{version['kind']} {version['seq']}.{version['rev']}{layout}: {state}"
    yield "  row: " + ", ".join(
        f"{state} on {_slots(slots)}" for state, slots in _by_state(version["row_states"]).items()
    )  # fmt: skip
    if version["shards"]:
        yield _indented(_shards(version["shards"], directories))


def _by_state(states: dict[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for slot, state in states.items():
        found.setdefault(state, []).append(slot)
    return found


def _slots(slots: list[str]) -> str:
    return f"slot{'s' if len(slots) > 1 else ''} {', '.join(slots)}"


def _shards(shards: list[dict[str, Any]], directories: dict[str, str]) -> str:
    parts = [(part, list(own)) for part, own in groupby(shards, lambda shard: shard["part"])]
    sound = sum(all(shard["state"] == "ok" for shard in own) for _, own in parts)
    brief = len(parts) > MANY_PARTS
    rows = [
        (part, shard["index"], shard["role"], shard["slot"], shard["state"], f"{shard['bytes']:,}", shard["where"],
         shard["write_id"], directories.get(str(shard["slot"]), "?"))
        for part, own in parts
        for shard in own
        if not (brief and all(one["state"] == "ok" for one in own))
    ]  # fmt: skip
    head = ("part", "shard", "role", "slot", "state", "bytes", "in", "id", "volume")
    lines = [table(head, rows)] if rows else []
    if brief:
        lines.append(f"{sound:,} of {len(parts):,} parts are whole" + (" and not shown" if sound else ""))
    return "\n".join(lines)


def _indented(text: str) -> str:
    return "\n".join("  " + line for line in text.split("\n"))
