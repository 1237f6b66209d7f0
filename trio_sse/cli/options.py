"""Options that several commands have."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import click

from .._http.fields import parse_field

#: For a command whose extra is missing.
MISSING_EXTRA = "the program needs its extra: pip install 'trio-sse[cli]'"

bind_option = click.option(
    "--bind",
    "addresses",
    multiple=True,
    default=["127.0.0.1:8000"],
    show_default=True,
    envvar="TRIO_SSE_BIND",
    metavar="HOST:PORT",
    help="Address to listen on. Can be repeated.",
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
    metavar="NAME:VALUE",
    help="Add a header to each request. Can be repeated.",
)

insecure_option = click.option("--insecure", is_flag=True, help="Do not verify the server's certificate.")


def parse_headers(headers: Sequence[str]) -> list[tuple[str, str]]:
    """Split the values of `--header` into names and values."""
    try:
        return [parse_field(header) for header in headers]
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--header") from None


def set_up_logging(level: str) -> None:
    """Log to standard error."""
    logging.basicConfig(level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("coredis").setLevel(logging.CRITICAL)  # the hub logs each failure, in one line
    logging.raiseExceptions = False  # a broken pipe must neither stop the server nor print tracebacks
