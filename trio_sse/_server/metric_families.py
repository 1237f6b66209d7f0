"""What is exported for Prometheus: the metrics, and where in the statistics their values are.

The labels have few values, however many streams, topics and clients there are: routes are those of the
program, not the paths that clients ask for.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from typing import Any, NamedTuple, final

from .._histogram import Histogram
from .._hub.statistics import HubStatistics
from .._stream.end_reason import EndReason
from .._stream.statistics import StreamStatistics
from .statistics import ServerStatistics
from .worker_counts import RestartReason, WorkerCounts

#: The route of streams whose app does not say it.
UNKNOWN_ROUTE = "unknown"


@final
class MetricType(Enum):
    """Prometheus' types of metrics."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


Value = int | float | Histogram | None

#: The values of a metric's labels, and its value; `None` if there is none.
Sample = tuple[Sequence[str], Value]


@final
class Metric(NamedTuple):
    """One metric.

    Attributes:
        name: as it is exported, with the suffix `_total` of counters.
        help: what it says, on one line.
        labels: the names of its labels.
        samples: returns its values, given the statistics.
        merge: what two workers' values are together.
    """

    name: str
    type: MetricType
    help: str
    labels: Sequence[str]
    samples: Callable[[Any], Iterable[Sample]]
    merge: Callable[[float, float], float] = operator.add


def _plain(type: MetricType) -> Callable[[str, str, str], Metric]:
    def make(name: str, attribute: str, help: str) -> Metric:
        return Metric(
            f"trio_sse_{name}", type, help, (), lambda statistics: [((), getattr(statistics, attribute))]
        )

    return make


_counter = _plain(MetricType.COUNTER)
_gauge = _plain(MetricType.GAUGE)


def _highest(name: str, attribute: str, help: str) -> Metric:
    """Return a gauge of which the highest of several workers counts."""
    return _gauge(name, attribute, help)._replace(merge=max)


_histogram = _plain(MetricType.HISTOGRAM)


def _streams(statistics: StreamStatistics | ServerStatistics) -> Iterable[Sample]:
    for kind, count in statistics.streams.items():
        route = UNKNOWN_ROUTE if kind.route is None else kind.route
        yield (route, kind.transport, kind.http_version, "yes" if kind.is_secure else "no"), count


def _ended(statistics: StreamStatistics | ServerStatistics) -> Iterable[Sample]:
    return [((reason.value,), statistics.ended.get(reason, 0)) for reason in EndReason]


def _refused(statistics: ServerStatistics) -> Iterable[Sample]:
    return [((str(status),), count) for status, count in sorted(statistics.refused_by_status.items())]


def _restarts(counts: WorkerCounts) -> Iterable[Sample]:
    return [((reason.value,), counts.restarts.get(reason, 0)) for reason in RestartReason]


def _by_pattern(attribute: str) -> Callable[[HubStatistics], Iterable[Sample]]:
    return lambda statistics: [
        ((pattern,), getattr(of_pattern, attribute)) for pattern, of_pattern in statistics.patterns.items()
    ]


def _log_problems(statistics: HubStatistics) -> Iterable[Sample]:
    problems = ("log_not_loaded", "log_unavailable", "log_not_writable", "log_lagging")
    return [((problem,), int(statistics.log_problem == problem)) for problem in problems]


def _process(attribute: str) -> Callable[[ServerStatistics], Iterable[Sample]]:
    return lambda statistics: [((), getattr(statistics.process, attribute))]


def _pattern(name: str, type: MetricType, attribute: str, help: str) -> Metric:
    return Metric(f"trio_sse_hub_pattern_{name}", type, help, ("pattern",), _by_pattern(attribute))


#: Metrics of a server's or an app's statistics.
STREAM_METRICS = (
    Metric(
        "trio_sse_streams",
        MetricType.GAUGE,
        "Open streams.",
        ("route", "transport", "http", "tls"),
        _streams,
    ),
    _highest("oldest_stream_seconds", "oldest", "For how long the oldest open stream has been open."),
    _counter("streams_opened_total", "opened", "Streams that were ever opened."),
    Metric(
        "trio_sse_streams_ended_total", MetricType.COUNTER, "Streams that have ended.", ("reason",), _ended
    ),
    _histogram("stream_duration_seconds", "durations", "How long the streams were open that have ended."),
    _counter("sent_events_total", "events_sent", "Events sent on all streams."),
    _counter("sent_bytes_total", "bytes_sent", "Bytes sent on all streams, before TLS."),
)

#: Metrics of a server's statistics.
SERVER_METRICS = (
    Metric(
        "trio_sse_requests_refused_total",
        MetricType.COUNTER,
        "Requests that were answered with an error.",
        ("status",),
        _refused,
    ),
    _counter(
        "clients_turned_away_total", "turned_away", "Connections closed because few descriptors were left."
    ),
    _gauge("max_connections", "max_connections", "How many streams and requests may be open."),
    _gauge("endpoints", "endpoints", "Endpoints that are at work."),
    _gauge("background_calls", "background_calls", "Calls of the app that go on after their responses."),
    _gauge("pending_bytes", "pending_bytes", "Bytes that wait for clients that read slowly."),
    _counter("pending_cut_total", "pending_cut", "Responses and streams cut because too many bytes waited."),
    _highest("draining", "is_draining", "1 while the server drains, otherwise 0."),
    _histogram(
        "loop_turn_seconds", "loop_turns", "How long turns of the event loop took; meanwhile, all waited."
    ),
    _highest("longest_loop_turn_seconds", "longest_loop_turn", "The longest turn of the last half minute."),
    Metric(
        "trio_sse_resident_memory_bytes",
        MetricType.GAUGE,
        "Memory that the process uses.",
        (),
        _process("resident_bytes"),
    ),
    Metric(
        "trio_sse_open_fds",
        MetricType.GAUGE,
        "File descriptors that the process has open.",
        (),
        _process("descriptors"),
        max,
    ),
    Metric(
        "trio_sse_max_fds",
        MetricType.GAUGE,
        "File descriptors that the process may have open.",
        (),
        _process("max_descriptors"),
        min,
    ),
)

