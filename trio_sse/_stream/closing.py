"""The last bytes of a stream: its body is completed, or truncated so that every kind of client reconnects."""

from __future__ import annotations

import random

import trio

from .._transport.base import Transport
from .._wire.event import encode_retry
from .._wire.message import Framing, frame
from .._wire.websocket_frames import close_frame
from .end_reason import EndReason
from .lifetime import reason_of_loss
from .live_stream import LiveStream
from .options import StreamOptions
from .scope import ServeScope

_END_OF_BODY = {Framing.PLAIN: b"", Framing.CHUNKED: b"0\r\n\r\n", Framing.CHUNKED_BY_HOST: b""}

# How long to wait for the last bytes to a client that reconnects anyway.
_LAST_SECONDS = 1.0

# The codes of RFC 6455, 7.4.1, where one fits; codes of the range for private use where the client should
# reconnect. After the other reasons there is no client to receive a code.
CLOSE_CODES = {
    EndReason.FINISHED: 1000,
    EndReason.SERVER_SHUTDOWN: 1001,
    EndReason.PROTOCOL_ERROR: 1002,
    EndReason.HANDLER_ERROR: 1011,
    EndReason.MAX_DURATION: 4000,
    EndReason.SLOW_CONSUMER: 4001,
    EndReason.RECONNECT: 4002,
    EndReason.WRITE_TIMEOUT: 4003,
    EndReason.REVOKED: 4004,
    EndReason.EXPIRED: 4005,
}


# The client does not read, so it would not take a close frame either.
_NOT_READING = (EndReason.SLOW_CONSUMER, EndReason.WRITE_TIMEOUT)


def reason_frame(reason: EndReason) -> bytes:
    """Return the close frame that reports the reason to a WebSocket's client."""
    return close_frame(CLOSE_CODES.get(reason, 1000), reason.value)


async def finish_stream(stream: LiveStream, options: StreamOptions) -> bool:
    """Send the last bytes of a stream that has ended; return whether the transport may carry another request.

    If an event was only partly sent, nothing more is sent. If the client does not accept the
    end of the body within the stream's own limits, the reason changes: the stream was not finished.
    """
    framing = stream.transport.framing
    if framing is Framing.WEBSOCKET:
        await _close_websocket(stream, options.write_timeout)
        return False
    if stream.end_reason is EndReason.FINISHED:
        return (
            await _complete(stream, _END_OF_BODY[framing], options.write_timeout)
            and framing is Framing.CHUNKED
        )
    if stream.end_reason is EndReason.SERVER_SHUTDOWN and not send_reconnect_hint(stream, options):
        await _flush_soon(stream)
    return False


async def _close_websocket(stream: LiveStream, write_timeout: float) -> None:
    """Send a close frame with the reason. The reading task handles the client's reply.

    The client may still receive a message, as when it closes while many are sent to it. It waits for the rest
    of that, and for the close frame.
    """
    transport, reason = stream.transport, stream.end_reason
    assert reason is not None
    last = stream.close_frame or reason_frame(reason)
    if reason is EndReason.FINISHED:
        await _complete(stream, last, write_timeout)
    elif not stream.has_started:
        return
    elif transport.pending is None:
        is_sent = transport.send_nowait(last, 0, trio.current_time())
        transport.end_response()
        if not is_sent:
            await _flush_soon(stream)
    elif reason not in _NOT_READING:
        await _flush_soon(stream, last)


def send_reconnect_hint(stream: LiveStream, options: StreamOptions) -> bool:
    """Send the client a reconnect time, if nothing is pending; return whether all bytes were sent."""
    transport = stream.transport
    if not stream.has_started or transport.pending is not None:
        return True
    if transport.framing is Framing.WEBSOCKET:
        return transport.send_nowait(reason_frame(EndReason.SERVER_SHUTDOWN), 0, trio.current_time())
    return transport.send_nowait(frame(reconnect_hint(options), transport.framing), 0, trio.current_time())


def reconnect_hint(options: StreamOptions) -> bytes:
    """Return the field that has a client reconnect after a time that differs from the others'."""
    return encode_retry(round(random.uniform(1, options.reconnect_spread) * 1000))


async def linger_if_unread(serving: ServeScope, stream: LiveStream) -> None:
    """After a finished stream, let the client receive its end, even if it has sent more meanwhile."""
    if stream.end_reason is EndReason.FINISHED and stream.transport.unread_bytes():
        await serving.linger(stream.transport)


async def _complete(stream: LiveStream, last: bytes, write_timeout: float) -> bool:
    """Send the bytes that complete a stream. If the client does not take them, change the reason.

    Return whether the client took them and had sent nothing before them.
    """
    has_unread = True
    failure: EndReason | None = stream.deadline_reason
    with trio.move_on_at(stream.deadline):
        try:
            await stream.start_response()
            transport = stream.transport
            has_unread = transport.unread_bytes() > 0  # what comes later is the next request
            async with stream.write_lock:
                failure = await _flush(stream, write_timeout)
                end = stream.with_head(last)
                if failure is None and end and not transport.send_nowait(end, 0, trio.current_time()):
                    failure = await _flush(stream, write_timeout)
        except trio.BrokenResourceError as error:
            failure = reason_of_loss(error)
        except trio.ClosedResourceError:
            failure = stream.end_reason
            if failure is EndReason.FINISHED:
                failure = EndReason.REFUSED  # an app has answered the request with another response
        except trio.Cancelled:
            stream.override_end_reason(EndReason.SERVER_SHUTDOWN)  # or MAX_DURATION, if it was the deadline
            raise
    if failure is None:
        stream.transport.end_response()
    else:
        stream.override_end_reason(failure)
    return failure is None and not has_unread


async def _flush_soon(stream: LiveStream, last: bytes = b"") -> None:
    """Wait a short time for what is pending to go out, and then for these bytes.

    A task outside the handler may still wait in its own write, or be about to return from it.
    """
    transport = stream.transport
    with trio.move_on_after(_LAST_SECONDS):
        try:
            async with stream.write_lock:
                await _flush_all(transport)
                if last:
                    transport.send_nowait(last, 0, trio.current_time())
                    transport.end_response()
                    await _flush_all(transport)
        except trio.BrokenResourceError:
            return


async def _flush_all(transport: Transport) -> None:
    while transport.pending is not None:
        await transport.flush_some()


async def _flush(stream: LiveStream, write_timeout: float) -> EndReason | None:
    while stream.transport.pending is not None:
        with trio.move_on_after(write_timeout) as scope:
            await stream.transport.flush_some()
        if scope.cancelled_caught:
            return EndReason.WRITE_TIMEOUT
    return None
