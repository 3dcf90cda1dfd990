"""What every command that asks a running server takes, and how it names objects."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import click

from abixio import credentials as keys
from abixio import logs
from abixio.admin.client import Client
from abixio.credentials import Credentials
from abixio.options import option, volumes_option
from abixio.volume.files import Files

ENDPOINT: Final = "http://127.0.0.1:9000"
"""The server's defaults."""
SCHEME: Final = "s3://"


class Place(NamedTuple):
    """`s3://bucket/key` or `s3://bucket/prefix`; an empty key is the whole bucket. Nothing is decoded or normalised."""

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.key}"


def parse_place(text: str) -> Place:
    """BadParameter when it is none."""
    bucket, _, key = text.removeprefix(SCHEME).partition("/")
    if not text.startswith(SCHEME) or not bucket:
        raise click.BadParameter(f"{text!r} does not look like s3://bucket/key")
    try:
        key.encode()
    except UnicodeEncodeError as error:
        raise click.BadParameter(f"{text!r} is not UTF-8, as all keys are") from error
    return Place(bucket, key)


def place_argument(ctx: click.Context, param: click.Parameter, value: str | None) -> Place | None:
    """The callback of an argument that names objects."""
    return None if value is None else parse_place(value)


def remote(command: Callable[..., int]) -> Callable[..., int]:
    """Adds the flags that say which server to ask, and hands the command a `client` for it."""

    @option("--endpoint", default=ENDPOINT, metavar="URL", help="Of the server.")
    @option("--ca-file", type=click.Path(), default=None, help="PEM certificate to trust instead of those of the system.")
    @volumes_option("Where the server's own credentials are read from, unless ABIXIO_ACCESS_KEY and ABIXIO_SECRET_KEY are set.")
    @click.option("--json", "as_json", is_flag=True, help="Print what the server says, as one JSON document.")
    @functools.wraps(command)
    def asking(endpoint: str, ca_file: str | None, volumes: tuple[str, ...], **rest: Any) -> int:
        logs.configure("warning", as_json=False)
        try:
            client = Client(endpoint, _credentials(volumes), ca_file)
        except ValueError as error:
            raise click.UsageError(str(error)) from error
        return command(client=client, **rest)

    return asking


def target(place: Place | None, recursive: bool, everything: bool = False) -> dict[str, Any]:
    """What a job is told to work on. A whole bucket, or more, is only meant when it is said."""
    if everything:
        if place is not None or recursive:
            raise click.UsageError("--all means every bucket: name no other objects beside it")
        return {"all": True}
    if place is None:
        raise click.UsageError("name an object, as in s3://bucket/key")
    if recursive:
        return {"bucket": place.bucket, "prefix": place.key}
    if not place.key:
        raise click.UsageError(f"{place} names no key; --recursive takes all keys of the bucket")
    return {"bucket": place.bucket, "key": place.key}


def _credentials(volumes: tuple[str, ...]) -> Credentials:
    given = keys.from_environment(os.environ.get("ABIXIO_ACCESS_KEY") or None, os.environ.get("ABIXIO_SECRET_KEY") or None)
    found = given or keys.stored(Files(), volumes)
    if found is None:
        raise click.UsageError(
            f"no credentials in {', '.join(volumes)}: set ABIXIO_ACCESS_KEY and ABIXIO_SECRET_KEY, "
            "or name the server's directories with --volumes"
        )
    return found
