"""`trio-sse top`: a server's console in the terminal."""

from __future__ import annotations

import sys

import click
import trio

from .._tools.interrupt import cancel_on_sigint
from .options import Command, insecure_option
from .output import discard

# Why the server may have answered with these statuses.
_HINTS = {
    401: "the token is wrong",
    403: "its console answers its own machine only; see --console-peers",
    404: "was it started with --console?",
}


@click.command(cls=Command)
@click.argument("url", default="http://127.0.0.1:8000")
@click.option(
    "--token",
    envvar="TRIO_SSE_CONSOLE_TOKEN",
    metavar="TOKEN",
    help="The console's token, unless URL is the link that the server prints. Other users of the machine "
    "see command lines, so set TRIO_SSE_CONSOLE_TOKEN instead.",
)
@click.option("--once", is_flag=True, help="Print what there is now, and exit; so also without a terminal.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON, and exit.")
@insecure_option
def top(url: str, token: str | None, once: bool, as_json: bool, insecure: bool) -> None:
    """Show what the server at URL does, live: its streams, topics, rates and problems.

    The server needs its console: `trio-sse serve --console`. Press ? for the keys.
    """
    try:
        from .._tools.top.run import TopScreen, open_console, print_once
        from .._tools.top.session import ConsoleSession, split_link
        from ..client import StreamRefused, StreamUnavailable
    except ImportError as error:
        raise click.ClickException("top needs its extra: pip install 'trio-sse[console]'") from error

    async def run(session: ConsoleSession) -> None:
        with cancel_on_sigint():
            if once or as_json or not sys.stdout.isatty():
                await print_once(session, as_json=as_json)
            else:
                await TopScreen(session, open_console()).run()

    try:
        address, token_of_link = split_link(url)
        token = token or token_of_link
        if not token and sys.stdin is not None and sys.stdin.isatty():
            token = click.prompt("Token of the console", hide_input=True)
        if not token:
            raise click.UsageError("the console needs its token: set TRIO_SSE_CONSOLE_TOKEN")
        trio.run(run, ConsoleSession(address, token, verify=not insecure))
    except StreamRefused as error:
        hint = _HINTS.get(error.status)
        raise click.ClickException(f"{error}{'' if hint is None else f': {hint}'}") from error
    except (StreamUnavailable, ValueError) as error:
        raise click.ClickException(str(error)) from error
    except BrokenPipeError:
        discard(sys.stdout)
