"""The last bytes of a stream: properly ended, or such that every kind of client comes back."""

from __future__ import annotations

import random

import trio

from ._connection import Connection
from ._end_reason import EndReason
from ._event import encode_retry
from ._message import Framing, frame

_END_OF_BODY = {Framing.PLAIN: b"", Framing.CHUNKED: b"0\r\n\r\n", Framing.CHUNKED_BY_HOST: b""}

# What can't be sent at once to a client that is to come back is not worth waiting for.
_RETRY_SECONDS = 1.0


async def say_farewell(connection: Connection, *, reconnect_spread: float, write_timeout: float) -> bool:
    """Say the last of a stream that has ended; return whether the transport may carry another request.

    Nothing is said where half an event is pending that won't be finished. A client that doesn't take the
    proper end within the stream's own bounds has not been served to the end, and its reason says so.
    """
    if connection.end_reason is EndReason.FINISHED:
        return await _end_properly(connection, write_timeout)
    if connection.end_reason is EndReason.SERVER_SHUTDOWN and not ask_to_return(connection, reconnect_spread):
        with trio.move_on_after(_RETRY_SECONDS):
            try:
                await connection.transport.flush_some()
            except trio.BrokenResourceError:
                return False
    return False


def ask_to_return(connection: Connection, reconnect_spread: float) -> bool:
    """Tell the client when to come back, if that can be said without waiting; return whether all is out."""
    transport = connection.transport
    if not connection.has_started or transport.pending is not None:
        return True
    milliseconds = round(random.uniform(1, reconnect_spread) * 1000)
    retry = frame(encode_retry(milliseconds), transport.framing)
    return transport.send_nowait(retry, 0, trio.current_time())


async def linger_if_unread(connection: Connection) -> None:
    """After a stream that was ended properly: let the client get its end, whatever it sent beside it."""
    if connection.end_reason is EndReason.FINISHED and connection.transport.unread_bytes():
        await connection.transport.linger()


async def _end_properly(connection: Connection, write_timeout: float) -> bool:
    transport = connection.transport
    may_be_reused = transport.framing is Framing.CHUNKED and not transport.unread_bytes()
    failure: EndReason | None = EndReason.MAX_DURATION
    with trio.move_on_at(connection.lifetime.deadline):
        try:
            await connection.open()
            async with connection.turn():
                failure = await _flush(connection, write_timeout)
                end = connection.with_head(_END_OF_BODY[transport.framing])
                if failure is None and end and not transport.send_nowait(end, 0, trio.current_time()):
                    failure = await _flush(connection, write_timeout)
        except trio.BrokenResourceError:
            failure = EndReason.CLIENT_DISCONNECTED
        except trio.Cancelled:
            connection.amend_end(EndReason.SERVER_SHUTDOWN)  # unless it was the deadline: see below
            raise
    if failure is not None:
        connection.amend_end(failure)
        return False
    return may_be_reused


async def _flush(connection: Connection, write_timeout: float) -> EndReason | None:
    while connection.transport.pending is not None:
        with trio.move_on_after(write_timeout) as scope:
            await connection.transport.flush_some()
        if scope.cancelled_caught:
            return EndReason.WRITE_TIMEOUT
    return None
