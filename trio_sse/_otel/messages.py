"""The spans of events: one where an event is published, and one where a node delivers a batch.

A batch is delivered by every node that has the log, and each of them makes one span for it, however many
subscribers there are. It is a child of the first publish of the batch that is sampled, so that a trace shows
an event's way to all nodes, also in tools that do not follow links; and it has links to all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from opentelemetry.trace import (
    Link,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    set_span_in_context,
)
from opentelemetry.trace import NonRecordingSpan as RemoteSpan

from .._wire.message import Message
from .guard import guarded

# As many links are kept of one span by default (OTEL_SPAN_LINK_COUNT_LIMIT); a batch has up to 256 events.
_MOST_LINKS = 128

_SYSTEM = "trio_sse"


@final
class PublishSpan:
    """The span of an event that is being published.

    It ends when the event has its place in the order, and its id; or where that is noticed by another object,
    when `publish` returns.
    """

    __slots__ = ("_ends_when_placed", "_message", "_span")

    def __init__(self, span: Span, message: Message, *, ends_when_placed: bool) -> None:
        self._span = span
        self._message = message
        self._ends_when_placed = ends_when_placed
        if ends_when_placed:
            before = message.on_place

            def on_place() -> None:
                if before is not None:
                    before()
                self._end()

            message.on_place = on_place

    def end(self, failure: BaseException | None) -> None:
        """End it; see the protocol."""
        if failure is not None:
            with guarded("ending the span of a publish"):
                self._span.set_attribute("error.type", type(failure).__qualname__)
                self._span.set_status(Status(StatusCode.ERROR))
                self._span.end()
        elif not self._ends_when_placed:
            self._end()

    def _end(self) -> None:
        with guarded("ending the span of a publish"):
            if self._message.id:
                self._span.set_attribute("messaging.message.id", self._message.id)
            self._span.end()


@final
class NoSpan:
    """Stands for a span that could not be begun, or that nobody records."""

    def end(self, failure: BaseException | None) -> None:
        """Do nothing."""


def begin_publish(tracer: Tracer, message: Message, *, ends_when_placed: bool) -> PublishSpan | NoSpan:
    """Begin the span of a publish; see the protocol."""
    with guarded("beginning the span of a publish"):
        span = tracer.start_span(
            "publish",
            kind=SpanKind.PRODUCER,
            attributes={
                "messaging.system": _SYSTEM,
                "messaging.operation.name": "publish",
                "messaging.operation.type": "send",
                "messaging.destination.name": message.topic,
                "messaging.message.body.size": len(message.wire),
            },
        )
        if not span.is_recording():
            return NoSpan()
        context = span.get_span_context()
        if context.trace_flags.sampled:
            message.trace = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
        return PublishSpan(span, message, ends_when_placed=ends_when_placed)
    return NoSpan()


@final
class DeliverySpan:
    """The span of a batch that is being delivered."""

    __slots__ = ("_span",)

    def __init__(self, span: Span) -> None:
        self._span = span

    def end(self, deliveries: int) -> None:
        """End it; see the protocol."""
        with guarded("ending the span of a delivery"):
            self._span.set_attribute("trio_sse.deliveries", deliveries)
            self._span.end()


def begin_delivery(tracer: Tracer, messages: Sequence[Message]) -> DeliverySpan | None:
    """Begin the span of a batch; see the protocol."""
    with guarded("beginning the span of a delivery"):
        traced = [message for message in messages if message.trace is not None]
        contexts = [found for message in traced if (found := _parse(message.trace)) is not None]
        if not contexts:
            return None
        attributes: dict[str, str | int] = {
            "messaging.system": _SYSTEM,
            "messaging.operation.name": "deliver",
            "messaging.operation.type": "process",
            "messaging.batch.message_count": len(messages),
        }
        topics = {message.topic for message in messages}
        if len(topics) == 1:
            attributes["messaging.destination.name"] = messages[0].topic
        if len(messages) == 1:
            attributes["messaging.message.id"] = messages[0].id
        span = tracer.start_span(
            "deliver",
            context=set_span_in_context(RemoteSpan(contexts[0])),
            kind=SpanKind.CONSUMER,
            links=[Link(context) for context in contexts[:_MOST_LINKS]],
            attributes=attributes,
        )
        return DeliverySpan(span)
    return None


def _parse(trace: str | None) -> SpanContext | None:
    """Return the context that a message carries, which may be of another node's making."""
    try:
        version, trace_id, span_id, flags = (trace or "").split("-")
        context = SpanContext(
            int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16))
        )
    except ValueError:
        return None
    return context if version == "00" and context.is_valid and context.trace_flags.sampled else None
