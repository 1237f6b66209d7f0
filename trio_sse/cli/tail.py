"""`trio-sse tail`: print the events of any event stream."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click
import trio

from .._tools.interrupt import cancel_on_sigint
from .options import MISSING_EXTRA, Command, header_option, insecure_option, parse_headers
from .output import discard, reader_may_leave

if TYPE_CHECKING:
    from ..client import EventSource


@click.command(cls=Command)
@click.argument("url")
@click.option("--last-event-id", default="", metavar="ID", help="Resume after this event.")
@header_option
@click.option("-n", "--count", type=click.IntRange(min=1), metavar="N", help="Stop after this many events.")
@click.option("--json", "as_json", is_flag=True, help="Print each event as one line of JSON.")
@click.option("--no-reconnect", is_flag=True, help="Stop when the stream ends.")
@insecure_option
@click.option("-q", "--quiet", is_flag=True, help="Print only events, and nothing on standard error.")
def tail(
    url: str,
    last_event_id: str,
    headers: Sequence[str],
    count: int | None,
    as_json: bool,
    no_reconnect: bool,
    insecure: bool,
    quiet: bool,
) -> None:
    """Print the events of the stream at URL as they arrive.

    When the stream ends, reconnect with Last-Event-ID, as browsers do. Connects and disconnects are
    reported on standard error.
    """
    try:
        from .._tools.tail import status_reporter
        from ..client import EventSource, StreamRefused, StreamUnavailable
    except ImportError as error:
        raise click.ClickException(MISSING_EXTRA) from error

    def report(text: str) -> None:
        if not quiet:
            with reader_may_leave(sys.stderr):
                click.echo(f"# {text}", err=True)

    try:
        source = EventSource(
            url,
            headers=parse_headers(headers),
            last_event_id=last_event_id,
            reconnect=not no_reconnect,
            verify=not insecure,
            on_status=status_reporter(url, report),
        )
        was_interrupted = trio.run(_print_events, source, count, as_json, not no_reconnect)
    except (StreamRefused, StreamUnavailable, ValueError) as error:
        raise click.ClickException(str(error)) from error
    except BrokenPipeError:
        discard(sys.stdout)  # its reader has left
        return
    if was_interrupted:
        sys.exit(130)


async def _print_events(source: EventSource, count: int | None, as_json: bool, is_endless: bool) -> bool:
    """Print events; return whether SIGINT ended that."""
    from .._tools.tail import format_event

    printed = 0
    with cancel_on_sigint() as interrupt:
        async with source:
            async for event in source:
                with interrupt.blocking():
                    print(format_event(event, as_json=as_json), flush=True)
                printed += 1
                if printed == count:
                    return False
    if is_endless and not interrupt.was_received:
        raise click.ClickException("the server answered 204: no more events")
    return interrupt.was_received
