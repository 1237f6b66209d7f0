"""Running one stream: the scope around its handler, and everything that happens when it is left."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable

import trio

from ._connection import Connection
from ._end_reason import EndReason
from ._hangup import MAX_UNREAD_BYTES
from ._http_exception import HTTPException
from ._serving import Serving
from ._subscription import SlowConsumer
from ._topic import TopicError
from ._transport import SocketTransport

logger = logging.getLogger(__name__)

Handle = Callable[[Connection], Awaitable[None]]


async def run_stream(serving: Serving, connection: Connection, handle: Handle) -> HTTPException | bool:
    """Run a stream to its end.

    Return what to answer the request with if the stream never began; otherwise whether its transport may
    carry another request. Whatever the handler does, all that belongs to the stream is given back, and its
    exceptions go to the log. If this is cancelled, the stream has ended as `SERVER_SHUTDOWN`.
    """
    host = serving.host
    path = connection.request.target.partition("?")[0]
    host.streams[connection] = None
    has_connected = False
    try:
        if logger.isEnabledFor(logging.INFO):
            logger.info("open id=%d peer=%s path=%.200s", connection.id, connection.peer, path)
        refusal: HTTPException | None = None
        failure: BaseExceptionGroup[Exception] | None = None
        try:
            with connection.lifetime:
                await _call_connect_hooks(serving, connection)
                has_connected = True
                await _handle(serving, connection, handle)
        except* Exception as group:
            failure = group
        if failure is not None:
            refusal = _settle_failure(connection, failure, path)
        connection.end(EndReason.FINISHED)
        return await connection.end_body() if refusal is None else refusal
    except BaseException:
        connection.end(EndReason.SERVER_SHUTDOWN)
        raise
    finally:
        del host.streams[connection]
        reason = connection.end_reason or EndReason.SERVER_SHUTDOWN
        host.ended[reason] += 1
        host.events_sent += connection.events_sent
        host.bytes_sent += connection.bytes_sent
        if has_connected:
            _call_disconnect_hooks(serving, connection)
        logger.info(
            "close id=%d peer=%s path=%.200s reason=%s duration=%.3f events=%d bytes=%d",
            connection.id,
            connection.peer,
            path,
            reason.value,
            connection.duration,
            connection.events_sent,
            connection.bytes_sent,
        )


async def _handle(serving: Serving, connection: Connection, handle: Handle) -> None:
    """Run the handler, with keepalives and an eye on the peer."""
    transport = connection.transport
    transport.written_at = trio.current_time()
    if isinstance(transport, SocketTransport) and serving.hangups is not None:
        serving.hangups.add(transport, connection)
        entry = serving.keepalives.add(connection, connection.keepalive_due)
        try:
            await handle(connection)
        finally:
            serving.keepalives.remove(entry)
            serving.hangups.remove(transport)
        return
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_watch_peer, connection)
        nursery.start_soon(connection.keep_alive_task)
        await handle(connection)
        nursery.cancel_scope.cancel()


async def _watch_peer(connection: Connection) -> None:
    """Read what the peer still sends, only to notice that it has gone, or won't stop."""
    received = 0
    try:
        while data := await connection.transport.receive_some():
            received += len(data)
            if received > MAX_UNREAD_BYTES:
                connection.sent_too_much()
    except trio.BrokenResourceError:
        pass
    connection.hung_up()


async def _call_connect_hooks(serving: Serving, connection: Connection) -> None:
    for hook in serving.host.on_connect:
        result = hook(connection)
        if inspect.isawaitable(result):
            await result


def _call_disconnect_hooks(serving: Serving, connection: Connection) -> None:
    for hook in serving.host.on_disconnect:
        try:
            hook(connection)
        except Exception:
            logger.exception("on_disconnect hook %r failed for id=%d", hook, connection.id)


def _settle_failure(
    connection: Connection, failure: BaseExceptionGroup[Exception], path: str
) -> HTTPException | None:
    """Find the reason in what the handler raised; return the answer if the stream never began."""
    errors = _leaves(failure)
    refusal = next((error for error in errors if isinstance(error, HTTPException)), None)
    if all(isinstance(error, SlowConsumer) for error in errors):
        connection.end(EndReason.SLOW_CONSUMER)
    elif connection.end_reason is not None and all(isinstance(e, trio.ClosedResourceError) for e in errors):
        pass  # it tried to send on a stream that had ended: the reason is known
    elif refusal is not None and not connection.has_started:
        connection.end(EndReason.REFUSED)
        return refusal
    elif not connection.has_started and all(isinstance(error, TopicError) for error in errors):
        connection.end(EndReason.REFUSED)
        return HTTPException(400, str(errors[0]))
    else:
        only = errors[0] if len(errors) == 1 else failure
        logger.error("handler failed for id=%d path=%.200s", connection.id, path, exc_info=only)
        has_begun = connection.has_started or connection.end_reason is not None
        connection.end(EndReason.HANDLER_ERROR)
        if not has_begun:
            return HTTPException(500)
    return None


def _leaves(group: BaseExceptionGroup[Exception]) -> list[Exception]:
    leaves: list[Exception] = []
    for error in group.exceptions:
        leaves += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return leaves
