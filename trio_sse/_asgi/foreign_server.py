"""The `Stage` of a request on a server that is not ours (see `_stage.py`).

The app's call stays until the stream is over, and the stream must be over before the call is: what it writes
to is the server's, and is given back at that moment, whatever the handler still does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, final

import trio

from .._http.request import Request
from .._stream.connection import Connection, ResponseStart
from .._stream.end_reason import EndReason
from .._stream.lifecycle import Handle, run_stream
from .._stream.manager import StreamManager
from .._stream.scope import ServeScope
from . import hypercorn_direct
from .hypercorn_direct import HypercornTransport
from .request import request_of
from .response_stream import Launch, padding
from .transport import ASGITransport
from .types import Message, Receive, Scope, Send

#: Where a scope's `extensions` have the `Registry` of the server's streams.
REGISTRY = "trio_sse.registry"


class Registry(Protocol):
    """What a server that isn't ours knows of the streams that are open on it.

    Attributes:
        streams: those that are open.
        waiting: the scopes of what else is to end when it drains.
    """

    streams: dict[Connection, None]
    waiting: set[trio.CancelScope]

    def check(self) -> None:
        """Raise an `HTTPException` if no further stream may be opened."""

    def remove(self, connection: Connection) -> None:
        """Take note that a stream has ended."""


BorrowedTransport = ASGITransport | HypercornTransport

#: The requests under way on each of hypercorn's HTTP/2 connections.
Siblings = dict[object, "dict[HostedStage, None]"]


@final
class HostedStage:
    """One request, and the two callables that the app is given instead of the server's own."""

    def __init__(
        self, serving: ServeScope, siblings: Siblings, scope: Scope, receive: Receive, send: Send
    ) -> None:
        self._serving = serving
        self._scope = scope
        self._receive = receive
        self._send = send
        self._registry: Registry | None = (scope.get("extensions") or {}).get(REGISTRY)
        self._disconnected = trio.Event()
        self._receiving: trio.CancelScope | None = None
        self._siblings = siblings
        self._http2 = hypercorn_direct.find_http2(send)
        if self._http2 is not None:
            siblings.setdefault(self._http2, {})[self] = None
        self._launch: Launch | None = None
        self._has_head = False  # the app has sent the response's head
        self._has_begun = False  # the stream has
        self._is_cut = False  # the response is not to be ended properly
        self._over = trio.Event()  # the stream is

    @property
    def request(self) -> Request:
        return request_of(self._scope)

    @property
    def serving(self) -> ServeScope:
        return self._serving

    # What the app is given

    async def receive(self) -> Message:
        """Receive from the server, and take note if the client has gone."""
        if not self._disconnected.is_set():
            with trio.CancelScope() as self._receiving:
                message = await self._receive()
                if message["type"] != "http.disconnect":
                    return message
            self._receiving = None
            self._disconnected.set()
            # Hypercorn may lose one stream of a closed connection, when a task in which it tells them is
            # cancelled.
            if self._http2 is not None and self._http2.closed:
                for sibling in self._siblings.get(self._http2, ()):
                    sibling.lose_client()
        return {"type": "http.disconnect"}

    def lose_client(self) -> None:
        """Take note that the client has gone, if the server doesn't tell."""
        self._disconnected.set()
        hypercorn_direct.forget(self._send)
        if self._receiving is not None:
            self._receiving.cancel()

    async def send(self, message: Message) -> None:
        """Send to the server; but not the end of a response that is to be cut."""
        self._has_head |= message["type"] == "http.response.start"
        if self._is_cut:
            await trio.lowlevel.checkpoint()
        else:
            await self._send(message)

    # Its stream

    def launch(self, manager: StreamManager, handle: Handle, name: str) -> Launch:
        if self._launch is not None:
            raise RuntimeError("a request can be answered with one stream only")
        if self._registry is not None:
            self._registry.check()
        launch = self._launch = Launch()
        request = self.request
        transport = borrow_transport(self._scope, self._send, self._disconnected.wait, request.peer)
        launch.connection = Connection(self._serving, manager, transport, request, launch)
        self._serving.connections.start_soon(self._run, launch, transport, handle, name=name)
        return launch

    async def _run(self, launch: Launch, transport: BorrowedTransport, handle: Handle) -> None:
        connection, outcome = launch.connection, None
        if self._registry is not None:
            self._registry.streams[connection] = None
        try:
            outcome = await run_stream(self._serving, connection, handle)
        finally:
            self._release(connection, transport)
            if self._registry is not None:
                self._registry.remove(connection)
            launch.end(outcome)
            self._over.set()

    def _release(self, connection: Connection, transport: BorrowedTransport) -> None:
        if isinstance(transport, HypercornTransport) and self._serving.disconnects is not None:
            self._serving.disconnects.remove(transport, connection)
        transport.release()

    async def carry(self, launch: Launch) -> None:
        if not self._has_head:
            raise RuntimeError("a stream can begin only where a response's head has just been given")
        connection = launch.connection
        transport = connection.transport
        assert isinstance(transport, BorrowedTransport)
        self._has_begun = True
        launch.begin(padding(connection.request, transport.framing))
        if isinstance(transport, HypercornTransport) and self._serving.disconnects is not None:
            self._serving.disconnects.add(transport, connection)
        try:
            await self._over.wait()
        finally:
            # If this was cancelled, the handler may live on for a moment.
            self.close()
            self._release(connection, transport)
        self._is_cut = await cut(connection, self._send, is_gone=self._disconnected.is_set())

    def close(self) -> None:
        """End the stream with the app's call."""
        if self._http2 is not None and (others := self._siblings.get(self._http2)) is not None:
            others.pop(self, None)
            if not others:
                del self._siblings[self._http2]
        if self._launch is None:
            return
        if self._disconnected.is_set():
            self._launch.abandon(EndReason.CLIENT_DISCONNECTED)
        elif self._has_begun:
            self._launch.abandon(EndReason.SERVER_SHUTDOWN)
        else:
            self._launch.abandon(EndReason.REFUSED)


