"""`abixio ftt`: give objects that are stored already another fault tolerance."""

from __future__ import annotations

import click

from abixio.admin.client import Client
from abixio.commands.remote import SCHEME, parse_place, remote, target
from abixio.commands.text import printable
from abixio.commands.waiting import run


@click.command(short_help="Give stored objects another fault tolerance.")
@click.argument("what", metavar="S3URL FTT", nargs=2)
@click.option("--recursive", "-r", is_flag=True, help="All keys that begin with the key of S3URL, or all of its bucket.")
@click.option("--no-wait", is_flag=True, help="Start the job and print its number.")
@remote
def ftt(client: Client, what: tuple[str, str], recursive: bool, no_wait: bool, as_json: bool) -> int:
    """Re-encode S3URL (s3://bucket/key), online, so that it survives the loss of FTT volumes. The two go in either order.

    What the object is stays as it was: bytes, ETag, Last-Modified, metadata. One that has that FTT already is left alone.

    \b
    Exit status: 0 all have it now, 1 some do not, 2 it could not be tried.
    """
    where, level = what if what[0].startswith(SCHEME) else what[::-1]
    place = parse_place(where)
    if not (level.isascii() and level.isdigit()):
        raise click.UsageError(f"{level!r} is no FTT: the number of volumes that may be lost")
    asked = target(place, recursive) | {"ftt": int(level)}
    name = f"FTT {level} for {printable(str(place))}" + ("*" if recursive else "")
    return run(client, "ftt", asked, name, not no_wait, as_json)