#: Metrics of a hub's statistics.
HUB_METRICS = (
    _gauge("hub_topics", "topics", "Topics that have subscribers."),
    _gauge("hub_subscriptions", "subscriptions", "Subscriptions that are registered."),
    _gauge("hub_states", "states", "Topics that are states."),
    _counter("hub_published_events_total", "published", "Events that have an id."),
    _counter("hub_refused_events_total", "refused", "Events that a shared log does not take."),
    _counter("hub_deliveries_total", "deliveries", "Events delivered, counted for each subscription."),
    _counter("hub_replayed_events_total", "replayed", "Events replayed from the log."),
    _counter("hub_resets_total", "resets", "Gaps that were announced to a subscriber."),
    _counter("hub_snapshots_total", "snapshots", "Snapshots of states that subscribers received."),
    _counter("hub_dropped_events_total", "dropped", "Events that newer ones replaced for lagging readers."),
    _gauge("hub_inbox_events", "inbox_events", "Events that have no id yet."),
    _gauge("hub_inbox_bytes", "inbox_bytes", "Bytes of events that have no id yet."),
    _gauge("hub_queued_events", "queued_events", "Events that wait for readers that lag."),
    _gauge("hub_queued_bytes", "queued_bytes", "Bytes of events that wait for readers that lag."),
    _gauge("hub_waiting_events", "waiting_events", "Events that wait for the end of an interval."),
    _gauge("hub_waiting_bytes", "waiting_bytes", "Bytes of events that wait for the end of an interval."),
    _gauge("hub_lagging_subscriptions", "lagging", "Subscriptions that have something queued."),
    _highest("hub_longest_queue_events", "longest_queue", "Events that the slowest subscription has queued."),
    _histogram("hub_batch_events", "batches", "How many events were delivered together."),
    _histogram(
        "hub_publish_latency_seconds",
        "latencies",
        "How long it took from publish until all subscribers had an event; sampled.",
    ),
    _histogram("hub_fan_out_seconds", "fan_outs", "How long it took until all subscribers had a batch."),
    _gauge("hub_log_events", "log_events", "Events that can be replayed from memory."),
    _gauge("hub_log_bytes", "log_bytes", "Bytes of events that can be replayed from memory."),
    _gauge("hub_log_topics", "log_topics", "Topics that have events in the log."),
    _counter("hub_log_evicted_events_total", "evicted", "Events that a bound has removed from the log."),
    _counter("hub_log_reads_total", "log_reads", "Pages read from a shared log for subscribers."),
    _gauge("hub_log_waiting_subscriptions", "log_waiting", "Subscriptions that wait for such a page."),
    Metric(
        "trio_sse_hub_log_problem",
        MetricType.GAUGE,
        "1 while a shared log has this problem, otherwise 0.",
        ("problem",),
        _log_problems,
        max,
    ),
    _pattern(
        "topics", MetricType.GAUGE, "topics", "Topics with subscribers, of those that a pattern matches."
    ),
    _pattern(
        "subscriptions",
        MetricType.GAUGE,
        "subscriptions",
        "Subscriptions to such topics, counted for each topic.",
    ),
    _pattern(
        "published_events_total", MetricType.COUNTER, "published", "Events of such topics that have an id."
    ),
    _pattern(
        "log_events",
        MetricType.GAUGE,
        "log_events",
        "Events of such topics that can be replayed.",
    ),
    _pattern("log_bytes", MetricType.GAUGE, "log_bytes", "Bytes of these events."),
    _highest("hub_log_lag_seconds", "log_lag", "For how long a shared log has had more than was read."),
    _counter("hub_log_outages_total", "log_outages", "How often a shared log has become unavailable."),
)

#: Metrics of what a supervisor counts.
WORKER_METRICS = (
    _gauge("workers", "wanted", "How many workers there should be."),
    _gauge("workers_serving", "serving", "Workers that accept connections and have reached the log."),
    Metric(
        "trio_sse_worker_restarts_total",
        MetricType.COUNTER,
        "Workers that ended and were restarted.",
        ("reason",),
        _restarts,
    ),
)

METRICS = (*STREAM_METRICS, *SERVER_METRICS, *HUB_METRICS, *WORKER_METRICS)


def samples_of(statistics: StreamStatistics | ServerStatistics) -> Iterable[tuple[Metric, Iterable[Sample]]]:
    """Return the metrics that some statistics have, and their values."""
    metrics = [*STREAM_METRICS, *(SERVER_METRICS if isinstance(statistics, ServerStatistics) else ())]
    for metric in metrics:
        yield metric, metric.samples(statistics)
    for metric in HUB_METRICS:
        yield metric, metric.samples(statistics.hub)
