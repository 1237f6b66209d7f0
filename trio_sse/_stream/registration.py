"""Where a stream is registered, counted, logged and traced when it opens, and again when it has ended."""

from __future__ import annotations

import inspect
import logging
import time

from .._groups import split_failure
from .._logger import get_logger
from .connection import Connection
from .counters import StreamEnd
from .end_reason import EndReason
from .live_stream import LiveStream
from .manager import StreamManager
from .tracing import begin_stream_span, end_stream_span

logger = get_logger("trio_sse.stream")
access_logger = get_logger("trio_sse.access")


def enter_stream(manager: StreamManager, stream: LiveStream) -> None:
    """Enter the scope of a stream's handler, and register the stream.

    If the server has begun to drain since the request was accepted, the drain has not found the stream, so it
    is ended here. If it is traced, its span is the current one of what is logged.
    """
    stream.lifetime.__enter__()  # `with` would keep a bound method for as long as the stream lives
    serving = stream.serving
    if manager.listed is not None:
        manager.listed[stream] = None
    serving.streams[stream.id] = stream
    manager.counters.count_open(stream.kind)
    if serving.counters is not manager.counters:
        serving.counters.count_open(stream.kind)
    if manager.tracing is not None:
        stream.span = begin_stream_span(manager.tracing, serving, stream)
    if access_logger.isEnabledFor(logging.INFO):
        peer, path = stream.transport.peer, path_of(stream)
        access_logger.info(
            "open id=%d peer=%s path=%.200s",
            stream.id,
            peer,
            path,
            fields={"event": "open", "id": stream.id, "peer": peer, "path": path},
        )
    if serving.is_draining and stream.is_resumable:
        stream.end(EndReason.SERVER_SHUTDOWN)


def unregister(
    manager: StreamManager, stream: LiveStream, connection: Connection, refusal: Exception | None
) -> None:
    """Unregister a stream that has ended, and call the hooks.

    Args:
        refusal: with what its handler has refused the request.
    """
    serving = stream.serving
    if manager.listed is not None:
        del manager.listed[stream]
    del serving.streams[stream.id]
    reason, sent = stream.end_reason or EndReason.SERVER_SHUTDOWN, stream.sent()
    kind, duration = stream.kind, stream.duration
    if (ends := serving.counters.latest_ends) is not None and manager.is_noted:
        ends.append(StreamEnd(time.time(), stream.info(), reason))
    stream.forget_identity()
    manager.counters.count_end(kind, reason, duration, sent)
    if serving.counters is not manager.counters:
        serving.counters.count_end(kind, reason, duration, sent)
    try:
        if stream.is_connected:
            _call_disconnect_hooks(manager, connection)
        if access_logger.isEnabledFor(logging.INFO):
            identity = stream.identity if serving.log_identities else None
            _log_end(stream, reason, duration, sent, identity)
    finally:
        if stream.span is not None:
            end_stream_span(stream.span, stream, reason, sent, refusal)


def _log_end(
    stream: LiveStream, reason: EndReason, duration: float, sent: tuple[int, int], identity: str | None
) -> None:
    peer, path = stream.transport.peer, path_of(stream)
    access_logger.info(
        "close id=%d peer=%s path=%.200s reason=%s duration=%.3f events=%d bytes=%d%s",
        stream.id,
        peer,
        path,
        reason.value,
        duration,
        *sent,
        "" if identity is None else f" identity={identity}",
        fields={
            "event": "close",
            "id": stream.id,
            "peer": peer,
            "path": path,
            "reason": reason.value,
            "duration": round(duration, 3),
            "events": sent[0],
            "bytes": sent[1],
            **({} if identity is None else {"identity": identity}),
        },
    )


def path_of(stream: LiveStream) -> str:
    """Return the path that a stream was asked for, without the query, which may have credentials."""
    return stream.request.target.partition("?")[0]


def _call_disconnect_hooks(manager: StreamManager, connection: Connection) -> None:
    for hook in manager.on_disconnect:
        try:
            hook(connection)
        except BaseException as failure:
            passing, contained = split_failure(failure)
            if passing is not None:
                raise
            logger.error("on_disconnect hook %r failed for id=%d", hook, connection.id, exc_info=contained)


async def call_connect_hooks(manager: StreamManager, connection: Connection) -> None:
    """Ask every `on_connect` hook whether it accepts a stream; what one raises refuses it."""
    for hook in manager.on_connect:
        result = hook(connection)
        if inspect.isawaitable(result):
            await result
