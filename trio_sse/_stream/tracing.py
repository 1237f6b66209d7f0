"""The span of a stream's life."""

from __future__ import annotations

from .._http.exceptions import HTTPException
from .._hub.tracing import RequestSpan, Tracing
from .._wire.message import Framing
from .._wire.topic import TopicError
from .end_reason import EndReason
from .live_stream import LiveStream
from .scope import ServeScope

# Ends that are the server's failures.
_FAILURES = (EndReason.HANDLER_ERROR,)


def begin_stream_span(tracing: Tracing, serving: ServeScope, stream: LiveStream) -> RequestSpan:
    """Begin a stream's span, in the task that runs its handler."""
    return tracing.begin_request(
        stream.request,
        route=stream.kind.route,
        attributes={
            "url.scheme": "https" if stream.kind.is_secure else "http",
            "trio_sse.stream.id": stream.id,
            "trio_sse.transport": stream.kind.transport,
        },
        run_outside=serving.run_in_clean_context,
    )


def end_stream_span(
    span: RequestSpan,
    stream: LiveStream,
    reason: EndReason,
    sent: tuple[int, int],
    refusal: Exception | None,
) -> None:
    """End a stream's span."""
    span.end(
        _status(stream, reason, refusal),
        reason.value if reason in _FAILURES else None,
        {"trio_sse.end_reason": reason.value, "trio_sse.events": sent[0], "trio_sse.bytes": sent[1]},
    )


def _status(stream: LiveStream, reason: EndReason, refusal: Exception | None) -> int | None:
    if refusal is not None:
        return status_of(refusal)
    if stream.has_started:
        return 101 if stream.transport.framing is Framing.WEBSOCKET else 200
    if reason is EndReason.CLIENT_DISCONNECTED:
        return None
    return 200 if stream.kind.transport in ("poll", "head") else 503


def status_of(refusal: Exception) -> int:
    """Return the status of the response that an exception asks for."""
    if isinstance(refusal, HTTPException):
        return refusal.status
    if isinstance(refusal, TopicError):
        return 400
    code: object = getattr(refusal, "code", None)  # of Werkzeug's
    return code if isinstance(code, int) else 500
