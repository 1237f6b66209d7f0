"""What the tests of tracing share: an SDK that exports to memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from trio_sse.otel import Tracing

from ..support.serving import OnSockets
from ..support.waiting import until

TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"traceparent: 00-{TRACE}-b7ad6b7169203331-01"


class Spans:
    """What was exported."""

    def __init__(self, **options: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(**options)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracing = Tracing(self.provider)

    def __call__(self, name: str | None = None) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if name in (None, span.name)]

    async def one(self, name: str) -> ReadableSpan:
        await until(lambda: self(name))
        (span,) = self(name)
        return span


def attributes(span: ReadableSpan) -> Mapping[str, Any]:
    return span.attributes or {}


def parent_of(span: ReadableSpan) -> tuple[str, str] | None:
    return None if span.parent is None else (f"{span.parent.trace_id:032x}", f"{span.parent.span_id:016x}")


def id_of(span: ReadableSpan) -> tuple[str, str]:
    context = span.get_span_context()
    assert context is not None
    return f"{context.trace_id:032x}", f"{context.span_id:016x}"


async def status_of(running: OnSockets, path: str, *lines: str, method: str = "GET") -> int:
    async with await running.connect() as client:
        return (await client.get(path, *lines, method=method)).status
