"""One call of an ASGI app for a WebSocket on our server, and what the app receives and sends in it.

The call runs in the connection's own task. Until the app has answered the handshake, it owns the transport.
When the app accepts, the transport is handed over to a stream, as every other stream is one: it is bounded,
counted, logged and drained like them. A task of this call's nursery runs it. The states of the call, and what
the app may send in each. Everything else raises a `RuntimeError` and changes nothing.

===========  ==============================  =======  ======================================================
state        message                         next     what it does
===========  ==============================  =======  ======================================================
CONNECTING   `websocket.accept`              OPEN     starts the stream, with 101 as its first bytes
CONNECTING   `websocket.close`               CLOSED   answers the handshake with 403
CONNECTING   `websocket.http.response.start` DENYING  begins to answer the handshake with this response
DENYING      `websocket.http.response.body`  CLOSED   sends it; DENYING again while more of the body follows
OPEN         `websocket.send`                OPEN     writes a message, and waits while the client is slow
OPEN         `websocket.close`               CLOSED   ends the stream with this code
===========  ==============================  =======  ======================================================

When the stream has ended without the app, or the client leaves before it has an answer, `receive` returns
what had arrived before, and then `websocket.disconnect`; `send` raises `ClientDisconnected`, which is an
`OSError`, and ignores a `websocket.close`. Before it raises that, a task that receives has a moment to end
the one that sends. The app's call may then go on for `request_timeout` seconds.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple, NoReturn, final

import trio

from .._asgi.asyncio_advice import AsyncioAdvice
from .._asgi.client_disconnected import ClientDisconnected
from .._asgi.types import Message, Receive, Send
from .._generators import closing_generators
from .._groups import only_exception, split_failure
from .._http.exceptions import HTTPException, TemporaryRefusal
from .._http.websocket_handshake import check_denial
from .._logger import get_logger
from .._request.access_log import log_request
from .._request.options import WebSocketOptions
from .._request.request_disconnects import RequestDisconnectWatcher
from .._request.request_reader import RoutedRequest
from .._request.results import AfterResponse
from .._stream.closing import CLOSE_CODES as CODE_OF_REASON
from .._stream.connection import Connection
from .._stream.end_reason import EndReason
from .._stream.lifecycle import Refused, run_stream
from .._stream.live_stream import LiveStream
from .._stream.manager import StreamManager
from .._stream.scope import ServeScope
from .._transport.base import Transport
from .._websocket.receiver import NORMAL_CLOSURE, MessageReceiver
from .._wire.message import Framing
from .._wire.websocket_frames import close_frame
from .._wire.websocket_parser import Close
from .call import Answered
from .cycle import RequestResponseCycle
from .websocket_identity import AppWebSocketConnection
from .websocket_messages import (
    ABNORMAL_CLOSURE,
    close_of,
    encode_accept,
    encode_message,
    end_of,
    is_of_end,
)

logger = get_logger("trio_sse.app")


# Quart's task that receives a disconnect cancels the one that sends, which would log an exception otherwise.
# So a `send` fails a moment after that, at the latest after so many seconds.
_MOMENT = 0.05
_LAST_MOMENT = 2.0


class _State(enum.Enum):
    CONNECTING = enum.auto()
    DENYING = enum.auto()
    OPEN = enum.auto()
    CLOSED = enum.auto()


class _Opened(NamedTuple):
    """The stream of a WebSocket that the app has accepted."""

    stream: LiveStream
    receiver: MessageReceiver


@final
@dataclass(frozen=True, slots=True)
class WebSocketCallContext:
    """What the calls of one app share.

    Attributes:
        manager: of their streams.
        options: of their WebSockets.
        request_timeout: how long a call may go on after its WebSocket has ended, in seconds.
        advice: looks at their failures.
    """

    manager: StreamManager
    options: WebSocketOptions
    request_timeout: float
    advice: AsyncioAdvice


@final
class WebSocketCall:
    """One call of the app, which `call_app` calls with a scope that has this connection."""

    def __init__(
        self,
        context: WebSocketCallContext,
        transport: Transport,
        serving: ServeScope,
        routed: RoutedRequest,
        call_app: Callable[[AppWebSocketConnection, Receive, Send], Awaitable[None]],
    ) -> None:
        assert routed.app_body is not None
        self._context = context
        self._call_app = call_app
        self._transport = transport
        self._serving = serving
        self._routed = routed
        self._buffer = routed.app_body.buffer  # what the client has sent behind the handshake
        self._connection = AppWebSocketConnection()
        self._state = _State.CONNECTING
        self._scope = trio.CancelScope()
        self._watcher = RequestDisconnectWatcher(transport, self._buffer, self._on_disconnect)
        self._changed = trio.lowlevel.ParkingLot()
        self._handshake_lock = trio.Lock()
        self._is_connect_received = False
        self._is_end_received = False
        self._receiving = 0  # tasks of the app
        self._opened: _Opened | None = None
        self._denial: RequestResponseCycle | None = None
        self._refusal: HTTPException | None = None
        self._end: Close | None = None  # how the WebSocket has ended, as the app receives it

    async def run(self) -> Answered:
        """Call the app, and wait until the WebSocket's client has the end."""
        async with trio.open_nursery() as self._nursery:
            await self._watcher.run(self._call)
        return Answered(AfterResponse.CLOSE, self._transport, self._refusal)

    async def _call(self) -> None:
        has_failed = False
        try:
            with self._scope:
                await closing_generators(self._call_app(self._connection, self.receive, self.send))
        except BaseException as failure:
            passing, contained = split_failure(failure)
            if contained is not None:
                self._log(contained)
            if passing is not None:
                raise passing from None
            has_failed = True
        if self._scope.cancelled_caught:
            logger.warning(
                "the app did not end within %g s after its WebSocket: path=%.200s",
                self._context.request_timeout,
                self._path,
            )
        await self._finish(has_failed=has_failed)

    @property
    def _path(self) -> str:
        return self._routed.request.target.partition("?")[0]

    @property
    def _has_ended(self) -> bool:
        """Whether the app has, or may have, learnt that nothing more can be sent."""
        if self._opened is not None and self._opened.stream.end_reason is not None:
            return True
        return self._end is not None or self._denial is not None

    def _log(self, failure: BaseException) -> None:
        if self._has_ended and is_of_end(failure):
            logger.debug("peer=%s has disconnected", self._transport.peer)
        else:
            self._context.advice.note(failure)
            only, peer = only_exception(failure), self._transport.peer
            logger.error("the app failed for path=%.200s peer=%s", self._path, peer, exc_info=only)

    async def _finish(self, *, has_failed: bool) -> None:
        """End what the app has left open, now that it has returned."""
        state, self._state = self._state, _State.CLOSED
        if self._opened is not None:
            stream = self._opened.stream
            if state is _State.OPEN and not has_failed:
                self._close(Close(NORMAL_CLOSURE, ""))
            stream.end(EndReason.HANDLER_ERROR)
        elif self._denial is not None:
            await self._watcher.stop()
            log_request(
                self._routed.mark,
                self._transport,
                self._routed.request,
                self._denial.status,
                is_cut=not self._denial.is_complete,
            )
            if not self._denial.is_complete:
                await self._transport.aclose(abort=True)  # so that no client takes it for complete
            else:
                await self._serving.linger(self._transport)
        elif self._refusal is None and self._end is None:
            if not has_failed:
                logger.error("the app returned without an answer to the handshake: path=%.200s", self._path)
            self._refusal = HTTPException(500)

    # What ends the WebSocket without the app

    def _on_disconnect(self) -> None:
        """Note that the client has left before it had an answer."""
        self._note_end(Close(ABNORMAL_CLOSURE, ""))

    def _note_end(self, end: Close) -> None:
        self._end = end
        if self._state is not _State.CLOSED:
            self._scope.deadline = trio.current_time() + self._context.request_timeout
        self._changed.unpark_all()

    async def _run_stream(self, stream: LiveStream, receiver: MessageReceiver) -> None:
        transport = stream.transport
        try:
            try:
                outcome = await run_stream(
                    self._context.manager, self._serving, stream, _wait_for_end, read=receiver.run
                )
            finally:
                self._note_end(self._end or end_of(stream, receiver))
                receiver.set_over()
            if not isinstance(outcome, Refused):
                await receiver.wait_closed()
        finally:
            await transport.aclose(abort=transport.pending is not None)

    # What the app receives

    async def receive(self) -> Message:
        """Return the next event for the app."""
        self._receiving += 1
        try:
            return await self._receive()
        finally:
            self._receiving -= 1
            self._changed.unpark_all()

    async def _receive(self) -> Message:
        if not self._is_connect_received:
            self._is_connect_received = True
            await trio.lowlevel.checkpoint()
            return {"type": "websocket.connect"}
        while self._opened is None and self._end is None and self._state is not _State.CLOSED:
            await self._changed.park()
        if self._opened is not None:
            message = await self._opened.receiver.get_or_none()
            if isinstance(message, str):
                return {"type": "websocket.receive", "text": message}
            if message is not None:
                # Quart looks for a text where the bytes are empty.
                none = {} if message else {"text": None}
                return {"type": "websocket.receive", "bytes": message, **none}
        await trio.lowlevel.checkpoint()
        self._is_end_received = True
        end = self._end or Close(ABNORMAL_CLOSURE, "")
        return {"type": "websocket.disconnect", "code": end.code, "reason": end.reason}

    # What the app sends

    async def send(self, message: Message) -> None:
        """Send what the app has to say.

        Raises:
            ClientDisconnected: the WebSocket has ended.
            RuntimeError: this message cannot follow what the app has sent before.
            ValueError: something in it is not acceptable.
        """
        if self._opened is not None:
            await trio.lowlevel.checkpoint_if_cancelled()
            await self._send(message)
            return
        async with self._handshake_lock:  # what several tasks send is answered in its order
            await self._send(message)

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        if self._end is not None and self._state is not _State.CLOSED:
            if kind == "websocket.close":
                await trio.lowlevel.checkpoint()
                return
            await self._fail("the WebSocket has ended")
        match self._state, kind:
            case _State.CONNECTING, "websocket.accept":
                await self._accept(message)
            case _State.CONNECTING, "websocket.close":
                await self._deny({"status": 403})
                await self._send_denial({"body": b""})
            case _State.CONNECTING, "websocket.http.response.start":
                await self._deny(message)
            case _State.DENYING, "websocket.http.response.body":
                await self._send_denial(message)
            case _State.OPEN, "websocket.send":
                await self._write(encode_message(message), 1)
            case _State.OPEN, "websocket.close":
                self._close(close_of(message))
                await trio.lowlevel.checkpoint()
            case _:
                raise RuntimeError(f"the app sends {kind!r}, which cannot follow what it has sent before")

    async def _accept(self, message: Message) -> None:
        request, context = self._routed.request, self._context
        head = encode_accept(request.headers, message)
        if self._serving.is_draining:
            self._refuse()
        await self._watcher.stop()
        if self._state is not _State.CONNECTING:
            raise RuntimeError("the call of the app has returned")
        if self._end is not None:
            raise ClientDisconnected("the client has disconnected")
        # No checkpoint from here on, until the stream has its task.
        transport = self._transport.hand_over()
        transport.framing = Framing.WEBSOCKET
        stream = context.manager.new_stream(self._serving, transport, request, head)
        receiver = MessageReceiver(
            stream,
            max_message_size=context.options.websocket_max_message_size,
            received=bytes(self._buffer),
            ping_interval=context.options.websocket_ping_interval,
            ping_timeout=context.options.websocket_ping_timeout,
        )
        self._buffer.clear()
        self._opened, self._state = _Opened(stream, receiver), _State.OPEN
        self._nursery.start_soon(self._run_stream, stream, receiver, name="trio_sse WebSocket of the app")
        self._changed.unpark_all()
        await self._write(b"")
        self._connection.accept(stream)  # which may end it: the client then receives the code

    def _refuse(self) -> NoReturn:
        self._refusal = TemporaryRefusal(503, "the server is shutting down")
        self._note_end(Close(CODE_OF_REASON[EndReason.SERVER_SHUTDOWN], EndReason.SERVER_SHUTDOWN.value))
        raise ClientDisconnected("the server is shutting down")

    async def _deny(self, message: Message) -> None:
        routed, manager = self._routed, self._context.manager
        assert routed.app_body is not None
        check_denial(int(message["status"]), routed.request.http_version)
        denial = RequestResponseCycle(
            self._transport,
            self._serving,
            routed.request,
            routed.app_body,
            may_keep_alive=False,
            write_timeout=manager.options.write_timeout,
        )
        await denial.send({**message, "type": "http.response.start"})
        if self._state is not _State.CONNECTING:
            raise RuntimeError("the call of the app has returned")
        self._denial, self._state = denial, _State.DENYING

    async def _send_denial(self, message: Message) -> None:
        assert self._denial is not None
        await self._denial.send({**message, "type": "http.response.body"})
        if self._denial.is_complete:
            self._state = _State.CLOSED
            self._changed.unpark_all()

    async def _write(self, payload: bytes, events: int = 0) -> None:
        assert self._opened is not None
        try:
            await self._opened.stream.write(payload, events)
            return
        except trio.ClosedResourceError as error:
            text = str(error)
        await self._fail(text)

    async def _fail(self, text: str) -> NoReturn:
        """Raise `ClientDisconnected`, after a task of the app that receives has learned of the disconnect."""
        with trio.move_on_after(_LAST_MOMENT):
            while self._receiving and not self._is_end_received:
                await self._changed.park()
        await trio.sleep(_MOMENT)
        raise ClientDisconnected(text)

    def _close(self, close: Close) -> None:
        """End the stream as the app wants it, unless it has ended already."""
        assert self._opened is not None
        stream = self._opened.stream
        frame = close_frame(close.code, close.reason)
        self._state = _State.CLOSED
        if stream.end_reason is None:
            self._end = close
            stream.close_frame = frame
            stream.end(EndReason.FINISHED)


async def _wait_for_end(connection: Connection) -> None:
    await trio.sleep_forever()
