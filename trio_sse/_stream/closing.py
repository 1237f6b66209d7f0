"""The last bytes of a stream: properly ended, or such that every kind of client comes back."""

from __future__ import annotations

import random

import trio

from .._wire.event import encode_retry
from .._wire.message import Framing, frame
from .._wire.websocket_frames import close_frame
from .connection import Connection
from .end_reason import EndReason

_END_OF_BODY = {Framing.PLAIN: b"", Framing.CHUNKED: b"0\r\n\r\n", Framing.CHUNKED_BY_HOST: b""}

# What can't be sent at once to a client that is to come back is not worth waiting for.
_LAST_SECONDS = 1.0

# Those of RFC 6455, 7.4.1 where one fits, and of the range for private use where the client is to come back.
# The others leave nobody to say it to.
CLOSE_CODES = {
    EndReason.FINISHED: 1000,
    EndReason.SERVER_SHUTDOWN: 1001,
    EndReason.PROTOCOL_ERROR: 1002,
    EndReason.HANDLER_ERROR: 1011,
    EndReason.MAX_DURATION: 4000,
    EndReason.SLOW_CONSUMER: 4001,
    EndReason.RECONNECT: 4002,
    EndReason.WRITE_TIMEOUT: 4003,
}


def reason_frame(reason: EndReason) -> bytes:
    """Give the close frame by which a WebSocket's client learns the reason of the end."""
    return close_frame(CLOSE_CODES.get(reason, 1000), reason.value)


async def finish_stream(connection: Connection, *, reconnect_spread: float, write_timeout: float) -> bool:
    """Say the last of a stream that has ended; return whether the transport may carry another request.

    Nothing is said where half an event is pending that won't be finished. A client that doesn't take the
    proper end within the stream's own bounds has not been served to the end, and its reason says so.
    """
    transport = connection.transport
    if transport.framing is Framing.WEBSOCKET:
        await _close_websocket(connection, write_timeout)
        return False
    if connection.end_reason is EndReason.FINISHED:
        may_be_reused = transport.framing is Framing.CHUNKED and not transport.unread_bytes()
        end = _END_OF_BODY[transport.framing]
        return await _end_properly(connection, end, write_timeout) and may_be_reused
    if connection.end_reason is EndReason.SERVER_SHUTDOWN and not send_reconnect_hint(
        connection, reconnect_spread
    ):
        await _flush_soon(connection)
    return False


async def _close_websocket(connection: Connection, write_timeout: float) -> None:
    """Say the reason, in a close frame. The answer to it is left to who reads from the peer."""
    transport, reason = connection.transport, connection.end_reason
    assert reason is not None
    last = connection.close_frame or reason_frame(reason)
    if reason is EndReason.FINISHED:
        await _end_properly(connection, last, write_timeout)
    elif (
        connection.has_started
        and transport.pending is None
        and not transport.send_nowait(last, 0, trio.current_time())
    ):
        await _flush_soon(connection)


def send_reconnect_hint(connection: Connection, reconnect_spread: float) -> bool:
    """Tell the client when to come back, if that can be said without waiting; return whether all is out."""
    transport = connection.transport
    if not connection.has_started or transport.pending is not None:
        return True
    if transport.framing is Framing.WEBSOCKET:
        return transport.send_nowait(reason_frame(EndReason.SERVER_SHUTDOWN), 0, trio.current_time())
    milliseconds = round(random.uniform(1, reconnect_spread) * 1000)
    retry = frame(encode_retry(milliseconds), transport.framing)
    return transport.send_nowait(retry, 0, trio.current_time())


async def linger_if_unread(connection: Connection) -> None:
    """After a stream that was ended properly: let the client get its end, whatever it sent beside it."""
    if connection.end_reason is EndReason.FINISHED and connection.transport.unread_bytes():
        await connection.transport.linger()


async def _end_properly(connection: Connection, last: bytes, write_timeout: float) -> bool:
    """Send what ends a stream; return whether the client has got it, and amend the reason if not."""
    transport = connection.transport
    failure: EndReason | None = EndReason.MAX_DURATION
    with trio.move_on_at(connection.lifetime.deadline):
        try:
            await connection.start_response()
            async with connection.write_lock():
                failure = await _flush(connection, write_timeout)
                end = connection.with_head(last)
                if failure is None and end and not transport.send_nowait(end, 0, trio.current_time()):
                    failure = await _flush(connection, write_timeout)
        except trio.BrokenResourceError:
            failure = EndReason.CLIENT_DISCONNECTED
        except trio.ClosedResourceError:
            failure = EndReason.REFUSED  # an app has answered the request with another response
        except trio.Cancelled:
            connection.override_end_reason(EndReason.SERVER_SHUTDOWN)  # unless it was the deadline: see below
            raise
    if failure is not None:
        connection.override_end_reason(failure)
    return failure is None


async def _flush_soon(connection: Connection) -> None:
    """Wait a short while for the last bytes to go out."""
    with trio.move_on_after(_LAST_SECONDS):
        try:
            await connection.transport.flush_some()
        except trio.BrokenResourceError:
            return


async def _flush(connection: Connection, write_timeout: float) -> EndReason | None:
    while connection.transport.pending is not None:
        with trio.move_on_after(write_timeout) as scope:
            await connection.transport.flush_some()
        if scope.cancelled_caught:
            return EndReason.WRITE_TIMEOUT
    return None
