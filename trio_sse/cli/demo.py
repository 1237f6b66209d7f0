"""`trio-sse demo`: a live dashboard of this machine."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial

import click
import trio

from .._program.errors import ProgramError
from .._program.listening import listen_options
from .._program.serve import ServiceOptions, serve_until_signalled
from .._server.console import console_link
from .._server.server import take_console_token
from .options import MISSING_EXTRA, Command, bind_option, log_level_option, set_up_logging
from .output import reader_may_leave


@click.command(cls=Command)
@bind_option
@click.option(
    "--history",
    type=click.IntRange(min=0),
    default=1500,
    show_default=True,
    help="Number of events to keep (five arrive per second). If it is too small, a page that reconnects "
    "shows a gap.",
)
@log_level_option
def demo(addresses: Sequence[str], history: int, log_level: str) -> None:
    """Show a live dashboard of this machine in the browser."""
    set_up_logging(log_level)
    try:
        trio.run(_serve_dashboard, addresses, history)
    except ProgramError as error:
        raise click.ClickException(str(error)) from error


async def _serve_dashboard(addresses: Sequence[str], history: int) -> None:
    try:
        from ..demo import Dashboard
    except ModuleNotFoundError as error:
        raise click.ClickException(MISSING_EXTRA) from error
    dashboard = Dashboard(history=history)
    announce = partial(_announce, take_console_token(dashboard.server))
    options = ServiceOptions(listen=listen_options(addresses), announce=announce)
    await serve_until_signalled(dashboard.server, options, background=dashboard.run)


def _announce(token: str | None, urls: Sequence[str]) -> None:
    with reader_may_leave(sys.stdout):
        for url in urls:
            click.echo(f"Dashboard of this machine:  {url}/")
            click.echo(f"The same in a terminal:     curl -N {url}/events")
            click.echo(f"The server's console:       {console_link(url, token)}")
            click.echo(f"The same in a terminal:     trio-sse top '{console_link(url, token)}'")
