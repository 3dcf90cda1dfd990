"""`abixio discard`: give up a write of which nobody can tell any more whether it was answered."""

from __future__ import annotations

import click

from abixio.admin.client import Client
from abixio.commands.remote import Place, place_argument, remote
from abixio.commands.text import moment, number, print_json, printable


@click.command(short_help="Give up writes that are undecided because volumes are lost for good.")
@click.argument("place", metavar="S3URL", callback=place_argument)
@remote
def discard(client: Client, place: Place, as_json: bool) -> int:
    """Give up the undecided writes of S3URL (s3://bucket/key), which may have been acknowledged; what was there before them is
    served again. Only for volumes that never come back: `abixio inspect` shows what is undecided.

    \b
    Exit status: 0 nothing of the key is undecided now, 2 it could not be done.
    """
    if not place.key:
        raise click.UsageError(f"{place} names no key")
    found = client.post("discard", {"bucket": place.bucket, "key": place.key})
    if as_json:
        print_json(found)
        return 0
    click.echo(f"{printable(str(place))}: {number(len(found['discarded']), 'write')} discarded")
    for write in found["discarded"]:
        size = f", {write['size']:,} bytes" if write["kind"] == "object" else ""
        click.echo(f"  {write['kind']} {write['seq']}.{write['rev']} of {moment(write['modified'])}{size}")
    return 0
