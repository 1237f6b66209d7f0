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
from .._pausing import Pausing, in_one_piece, in_pieces
from .._stream.statistics import StreamStatistics
from .metric_families import Metric, MetricType, Sample
from .shared_metrics import current_samples
from .statistics import ServerStatistics

Statistics = ServerStatistics | StreamStatistics


# So many metrics are encoded in less than a millisecond, unless one has many labels.
_AT_ONCE = 10


def families_of(statistics: Statistics) -> list[Family]:
    """Return statistics as the families of metrics that `prometheus_client` encodes."""
    return [_family(metric, samples) for metric, samples in in_one_piece(current_samples(statistics))]


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
class _Families(Collector):
    """Families for an encoder, which takes them from a registry or a collector."""

    def __init__(self, families: list[Family]) -> None:
        self._families = families

    def collect(self) -> Iterable[Family]:
        return self._families


def encoding(statistics: Statistics, accept: str) -> Pausing[tuple[bytes, str]]:
    """Encode statistics in the format that a request's `Accept` prefers; return the format's type, too."""
    try:
        encoder, content_type = choose_encoder(accept)
    except Exception:  # of its parser, by what strangers send
        encoder, content_type = choose_encoder("")
    end = encoder(_Families([]))  # what an OpenMetrics text ends with
    parts: list[bytes] = []
    samples = yield from current_samples(statistics)
    for start in range(0, len(samples), _AT_ONCE):
        families = [_family(metric, of_metric) for metric, of_metric in samples[start : start + _AT_ONCE]]
        parts.append(encoder(_Families(families)).removesuffix(end))
        yield
    return b"".join([*parts, end]), content_type


def encode(statistics: Statistics, accept: str) -> tuple[bytes, str]:
    """Return the same, computed without a pause."""
    return in_one_piece(encoding(statistics, accept))


def metrics_endpoint(
    collect: Callable[[], Awaitable[Statistics]],
) -> Callable[[Request], Awaitable[Response]]:
    """Return an endpoint that answers with the statistics of this moment."""

    async def metrics(request: Request) -> Response:
        accept = ",".join(request.headers.get_all("accept"))
        body, content_type = await in_pieces(encoding(await collect(), accept))
        return Response(body, content_type=content_type, headers={"Cache-Control": "no-store"})

    return metrics
