"""What the console shows of a server: sums over all workers, and what only this process knows."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import trio

from .._console.source import Snapshot
from .._histogram import Histogram
from .._hub.busiest import TopicInfo, busiest_topics
from .._hub.hub import engine_of
from .._pausing import Pausing
from .._stream.counters import StreamEnd
from .._stream.manager import StreamManager
from .console_details import merge_details
from .console_nodes import Summary
from .metric_families import Value
from .shared_metrics import Details, ProcessMetrics, current_samples, shared_metrics
from .slowest import slowest_streams, stream_row
from .statistics import ServerStatistics

_MOST_TOPICS = 40
_MOST_STREAMS = 40
_MOST_KINDS = 100

# What happened since the last snapshot says nothing of rates if that was longer ago.
_LONGEST_GAP = 10.0

# Names of the console, and the metrics that they come from.
_TOTALS = {
    "open_streams": "streams",
    "opened": "streams_opened_total",
    "oldest": "oldest_stream_seconds",
    "events_sent": "sent_events_total",
    "bytes_sent": "sent_bytes_total",
    "refused": "requests_refused_total",
    "turned_away": "clients_turned_away_total",
    "pending_bytes": "pending_bytes",
    "pending_cut": "pending_cut_total",
    "is_draining": "draining",
    "longest_turn": "longest_loop_turn_seconds",
    "memory": "resident_memory_bytes",
    "descriptors": "open_fds",
    "max_descriptors": "max_fds",
    "topics": "hub_topics",
    "subscriptions": "hub_subscriptions",
    "published": "hub_published_events_total",
    "deliveries": "hub_deliveries_total",
    "replayed": "hub_replayed_events_total",
    "resets": "hub_resets_total",
    "dropped": "hub_dropped_events_total",
    "inbox_events": "hub_inbox_events",
    "queued_events": "hub_queued_events",
    "queued_bytes": "hub_queued_bytes",
    "lagging": "hub_lagging_subscriptions",
    "longest_queue": "hub_longest_queue_events",
    "log_events": "hub_log_events",
    "log_bytes": "hub_log_bytes",
    "log_lag": "hub_log_lag_seconds",
    "log_outages": "hub_log_outages_total",
}

# Each worker sees all events of a shared log, so their sum would count every event several times.
_SEEN_BY_ALL = ("published", "log_events", "log_bytes")

_OF_WORKER = (
    *("open_streams", "opened", "events_sent", "bytes_sent", "refused", "longest_turn", "memory"),
    *("descriptors", "is_draining", "lagging", "pending_bytes"),
)

# A summary of the node that is younger is not made again.
_FRESH_SECONDS = 1.5

_Labelled = Mapping[tuple[str, ...], Value]


@final
class SnapshotMaker:
    """Makes the snapshots of one server. It remembers what was published until the last one."""

    def __init__(
        self,
        manager: StreamManager,
        statistics: Callable[[], Pausing[ServerStatistics]],
        problems: Callable[[], Sequence[str]],
        loop_seconds: Callable[[], float],
    ) -> None:
        self._manager = manager
        self._statistics = statistics
        self._problems = problems
        self._loop_seconds = loop_seconds
        self._position = 0  # of the hub's log, at the last snapshot
        self._made_at = -math.inf
        self._summary = Summary({}, [])
        self._summed_at = -math.inf

    def make(self) -> Pausing[Snapshot]:
        """Compute a snapshot."""
        statistics, values = yield from self._measure()
        yield
        shared = shared_metrics()
        workers = [] if shared is None else shared.processes()
        yield
        own = yield from self.details()
        if shared is not None:
            shared.details = own
        others = [worker.details for worker in workers if worker.pid != os.getpid() and worker.details]
        details = merge_details([own, *others], has_one_log=engine_of(self._manager.hub).sequencer.is_shared)
        hub = statistics.hub
        totals = _totals(values)
        totals.update({name: getattr(hub, name) for name in _SEEN_BY_ALL})
        # A turn is counted when it has ended, and then as a whole. So one that lasts would be missing here,
        # and make the loop seem busy for more than all of the next second. Nothing may pause after this.
        since = self._loop_seconds() - statistics.loop_turns.sum
        totals["loop_seconds"] = _histogram_sum(values["trio_sse_loop_turn_seconds"]) + since
        totals["processes"] = max(1, len(workers))
        self._summarize(totals)
        return {
            "pid": os.getpid(),
            "problems": self._summary.problems,
            "totals": totals,
            "kinds": _kinds(values["trio_sse_streams"]),
            "ended": _by_label(values["trio_sse_streams_ended_total"]),
            "refused": _by_label(values["trio_sse_requests_refused_total"]),
            "latency": _quantiles(hub.latencies),
            **details,
            "workers": [_worker(worker) for worker in sorted(workers, key=lambda each: each.pid)],
        }

    def summary(self) -> Pausing[Summary]:
        """Compute what other nodes show of this one, unless the last snapshot has just done it."""
        if trio.current_time() > self._summed_at + _FRESH_SECONDS:
            _, values = yield from self._measure()
            shared = shared_metrics()
            processes = 1 if shared is None else len(shared.processes())
            self._summarize({**_totals(values), "processes": max(1, processes)})
        return self._summary

    def _measure(self) -> Pausing[tuple[ServerStatistics, dict[str, _Labelled]]]:
        statistics = yield from self._statistics()
        metrics = yield from current_samples(statistics)
        return statistics, {
            metric.name: {tuple(labels): value for labels, value in samples} for metric, samples in metrics
        }

    def _summarize(self, totals: Mapping[str, float | None]) -> None:
        self._summary = Summary(totals, list(self._problems()))
        self._summed_at = trio.current_time()

    def details(self) -> Pausing[Details]:
        """Compute what only this process knows: its busiest topics, its slowest streams, its latest ends."""
        engine = engine_of(self._manager.hub)
        now = trio.current_time()
        seconds = now - self._made_at
        after = self._position if seconds < _LONGEST_GAP else engine.log.last
        self._position, self._made_at = engine.log.last, now
        topics = yield from busiest_topics(engine.registry, engine.log, after, _MOST_TOPICS)
        streams = yield from slowest_streams(self._manager, _MOST_STREAMS)
        return {
            "topics": [_topic(topic, seconds) for topic in topics],
            "streams": streams,
            "ends": [_end(end) for end in reversed(self._manager.counters.latest_ends or ())],
        }


def _totals(values: Mapping[str, _Labelled]) -> dict[str, float | None]:
    return {name: _sum(values[f"trio_sse_{metric}"]) for name, metric in _TOTALS.items()}


def _sum(of_metric: _Labelled) -> float | None:
    numbers = [value for value in of_metric.values() if isinstance(value, int | float)]
    return sum(numbers) if numbers or not of_metric else None


def _histogram_sum(of_metric: _Labelled) -> float:
    return sum(value.sum for value in of_metric.values() if isinstance(value, Histogram))


def _by_label(of_metric: _Labelled) -> dict[str, Value]:
    return {label: value for (label,), value in of_metric.items() if value}


def _kinds(of_metric: _Labelled) -> list[dict[str, Any]]:
    found = [(count, labels) for labels, count in of_metric.items() if isinstance(count, int) and count]
    return [
        {"route": route, "transport": transport, "http": http, "tls": tls == "yes", "open": count}
        for count, (route, transport, http, tls) in sorted(found, reverse=True)[:_MOST_KINDS]
    ]


def _quantiles(histogram: Histogram) -> dict[str, float | None]:
    """Return the bounds below which half and 99 % of the values are, since the start."""
    return {"p50": _quantile(histogram, 0.5), "p99": _quantile(histogram, 0.99)}


def _quantile(histogram: Histogram, share: float) -> float | None:
    left = share * histogram.count
    for bound, count in zip(histogram.bounds, histogram.counts, strict=False):
        left -= count
        if left <= 0 and histogram.count:
            return bound
    return None


def _topic(topic: TopicInfo, seconds: float) -> dict[str, Any]:
    return {
        "name": topic.name,
        "subscribers": topic.subscribers,
        "rate": round(topic.published / seconds, 2) if seconds < _LONGEST_GAP else None,
        "log_events": topic.log_events,
        "log_bytes": topic.log_bytes,
        "is_state": topic.is_state,
    }


def _end(end: StreamEnd) -> dict[str, Any]:
    return {"at": round(end.at, 3), "reason": end.reason.value, **stream_row(end.stream)}


def _worker(worker: ProcessMetrics) -> dict[str, Any]:
    numbers = {name: _sum(worker.values.get(f"trio_sse_{_TOTALS[name]}", {})) for name in _OF_WORKER}
    problems = worker.values.get("trio_sse_hub_log_problem", {})
    return {
        "pid": worker.pid,
        "at": round(worker.at, 3),
        **numbers,
        "problems": [label for (label,), value in problems.items() if value],
    }
