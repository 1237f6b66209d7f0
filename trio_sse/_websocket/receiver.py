"""The read side of a WebSocket: messages for the handler, pings to answer, and the client's close frame.

One task owns the read side, from the first byte to the last. When the stream is over, the connection's own
task reads on for the answer to the close frame. Every buffer has a limit: while enough messages wait for the
handler, nothing more is read, and the kernel makes the client wait.

wsproto parses the frames, which is the engine of trio-websocket. trio-websocket itself does not fit:

- The hub's pump writes broadcasts between checkpoints. trio-websocket writes pongs and close frames itself,
  under its own lock, so a stream would have to translate between the two rules.
- It reads a frame that declares 1 TB up to the bound of a message. `FrameHeads` refuses it by its head.
- It collects the fragments of a message in a list and counts only their bytes. A client that sends empty
  fragments makes that list grow without limit.
- It starts with the handshake's bytes, which would have to be reconstructed from the request.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import final

import trio
from wsproto.connection import Connection as Protocol
from wsproto.connection import ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, TextMessage
from wsproto.frame_protocol import CloseReason

from .._stream.end_reason import EndReason
from .._stream.live_stream import LiveStream
from .._wire.websocket_frames import FrameHeads, close_frame, pong_frame

# How many messages may wait for the handler. Together they may have as many bytes as one message.
_MAX_WAITING = 16

# How long the client may take to answer the close frame, and the handler to process what the client sent
# before it closed.
CLOSE_SECONDS = 5.0

# Small frames cost some microseconds each. After this many of them, other tasks run.
_EVENTS_PER_CHECKPOINT = 100


@final
class MessageReceiver:
    """The read side of one WebSocket.

    Attributes:
        has_ended: the client has closed or disconnected; nothing more will arrive.
    """

    __slots__ = (
        "_arrival",
        "_has_failed",
        "_heads",
        "_is_read",
        "_max_message_size",
        "_parts",
        "_protocol",
        "_room",
        "_stream",
        "_waiting",
        "_waiting_size",
        "has_ended",
    )

    def __init__(self, stream: LiveStream, *, max_message_size: int) -> None:
        self.has_ended = False
        self._stream = stream
        self._max_message_size = max_message_size
        self._protocol = Protocol(ConnectionType.SERVER)
        self._heads = FrameHeads(max_message_size)
        self._parts = bytearray()  # of an incomplete message
        self._waiting: deque[tuple[str | bytes, int]] = deque()  # messages and their sizes in bytes
        self._waiting_size = 0
        self._room = trio.lowlevel.ParkingLot()
        self._arrival = trio.lowlevel.ParkingLot()
        self._is_read = False  # the handler has asked for messages
        self._has_failed = False  # what arrives cannot be parsed any more

    # The handler's side

    async def get(self) -> str | bytes:
        """Wait for the next message.

        Raises:
            trio.ClosedResourceError: the connection has ended, and the task is not in its scope.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        self._is_read = True
        while not self._waiting:
            if self.has_ended:
                self._stream.end(EndReason.CLIENT_DISCONNECTED)
            if self._stream.end_reason is not None:
                await trio.lowlevel.checkpoint()
                raise trio.ClosedResourceError("the connection has ended")
            await self._arrival.park()
        message, size = self._waiting.popleft()
        self._waiting_size -= size
        if self._has_room:
            self._room.unpark_all()
        await trio.lowlevel.cancel_shielded_checkpoint()
        return message

    # The reading task's side

    async def run(self) -> None:
        """Receive all that the client sends, until it closes or the connection ends."""
        try:
            while not self._has_failed and (data := await self._receive()):
                if not self._stream.has_started:
                    self._fail(CloseReason.PROTOCOL_ERROR, "wait until the handshake is answered")
                    return
                acceptable = self._heads.feed(data)
                self._protocol.receive_data(data[:acceptable])
                await self._take_events()
                if self.has_ended:
                    break
                if acceptable < len(data) and not self._has_failed:
                    self._fail_too_big()
        except trio.BrokenResourceError:
            pass
        if not self._has_failed:
            await self._note_end()

    async def _receive(self) -> bytes:
        await trio.lowlevel.checkpoint()  # a client that keeps sending must not block the event loop
        return await self._stream.transport.receive_some()

    async def _take_events(self) -> None:
        for number, event in enumerate(self._protocol.events(), start=1):
            await self._take(event)
            if self.has_ended or self._has_failed:
                return
            if number % _EVENTS_PER_CHECKPOINT == 0:
                await trio.lowlevel.checkpoint()

    async def _take(self, event: Event) -> None:
        if isinstance(event, TextMessage | BytesMessage):
            await self._take_piece(event)
        elif isinstance(event, Ping):
            # This waits while the client is slow: if it does not read our pongs, we do not read its pings.
            await self._stream.write(pong_frame(bytes(event.payload)))
        elif isinstance(event, CloseConnection):
            if self._protocol.state is not ConnectionState.REMOTE_CLOSING:
                self._fail(event.code, event.reason or "")
                return
            self.has_ended = True
            code = CloseReason.NORMAL_CLOSURE if event.code == CloseReason.NO_STATUS_RCVD else event.code
            self._stream.close_frame = close_frame(code, "")  # the answer repeats the code

    async def _take_piece(self, event: TextMessage | BytesMessage) -> None:
        piece = event.data.encode() if isinstance(event, TextMessage) else event.data
        size = len(self._parts) + len(piece)
        if size > self._max_message_size:
            self._fail_too_big()
            return
        if not event.message_finished:
            self._parts += piece
            return
        whole = bytes(self._parts + piece)
        self._parts.clear()
        self._waiting.append((whole.decode() if isinstance(event, TextMessage) else whole, size))
        self._waiting_size += size
        self._arrival.unpark()
        while not self._has_room:
            await self._room.park()

    @property
    def _has_room(self) -> bool:
        return len(self._waiting) < _MAX_WAITING and self._waiting_size < self._max_message_size

    def _fail(self, code: int, detail: str) -> None:
        """End the connection because of what the client has sent."""
        self._has_failed = True
        reason = EndReason.PROTOCOL_ERROR
        self._stream.close_frame = close_frame(code, f"{reason.value}: {detail}")
        self._stream.end(reason)

    def _fail_too_big(self) -> None:
        self._fail(CloseReason.MESSAGE_TOO_BIG, f"a message may have at most {self._max_message_size} bytes")

    async def _note_end(self) -> None:
        """End the connection when the handler has processed what came before, or after a short time."""
        self.has_ended = True
        is_waited_for = len(self._arrival) > 0 and not self._waiting
        if self._is_read and not is_waited_for:
            await trio.sleep(CLOSE_SECONDS)  # `get` ends it earlier, when no message is left
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
        if self._has_failed:
            await stream.transport.linger()
            return
        with trio.move_on_after(CLOSE_SECONDS), suppress(trio.BrokenResourceError):
            while not any(isinstance(event, CloseConnection) for event in self._protocol.events()):
                data = await self._receive()
                if not data:
                    return
                self._protocol.receive_data(data)
