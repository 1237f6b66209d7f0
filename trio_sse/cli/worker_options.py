"""The options of workers."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, final

import click

from .._program.errors import ProgramError
from .._workers.worker_process import WorkerTimeouts
from .._workers.worker_status import check_status_file
from .grouped_options import grouped

_LEAST_SILENCE_SECONDS = 4


@final
class WorkerValues(NamedTuple):
    """The values of the options."""

    workers: int
    separate_hubs: bool
    start_timeout: float
    worker_timeout: float
    status_file: str | None

    @property
    def is_supervised(self) -> bool:
        """Whether there are workers: also one, if its status is wanted."""
        return self.workers > 1 or self.status_file is not None

    def unsupervised(self) -> WorkerValues:
        """Return those of one process that nobody watches."""
        return self._replace(workers=1, status_file=None)

    def status_path(self) -> Path | None:
        """Return where to write the status.

        Raises:
            ProgramError: it is not a file.
        """
        if self.status_file is None:
            return None
        if self.status_file == "":
            raise ProgramError("--status-file must name a file")
        path = Path(self.status_file)
        check_status_file(path)
        return path

    def timeouts(self) -> WorkerTimeouts:
        """Return how long to wait for workers.

        Raises:
            ProgramError: it is too short.
        """
        start, silence = self.start_timeout, self.worker_timeout
        if math.isnan(start) or math.isnan(silence):
            raise ProgramError("--start-timeout and --worker-timeout must be numbers of seconds")
        if 0 < silence < _LEAST_SILENCE_SECONDS:
            raise ProgramError(
                f"--worker-timeout must be 0 or at least {_LEAST_SILENCE_SECONDS}: "
                "workers report once a second"
            )
        return WorkerTimeouts(start=start or math.inf, silence=silence or math.inf)


def _kill_after(name: str, seconds: float, what: str) -> Callable[[Any], Any]:
    return click.option(
        f"--{name}",
        type=click.FloatRange(min=0),
        default=seconds,
        show_default=True,
        envvar=f"TRIO_SSE_{name.replace('-', '_').upper()}",
        metavar="SECONDS",
        help=f"Kill and restart a worker {what}",
    )


add_worker_options = grouped(
    "workers",
    WorkerValues,
    WorkerValues._fields,
    [
        click.option(
            "--workers",
            type=click.IntRange(min=1),
            default=1,
            show_default=True,
            envvar="TRIO_SSE_WORKERS",
            help="Number of processes. Several need --log or --separate-hubs.",
        ),
        click.option(
            "--separate-hubs",
            is_flag=True,
            envvar="TRIO_SSE_SEPARATE_HUBS",
            help="Run a hub in each worker: events that one publishes do not reach the clients of the "
            "others.",
        ),
        _kill_after("start-timeout", 30.0, "that takes longer than this to start. 0 means no limit."),
        _kill_after(
            "worker-timeout",
            60.0,
            "whose event loop is blocked for longer than this. The least is "
            f"{_LEAST_SILENCE_SECONDS}; 0 means no limit.",
        ),
        click.option(
            "--status-file",
            type=click.Path(dir_okay=False),
            envvar="TRIO_SSE_STATUS_FILE",
            help="Write the workers' statistics to this file each second, as JSON. "
            "Enables the supervisor even for one worker.",
        ),
    ],
)
