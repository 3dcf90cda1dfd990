"""What the commands share: flags that are environment variables too, and commands that are imported when they are called."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

import click
from click.core import ParameterSource

from abixio import flags
from abixio.config import Config

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class Option(click.Option):
    """What click says of a wrong value names flag and variable; here it is the one that the value came from."""

    def get_error_hint(self, ctx: click.Context | None) -> str:
        named = self.name is not None and ctx is not None and ctx.get_parameter_source(self.name) is ParameterSource.ENVIRONMENT
        return str(self.envvar) if named else self.opts[0]


class ListOption(Option):
    """click splits the variable of a repeatable flag at blanks, which paths may hold; here it is one comma list."""

    def value_from_envvar(self, ctx: click.Context) -> Any:
        value = self.resolve_envvar_value(ctx)
        return None if value is None else (value,)


def option(name: str, *field: str, **settings: Any) -> Decorator:
    """A flag that is an environment variable too. `field`: the setting, when it has another name."""
    variable = "ABIXIO_" + name.removeprefix("--").replace("-", "_").upper()
    kind = settings.pop("cls", Option)
    return click.option(name, *field, cls=kind, envvar=variable, show_envvar=True, show_default=True, **settings)


class Whole(click.IntRange):
    """A whole number; says what it takes."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            most = "on" if self.max is None else f"to {self.max}"
            self.fail(f"{value!r} is not a whole number from {self.min} {most}", param, ctx)


def _volume_paths(ctx: click.Context, param: click.Parameter, values: Sequence[str]) -> tuple[str, ...]:
    try:
        return flags.parse_volumes(values)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def volumes_option(text: str = "Directories, one per disk: a comma list, {1...4} ranges, or the flag again.") -> Decorator:
    """--volumes, with the server's default."""
    return option(
        "--volumes", cls=ListOption, multiple=True, default=Config().volumes, callback=_volume_paths, metavar="PATHS", help=text
    )


class LazyGroup(click.Group):
    """A group whose commands live in modules of their own, which only a call of the command, or --help, waits for."""

    def __init__(self, *args: Any, elsewhere: Mapping[str, str], **settings: Any) -> None:
        """`elsewhere`: name of a command -> `module:attribute`."""
        super().__init__(*args, **settings)
        self._elsewhere = elsewhere

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *self._elsewhere})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._elsewhere:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = self._elsewhere[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command
