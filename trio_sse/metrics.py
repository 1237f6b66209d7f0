"""Metrics for Prometheus, of a server's streams and its hub.

::

    server = Server(metrics_path="/metrics")

That is all that a `Server` needs. This module is for other hosts, and for programs that have a registry of
their own::

    metrics = metrics_app(sse)  # an ASGI app
    REGISTRY.register(StatisticsCollector(server))

And `monitoring_server(server)` has a server's metrics and health checks on an address of its own.

Needs the extra `metrics`: pip install 'trio-sse[metrics]'.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, final

try:
    from prometheus_client.metrics_core import Metric
    from prometheus_client.registry import Collector
except ImportError as error:
    raise ImportError("trio_sse.metrics needs its extra: pip install 'trio-sse[metrics]'") from error

from ._asgi.types import ASGIApp, Receive, Send
from ._module_metadata import set_public_module
from ._pausing import in_pieces
from ._server.metrics import encode, encoding, families_of
from ._server.monitoring import monitoring_server
from ._server.statistics import ServerStatistics
from ._stream.statistics import StreamStatistics, added_statistics

__all__ = ["HasStatistics", "StatisticsCollector", "encode_metrics", "metrics_app", "monitoring_server"]


class HasStatistics(Protocol):
    """A `Server`, a `QuartSSE`, or an `EventStream`."""

    def statistics(self) -> ServerStatistics | StreamStatistics:
        """Return the statistics of this moment."""

    async def collect_statistics(self) -> ServerStatistics | StreamStatistics:
        """Return the same, but let other tasks run in between."""


@final
class StatisticsCollector(Collector):
    """A collector for a registry of `prometheus_client`, which may have other metrics, too.

    It takes the statistics without a pause: with many streams, `metrics_app` and `metrics_path` are better.

    Args:
        sources: what has the statistics; several event streams of one hub are added up.
    """

    def __init__(self, *sources: HasStatistics) -> None:
        self._sources = _checked(sources)

    def collect(self) -> Iterable[Metric]:
        """Return the metrics, as a registry asks for them."""
        return families_of(_added([source.statistics() for source in self._sources]))


def encode_metrics(statistics: ServerStatistics | StreamStatistics, *, accept: str = "") -> tuple[bytes, str]:
    """Return a response's body, and its media type.

    Args:
        statistics: what `Server.collect_statistics` or `QuartSSE.collect_statistics` has returned.
        accept: the request's `Accept`, which may ask for OpenMetrics.
    """
    return encode(statistics, accept)


def metrics_app(*sources: HasStatistics) -> ASGIApp:
    """Return an ASGI app that answers each GET with the metrics of this moment.

    Args:
        sources: what has the statistics; several event streams of one hub are added up. It must belong to the
            event loop that runs the app.
    """
    _checked(sources)

    async def app(scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"the metrics are for HTTP, not for {scope['type']!r}")
        if scope["method"] not in ("GET", "HEAD"):
            await _respond(send, 405, b"", [(b"allow", b"GET, HEAD")])
            return
        accept = b",".join(value for name, value in scope["headers"] if name.lower() == b"accept")
        statistics = _added([await source.collect_statistics() for source in sources])
        body, content_type = await in_pieces(encoding(statistics, accept.decode("latin-1")))
        fields = [(b"content-type", content_type.encode()), (b"cache-control", b"no-store")]
        await _respond(send, 200, body, fields, with_body=scope["method"] == "GET")

    return app


def _checked(sources: Sequence[HasStatistics]) -> Sequence[HasStatistics]:
    if not sources:
        raise TypeError("metrics need a Server, a QuartSSE, or event streams")
    return sources


def _added(each: Sequence[ServerStatistics | StreamStatistics]) -> ServerStatistics | StreamStatistics:
    if len(each) == 1:
        return each[0]
    of_streams = [one for one in each if isinstance(one, StreamStatistics)]
    if len(of_streams) < len(each):
        raise TypeError("the metrics of a Server cannot be added to others")
    return added_statistics(of_streams)


async def _respond(
    send: Send, status: int, body: bytes, fields: list[tuple[bytes, bytes]], *, with_body: bool = True
) -> None:
    fields.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body if with_body else b""})


set_public_module(globals())
