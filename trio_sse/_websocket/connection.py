"""A WebSocket, to its handler: a `Connection` that is written to like any other, and read from as well."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, final

from .._http.request import Request
from .._hub.hub import Hub
from .._hub.queue import Overflow
from .._hub.subscription import Subscription
from .._stream.connection import Connection
from .._stream.end_reason import EndReason
from .._stream.lifecycle import run_stream
from .._stream.scope import ServeScope
from .._validate import check_bounds
from .._wire.websocket_frames import MAX_CONTROL_SIZE, binary_frame, close_frame, json_frame, text_frame
from .receiver import MessageReceiver

# What RFC 6455, 7.4 lets an endpoint send: the others are reserved, or only for an endpoint's own use.
_CODES = (*range(1000, 1004), *range(1007, 1015))


@final
class WebSocketConnection:
    """One open WebSocket, given to its handler; only a server makes one.

    Iterate over it for what the client sends: `str` for a text message, `bytes` for a binary one. When the
    client closes, the handler is first given what it sent before; then it is cancelled, as it is at every
    other end. So the iteration never ends by itself.

    Its methods may be called by any task inside the handler. What is said of sending and of the end in
    `trio_sse.Connection` holds here, too.

    Attributes:
        connection: what the server's hooks get of it.
        subprotocol: what was agreed upon in the handshake; `None` if nothing.
    """

    __slots__ = ("_receiver", "connection", "subprotocol")

    def __init__(self, connection: Connection, receiver: MessageReceiver, subprotocol: str | None) -> None:
        self.connection = connection
        self._receiver = receiver
        self.subprotocol = subprotocol

    def __repr__(self) -> str:
        return repr(self.connection).replace("Connection", "WebSocketConnection", 1)

    @property
    def id(self) -> int:
        """A number of its own in this server, as in the log."""
        return self.connection.id

    @property
    def request(self) -> Request:
        """The handshake's request."""
        return self.connection.request

    @property
    def last_event_id(self) -> str | None:
        """The id that the client resumes from, as the handshake's query gives it; `None` without one."""
        return self.connection.last_event_id

    @property
    def peer(self) -> str:
        """The peer's address."""
        return self.connection.peer

    @property
    def hub(self) -> Hub:
        """The server's hub."""
        return self.connection.manager.hub

    @property
    def end_reason(self) -> EndReason | None:
        """Why it ended; `None` while it is open. See `trio_sse.Connection`."""
        return self.connection.end_reason

    async def start(self) -> None:
        """Accept the handshake now; otherwise that is done with the first send or receive."""
        await self.connection.start()

    # Receiving

    def __aiter__(self) -> WebSocketConnection:
        return self

    async def __anext__(self) -> str | bytes:
        return await self.receive()

    async def receive(self) -> str | bytes:
        """Wait for the next message, and give it.

        While messages wait to be taken, no more is read, and pings aren't answered: a handler that is not
        interested in what the client sends should still take it.

        If this is cancelled, no message is lost.
        """
        if not self.connection.has_started:
            await self.connection.start()
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
        await self.connection.send(data, event=event, id=id, retry=retry)

    async def send_text(self, text: str) -> None:
        """Send a text message as it is; for the rest, as `send`.

        Raises:
            ValueError: it can't be encoded as UTF-8.
            trio.ClosedResourceError: the connection has ended.
        """
        await self.connection.write(text_frame(text), 1)

    async def send_json(self, value: object) -> None:
        """Send a JSON value as a text message; for the rest, as `send`."""
        await self.connection.write(json_frame(value), 1)

    async def send_bytes(self, data: bytes) -> None:
        """Send a binary message; for the rest, as `send`."""
        await self.connection.write(binary_frame(data), 1)

    async def subscribe(
        self,
        *topics: str,
        last_event_id: str | None = None,
        overflow: Overflow = Overflow.DISCONNECT,
        queue: int | None = None,
        queue_bytes: int | None = None,
        interval: float | None = None,
        batch: float | None = None,
    ) -> None:
        """Subscribe to the hub's topics and forward them, until the connection ends.

        What the client missed since `last_event_id` comes first; by default since the one that the handshake
        gave. The arguments are those of `Hub.subscribe`, and so are the errors.
        """
        async with self.hub.subscribe(
            *topics,
            last_event_id=self.last_event_id if last_event_id is None else last_event_id,
            overflow=overflow,
            queue=queue,
            queue_bytes=queue_bytes,
            interval=interval,
            batch=batch,
        ) as subscription:
            await self.forward(subscription)

    async def forward(self, subscription: Subscription) -> None:
        """Send all events of an entered subscription until the connection ends, as `Connection.forward`."""
        await self.connection.forward(subscription)

    # Ending

    def close(self, code: int = 1000, reason: str = "") -> None:
        """End it. The handler is cancelled at its next checkpoint, and the client told why.

        Args:
            code: of RFC 6455, 7.4.1, or 3000 to 4999 for one of the application's own.
            reason: at most 123 bytes of UTF-8.

        Raises:
            ValueError: the code may not be sent, or the reason is too long.
        """
        if code not in _CODES and not 3000 <= code <= 4999:
            raise ValueError(f"a close code must be one of RFC 6455, or 3000 to 4999, not {code}")
        if len(reason.encode()) > MAX_CONTROL_SIZE - 2:
            raise ValueError(f"a close reason may have at most {MAX_CONTROL_SIZE - 2} bytes")
        if self.end_reason is None:
            self.connection.close_frame = close_frame(code, reason or EndReason.FINISHED.value)
            self.connection.end(EndReason.FINISHED)


WebSocketHandler = Callable[..., Awaitable[None]]

Runner = Callable[
    [ServeScope, Connection, str | None, WebSocketHandler], Coroutine[Any, Any, Exception | None]
]


def runner(*, max_message_size: int) -> Runner:
    """Give what runs the WebSockets of one path.

    Raises:
        TypeError, ValueError: the bound is not acceptable.
    """
    check_bounds(1, max_message_size=max_message_size)

    async def run(
        serving: ServeScope, connection: Connection, subprotocol: str | None, handler: WebSocketHandler
    ) -> Exception | None:
        receiver = MessageReceiver(connection, max_message_size=max_message_size)
        connection.read = receiver.run
        websocket = WebSocketConnection(connection, receiver, subprotocol)

        async def handle(_: Connection) -> None:
            await handler(websocket)

        outcome = await run_stream(serving, connection, handle)
        if isinstance(outcome, Exception):
            return outcome
        await receiver.wait_closed()
        return None

    return run
