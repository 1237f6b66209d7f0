"""The server: options, routes, the ways to serve, and drain.

What a call of `serve` owns, and in which order it goes, is told in `_stream/scope.py`.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import EllipsisType
from typing import TYPE_CHECKING, TypeVar, final

import trio

from .._asgi.types import ASGIApp
from .._http.cors import CrossOrigin
from .._http.websocket_handshake import SUBPROTOCOL, Handshake
from .._hub.hub import Hub
from .._hub.statistics import HubStatistics
from .._process.descriptors import raise_descriptor_limit
from .._process.watchdog import Watchdog
from .._stream.end_reason import EndReason
from .._stream.manager import ConnectHook, DisconnectHook, StreamManager, StreamOptions
from .._stream.scope import ServeScope, end_streams
from .._transport.socket import SocketTransport
from .._transport.stream import StreamTransport
from .._transport.tls import TLSTransport
from .._validate import check_bounds, check_seconds
from .._wire.event import Dumps, dumps_compact
from .admission import Admission
from .app import AppHandler
from .connection_handler import ConnectionHandler
from .listeners import Acceptor, as_sockets, prepare
from .request_reader import RequestOptions, RequestReader
from .routes import EndpointHandler, EndpointRoute, StreamHandler, StreamRoute, WebSocketRoute

if TYPE_CHECKING:
    from .._websocket.connection import WebSocketHandler

logger = logging.getLogger("trio_sse.server")

_HANDSHAKE_SECONDS = 10.0

# Between two streams. Without it, each task would keep a name of its own, made up by Trio.
_TASK_NAME = "trio_sse connection"

# As the socket module gives them: (host, port, ...) of TCP, a path of Unix.
Address = tuple[object, ...] | str

# Decorators give back the very function that they were given.
StreamFunction = TypeVar("StreamFunction", bound=StreamHandler)
EndpointFunction = TypeVar("EndpointFunction", bound=EndpointHandler)
ConnectFunction = TypeVar("ConnectFunction", bound=ConnectHook)
DisconnectFunction = TypeVar("DisconnectFunction", bound=DisconnectHook)
WebSocketFunction = TypeVar("WebSocketFunction", bound="WebSocketHandler")


@dataclass(frozen=True, slots=True)
class ServerStatistics:
    """A server's figures at one moment.

    Attributes:
        open_streams: streams that are open.
        opened: streams that were ever opened.
        ended: how many of them ended for which reason.
        events_sent, bytes_sent: over all streams, replayed events among them; bytes before TLS.
        refused: requests that were answered with an error.
        is_draining: no further request is answered.
        hub: the hub's figures.
    """

    open_streams: int
    opened: int
    ended: Mapping[EndReason, int]
    events_sent: int
    bytes_sent: int
    refused: int
    is_draining: bool
    hub: HubStatistics


@final
class Server:
    """Serve event streams, and an app beside them, over HTTP/1.1, with or without TLS.

    A server may be made at import time and given its routes there. It may be served several times at once,
    on different addresses, and again after it has ended.

    Args:
        app: an ASGI app for all that no route takes: of Quart-Trio, Starlette or another framework that
            runs on Trio. `trio_sse.quart` and `trio_sse.asgi` give it event streams that are as good as
            the server's own. Its lifespan begins before anything is accepted, and ends after the last
            connection. If the server is served several times at once, the first call runs it; when that
            has ended, requests to the app are answered 503 by the others.
        hub: the hub of `Connection.subscribe`; by default one of the server's own. The server runs it
            while it serves, unless it runs already.
        keepalive: seconds without a write after which a comment is sent, so that proxies keep the
            connection and a vanished peer is found. WHATWG (HTML, 9.2.7) advises about 15 s.
        max_duration: the longest life of a stream, in seconds; each gets 80 to 100 % of it, at random,
            so that clients that came together don't come back together.
        max_connections: streams that may be open at once; further ones are answered 503.
        max_connections_per_host: the same for each address of a peer, answered 429. There is no bound by
            default: behind a proxy all peers have its address.
        write_timeout: seconds for which a peer may take no byte at all while there are some for it. On
            Linux it is set as `TCP_USER_TIMEOUT`, too.
        drain_timeout: seconds that `drain` may take before it cancels.
        reconnect_spread: when the server drains, each client is told to come back after a time of its
            own between one second and this.
        max_body_size: bytes that a request's body may have, the app's, too; more are answered 413.
        send_buffer: bytes that the kernel may hold for each peer (`SO_SNDBUF`).
        allowed_hosts: host names, without ports, that requests may be for; others are answered 421.
        cors_origins: origins whose pages may read the streams, like `https://example.org`, or `*`.
        cors_credentials: whether those pages may send cookies.
        health_path: where `{"status": "ok"}` is answered, or 503 while a shared log has not been there
            since the start, unless a route is there; `None` for nowhere. The
            default is `/health`, and nowhere if there is an app, which may have such a path itself.
        slow_step: a task that keeps the event loop for longer than these seconds is named in a warning.
        dumps: encodes data that is not text, in `Connection.send`.

    Times are in seconds; `math.inf` stands for none.

    Raises:
        TypeError, ValueError: an option is not acceptable.
    """

    def __init__(
        self,
        app: ASGIApp | None = None,
        *,
        hub: Hub | None = None,
        keepalive: float = 15.0,
        max_duration: float = 3600.0,
        max_connections: int = 16_384,
        max_connections_per_host: int | None = None,
        write_timeout: float = 30.0,
        drain_timeout: float = 10.0,
        reconnect_spread: float = 5.0,
        max_body_size: int = 1024 * 1024,
        send_buffer: int = 64 * 1024,
        allowed_hosts: Collection[str] | None = None,
        cors_origins: Collection[str] = (),
        cors_credentials: bool = False,
        health_path: str | EllipsisType | None = ...,
        slow_step: float = 1.0,
        dumps: Dumps = dumps_compact,
    ) -> None:
        check_seconds(drain_timeout=drain_timeout, slow_step=slow_step)
        check_bounds(
            1,
            max_connections=max_connections,
            max_connections_per_host=1 if max_connections_per_host is None else max_connections_per_host,
            send_buffer=send_buffer,
        )
        check_bounds(0, max_body_size=max_body_size)
        if app is not None and not callable(app):
            raise TypeError(f"app must be an ASGI app, not {type(app).__name__}")
        if isinstance(allowed_hosts, str):
            raise TypeError("allowed_hosts must be a collection of host names, not one str")
        self._manager = StreamManager(
            Hub() if hub is None else hub,
            StreamOptions(
                keepalive=keepalive,
                max_duration=max_duration,
                write_timeout=write_timeout,
                reconnect_spread=reconnect_spread,
                dumps=dumps,
            ),
        )
        self._reader = RequestReader(
            RequestOptions(
                max_body_size=max_body_size,
                allowed_hosts=None if allowed_hosts is None else {name.lower() for name in allowed_hosts},
                cross_origin=CrossOrigin(cors_origins, with_credentials=cors_credentials),
                health_path=_default_health_path(app) if health_path is ... else health_path,
                is_ready=lambda: self.hub.is_ready,
                has_app=app is not None,
            )
        )
        self._admission = Admission(
            max_connections=max_connections, max_connections_per_host=max_connections_per_host
        )
        self._app = None if app is None else AppHandler(app, self._admission)
        self._handler = ConnectionHandler(self._manager, self._reader, self._admission, self._app)
        self._drain_timeout = drain_timeout
        self._starting: set[trio.CancelScope] = set()
        self._send_buffer = send_buffer
        self._watchdog = Watchdog(slow_step)
        self._calls = 0  # of `serve` and its kin, that are under way

    @property
    def hub(self) -> Hub:
        """The hub of this server's streams."""
        return self._manager.hub

    # What is served

    def route(
        self, path: str, *, methods: Iterable[str] = ("GET",)
    ) -> Callable[[StreamFunction], StreamFunction]:
        """Decorate a handler: `path` answers with an event stream that it drives.

        The handler is a coroutine function of the `Connection` and, by name, the path's parameters:
        `{name}` takes one segment, `{name:int}` and so on are typed (`str`, `int`, `float`, `uuid`, and
        `path`, which takes slashes, too). The stream ends when the handler returns. HEAD is answered where
        GET is. What a POST brings with it is in `connection.request.body`.

        Raises:
            ValueError: the path or a method is not acceptable, or is taken.
            TypeError: the handler doesn't take the path's parameters.
        """

        def decorate(handler: StreamFunction) -> StreamFunction:
            self._reader.router.add(path, methods, StreamRoute(handler), handler)
            return handler

        return decorate

    def endpoint(
        self, path: str, *, methods: Iterable[str] = ("GET",)
    ) -> Callable[[EndpointFunction], EndpointFunction]:
        """Decorate a handler: `path` answers with the whole `Response` that it returns.

        The handler is a coroutine function of the `Request` and, by name, the path's parameters; for the
        rest it is as in `route`. It is meant for what a stream needs beside it, not for web sites.
        """

        def decorate(handler: EndpointFunction) -> EndpointFunction:
            self._reader.router.add(path, methods, EndpointRoute(handler), handler)
            return handler

        return decorate

    def websocket(
        self,
        path: str,
        *,
        origins: Collection[str] = (),
        subprotocols: Sequence[str] = (SUBPROTOCOL,),
        max_message_size: int = 1024 * 1024,
    ) -> Callable[[WebSocketFunction], WebSocketFunction]:
        """Decorate a handler: `path` is a WebSocket (RFC 6455).

        The handler is a coroutine function of the `trio_sse.websocket.WebSocketConnection` and, by name, the
        path's parameters, as in `route`. The connection has the bounds and the hooks of a stream.

        Args:
            origins: pages of which other origins may open it, or `*`. Pages of the request's own host may,
                and so may clients that are no browsers.
            subprotocols: those that it speaks, the one that it likes best first.
            max_message_size: bytes that a message of the client's may have; a larger one ends it by 1009.

        Raises:
            ImportError: the extra is missing: pip install 'trio-sse[websocket]'
            ValueError: the path or an option is not acceptable, or the path is taken.
            TypeError: the handler doesn't take the path's parameters.
        """
        try:
            from .._websocket.connection import runner
        except ModuleNotFoundError as error:
            raise ImportError("WebSockets need: pip install 'trio-sse[websocket]'") from error
        handshake = Handshake(origins=origins, subprotocols=subprotocols)
        run = runner(max_message_size=max_message_size)

        def decorate(handler: WebSocketFunction) -> WebSocketFunction:
            route = WebSocketRoute(handler, handshake, run)
            self._reader.router.add(path, ("GET",), route, handler)
            return handler

        return decorate

    def on_connect(self, hook: ConnectFunction) -> ConnectFunction:
        """Decorate a function of the `Connection`, plain or async, that is called before each handler.

        It may raise `HTTPException` to refuse the stream.
        """
        self._manager.on_connect.append(hook)
        return hook

    def on_disconnect(self, hook: DisconnectFunction) -> DisconnectFunction:
        """Decorate a plain function of the `Connection` that is called when each stream has ended.

        It is not async: the stream's scope is over, and often the server's with it. It is called once for
        each stream that all `on_connect` hooks let pass; `connection.end_reason` says why it ended.
        """
        self._manager.on_disconnect.append(hook)
        return hook

    def configure(self, *, keepalive: float | None = None, max_duration: float | None = None) -> None:
        """Change options of a server that somebody else made, before it is served.

        Raises:
            RuntimeError: it is served already.
        """
        if self._manager.serve_scopes:
            raise RuntimeError("configure the server before it is served")
        options = self._manager.options
        self._manager.options = replace(
            options,
            keepalive=options.keepalive if keepalive is None else keepalive,
            max_duration=options.max_duration if max_duration is None else max_duration,
        )

    # Serving

    async def serve(
        self,
        host: str | None = "127.0.0.1",
        port: int = 8000,
        *,
        ssl_context: ssl.SSLContext | None = None,
        backlog: int | None = None,
        task_status: trio.TaskStatus[list[Address]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Listen on an address and serve until cancelled or drained.

        Args:
            host: an address or name; `None` stands for all addresses.
            port: 0 for any that is free.
            ssl_context: serve under TLS.
            backlog: connections that may wait to be accepted; as many as the system allows by default.

        `task_status.started` is called with the list of the sockets' addresses. When this is cancelled,
        every stream has ended, the sockets are closed, and nothing is left.

        Raises:
            OSError: the address can't be listened on.
        """
        listeners = await trio.open_tcp_listeners(port, host=host, backlog=backlog)
        await self.serve_listeners(listeners, ssl_context=ssl_context, task_status=task_status)

    async def serve_listeners(
        self,
        listeners: Sequence[trio.SocketListener | socket.socket],
        *,
        ssl_context: ssl.SSLContext | None = None,
        task_status: trio.TaskStatus[list[Address]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve on listening sockets, TCP or Unix, as `serve` does. It takes them over, and closes them.

        Raises:
            ValueError: a socket doesn't listen.
        """
        sockets = as_sockets(listeners)
        serving = ServeScope(self._manager, drain_timeout=self._drain_timeout)

        def accepted(connected: socket.socket, address: object) -> None:
            if ssl_context is None:
                transport = SocketTransport(connected, address)
                serving.connections.start_soon(self._handler.serve, transport, serving, name=_TASK_NAME)
            else:
                secured = TLSTransport(connected, address, ssl_context)
                serving.connections.start_soon(self._serve_secured, secured, serving, name=_TASK_NAME)

        async def accept() -> None:
            task_status.started([listening.getsockname() for listening in sockets])
            for listening in sockets:
                logger.info("serving on %s", listening.getsockname())
            with serving.accepting:
                await Acceptor(sockets, accepted).run()

        try:
            for listening in sockets:
                write_timeout = self._manager.options.write_timeout
                prepare(listening, send_buffer=self._send_buffer, write_timeout=write_timeout)
            raise_descriptor_limit()
            await self._watch_over(serving, accept)
        finally:
            for listening in sockets:
                listening.close()  # where it was cancelled before it began

    async def serve_stream(self, stream: trio.abc.Stream, *, peer: str = "stream") -> None:
        """Serve one peer over any stream, until one side closes it; the stream is closed at the end.

        Writing to a stream has to wait, so such a connection has three tasks instead of one.

        Args:
            peer: what is given as the peer's address.
        """
        serving = ServeScope(self._manager, drain_timeout=self._drain_timeout)

        async def serve() -> None:
            await self._handler.serve(StreamTransport(stream, peer), serving)

        await self._watch_over(serving, serve)

    async def serve_in_memory(
        self, *, task_status: trio.TaskStatus[Callable[[trio.abc.Stream, str], None]]
    ) -> None:
        """Serve streams that are given one by one, until cancelled or drained; `trio_sse.testing` does so.

        `task_status.started` is called with a function that takes a stream and what stands for its peer.
        """
        serving = ServeScope(self._manager, drain_timeout=self._drain_timeout)

        def connect(stream: trio.abc.Stream, peer: str) -> None:
            serving.connections.start_soon(self._handler.serve, StreamTransport(stream, peer), serving)

        async def work() -> None:
            task_status.started(connect)
            with serving.accepting:
                await trio.sleep_forever()

        await self._watch_over(serving, work)

    async def _serve_secured(self, transport: TLSTransport, serving: ServeScope) -> None:
        """Be the one task of a connection under TLS."""
        try:
            with trio.fail_after(_HANDSHAKE_SECONDS):
                await transport.handshake()
        except (trio.BrokenResourceError, trio.TooSlowError) as error:
            reason = str(error) or "the TLS handshake took too long"
            logger.info("refused peer=%s: %s", transport.peer, reason)
            await transport.aclose(abort=True)
        except BaseException:
            await transport.aclose(abort=True)
            raise
        else:
            await self._handler.serve(transport, serving)

    async def _watch_over(self, serving: ServeScope, work: Callable[[], Awaitable[None]]) -> None:
        """Run a call, with the watchdog there while there are any."""
        self._calls += 1
        if self._calls == 1:
            self._watchdog.begin()
            trio.lowlevel.add_instrument(self._watchdog)
        try:
            if self._app is None:
                await serving.run(work)
            else:
                await self._run_with_app(self._app, serving, work)
        finally:
            self._calls -= 1
            if self._calls == 0:
                with contextlib.suppress(KeyError):  # Trio has removed it, if it failed
                    trio.lowlevel.remove_instrument(self._watchdog)

    async def _run_with_app(
        self, app: AppHandler, serving: ServeScope, work: Callable[[], Awaitable[None]]
    ) -> None:
        """Run a call within the app's lifespan; what drains the server while it starts ends the call."""
        with trio.CancelScope() as starting:
            self._starting.add(starting)
            try:
                async with app.lifespan.running(shutdown_timeout=self._drain_timeout):
                    self._starting.discard(starting)
                    await serving.run(work)
            finally:
                self._starting.discard(starting)

    @property
    def drain_timeout(self) -> float:
        """The seconds that `drain` may take before it cancels."""
        return self._drain_timeout

    def stop_accepting(self) -> None:
        """Accept no connection any more. Those that there are live on, and are answered, until `drain`."""
        for serving in self._manager.serve_scopes:
            serving.accepting.cancel()

    async def drain(self) -> None:
        """End all serving in good order; return when it has ended.

        No connection is accepted any more, and no request answered. The streams are told to end, spread
        over a part of the drain time so that they don't all come back at once elsewhere; their clients
        come back. Connections that are left at the end of the drain time are cancelled. If this is
        cancelled, the rest goes on as it is.
        """
        for scope in self._starting:
            scope.cancel()  # whose app has not started
        serve_scopes = list(self._manager.serve_scopes)
        for serving in serve_scopes:
            serving.stop_accepting()
        with trio.move_on_after(self._drain_timeout):
            streams = [stream for serving in serve_scopes for stream in serving.streams]
            await end_streams(streams, drain_timeout=self._drain_timeout)
            for serving in serve_scopes:
                await serving.ended.wait()
        for serving in serve_scopes:
            serving.connections.cancel_scope.cancel()
        for serving in serve_scopes:
            await serving.ended.wait()

    def statistics(self) -> ServerStatistics:
        """Give the server's figures at this moment. It looks at every stream: not for hot code."""
        manager = self._manager
        streams = [stream for serving in manager.serve_scopes for stream in serving.streams]
        events_sent, bytes_sent = manager.total_sent(streams)
        return ServerStatistics(
            open_streams=len(streams),
            opened=len(streams) + manager.ended.total(),
            ended=dict(manager.ended),
            events_sent=events_sent,
            bytes_sent=bytes_sent,
            refused=self._handler.refused,
            is_draining=any(serving.is_draining for serving in manager.serve_scopes),
            hub=manager.hub.statistics(),
        )


def _default_health_path(app: ASGIApp | None) -> str | None:
    return "/health" if app is None else None
