"""The options of metrics: where they are answered besides, and which topics are counted apart."""

from __future__ import annotations

import importlib.util
from typing import NamedTuple, final

import click

from .._hub.engine import existing_engines
from .._program.errors import ProgramError
from .._program.listening import ListenOptions, listen_options
from .grouped_options import grouped


@final
class MonitoringValues(NamedTuple):
    """The values of the options."""

    metrics_bind: str | None
    metrics_topics: tuple[str, ...]

    @property
    def is_set(self) -> bool:
        """Whether one of them is."""
        return self.metrics_bind is not None or self.metrics_topics != ()

    def listen(self, service: ListenOptions) -> ListenOptions | None:
        """Return where metrics and health checks have an address of their own, apart from the service's.

        Raises:
            ProgramError: the address is malformed, is one of the service's, or the extra is missing.
        """
        if self.metrics_bind is None:
            return None
        if importlib.util.find_spec("prometheus_client") is None:
            raise ProgramError("--metrics-bind needs its extra: pip install 'trio-sse[metrics]'")
        return listen_options([self.metrics_bind], apart_from=service)

    def count_topics(self) -> None:
        """Let the hubs of the program count these topics apart.

        Raises:
            ProgramError: a pattern is not acceptable.
        """
        if not self.metrics_topics:
            return
        try:
            for engine in existing_engines():
                engine.count_topics(self.metrics_topics)
        except ValueError as error:
            raise ProgramError(f"--metrics-topic: {error}") from error


add_monitoring_options = grouped(
    "monitoring",
    MonitoringValues,
    MonitoringValues._fields,
    [
        click.option(
            "--metrics-bind",
            envvar="TRIO_SSE_METRICS_BIND",
            metavar="ADDRESS",
            help="Answer with metrics and health checks on an address of their own, too.",
        ),
        click.option(
            "--metrics-topic",
            "metrics_topics",
            multiple=True,
            envvar="TRIO_SSE_METRICS_TOPIC",
            metavar="PATTERN",
            help="Count the topics of this pattern apart, like prices/*. Can be repeated.",
        ),
    ],
)
