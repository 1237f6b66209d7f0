"""What an app answers to the handshake of a WebSocket on hypercorn.

Hypercorn notes that the WebSocket is open before it looks at how the app has accepted it. If it does not like
that, it fails when the app's call ends, and so do all its connections. So what it would not like is refused
before, above all a subprotocol that the client has not offered.

If a client sends something before the app has answered, hypercorn answers 400 itself. It tells the app
nothing, not even that the client has left. But it writes a line to its access log.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import final

import trio

from .._http.fields import check_raw_field
from .._http.websocket_handshake import check_denial
from .client_disconnected import ClientDisconnected
from .types import Message, Receive, Scope, Send

_ABNORMAL_CLOSURE = 1006

# Many times what hypercorn needs to read a piece and answer it.
_STEPS = 50

# Fields that hypercorn sets itself, or that would make a response with a body of the answer.
_OWN_PREFIX = b"sec-websocket-"
_OWN_FIELDS = (b"connection", b"content-length", b"transfer-encoding", b"upgrade")


@final
class HandshakeGuard:
    """The `receive` and `send` of one WebSocket."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._offered: Sequence[str] = tuple(scope.get("subprotocols") or ())
        self._http_version: str = scope["http_version"]
        self._receive = receive
        self._send = send
        self._sends = 0  # calls of `send` that are under way
        self._receiving: set[trio.CancelScope] = set()
        self.is_lost = False  # hypercorn has answered the handshake itself

    def on_access(self) -> None:
        """Note that hypercorn has written a line for this WebSocket to its access log."""
        if not self._sends:
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
        """Receive from the server."""
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
            return {"type": "websocket.disconnect", "code": _ABNORMAL_CLOSURE}
        return message

    async def send(self, message: Message) -> None:
        """Send to the server.

        Raises:
            ClientDisconnected: hypercorn has answered the handshake itself.
            TypeError, ValueError: the app accepts as hypercorn cannot, or denies as HTTP/2 cannot.
        """
        if self.is_lost:
            raise ClientDisconnected("the client has sent something before the handshake was answered")
        if message["type"] == "websocket.accept":
            message = self._checked_accept(message)
        elif message["type"] == "websocket.http.response.start":
            check_denial(int(message["status"]), self._http_version)
        self._sends += 1
        try:
            await self._send(message)
        finally:
            self._sends -= 1

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
        self._guards: dict[int, HandshakeGuard] = {}

    @contextmanager
    def guarded(self, scope: Scope, guard: HandshakeGuard) -> Iterator[None]:
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
