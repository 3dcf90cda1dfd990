"""The command line: one click group that serves when no subcommand is given. It says what is wrong in one line and ends
with status 2, before anything is written."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from typing import Any, Final

import click
from click.core import ParameterSource

from abixio import __version__, flags, logs
from abixio.config import MAX_WORKERS, MIB, Config
from abixio.errors import AbixioError
from abixio.options import LazyGroup, ListOption, Whole, option, volumes_option

USAGE_STATUS: Final = 2
"""Exit status for anything the caller has to change, as click and most Unix tools have it."""
MIN_MEMORY_BUDGET: Final = 64 * MIB
"""Two uploads with three stripe buffers of 8 MiB each, and two degraded reads."""
_OPEN: Final = ("No such", "Missing", "Got unexpected")
"""Messages of click that name what was wrong and not what would be right begin so."""
_REGION: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


def _memory(ctx: click.Context, param: click.Parameter, value: str) -> int:
    try:
        size = flags.parse_size(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    if size < MIN_MEMORY_BUDGET:
        raise click.BadParameter(f"{value} is less than {MIN_MEMORY_BUDGET // MIB}MiB, which two uploads need")
    return size


def _rate(ctx: click.Context, param: click.Parameter, value: str) -> int:
    try:
        return flags.parse_size(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _region(ctx: click.Context, param: click.Parameter, value: str) -> str:
    if not _REGION.fullmatch(value):
        raise click.BadParameter(f"{value!r} is not a region name such as us-east-1")
    return value


def _domains(ctx: click.Context, param: click.Parameter, values: Sequence[str]) -> tuple[str, ...]:
    try:
        return flags.parse_domains(values)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _key_names(ctx: click.Context, param: click.Parameter, values: Sequence[str]) -> tuple[str, ...]:
    try:
        return flags.parse_key_names(values)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _networks(ctx: click.Context, param: click.Parameter, values: Sequence[str]) -> tuple[str, ...]:
    try:
        return flags.parse_networks(values)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


ELSEWHERE: Final = {
    "discard": "abixio.commands.discard:discard",
    "fsck": "abixio.fsck.command:fsck",
    "ftt": "abixio.commands.ftt:ftt",
    "heal": "abixio.commands.heal:heal",
    "inspect": "abixio.commands.inspect:inspect_key",
    "jobs": "abixio.commands.jobs:jobs",
    "keys": "abixio.commands.keys:keys",
    "scan": "abixio.commands.scan:scan",
    "status": "abixio.commands.status:status",
}
"""Commands with modules of their own."""


@click.group(
    "abixio", cls=LazyGroup, elsewhere=ELSEWHERE, invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@option("--host", default=Config().host, help="Address to listen on.")
@option("--port", type=Whole(0, 65535), default=Config().port, help="0 picks a free one.")
@volumes_option()
@option(
    "--durability", type=click.Choice(["fsync", "page-cache"]), default=Config().durability,
    help="fsync: an answer survives a power cut. page-cache: it survives kill -9; a power cut may take the last second.",
)
@option(
    "--etag", type=click.Choice(["auto", "xxh64", "md5"]), default=Config().etag,
    help="ETags of uploads over one stripe without Content-MD5: a fast hash marked -1, one that looks like an MD5, or MD5.",
)
@option("--region", default=Config().region, callback=_region, help="Region of the buckets, as answers name it.")
@option("--strict-region", is_flag=True, help="Refuse requests that are signed for another region, as Amazon does.")
@option(
    "--domain", "domains", cls=ListOption, multiple=True, default=(), callback=_domains, metavar="NAME",
    help="Serve buckets as host names below it, as in bucket.s3.example.com; again for more.",
)
@option(
    "--trusted-proxies", cls=ListOption, multiple=True, default=(), callback=_networks, metavar="NETWORKS",
    help="Addresses or networks of proxies whose X-Forwarded-* and Forwarded are believed: a comma list, or the flag again.",
)
@option(
    "--ftt", type=Whole(0), default=None,
    help="Volumes an object may lose, when neither it nor its bucket says. [default: 1, or 0 with one volume]",
)
@option(
    "--memory-budget", default=f"{Config().memory_budget // MIB}MiB", callback=_memory, metavar="SIZE",
    help="For all stripe buffers together.",
)
@option(
    "--scan-rate", default=f"{Config().scan_rate // MIB}MiB", callback=_rate, metavar="SIZE",
    help="What the scanner reads per second and volume; 0: nothing, unless `abixio scan` tells it to.",
)
@option(
    "--debug-day", type=Whole(1, 86_400), default=None, metavar="SECONDS",
    help="For tests of lifecycle rules: make their days that long. Objects expire within seconds, so never with real data.",
)
@option(
    "--master-key-file", type=click.Path(dir_okay=False), default=None, metavar="PATH",
    help="Keep the keys of server-side encryption there, and not on the volumes. Made when it is not there; mode 0600.",
)
@option(
    "--kms-key-id", "kms_key_ids", cls=ListOption, multiple=True, default=(), callback=_key_names, metavar="NAME",
    help="A key for aws:kms, made when it is not there; again for more. The first one is the default.",
)
@option("--sse-c-over-http", is_flag=True, help="Take keys of customers (SSE-C) over plain HTTP from other machines too.")
@option(
    "--workers", type=Whole(1, MAX_WORKERS), default=Config().workers,
    help="Processes that serve, on one port. More than one also start a process that watches them.",
)
@option("--tls-cert", type=click.Path(), default=None, help="PEM certificate chain; with --tls-key.")
@option("--tls-key", type=click.Path(), default=None, help="PEM private key.")
@option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default=Config().log_level, help="Of stderr."
)
@option("--log-json", is_flag=True, help="Log one JSON object a line.")
@option("--access-log", metavar="PATH", default=None, help="A line for each request goes there; - is standard output.")
@click.version_option(__version__, prog_name="abixio")
@click.pass_context
def cli(ctx: click.Context, /, **settings: Any) -> None:
    """An S3-compatible object store in which every object chooses how many disk failures it survives.

    Without a command: serve. Credentials come from ABIXIO_ACCESS_KEY and ABIXIO_SECRET_KEY; without them, random ones are
    made once and kept on the volumes.
    """
    if ctx.invoked_subcommand is not None:
        _refuse_serving_flags(ctx)
        return
    # Imported here: --help and a wrong flag do not wait for the server, and the supervisor does not carry it.
    config = Config(access_key=_secret("ACCESS"), secret_key=_secret("SECRET"), **settings)
    if config.workers > 1:
        from abixio.workers.supervisor import supervise

        ctx.exit(supervise(config))
    from abixio.app import run

    ctx.exit(run(config))


@cli.group("volume", no_args_is_help=False)
def volume_group() -> None:
    """Look after volumes, while the server is stopped."""


@volume_group.command("replace")
@click.argument("slot", type=Whole(0))
@volumes_option()
def volume_replace(slot: int, volumes: tuple[str, ...]) -> None:
    """Give SLOT, whose volume is lost for good, to the one empty directory among --volumes.

    Start the server with the same --volumes afterwards. Needed only where an empty directory is not taken by itself: when
    the lost volume was a mount point and the directory is not one.
    """
    from abixio.store.assembly import replace_slot

    logs.configure("warning", as_json=False)
    click.echo(replace_slot(volumes, slot))


def _refuse_serving_flags(ctx: click.Context) -> None:
    """A flag of the server in front of a subcommand would do nothing."""
    for param in ctx.command.params:
        if param.name and ctx.get_parameter_source(param.name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{param.opts[0]} does nothing before {ctx.invoked_subcommand!r}; see --help of that command")


def _secret(name: str) -> str | None:
    """Credentials are no flags: a command line is public on its machine."""
    return os.environ.get(f"ABIXIO_{name}_KEY") or None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the status to end with."""
    try:
        return int(cli.main(args=arguments, prog_name="abixio", standalone_mode=False) or 0)
    except (click.ClickException, AbixioError) as error:
        print("abixio:", " ".join(_reason(error).split()), file=sys.stderr)
        return USAGE_STATUS
    except click.Abort:
        return 130


def _reason(error: click.ClickException | AbixioError) -> str:
    """What was wrong; and where a wrong word leaves open what the right ones are, who has them."""
    if not isinstance(error, click.ClickException):
        return str(error)
    text = error.format_message()
    if isinstance(error, click.UsageError) and error.ctx is not None and text.startswith(_OPEN):
        return f"{text.rstrip('.')}; see `{error.ctx.command_path} --help`"
    return text
