"""One WebSocket of an app on hypercorn, from its handshake to its end.

Hypercorn notes that the WebSocket is open before it looks at how the app has accepted it. If it does not like
that, it fails when the app's call ends, and so do all its connections. So what it would not like is refused
before, above all a subprotocol that the client has not offered.

If a client sends something before the app has answered, hypercorn answers 400 itself. It tells the app
nothing, not even that the client has left. But it writes a line to its access log.

Hypercorn reports a disconnect once, to one task.

When the app's call ends, hypercorn closes the connection. If it is to answer a ping or a close frame of the
client at that moment, both are writing, and hypercorn ends with all its connections. So the call ends only
when the client has closed, too, or after a second. From the server's close frame on, nothing is answered.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import final

import trio

from .._http.fields import check_raw_field
from .._http.websocket_handshake import check_denial
from .client_disconnected import ClientDisconnected
from .types import Message, Receive, Scope, Send

_ABNORMAL_CLOSURE, _INTERNAL_ERROR = 1006, 1011

# How long the close frame may take, and the client to answer it.
_CLOSE_SECONDS = 1.0

# Many times what hypercorn needs to read a piece and answer it.
_STEPS = 50

# Fields that hypercorn sets itself, or that would make a response with a body of the answer.
_OWN_PREFIX = b"sec-websocket-"
_OWN_FIELDS = (b"connection", b"content-length", b"transfer-encoding", b"upgrade")


@final
class WebSocketGuard:
    """The `receive` and `send` of one WebSocket.

    Attributes:
        is_lost: the app receives nothing but a disconnect, and can send nothing.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._offered: Sequence[str] = tuple(scope.get("subprotocols") or ())
        self._http_version: str = scope["http_version"]
        self._receive = receive
        self._send = send
        self._sends = 0  # calls of `send` that are under way
        self._receiving: set[trio.CancelScope] = set()
        self._was_accepted = self._is_closed = False  # as far as hypercorn knows
        self._disconnect: Message = {"type": "websocket.disconnect", "code": _ABNORMAL_CLOSURE}
        self.is_lost = False

    def on_access(self) -> None:
        """Note that hypercorn has written a line for this WebSocket to its access log."""
        if not self._sends:  # it has answered the handshake itself
            self._lose()

    def _lose(self) -> None:
        self.is_lost = True
        for scope in self._receiving:
            scope.cancel()

    async def settle(self) -> None:
        """Let hypercorn handle what has come with the handshake, before the app is called.

        If it answered 400 while the app answered, too, the second response would end it. It needs a few
        steps, in which it waits for nothing: the connection has not been written to yet.
        """
        for _ in range(_STEPS):
            await trio.lowlevel.checkpoint()

    async def receive(self) -> Message:
        """Receive from the server. All tasks receive a disconnect, as often as they ask."""
        message: Message | None = None
        if not self.is_lost:
            with trio.CancelScope() as scope:
                self._receiving.add(scope)
                try:
                    message = await self._receive()
                finally:
                    self._receiving.discard(scope)
        if message is None:
            await trio.lowlevel.checkpoint()
            return self._disconnect
        if message["type"] == "websocket.disconnect":
            self._disconnect = message
            self._lose()
        return message

    async def send(self, message: Message) -> None:
        """Send to the server.

        Raises:
            ClientDisconnected: the client has left, or has sent something before the handshake was answered.
            TypeError, ValueError: the app accepts as hypercorn cannot, or denies as HTTP/2 cannot.
        """
        if self.is_lost:
            await trio.lowlevel.checkpoint()
            raise ClientDisconnected("the client has disconnected, or was refused")
        if message["type"] == "websocket.accept":
            message = self._checked_accept(message)
        elif message["type"] == "websocket.http.response.start":
            check_denial(int(message["status"]), self._http_version)
        self._sends += 1
        try:
            await self._send(message)
        except (OSError, trio.BusyResourceError) as error:
            self._note(message)
            self._lose()
            raise ClientDisconnected("the client has disconnected") from error
        except trio.Cancelled:
            self._note(message)
            raise
        else:
            self._note(message)
        finally:
            self._sends -= 1

    def _note(self, message: Message) -> None:
        """Note what hypercorn has taken, whether or not all of it was sent."""
        match message["type"]:
            case "websocket.accept":
                self._was_accepted = True
            case "websocket.close":
                self._is_closed = True

    async def finish(self) -> None:
        """End the WebSocket before the app's call ends: close it if the app has not, and wait for the client.

        This takes a second at most. If the call is cancelled, hypercorn sends nothing, and nor does this.
        """
        is_cancelled = trio.current_effective_deadline() == -math.inf
        if not self._was_accepted or self.is_lost or is_cancelled:
            return
        with trio.move_on_after(_CLOSE_SECONDS), suppress(OSError, trio.BusyResourceError):
            if not self._is_closed:
                await self._send({"type": "websocket.close", "code": _INTERNAL_ERROR})
            while not self.is_lost:
                await self.receive()

    def _checked_accept(self, message: Message) -> Message:
        subprotocol = message.get("subprotocol")
        if subprotocol is not None and subprotocol not in self._offered:
            raise ValueError(f"the client has not offered the subprotocol {subprotocol!r}")
        fields = []
        for name, value in message.get("headers") or ():
            if not (isinstance(name, bytes) and isinstance(value, bytes)):
                raise TypeError("a header field's name and value must be bytes")
            value = value.strip()
            check_raw_field(name, value)
            if name.lower().startswith(_OWN_PREFIX):
                raise ValueError(f"header field {name!r} is set by the server")
            if name.lower() not in _OWN_FIELDS:
                fields.append((name, value))
        return {**message, "headers": fields}


@final
class Handshakes:
    """The WebSockets whose calls of the app are open, by the scopes that hypercorn has for them."""

    def __init__(self) -> None:
        self._guards: dict[int, WebSocketGuard] = {}

    @contextmanager
    def guarded(self, scope: Scope, guard: WebSocketGuard) -> Iterator[None]:
        """Find the guard by the scope, inside this block."""
        self._guards[id(scope)] = guard
        try:
            yield
        finally:
            del self._guards[id(scope)]

    def on_access(self, scope: object) -> None:
        """Note that hypercorn has written a line for a scope to its access log."""
        if (guard := self._guards.get(id(scope))) is not None:
            guard.on_access()
