"""A WebSocket as its handler sees it: written to like any other stream, and read from as well."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, final

from .._http.request import Request
from .._http.response import Response
from .._hub.hub import Hub
from .._stream.connection import Connection
from .._stream.end_reason import EndReason
from .._stream.lifecycle import Refused, run_stream
from .._stream.live_stream import LiveStream
from .._stream.manager import StreamManager
from .._stream.scope import ServeScope
from .._subscription.queue import Overflow
from .._subscription.subscription import Subscription
from .._validate import check_bounds
from .._wire.websocket_frames import MAX_CONTROL_SIZE, binary_frame, close_frame, json_frame, text_frame
from .._wire.websocket_parser import CLOSE_CODES
from .receiver import MessageReceiver


@final
class WebSocketConnection:
    """One open WebSocket, passed to its handler; created by a server.

    Iterate over it to receive messages: `str` for a text message, `bytes` for a binary one. When the client
    closes, the handler first receives what was sent before. Then it is cancelled, as at every other end. So
    the iteration never ends by itself.

    Any task inside the handler may call its methods. Sending and the end work as in `trio_sse.Connection`,
    and the server's hooks get a `Connection` with the same `id`.

    Attributes:
        subprotocol: the subprotocol of the handshake; `None` without one.
    """

    __slots__ = ("_connection", "_receiver", "_stream", "subprotocol")

    def __init__(
        self,
        connection: Connection,
        stream: LiveStream,
        receiver: MessageReceiver,
        subprotocol: str | None,
    ) -> None:
        self._connection = connection
        self._stream = stream
        self._receiver = receiver
        self.subprotocol = subprotocol

    def __repr__(self) -> str:
        return repr(self._connection).replace("Connection", "WebSocketConnection", 1)

    @property
    def id(self) -> int:
        """Its number in this server, as in the log."""
        return self._connection.id

    @property
    def request(self) -> Request:
        """The handshake's request."""
        return self._connection.request

    @property
    def last_event_id(self) -> str | None:
        """The id that the client resumes from, from the handshake's query; `None` if it has none."""
        return self._connection.last_event_id

    @property
    def peer(self) -> str:
        """The client's address."""
        return self._connection.peer

    @property
    def identity(self) -> str | None:
        """Whose WebSocket it is; see `trio_sse.Connection.identity`."""
        return self._connection.identity

    @identity.setter
    def identity(self, identity: str | None) -> None:
        self._connection.identity = identity

    @property
    def expires_at(self) -> float | None:
        """When the client's credentials expire; see `trio_sse.Connection.expires_at`."""
        return self._connection.expires_at

    @expires_at.setter
    def expires_at(self, expires_at: float | None) -> None:
        self._connection.expires_at = expires_at

    @property
    def hub(self) -> Hub:
        """The server's hub."""
        return self._stream.hub

    @property
    def end_reason(self) -> EndReason | None:
        """Why it ended; `None` while it is open. See `trio_sse.Connection`."""
        return self._connection.end_reason

    def add_header(self, name: str, value: str) -> None:
        """Add a header field to the answer to the handshake; see `trio_sse.Connection.add_header`."""
        self._connection.add_header(name, value)

    async def start(self) -> None:
        """Accept the handshake now; otherwise the first send or receive does."""
        await self._connection.start()

    # Receiving

    def __aiter__(self) -> WebSocketConnection:
        return self

    async def __anext__(self) -> str | bytes:
        return await self.receive()

    async def receive(self) -> str | bytes:
        """Wait for the next message and return it.

        While the limit of messages is waiting here, nothing more is read, and pings are not answered. So a
        handler that ignores what the client sends should still receive it.

        If this is cancelled, no message is lost.
        """
        if not self._stream.has_started:
            await self._connection.start()
        return await self._receiver.get()

    # Sending

    async def send(
        self,
        data: object,
        *,
        event: str | None = None,
        id: str | None = None,
        retry: int | None = None,
    ) -> None:
        """Send one event, as JSON, waiting while the peer is slow; see `trio_sse.Connection.send`."""
        await self._connection.send(data, event=event, id=id, retry=retry)

    async def send_text(self, text: str) -> None:
        """Send a text message as it is; otherwise like `send`.

        Raises:
            ValueError: the text cannot be encoded as UTF-8.
            trio.ClosedResourceError: the connection has ended.
        """
        await self._stream.write(text_frame(text), 1)

    async def send_json(self, value: object) -> None:
        """Send a JSON value as a text message; otherwise like `send`."""
        await self._stream.write(json_frame(value), 1)

    async def send_bytes(self, data: bytes) -> None:
        """Send a binary message; otherwise like `send`."""
        await self._stream.write(binary_frame(data), 1)

    async def subscribe(
        self,
        *topics: str,
        last_event_id: str | None = None,
        overflow: Overflow = Overflow.DISCONNECT,
        queue: int | None = None,
        queue_bytes: int | None = None,
        interval: float | None = None,
        batch: float | None = None,
        include_topic: bool = False,
    ) -> None:
        """Subscribe to topics of the hub and forward their events until the connection ends.

        Events that the client missed since `last_event_id` come first; by default this is the handshake's.
        The arguments are those of `Hub.subscribe`, and so are the errors.
        """
        async with self.hub.subscribe(
            *topics,
            last_event_id=self.last_event_id if last_event_id is None else last_event_id,
            overflow=overflow,
            queue=queue,
            queue_bytes=queue_bytes,
            interval=interval,
            batch=batch,
            include_topic=include_topic,
        ) as subscription:
            await self.forward(subscription)

    async def forward(self, subscription: Subscription) -> None:
        """Send all events of an entered subscription until the connection ends, like `Connection.forward`."""
        await self._connection.forward(subscription)

    # Ending

    def close(self, code: int = 1000, reason: str = "") -> None:
        """End the connection. The handler is cancelled at its next checkpoint, and the client gets the code.

        Args:
            code: of RFC 6455, 7.4.1, or 3000 to 4999 for one of the application.
            reason: at most 123 bytes of UTF-8.

        Raises:
            ValueError: the code is not allowed, or the reason is too long.
        """
        if code not in CLOSE_CODES:
            raise ValueError(f"a close code must be one of RFC 6455, or 3000 to 4999, not {code}")
        if len(reason.encode()) > MAX_CONTROL_SIZE - 2:
            raise ValueError(f"a close reason may have at most {MAX_CONTROL_SIZE - 2} bytes")
        if self.end_reason is None:
            self._stream.close_frame = close_frame(code, reason or EndReason.FINISHED.value)
            self._stream.end(EndReason.FINISHED)


def connection_of(websocket: WebSocketConnection) -> Connection:
    """Return the connection of a WebSocket, for the other packages of trio_sse."""
    return websocket._connection


WebSocketHandler = Callable[..., Awaitable[Response | None]]

Runner = Callable[
    [StreamManager, ServeScope, LiveStream, str | None, WebSocketHandler], Coroutine[Any, Any, Refused | None]
]


def runner(*, max_message_size: int) -> Runner:
    """Return a function that runs the WebSockets of one path.

    Raises:
        TypeError, ValueError: the limit is not valid.
    """
    check_bounds(1, max_message_size=max_message_size)

    async def run(
        manager: StreamManager,
        serving: ServeScope,
        stream: LiveStream,
        subprotocol: str | None,
        handler: WebSocketHandler,
    ) -> Refused | None:
        receiver = MessageReceiver(stream, max_message_size=max_message_size)

        async def handle(connection: Connection) -> object:
            return await handler(WebSocketConnection(connection, stream, receiver, subprotocol))

        outcome = await run_stream(manager, serving, stream, handle, read=receiver.run)
        if isinstance(outcome, Refused):
            return outcome
        await receiver.wait_closed()
        return None

    return run
