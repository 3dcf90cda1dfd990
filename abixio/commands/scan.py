"""`abixio scan`: one full pass of the scanner now, at full speed."""

from __future__ import annotations

import click

from abixio.admin.client import Client
from abixio.commands.remote import remote
from abixio.commands.waiting import run


@click.command(short_help="Check everything now.")
@click.option("--no-wait", is_flag=True, help="Start the job and print its number.")
@remote
def scan(client: Client, no_wait: bool, as_json: bool) -> int:
    """Check everything now: every shard of every object and part, and files that belong to none.

    The server does the same all the time, slowly. What is found is repaired; `abixio status` tells what it was.

    \b
    Exit status: 0 the pass is done, 1 it ended early, 2 it could not be started.
    """
    return run(client, "scan", {}, "scan", not no_wait, as_json)