def borrow_transport(
    scope: Scope, send: Send, disconnected: Callable[[], Awaitable[object]], peer: str
) -> BorrowedTransport:
    """Give the best that the server lets a response's body be written to."""
    borrowed = hypercorn_direct.find_socket(send)
    if borrowed is None:
        return ASGITransport(hypercorn_direct.held_up(send), disconnected, peer)
    client = scope.get("client")
    address = tuple(client) if client else peer
    return HypercornTransport(borrowed, address, disconnected, is_chunked=scope["http_version"] == "1.1")


async def cut(connection: Connection, send: Send, *, is_gone: bool = False) -> bool:
    """Cut a response whose stream was cut, as far as it can be; return whether its end must not be sent."""
    if connection.end_reason is EndReason.FINISHED:
        return False
    if is_gone and connection.request.http_version >= "2":
        return True  # the server knows
    cut_response = hypercorn_direct.find_cut(send)
    if cut_response is not None:
        await cut_response()
        return True
    # Servers close an HTTP/1.1 connection whose response isn't ended. A stream of HTTP/2 would stay open.
    return connection.request.http_version < "2"


@final
class HostedLease:
    """What a stream that runs inside of an app's call has of a server that isn't ours; see `asgi.Lease`.

    There is no call to serve that it could share keepalives and hang-ups with, so it has tasks of its own.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._registry: Registry | None = (scope.get("extensions") or {}).get(REGISTRY)
        self._serving: ServeScope

    def lease(self, manager: StreamManager, request: Request, response_start: ResponseStart) -> Connection:
        if self._registry is not None:
            self._registry.check()
        self._serving = self.serving_for(manager)
        transport = borrow_transport(self._scope, self._send, self._wait_disconnected, request.peer)
        return Connection(self._serving, manager, transport, request, response_start)

    def serving_for(self, manager: StreamManager) -> ServeScope:
        return ServeScope(manager, drain_timeout=manager.options.write_timeout)

    async def _wait_disconnected(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def wait_started(self, connection: Connection) -> None:
        await trio.lowlevel.checkpoint()
        connection.set_head(padding(connection.request, connection.transport.framing))

    async def run(self, connection: Connection, handle: Handle) -> Exception | bool:
        if self._registry is not None:
            self._registry.streams[connection] = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._serving.wait_cancelled)
                outcome = await run_stream(self._serving, connection, handle)
                nursery.cancel_scope.cancel()
        finally:
            await connection.transport.aclose()
            if self._registry is not None:
                self._registry.remove(connection)
        return outcome

    async def is_to_be_cut(self, connection: Connection) -> bool:
        """Whether the end of the response must not be sent, after what could be done to cut it."""
        return await cut(connection, self._send)
