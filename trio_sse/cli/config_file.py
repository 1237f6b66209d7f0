"""A configuration file, in TOML: its keys are the options of a command."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Collection
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def config_option(argument_key: str, *, envvar: str) -> Callable[[F], F]:
    """Return an option that reads the values of the others from a file.

    The command line and the environment override the file.

    Args:
        argument_key: the key of the command's argument.
    """
    return click.option(
        "--config",
        type=click.Path(exists=True, dir_okay=False),
        envvar=envvar,
        is_eager=True,
        expose_value=False,
        callback=lambda context, _, file: _use(context, file, argument_key),
        help="Read options from this TOML file, such as max-duration = 600. The command line and the "
        "environment override it.",
    )


def _use(context: click.Context, file: str | None, argument_key: str) -> None:
    """Make a file's values the defaults of the options."""
    if file is None:
        return
    try:
        values = tomllib.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise click.ClickException(f"cannot read {file}: {error}") from error
    parameters = dict(parameters_by_key(context.command, argument_key))
    defaults = {}
    for key, value in values.items():
        parameter = parameters.get(key.replace("_", "-"))
        if parameter is None:
            raise click.ClickException(f"{file}: there is no option {key!r}{_suggest(key, parameters)}")
        try:
            value = _check_kind(parameter, value)
            parameter.type_cast_value(context, value)
        except click.BadParameter as error:
            raise click.ClickException(f"{file}: {key}: {error.message}") from error
        assert parameter.name is not None
        defaults[parameter.name] = value
    context.default_map = defaults


def parameters_by_key(command: click.Command, argument_key: str) -> list[tuple[str, click.Parameter]]:
    """Return the parameters by their keys: the long names of options, without the hyphens before them."""
    found: list[tuple[str, click.Parameter]] = []
    for parameter in command.params:
        if isinstance(parameter, click.Argument):
            found.append((argument_key, parameter))
        elif parameter.expose_value:
            found += [(name[2:], parameter) for name in parameter.opts if name.startswith("--")]
    return found


def _suggest(key: str, known: Collection[str]) -> str:
    near = get_close_matches(key.replace("_", "-"), known, n=3)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""


def _check_kind(parameter: click.Parameter, value: object) -> object:
    """Return a value as its option takes it. A single one is enough for an option that can be repeated.

    Numbers are texts then, as on the command line: click would take 1.5 for 1, and a number for a path.

    Raises:
        click.BadParameter: it is of a wrong kind.
    """
    if isinstance(parameter, click.Option) and parameter.is_flag:
        if not isinstance(value, bool):
            raise click.BadParameter("it must be true or false")
        return value
    if parameter.multiple:
        value = value if isinstance(value, list) else [value]
        if all(_is_plain(each) for each in value):
            return [str(each) for each in value]
        raise click.BadParameter("it must be a list of texts or numbers")
    if not _is_plain(value):
        raise click.BadParameter("it must be a text or a number")
    return str(value)


def _is_plain(value: object) -> bool:
    """Return whether a value could be on the command line."""
    return isinstance(value, str | int | float) and not isinstance(value, bool) and "\0" not in str(value)
