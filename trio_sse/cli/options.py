"""What the commands have in common."""

from __future__ import annotations

import configparser
import json
import logging
import logging.config
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .._http.fields import parse_field
from ..logs import BackgroundHandler, JSONFormatter
from .output import discard

#: For a command whose extra is missing.
MISSING_EXTRA = "the program needs its extra: pip install 'trio-sse[cli]'"


class Command(click.Command):
    """A command that succeeds even if nobody reads its help. By default, click exits with 1."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Parse the arguments. Print the help if they ask for it."""
        try:
            return super().make_context(info_name, args, parent, **extra)
        except BrokenPipeError:
            discard(sys.stdout)
            raise click.exceptions.Exit(0) from None


if TYPE_CHECKING:
    _IntegerType = click.ParamType[int]
else:
    _IntegerType = click.ParamType  # which is generic in new versions only


class Permissions(_IntegerType):
    """The permissions of a file, in octal."""

    name = "octal"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number that the octal digits stand for."""
        try:
            mode = int(str(value), 8)
        except ValueError:
            mode = -1
        if not 0 <= mode <= 0o777:
            self.fail(f"{value!r} is not like 660", param, ctx)
        return mode


bind_option = click.option(
    "--bind",
    "addresses",
    multiple=True,
    show_default="127.0.0.1:8000",
    envvar="TRIO_SSE_BIND",
    metavar="ADDRESS",
    help="Listen on HOST:PORT, on unix:PATH, or on the inherited socket fd://N. Can be repeated. "
    "Sockets that systemd passes (LISTEN_FDS) are used, too.",
)

log_level_option = click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
    default="info",
    show_default=True,
    envvar="TRIO_SSE_LOG_LEVEL",
    help="Lowest level of what is logged to standard error.",
)

header_option = click.option(
    "-H",
    "--header",
    "headers",
    multiple=True,
    metavar="'NAME: VALUE'",
    help="Add a header to each request. Can be repeated.",
)

insecure_option = click.option("--insecure", is_flag=True, help="Do not verify the server's certificate.")


def parse_headers(headers: Sequence[str]) -> list[tuple[str, str]]:
    """Split the values of `--header` into names and values."""
    return [_parse_header(header, number) for number, header in enumerate(headers, 1)]


def _parse_header(header: str, number: int) -> tuple[str, str]:
    try:
        return parse_field(header)
    except ValueError:
        # The error quotes the header, which may hold credentials.
        raise click.BadParameter(
            f"number {number} is not like 'NAME: VALUE', with a name of letters, digits and hyphens, and no "
            "control characters",
            param_hint="--header",
        ) from None


def set_up_logging(level: str, config: str | None = None, log_format: str = "text") -> None:
    """Log to standard error, or as a configuration file says.

    A thread writes, so that the server does not wait for the reader of the log.

    Raises:
        click.ClickException: the file cannot be used.
    """
    if config is None:
        handler = BackgroundHandler()
        is_json = log_format == "json"
        text = "%(asctime)s %(levelname)s %(name)s: %(message)s"
        handler.setFormatter(JSONFormatter() if is_json else logging.Formatter(text))
        logging.basicConfig(level=level.upper(), handlers=[handler])
    else:
        try:
            _configure_logging(Path(config))
        except _CONFIGURATION_ERRORS as error:
            raise click.ClickException(f"cannot use the logging configuration {config}: {error}") from error
    logging.getLogger("coredis").setLevel(logging.CRITICAL)  # the hub logs each failure, in one line
    hpack = logging.getLogger("hpack")  # of hypercorn's HTTP/2
    if hpack.level == logging.NOTSET:
        hpack.setLevel(logging.INFO)  # at DEBUG, it logs header fields, with credentials
    logging.raiseExceptions = False  # a broken pipe must neither stop the server nor print tracebacks


_CONFIGURATION_ERRORS = (
    OSError,
    ValueError,
    TypeError,
    AttributeError,
    ImportError,
    KeyError,
    RuntimeError,
    configparser.Error,  # before Python 3.11.4
)


def _configure_logging(file: Path) -> None:
    if file.suffix not in (".toml", ".json"):
        logging.config.fileConfig(file, disable_existing_loggers=False)
        return
    parse = tomllib.loads if file.suffix == ".toml" else json.loads
    settings = parse(file.read_text(encoding="utf-8"))
    if not isinstance(settings, dict):
        raise ValueError("it must be a mapping")
    logging.config.dictConfig({"version": 1, "disable_existing_loggers": False, **settings})
