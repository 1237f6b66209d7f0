"""Running one stream: the scope around its handler, and everything that happens when it is left."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from functools import partial

import trio

from .._groups import leaf_exceptions
from .._hub.subscription import SlowConsumer
from .._transport.socket import SocketTransport
from .._wire.topic import TopicError
from .closing import finish_stream, send_reconnect_hint
from .connection import Connection
from .disconnects import MAX_UNREAD_BYTES
from .end_reason import EndReason
from .keepalive import KeepaliveEntry
from .scope import ServeScope

logger = logging.getLogger("trio_sse.stream")
access_logger = logging.getLogger("trio_sse.access")

Handle = Callable[[Connection], Awaitable[None]]


async def run_stream(serving: ServeScope, connection: Connection, handle: Handle) -> Exception | bool:
    """Run a stream to its end.

    Return what the handler raised if the stream never began: it is for the caller to answer the request, and
    to log what is no refusal. Otherwise return whether the transport may carry another request. Whatever the
    handler does, all that belongs to the stream is given back, and later exceptions go to the log. If this
    is cancelled, the stream has ended as `SERVER_SHUTDOWN`.
    """
    manager = connection.manager
    path = connection.request.target.partition("?")[0]
    manager.streams[connection] = serving.streams[connection] = None
    refusal: Exception | None = None
    try:
        if access_logger.isEnabledFor(logging.INFO):
            access_logger.info("open id=%d peer=%s path=%.200s", connection.id, connection.peer, path)
        try:
            with connection.lifetime:
                if not _is_watched_by_server(serving, connection):
                    await _handle_with_helpers(serving, connection, handle)
                else:
                    # Here and not in a coroutine of its own, whose frame each stream would keep for an hour.
                    entry = None
                    try:
                        _watch(serving, connection)
                        await _call_connect_hooks(connection)
                        entry = serving.keepalives.add(connection, connection.keepalive_due)
                        await handle(connection)
                    finally:
                        _watch_no_longer(serving, connection, entry)
        except* Exception as failure:
            refusal = _settle_failure(connection, failure, path)
        finally:
            connection.stop_writers()
        connection.end(EndReason.FINISHED)
        if refusal is not None:
            return refusal
        options = manager.options
        return await finish_stream(
            connection, reconnect_spread=options.reconnect_spread, write_timeout=options.write_timeout
        )
    except BaseException:
        connection.end(EndReason.SERVER_SHUTDOWN)
        if connection.end_reason is EndReason.SERVER_SHUTDOWN and connection.transport.is_direct:
            send_reconnect_hint(connection, manager.options.reconnect_spread)
        raise
    finally:
        del manager.streams[connection], serving.streams[connection]
        reason = connection.end_reason or EndReason.SERVER_SHUTDOWN
        manager.count_end(connection)
        if serving.manager is not manager:
            serving.manager.count_end(connection)
        if connection.is_connected:
            _call_disconnect_hooks(connection)
        access_logger.info(
            "close id=%d peer=%s path=%.200s reason=%s duration=%.3f events=%d bytes=%d",
            connection.id,
            connection.peer,
            path,
            reason.value,
            connection.duration,
            connection.events_sent,
            connection.bytes_sent,
        )


def _is_watched_by_server(serving: ServeScope, connection: Connection) -> bool:
    """Whether the server's tasks see that the peer goes away, and keep the stream alive."""
    is_socket = isinstance(connection.transport, SocketTransport)
    return is_socket and connection.read is None and serving.disconnects is not None


def _watch(serving: ServeScope, connection: Connection) -> None:
    """Have the server's task see when the peer goes away."""
    transport = connection.transport
    transport.written_at = trio.current_time()
    assert isinstance(transport, SocketTransport)
    assert serving.disconnects is not None
    if connection.response_start is None or not connection.response_start.watches_peer:
        serving.disconnects.add(transport, connection)


def _watch_no_longer(serving: ServeScope, connection: Connection, entry: KeepaliveEntry | None) -> None:
    assert isinstance(connection.transport, SocketTransport)
    assert serving.disconnects is not None
    if entry is not None:
        serving.keepalives.remove(entry)
    serving.disconnects.remove(connection.transport, connection)


async def _handle_with_helpers(serving: ServeScope, connection: Connection, handle: Handle) -> None:
    """Run the hooks and the handler where watching takes tasks of the connection's own."""
    connection.transport.written_at = trio.current_time()
    entry = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.read or partial(_watch_peer, connection))
        try:
            await _call_connect_hooks(connection)
            if connection.transport.is_direct:
                entry = serving.keepalives.add(connection, connection.keepalive_due)
            else:
                nursery.start_soon(connection.keep_alive_task)
            await handle(connection)
        finally:
            if entry is not None:
                serving.keepalives.remove(entry)
        async with connection.write_lock():  # what a helper is writing is let finish
            nursery.cancel_scope.cancel()


async def _watch_peer(connection: Connection) -> None:
    """Read what the peer still sends, only to notice that it has gone, or won't stop."""
    transport = connection.transport
    if connection.response_start is not None and connection.response_start.watches_peer:
        await connection.response_start.wait_started()
    try:
        while await transport.discard_some():
            if transport.unread_bytes() > MAX_UNREAD_BYTES:
                connection.on_excess_input()
    except trio.BrokenResourceError:
        pass
    connection.on_disconnect()


async def _call_connect_hooks(connection: Connection) -> None:
    for hook in connection.manager.on_connect:
        result = hook(connection)
        if inspect.isawaitable(result):
            await result
    connection.is_connected = True


def _call_disconnect_hooks(connection: Connection) -> None:
    for hook in connection.manager.on_disconnect:
        try:
            hook(connection)
        except Exception:
            logger.exception("on_disconnect hook %r failed for id=%d", hook, connection.id)


def _settle_failure(
    connection: Connection, failure: BaseExceptionGroup[Exception], path: str
) -> Exception | None:
    """Find the reason in what the handler raised; return what to answer if the stream never began."""
    errors = leaf_exceptions(failure)
    if all(isinstance(error, SlowConsumer) for error in errors):
        connection.end(EndReason.SLOW_CONSUMER)
        return None
    if connection.end_reason is not None and all(isinstance(e, trio.ClosedResourceError) for e in errors):
        return None  # it tried to send on a stream that had ended: the reason is known
    only = errors[0] if len(errors) == 1 else ExceptionGroup(failure.message, errors)
    if not connection.has_started:
        refusals = connection.manager.refusals
        refusal = next((error for error in errors if isinstance(error, refusals)), None)
        if refusal is None and all(isinstance(error, TopicError) for error in errors):
            refusal = errors[0]
        if refusal is not None:
            connection.end(EndReason.REFUSED)
            return refusal
        if connection.end_reason is None:
            connection.end(EndReason.HANDLER_ERROR)
            return only
    logger.error("handler failed for id=%d path=%.200s", connection.id, path, exc_info=only)
    connection.end(EndReason.HANDLER_ERROR)
    return None
