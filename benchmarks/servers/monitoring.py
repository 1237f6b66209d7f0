"""What an operator switches on to see inside a server: metrics, logs, and traces of one in a hundred."""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable, Sequence

import trio
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

from trio_sse import Server
from trio_sse._hub.hub import engine_of
from trio_sse.logs import BackgroundHandler, JSONFormatter
from trio_sse.otel import Tracing

#: As often as Prometheus does by default.
_SCRAPE_SECONDS = 15.0
_SAMPLED = 0.01

Start = Callable[[trio.Nursery], Awaitable[int]]


class _NoExporter(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


def make_tracing() -> Tracing:
    """Return what traces a part of everything, and exports nothing."""
    provider = TracerProvider(sampler=ParentBasedTraceIdRatio(_SAMPLED))
    provider.add_span_processor(BatchSpanProcessor(_NoExporter()))
    return Tracing(provider)


def set_up(server: Server) -> None:
    """Log each stream as JSON, count topics by pattern, and have metrics."""
    handler = BackgroundHandler(open(os.devnull, "w"))  # noqa: SIM115  # it is open as long as the process lives
    handler.setFormatter(JSONFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    server.configure(metrics_path="/metrics", access_log=True)
    engine_of(server.hub).count_topics(["live", "news/*", "user/*"])


def scraped(start: Start) -> Start:
    """Return a function that starts the same server, and asks it for its metrics from time to time."""

    async def start_scraped(nursery: trio.Nursery) -> int:
        port = await start(nursery)
        nursery.start_soon(_scrape, port)
        return port

    return start_scraped


async def _scrape(port: int) -> None:
    while True:
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(b"GET /metrics HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
            async for _ in stream:
                pass
        await trio.sleep(_SCRAPE_SECONDS)
