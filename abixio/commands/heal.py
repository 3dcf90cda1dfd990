"""`abixio heal`: read every shard of an object, of many or of all, and rebuild what is missing or rotten."""

from __future__ import annotations

import click

from abixio.admin.client import Client
from abixio.commands.remote import Place, place_argument, remote, target
from abixio.commands.text import printable
from abixio.commands.waiting import run


@click.command(short_help="Rebuild what is missing or rotten of objects.")
@click.argument("place", metavar="[S3URL]", required=False, callback=place_argument)
@click.option("--recursive", "-r", is_flag=True, help="All keys that begin with the key of S3URL, or all of its bucket.")
@click.option("--all", "everything", is_flag=True, help="All keys of all buckets.")
@click.option("--no-wait", is_flag=True, help="Start the job and print its number.")
@remote
def heal(client: Client, place: Place | None, recursive: bool, everything: bool, no_wait: bool, as_json: bool) -> int:
    """Check every shard of S3URL (s3://bucket/key) and rebuild those that are missing or rotten.

    \b
    Exit status: 0 all is whole now, 1 something could not be healed,
    2 it could not be tried.
    """
    asked = target(place, recursive, everything)
    what = "heal of everything" if place is None else f"heal of {printable(str(place))}" + ("*" if recursive else "")
    return run(client, "heal", asked, what, not no_wait, as_json)
