"""`trio-sse load`: open many streams, and report statistics."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import trio

from .._process.descriptors import raise_descriptor_limit
from .._tools.interrupt import cancel_on_sigint
from .._tools.load.report import LiveTable, write_report
from .._tools.load.run import Load, LoadOptions
from .options import Command, header_option, insecure_option, parse_headers
from .output import reader_may_leave

_SPARE_DESCRIPTORS = 50


class _FiniteRange(click.FloatRange):
    """A number within bounds that is neither infinite nor NaN."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{number} is not a finite number.", param, ctx)
        return number


@click.command(cls=Command)
@click.argument("url")
@click.option(
    "--connections",
    "-c",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="Number of connections to hold open. Over HTTP/1.1, each has one stream.",
)
@click.option(
    "--http2",
    "is_http2",
    is_flag=True,
    help="Use HTTP/2: by ALPN with https, by prior knowledge with http.",
)
@click.option(
    "--streams-per-connection",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Number of streams on each connection. Needs --http2.",
)
@click.option(
    "--duration",
    "-d",
    type=_FiniteRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to run.",
)
@click.option(
    "--rate",
    type=_FiniteRange(min=0, min_open=True),
    default=500.0,
    show_default=True,
    metavar="N",
    help="Streams to open per second.",
)
@click.option(
    "--source",
    "sources",
    multiple=True,
    metavar="ADDRESS",
    help="Local address to connect from. Can be repeated; the addresses are used in turn.",
)
@header_option
@click.option(
    "--timestamp",
    "timestamp_field",
    metavar="FIELD",
    help="Measure latency by this field of an event's JSON, the time at which the event was sent.",
)
@click.option(
    "--json",
    "json_file",
    type=click.Path(dir_okay=False, writable=True),
    help="Write the statistics to this file.",
)
@insecure_option
def load(
    url: str,
    connections: int,
    is_http2: bool,
    streams_per_connection: int,
    duration: float,
    rate: float,
    sources: Sequence[str],
    headers: Sequence[str],
    timestamp_field: str | None,
    json_file: str | None,
    insecure: bool,
) -> None:
    """Open many streams to any SSE endpoint and report the results.

    A stream that ends reconnects with Last-Event-ID, as browsers do. Ctrl-C stops early, and reports
    the results so far. The exit status is 1 if no stream could be opened.
    """
    if streams_per_connection > 1 and not is_http2:
        raise click.UsageError("--streams-per-connection needs --http2")
    try:
        run = Load(
            LoadOptions(
                url=url,
                connections=connections,
                is_http2=is_http2,
                streams_per_connection=streams_per_connection,
                duration=duration,
                rate=rate,
                sources=sources,
                headers=parse_headers(headers),
                timestamp_field=timestamp_field,
                verify=not insecure,
            )
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if json_file is not None:
        _check_writable(json_file)
    _check_descriptors(connections)
    _run(run)
    with reader_may_leave(sys.stdout):
        write_report(run, sys.stdout)
    if json_file is not None:
        _write_json(run, json_file)
    if not run.totals.opened:
        sys.exit(1)


def _check_writable(json_file: str) -> None:
    """Fail before the run, not after it."""
    try:
        Path(json_file).touch()
    except OSError as error:
        raise click.BadParameter(f"{json_file}: {error.strerror}", param_hint="--json") from None


def _check_descriptors(connections: int) -> None:
    limit = raise_descriptor_limit()
    if limit is not None and connections > limit - _SPARE_DESCRIPTORS:
        raise click.ClickException(
            f"{connections} connections need {connections} file descriptors, but the limit is {limit}: "
            f"see `trio-sse doctor --connections {connections}`, or run several loads"
        )


def _run(run: Load) -> None:
    table = LiveTable(run, sys.stderr)

    def show() -> None:
        with reader_may_leave(sys.stderr):
            table.show()

    async def run_until_interrupted() -> None:
        with cancel_on_sigint():
            await run.run(show)

    try:
        trio.run(run_until_interrupted)
    except OSError as error:
        raise click.ClickException(f"{run.options.url}: {error.strerror or error}") from error
    with reader_may_leave(sys.stderr):
        table.finish()


def _write_json(run: Load, json_file: str) -> None:
    try:
        Path(json_file).write_text(json.dumps(run.report(), indent=2) + "\n")
    except OSError as error:
        raise click.ClickException(f"{json_file}: {error.strerror}") from error
