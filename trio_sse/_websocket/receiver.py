"""The read side of a WebSocket: messages for the handler, pings to answer, and the client's close frame.

One task owns the read side, from the first byte to the last. When the stream is over, the connection's own
task reads on for the answer to the close frame. Every buffer has a limit: while enough messages wait for the
handler, nothing more is read, and the kernel makes the client wait.

When the client has closed, the handler or app first receives what came before, and may still answer it. The
stream ends when it asks for more, or a short time later. At any end, a handler is cancelled. An app is not:
`get_or_none` returns what came before, and then `None`.
"""

from __future__ import annotations

import math
from collections import deque
from contextlib import closing, suppress
from typing import final

import trio

from .._stream.end_reason import EndReason
from .._stream.live_stream import LiveStream
from .._transport.arriving_bytes import TOO_MUCH_ARRIVED, Arrival
from .._transport.losses import PeerGivenUp
from .._transport.socket import SocketTransport
from .._wire.websocket_frames import close_frame, ping_frame, pong_frame
from .._wire.websocket_parser import (
    NO_STATUS,
    PROTOCOL_ERROR,
    Close,
    FrameError,
    FrameParser,
    Ping,
    WebSocketEvent,
)

# How many messages may wait for the handler. Together they may have as many bytes as one message.
_MAX_WAITING = 16

# How long the client may take to answer the close frame, and the handler to process what the client sent
# before it closed.
CLOSE_SECONDS = 5.0

# What has arrived of a message, and of those that wait, is counted over all connections from this many bytes
# on. Below it, a message costs no more than the buffers of its connection.
_COUNTED_FROM = 64 * 1024

# Small frames cost a microsecond each. After this many of them, other tasks run.
_FRAMES_PER_CHECKPOINT = 100

NORMAL_CLOSURE = 1000
INTERNAL_ERROR = 1011
TRY_AGAIN_LATER = 1013


