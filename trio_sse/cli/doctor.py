"""`trio-sse doctor`: report which limits of this machine are too low."""

from __future__ import annotations

import json
import sys

import click

from .._tools.doctor import examine, write_diagnosis
from .options import Command
from .output import reader_may_leave


@click.command(cls=Command)
@click.option(
    "--connections",
    "-c",
    type=click.IntRange(min=1),
    default=10_000,
    show_default=True,
    help="Number of streams that this machine should hold.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(connections: int, as_json: bool) -> None:
    """Report the limits of this machine and how to raise them.

    The exit status is 1 if the machine cannot hold that many streams.
    """
    diagnosis = examine(connections)
    with reader_may_leave(sys.stdout):
        if as_json:
            click.echo(json.dumps(diagnosis.as_json(), indent=2))
        else:
            write_diagnosis(diagnosis, sys.stdout)
    if not diagnosis.is_fine:
        sys.exit(1)
