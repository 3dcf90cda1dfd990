"""`abixio jobs`: what the server works on by order, and what came of it."""

from __future__ import annotations

from typing import Any

import click

from abixio.admin.client import Client
from abixio.commands.remote import remote
from abixio.commands.text import moment, print_json, printable, table
from abixio.commands.waiting import report, summary


@click.command(short_help="List and end what the server works on by order.")
@click.argument("number", metavar="[JOB]", required=False, default=None)
@click.option("--cancel", is_flag=True, help="End JOB; what it has done so far stays done.")
@remote
def jobs(client: Client, number: str | None, cancel: bool, as_json: bool) -> int:
    """List the jobs of the server since its start, or show how JOB gets on.

    \b
    Exit status: 0, 1 when JOB failed, was cancelled or left objects as they
    were, 2 when it could not be asked for.
    """
    if number is None:
        if cancel:
            raise click.UsageError("--cancel needs the number of a job")
        found = client.get("jobs")
        print_json(found) if as_json else _show(found["jobs"])
        return 0
    if not number.isalnum() or not number.isascii():
        raise click.UsageError(f"{number!r} is no number of a job; `abixio jobs` lists them")
    job = client.delete(f"jobs/{number}") if cancel else client.get(f"jobs/{number}")
    return report(job, described(job), as_json)


def _show(found: list[dict[str, Any]]) -> None:
    if not found:
        click.echo("no jobs since the server was started")
        return
    rows = [
        (job["id"], described(job), "stopping" if job["stopping"] and job["ended"] is None else job["state"],
         moment(job["created"]), summary(job))
        for job in found
    ]  # fmt: skip
    click.echo(table(("job", "what", "state", "since", "done"), rows))


def described(job: dict[str, Any]) -> str:
    """What the job was told, in a few words."""
    target = job["target"]
    if target.get("all"):
        where = "everything"
    else:
        where = f"s3://{target['bucket']}/{target.get('key', target.get('prefix'))}" + ("*" if "prefix" in target else "")
    level = f" {target['ftt']}" if "ftt" in target else ""
    return printable(f"{job['kind']}{level} {where}")