@final
class MessageReceiver:
    """The read side of one WebSocket.

    Args:
        max_message_size: the largest message, in bytes.
        received: what the client has sent already.
        ping_interval: a client that has sent nothing for so long is sent a ping.
        ping_timeout: one that has sent nothing for so long after that is disconnected.

    Attributes:
        has_ended: the client has closed or disconnected; nothing more will arrive.
        client_close: the client's close frame; `None` if it has sent none.
        failure: what has ended the connection, if that was the client's fault.
    """

    __slots__ = (
        "_arrival",
        "_held",
        "_is_over",
        "_is_read",
        "_max_message_size",
        "_parser",
        "_ping_interval",
        "_ping_timeout",
        "_received",
        "_room",
        "_stream",
        "_waiting",
        "_waiting_size",
        "client_close",
        "failure",
        "has_ended",
    )

    def __init__(
        self,
        stream: LiveStream,
        *,
        max_message_size: int,
        received: bytes = b"",
        ping_interval: float = math.inf,
        ping_timeout: float = math.inf,
    ) -> None:
        self.has_ended = False
        self.client_close: Close | None = None
        self.failure: Close | None = None
        self._stream = stream
        self._max_message_size = max_message_size
        self._received = received
        self._ping_interval = ping_interval
        self._ping_timeout = ping_timeout
        self._parser = FrameParser(max_message_size)
        self._waiting: deque[tuple[str | bytes, int]] = deque()  # messages and their sizes in bytes
        self._waiting_size = 0
        self._room = trio.lowlevel.ParkingLot()
        self._arrival = trio.lowlevel.ParkingLot()
        self._is_read = False  # the handler has asked for messages
        self._is_over = False  # the stream has ended, for an app
        self._held: Arrival | None = None  # counts what is in memory, if that is much

    # The handler's side

    async def get(self) -> str | bytes:
        """Wait for the next message.

        Raises:
            trio.ClosedResourceError: the connection has ended, and the task is not in its scope.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        self._is_read = True
        has_waited = False
        while not self._waiting:
            if self.has_ended:
                self._stream.end(EndReason.CLIENT_DISCONNECTED)
            if self._stream.end_reason is not None:
                await trio.lowlevel.checkpoint()
                raise trio.ClosedResourceError("the connection has ended")
            await self._arrival.park()
            has_waited = True
        return await self._take_waiting(has_waited=has_waited)

    async def get_or_none(self) -> str | bytes | None:
        """Wait for the app's next message; return `None` once `set_over` was called and none is left."""
        await trio.lowlevel.checkpoint_if_cancelled()
        self._is_read = True
        has_waited = False
        while not self._waiting:
            if self._is_over:
                await trio.lowlevel.cancel_shielded_checkpoint()
                return None
            if self.has_ended:
                self._stream.end(EndReason.CLIENT_DISCONNECTED)
            await self._arrival.park()
            has_waited = True
        return await self._take_waiting(has_waited=has_waited)

    async def _take_waiting(self, *, has_waited: bool) -> str | bytes:
        message, size = self._waiting.popleft()
        self._waiting_size -= size
        if self._held is not None:
            self._count_held()
        if self._has_room:
            self._room.unpark_all()
        if not has_waited:
            await trio.lowlevel.cancel_shielded_checkpoint()
        return message

    def set_over(self) -> None:
        """Let an app's `get_or_none` return: its stream has ended."""
        self._is_over = True
        self._arrival.unpark_all()

    # The reading task's side

    async def run(self) -> None:
        """Receive all that the client sends, until it closes or the connection ends."""
        try:
            await self._run()
        finally:
            if self._held is not None:
                self._stream.serving.arriving_bytes.end(self._held)
                self._held = None

    async def _run(self) -> None:
        try:
            if self._received:
                await self._take_all(self._received)
                self._received = b""
                self._count_held()
            while not (self.has_ended or self.failure) and (data := await self._receive()):
                if not self._stream.has_started:
                    self._fail(PROTOCOL_ERROR, "wait until the handshake is answered")
                    return
                await self._take_all(data)
                self._count_held()
        except PeerGivenUp as error:
            self.has_ended = True
            self._stream.on_broken(error)
            return
        except trio.BrokenResourceError:
            pass
        if self.failure is None:
            await self._note_end()

    async def _receive(self) -> bytes:
        """Wait for bytes; return none if the client has disconnected, or has not answered a ping in time."""
        transport = self._stream.transport
        if self._ping_interval < math.inf and isinstance(transport, SocketTransport):
            data = await self._stream.serving.quiet.receive(transport, self._ping_interval)
            return await self._receive_after_ping() if data is None else data
        data = transport.receive_nowait()
        if data is not None:
            # A client that keeps sending must not block the event loop; what has been received is kept.
            await trio.lowlevel.cancel_shielded_checkpoint()
            return data
        if self._ping_interval == math.inf:
            return await transport.receive_some()
        with trio.move_on_after(self._ping_interval):
            return await transport.receive_some()
        return await self._receive_after_ping()

    async def _receive_after_ping(self) -> bytes:
        await self._stream.write(ping_frame())
        with trio.move_on_after(self._ping_timeout):
            return await self._stream.transport.receive_some()
        self.has_ended = True
        self._end(Close(INTERNAL_ERROR, "ping timeout"), EndReason.CLIENT_DISCONNECTED)
        return b""

    async def _take_all(self, data: bytes) -> None:
        try:
            with closing(self._parser.feed(data)) as events:  # `wait_closed` goes on where this is cancelled
                for number, event in enumerate(events, start=1):
                    if event is not None:
                        await self._take(event)
                    if self.has_ended:
                        return
                    if number % _FRAMES_PER_CHECKPOINT == 0:
                        await trio.lowlevel.checkpoint()
        except FrameError as error:
            self._fail(error.code, str(error))

    async def _take(self, event: WebSocketEvent) -> None:
        if isinstance(event, str | bytes):
            size = len(event)
            if isinstance(event, str) and not event.isascii():
                size = len(event.encode())
            self._waiting.append((event, size))
            self._waiting_size += size
            self._arrival.unpark()
            if not self._has_room:
                self._count_held()
            while not self._has_room:
                await self._room.park()
        elif isinstance(event, Ping):
            # This waits while the client is slow: if it does not read our pongs, we do not read its pings.
            await self._stream.write(pong_frame(event.payload))
        else:
            self.has_ended = True
            self.client_close = event
            code = NORMAL_CLOSURE if event.code == NO_STATUS else event.code
            self._stream.close_frame = close_frame(code, "")  # the answer repeats the code

    def _count_held(self) -> None:
        size = self._parser.incomplete_bytes + self._waiting_size
        counts = self._stream.serving.arriving_bytes
        if size >= _COUNTED_FROM and not self.failure:
            if self._held is None:
                self._held = Arrival(self._on_cut)
            counts.resize(self._held, size)
        elif self._held is not None:
            counts.end(self._held)
            self._held = None

    def _on_cut(self) -> None:
        """Give up what has arrived: there is too much of others, or this has taken too long."""
        self._parser.discard()
        self._waiting.clear()
        self._waiting_size = 0
        self._end(Close(TRY_AGAIN_LATER, TOO_MUCH_ARRIVED), EndReason.SLOW_CONSUMER)

    @property
    def _has_room(self) -> bool:
        return len(self._waiting) < _MAX_WAITING and self._waiting_size < self._max_message_size

    def _fail(self, code: int, detail: str) -> None:
        """End the connection because of what the client has sent."""
        reason = EndReason.PROTOCOL_ERROR
        self._end(Close(code, f"{reason.value}: {detail}"), reason)

    def _end(self, failure: Close, reason: EndReason) -> None:
        self.failure = failure
        self._stream.close_frame = close_frame(failure.code, failure.reason)
        self._stream.end(reason)

    async def _note_end(self) -> None:
        """End the connection when the handler has processed what came before, or a short time later."""
        self.has_ended = True
        is_waited_for = len(self._arrival) > 0 and not self._waiting
        if self._is_read and not is_waited_for:
            await trio.sleep(CLOSE_SECONDS)  # the handler ends it earlier, when no message is left
        self._stream.end(EndReason.CLIENT_DISCONNECTED)

    # When the stream is over

    async def wait_closed(self) -> None:
        """Wait a short time for the client's answer to the close frame, if one was sent.

        If the connection were closed with bytes unread, the kernel would reset it, and the client might
        never see the frame.
        """
        stream = self._stream
        if self.has_ended or not stream.has_started or stream.transport.pending is not None:
            return
        if self.failure is not None:
            await stream.transport.linger()
            return
        with trio.move_on_after(CLOSE_SECONDS), suppress(trio.BrokenResourceError, FrameError):
            data = b""  # some may be left to be parsed
            while not any(isinstance(event, Close) for event in self._parser.feed(data)):
                data = await self._receive_last()
                if not data:
                    return

    async def _receive_last(self) -> bytes:
        await trio.lowlevel.checkpoint()
        return await self._stream.transport.receive_some()
