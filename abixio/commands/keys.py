"""`abixio keys`: what is in the key file, and a new key for what is written from the next start on."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import click

from abixio import keys as keyfile
from abixio import logs
from abixio.errors import StartupError
from abixio.options import option, volumes_option
from abixio.volume.files import Files


def _placed(command: Callable[..., Any]) -> Callable[..., Any]:
    """The flags that say where the key file is."""
    named = option(
        "--master-key-file", type=click.Path(dir_okay=False), default=None, metavar="PATH",
        help="Where the server has its key file, if not on the volumes.",
    )
    return volumes_option()(named(command))


@click.group("keys", no_args_is_help=False, short_help="Keys of server-side encryption.")
def keys() -> None:
    """Look at the key file, or add a key to it. No command shows a key itself."""


@keys.command("list")
@_placed
def list_keys(volumes: tuple[str, ...], master_key_file: str | None) -> None:
    """One line for each key: when it was made, its number, its name, and whether it wraps the keys of new objects."""
    ring = _ring(Files(), volumes, master_key_file)
    for key in ring.keys:
        made = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(key.created / 1000))
        newest = ring.newest(key.name) == (key.id, key.secret)
        click.echo(f"{made}  {key.id}  {key.name or 'SSE-S3'}{'  in use' if newest else ''}")


@keys.command("rotate")
@click.option("--kms-key-id", "name", default=keyfile.MASTER, metavar="NAME", help="That key of aws:kms, not the one of SSE-S3.")
@_placed
def rotate(name: str, volumes: tuple[str, ...], master_key_file: str | None) -> None:
    """Add a key that the server takes for new objects from its next start on. The old ones stay: what they wrapped needs them."""
    files = Files()
    ring = _ring(files, volumes, master_key_file)
    if ring.lacking([name]):
        raise StartupError(f"there is no key {name!r}" if name else "there is no key yet: start the server once")
    new = keyfile.generate(name, ring.keys)
    if not keyfile.keep(files, volumes, master_key_file, ring | keyfile.KeyRing([new])):
        raise StartupError(f"none of {', '.join(volumes)} takes the key file")
    click.echo(f"key {new.id} is in use from the next start of the server on")


def _ring(files: Files, volumes: tuple[str, ...], path: str | None) -> keyfile.KeyRing:
    logs.configure("warning", as_json=False)
    return keyfile.stored(files, volumes, path)
