"""Statistics in the formats of Prometheus, by `prometheus_client`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from itertools import accumulate
from typing import final

from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from .._histogram import Histogram
from .._http.request import Request
from .._http.response import Response
from .._stream.statistics import StreamStatistics
from .metric_families import Metric, MetricType, Sample
from .shared_metrics import current_samples
from .statistics import ServerStatistics

Statistics = ServerStatistics | StreamStatistics


def families_of(statistics: Statistics) -> list[Family]:
    """Return statistics as the families of metrics that `prometheus_client` encodes."""
    return [_family(metric, samples) for metric, samples in current_samples(statistics)]


def _family(metric: Metric, samples: Iterable[Sample]) -> Family:
    if metric.type is MetricType.HISTOGRAM:
        histogram = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        for labels, value in samples:
            assert isinstance(value, Histogram)
            bounds = [*(repr(float(bound)) for bound in value.bounds), "+Inf"]
            buckets = list(zip(bounds, accumulate(value.counts), strict=True))
            histogram.add_metric(labels, buckets, value.sum)
        return histogram
    make = CounterMetricFamily if metric.type is MetricType.COUNTER else GaugeMetricFamily
    family = make(metric.name, metric.help, labels=metric.labels)
    for labels, value in samples:
        if isinstance(value, int | float):
            family.add_metric(labels, value)
    return family


@final
class Snapshot(Collector):
    """Collects what was known at one moment; for `choose_encoder`."""

    def __init__(self, statistics: Statistics) -> None:
        self._families = families_of(statistics)

    def collect(self) -> Iterable[Family]:
        return self._families


def encode(statistics: Statistics, accept: str) -> tuple[bytes, str]:
    """Return statistics in the format that a request's `Accept` prefers, and the format's media type."""
    try:
        encoder, content_type = choose_encoder(accept)
    except Exception:  # of its parser, by what strangers send
        encoder, content_type = choose_encoder("")
    return encoder(Snapshot(statistics)), content_type


def metrics_endpoint(
    collect: Callable[[], Awaitable[Statistics]],
) -> Callable[[Request], Awaitable[Response]]:
    """Return an endpoint that answers with the statistics of this moment."""

    async def metrics(request: Request) -> Response:
        accept = ",".join(request.headers.get_all("accept"))
        body, content_type = encode(await collect(), accept)
        return Response(body, content_type=content_type, headers={"Cache-Control": "no-store"})

    return metrics
