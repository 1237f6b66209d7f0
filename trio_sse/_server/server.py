"""`Server`: its options, its routes and hooks, and the ways to serve it."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from types import EllipsisType
from typing import TYPE_CHECKING, TypeVar, final

import trio

from .._app.app import AppHandler
from .._app.websocket import AppWebSockets
from .._app.websocket_call import WebSocketCallContext
from .._asgi.types import ASGIApp
from .._http.cors import CrossOrigin
from .._http.request_head import APP_LIMITS, LIMITS
from .._http.routing import Router
from .._http.websocket_handshake import SUBPROTOCOL
from .._hub.hub import Hub, engine_of
from .._pausing import Pausing, in_one_piece, in_pieces
from .._process.resources import process_statistics
from .._proxies.forwarded import FORWARDED_HEADERS
from .._request.admission import Admission
from .._request.health import HealthChecks
from .._request.options import (
    AdmissionOptions,
    ConsoleOptions,
    Http2Options,
    ProxyOptions,
    RequestOptions,
    ServeOptions,
    ServerOptions,
    WebSocketOptions,
)
from .._request.origins import OriginResolver
from .._request.request_reader import RequestReader
from .._request.request_router import RequestRouter
from .._request.routes import EndpointHandler, EndpointRoute, Route, Routes, StreamHandler, websocket_route
from .._stream.listing import ListedStream, StreamFilter
from .._stream.manager import ConnectHook, DisconnectHook, StreamManager
from .._stream.options import StreamOptions
from .._stream.statistics import stream_statistics
from .._stream.stream_owner import StreamOwner
from .._transport.pending_bytes import MAX_PENDING_BYTES
from .._websocket.connection import WebSocketHandler
from .._wire.event import Dumps, dumps_compact
from .accepted import AcceptedConnections
from .connection_handler import ConnectionHandler
from .endpoints import Endpoints
from .responder import Responder
from .serving import Address, ServeCalls
from .single_requests import SingleRequests
from .statistics import ServerStatistics
from .stream_requests import StreamRequests
from .websocket_requests import WebSocketRequests

if TYPE_CHECKING:
    from .console import ServerConsole
    from .http2_connection import Http2Connections

# Decorators return the function that they decorate.
StreamFunction = TypeVar("StreamFunction", bound=StreamHandler)
EndpointFunction = TypeVar("EndpointFunction", bound=EndpointHandler)
ConnectFunction = TypeVar("ConnectFunction", bound=ConnectHook)
DisconnectFunction = TypeVar("DisconnectFunction", bound=DisconnectHook)
WebSocketFunction = TypeVar("WebSocketFunction", bound=WebSocketHandler)


@final
class Server(StreamOwner):
    """Serves event streams, and an app beside them, over HTTP/1.1 and HTTP/2, with or without TLS.

    A server may be created at import time, and its routes added there. Several calls to serve may run at the
    same time, on different addresses, and a server may be served again later.

    Times are in seconds; `math.inf` means no limit.

    Args:
        app: an ASGI app that answers every request without a route: of Quart-Trio, Starlette or another
            framework that runs on Trio. With `trio_sse.quart` or `trio_sse.asgi`, its event streams are as
            fast as the server's own. Its lifespan starts before the first connection is accepted and ends
            after the last one has closed. If several calls to serve run, the first of them runs the app; when
            that call has ended, the others answer the app's requests with 503.
        hub: the hub of `Connection.subscribe`; by default a new one. The server runs it while it serves,
            unless it is already running.
        keepalive: time without a write after which a comment is sent, so that proxies keep the connection
            open and a vanished client is noticed. WHATWG (HTML, 9.2.7) recommends about 15 s.
        max_duration: the longest duration of a stream; each gets 80 to 100 % of it, at random, so that
            clients that connected together do not reconnect together.
        max_connections: how many streams may be open, and endpoints and calls of the app may be at work;
            further requests are refused with 503. Calls that go on after their responses count, too.
        max_connections_per_host: the same for each client address, refused with 429. There is no bound by
            default, as behind a proxy that is not trusted, all clients have the proxy's address.
        max_pending_bytes: how many bytes may wait for all clients that read slowly, in responses, streams and
            WebSockets. Bytes that wait for several clients count once. Near the bound, requests for large
            responses wait until there is room, and clients that are too slow are cut; those that read are
            not. As many bytes may have arrived of requests' bodies that routes receive whole, and of
            messages of WebSockets; beyond that, those that arrive most slowly are refused with 503, or
            closed with 1013.
        write_timeout: how long a client may accept no bytes while some are waiting for it. On Linux,
            `TCP_USER_TIMEOUT` is set to five seconds more.
        request_timeout: how long an endpoint may take, and wait for room; then it is cancelled and answered
            with 503.
        drain_timeout: how long `drain` waits before it cancels the remaining connections.
        reconnect_spread: when the server drains, it sends each client a reconnection time between one second
            and this.
        max_body_size: the largest body of a request, in bytes; a larger one is refused with 413. The default
            is 1 MiB for the server's own routes, which hold the whole body, and 16 MiB for the app, which
            receives it in pieces.
        body_timeout: how long the body of a request to the app may pause; and how long a route's body may
            take in all, and a large one longer. Then the request is refused with 408.
        keep_alive: how long a connection may be idle between two requests. Proxies keep theirs for a minute;
            if they keep them longer than the server, some of their requests fail.
        max_header_size, max_header_fields, max_target_size: the bounds on a request's head: its bytes, its
            fields, and the bytes of its target; larger ones are refused with 431 and 414. The defaults are
            16 KiB, 100 and 8 KiB, and with an app 64 KiB, 256 and 32 KiB.
        send_buffer: how many bytes the kernel may buffer for each client (`SO_SNDBUF`).
        allowed_hosts: the host names, without ports, that requests may be for; others are refused with 421.
            A name that no request can have, such as one with a port or a wildcard, is not accepted.
        cors_origins: the origins whose pages may read the streams, like `https://example.org`, or `*`. Pages
            without an origin, such as files and sandboxed frames, have the origin `null`.
        cors_credentials: whether those pages may send cookies.
        cors_headers: header fields that those pages may send, besides the usual ones: `Authorization`,
            `Cache-Control`, `Content-Type`, `Last-Event-ID`, `X-CSRF-Token`, `X-Requested-With` and those of
            W3C Trace Context.
        cors_exposed_headers: header fields of responses that those pages may read, besides those that
            browsers always show.
        health_path: the path of the health check, `None` for none. It answers `{"status": "ok"}`; or 503 and
            `{"status": "unavailable", "reason": "log_not_loaded"}` until a shared log has been loaded. A
            route of the same path replaces it. The default is `/health`, and `None` if there is an app.
        liveness_path: the path that answers 200 as long as the event loop turns. The default is `/healthz`,
            and `None` if there is an app; a route of the same path replaces it.
        readiness_path: the path that answers 200 if clients should be sent here, and otherwise 503 and
            `{"status": "unavailable", "reasons": [...]}`, with what `problems` returns. A server that is
            ready also says what `warnings` returns. The default is `/readyz`, and `None` if there is an app;
            a route of the same path replaces it.
        metrics_path: the path that answers with metrics for Prometheus, which needs the extra `metrics`;
            `None`, the default, for none. A route of the same path replaces it.
        console: whether there is a console at `/_sse/`: a page, and what `trio-sse top` shows, which needs a
            token. Routes of the same paths replace it. See `docs/console.md`.
        console_token: the token, of at least 16 characters. By default one is made, and printed once to
            standard error when the server listens; `Server.console_token` has it.
        console_peers: the addresses and networks that may use the console. This machine always may, unless a
            proxy says that it passes on what others send.
        websocket_max_message_size: the largest message that the app receives from the client of a WebSocket,
            in bytes; a larger one closes it with 1009.
        websocket_ping_interval: the client of one of the app's WebSockets that has sent nothing for so long
            is sent a ping.
        websocket_ping_timeout: a client that has sent nothing for so long after that has disconnected.
        access_log: whether each request is logged, beside each stream; see `docs/logging.md`.
        log_identities: whether the log says at a stream's end whose it was. Identities may be personal data.
        connection_id_header: the header field, like `X-Connection-Id`, in which the responses of streams,
            polls and WebSockets have `Connection.id`, as the log has it; `None`, the default, for none.
        slow_step: a warning names each task that blocks the event loop for longer than this.
        trusted_proxies: the addresses and networks of the proxies in front of the server, like `10.0.0.0/8`;
            `unix` for those that connect by a Unix socket. What they say about a request counts: who has sent
            it, and which scheme, host and path it is for. What anybody else says never counts.
        forwarded_headers: the header fields that these proxies set. Name them if they pass on others of these
            as clients have sent them. `Forwarded` counts in requests that have none of the others.
        root_path: the beginning of all paths, like `/app`, if a proxy removes it from the requests that it
            passes on. The app gets it as the scope's `root_path`, and puts it in front of links.
        http2: whether clients with TLS may choose HTTP/2 (ALPN), which needs the extra `http2`. By default
            they may if that is installed.
        http2_cleartext: whether clients without TLS, such as a proxy, may begin with HTTP/2, knowing that the
            server speaks it (RFC 9113, 3.3).
        http2_max_streams: how many requests a client may have open at the same time on one connection of
            HTTP/2.
        dumps: encodes the data of `Connection.send` that is not text.

    Raises:
        ImportError: HTTP/2 or metrics are demanded, and their extra is not installed.
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
        max_pending_bytes: int = MAX_PENDING_BYTES,
        write_timeout: float = 30.0,
        request_timeout: float = 30.0,
        drain_timeout: float = 10.0,
        reconnect_spread: float = 5.0,
        max_body_size: int | None = None,
        body_timeout: float = 30.0,
        keep_alive: float = 75.0,
        max_header_size: int | None = None,
        max_header_fields: int | None = None,
        max_target_size: int | None = None,
        send_buffer: int = 64 * 1024,
        allowed_hosts: Collection[str] | None = None,
        cors_origins: Collection[str] = (),
        cors_credentials: bool = False,
        cors_headers: Collection[str] = (),
        cors_exposed_headers: Collection[str] = (),
        health_path: str | EllipsisType | None = ...,
        liveness_path: str | EllipsisType | None = ...,
        readiness_path: str | EllipsisType | None = ...,
        metrics_path: str | None = None,
        console: bool = False,
        console_token: str | None = None,
        console_peers: Collection[str] = (),
        websocket_max_message_size: int = 16 * 1024 * 1024,
        websocket_ping_interval: float = 20.0,
        websocket_ping_timeout: float = 20.0,
        access_log: bool = False,
        log_identities: bool = False,
        connection_id_header: str | None = None,
        slow_step: float = 1.0,
        trusted_proxies: Collection[str] = (),
        forwarded_headers: Collection[str] = FORWARDED_HEADERS,
        root_path: str = "",
        http2: bool | None = None,
        http2_cleartext: bool = False,
        http2_max_streams: int = 250,
        dumps: Dumps = dumps_compact,
    ) -> None:
        if app is not None and not callable(app):
            raise TypeError(f"app must be an ASGI app, not {type(app).__name__}")
        if health_path is ...:
            health_path = "/health" if app is None else None
        if liveness_path is ...:
            liveness_path = "/healthz" if app is None else None
        if readiness_path is ...:
            readiness_path = "/readyz" if app is None else None
        limits = LIMITS if app is None else APP_LIMITS
        options = ServerOptions(
            requests=RequestOptions(
                max_body_size=max_body_size,
                body_timeout=body_timeout,
                keep_alive=keep_alive,
                max_header_size=limits.size if max_header_size is None else max_header_size,
                max_header_fields=limits.fields if max_header_fields is None else max_header_fields,
                max_target_size=limits.target_size if max_target_size is None else max_target_size,
                allowed_hosts=allowed_hosts,
                cross_origin=CrossOrigin(
                    cors_origins,
                    with_credentials=cors_credentials,
                    headers=cors_headers,
                    exposed_headers=cors_exposed_headers,
                ),
                health_path=health_path,
                liveness_path=liveness_path,
                readiness_path=readiness_path,
                metrics_path=metrics_path,
                request_timeout=request_timeout,
                access_log=access_log,
                log_identities=log_identities,
                connection_id_header=connection_id_header,
            ),
            streams=StreamOptions(
                keepalive=keepalive,
                max_duration=max_duration,
                write_timeout=write_timeout,
                reconnect_spread=reconnect_spread,
                dumps=dumps,
            ),
            admission=AdmissionOptions(
                max_connections=max_connections,
                max_connections_per_host=max_connections_per_host,
                max_pending_bytes=max_pending_bytes,
            ),
            serve=ServeOptions(drain_timeout=drain_timeout, send_buffer=send_buffer, slow_step=slow_step),
            proxies=ProxyOptions(
                trusted_proxies=trusted_proxies, forwarded_headers=forwarded_headers, root_path=root_path
            ),
            websockets=WebSocketOptions(
                websocket_max_message_size=websocket_max_message_size,
                websocket_ping_interval=websocket_ping_interval,
                websocket_ping_timeout=websocket_ping_timeout,
            ),
            http2=Http2Options(
                http2=http2, http2_cleartext=http2_cleartext, http2_max_streams=http2_max_streams
            ),
            console=ConsoleOptions(console=console, console_token=console_token, console_peers=console_peers),
        )
        self._app = app
        self._manager = StreamManager(
            Hub() if hub is None else hub,
            options.streams,
            host="server",
            lists_streams=False,  # what serves them does
            max_pending_bytes=max_pending_bytes,
        )
        self._routes = Routes()
        self._console: ServerConsole | None = None  # made when it is wanted first
        self._use(options)

    def _use(self, options: ServerOptions) -> None:
        """Make what the options concern. It has no state as long as the server is not served."""
        self._options = options
        requests, app = options.requests, self._app
        self._manager.options = options.streams
        self._manager.log_identities = requests.log_identities
        self._manager.id_header = requests.connection_id_header
        self._manager.pending_bytes.most = options.admission.max_pending_bytes
        self._manager.arriving_bytes.most = options.admission.max_pending_bytes
        self._admission = Admission(options.admission)
        root_path = options.proxies.decoded_root_path
        hosted = None if app is None else AppHandler(app, root_path=root_path)
        origins = OriginResolver(options.proxies) if options.proxies.proxies else None
        health = HealthChecks(
            requests.health_path,
            requests.liveness_path,
            requests.readiness_path,
            self.problems,
            self.warnings,
        )
        router = RequestRouter(
            requests,
            self._routes,
            health,
            has_app=app is not None,
            metrics=self._metrics_route(requests),
            console=self._console_routes(options) if options.console.console else None,
        )
        self._responder = Responder(self._manager, requests.cross_origin)
        reader = RequestReader(requests, router, origins, self._manager.arriving_bytes)
        streams = StreamRequests(self._manager, self._admission, self._responder)
        handler = ConnectionHandler(
            self._manager,
            reader,
            self._responder,
            self._admission,
            hosted,
            None if hosted is None else self._app_websockets(hosted),
            streams,
            WebSocketRequests(self._manager, self._admission, self._responder),
            Endpoints(self._manager, self._admission, self._responder, requests.request_timeout),
        )
        single_requests = SingleRequests(self._manager, reader, self._admission, streams, handler)

        def make_http2() -> Http2Connections:
            from .http2_connection import Http2Connections

            return Http2Connections(single_requests.serve, options)

        accepted = AcceptedConnections(
            handler,
            make_http2 if options.http2.is_on else None,
            is_cleartext=options.http2.http2_cleartext,
        )
        self._calls = ServeCalls(
            options.serve,
            self._manager,
            hosted,
            options.proxies.proxies,
            accepted,
            offers_http2=options.http2.is_offered,
        )

    def _metrics_route(self, options: RequestOptions) -> EndpointRoute | None:
        if options.metrics_path is None:
            return None
        from .metrics import metrics_endpoint  # needs its extra

        return EndpointRoute(metrics_endpoint(self.collect_statistics), is_exempt=True)

    def _console_routes(self, options: ServerOptions) -> Router[Route]:
        from .console import ServerConsole, ServerSource  # for those only who want it

        if self._console is None:
            self._console = ServerConsole()
        source = ServerSource(
            self._manager,
            self._statistics,
            lambda: [*self.problems(), *self.warnings()],
            self.drain,
            self.close_connections,
            self._console,
            lambda: self._calls.watchdog.loop_seconds,
        )
        return self._console.routes(options.console, options.proxies.proxies, self._manager, source)

    def _app_websockets(self, app: AppHandler) -> AppWebSockets:
        options = self._options
        # The task that reads sends pings to clients that are silent; these are for the others.
        keepalive = 1.5 * options.websockets.websocket_ping_interval
        manager = self._manager.without_hooks(replace(options.streams, keepalive=keepalive))
        request_timeout = options.requests.request_timeout
        context = WebSocketCallContext(manager, options.websockets, request_timeout, app.advice)
        return AppWebSockets(app, self._admission, context)

    @property
    def hub(self) -> Hub:
        """The hub of this server's streams."""
        return self._manager.hub

    @property
    def drain_timeout(self) -> float:
        """How many seconds `drain` waits before it cancels the remaining connections."""
        return self._calls.options.drain_timeout

    @property
    def trusted_proxies(self) -> tuple[str, ...]:
        """The addresses and networks of the proxies whose word counts."""
        return tuple(self._options.proxies.trusted_proxies)

    @property
    def metrics_path(self) -> str | None:
        """The path that answers with metrics."""
        return self._options.requests.metrics_path

    @property
    def console_token(self) -> str | None:
        """The token of the console; `None` if there is no console."""
        return self._console.token if self._console is not None and self._options.console.console else None

    @property
    def http2(self) -> bool:
        """Whether clients with TLS may choose HTTP/2."""
        return self._options.http2.is_offered

    @property
    def http2_cleartext(self) -> bool:
        """Whether clients without TLS may begin with HTTP/2."""
        return self._options.http2.http2_cleartext

    # Routes

    def route(
        self, path: str, *, methods: Iterable[str] = ("GET",)
    ) -> Callable[[StreamFunction], StreamFunction]:
        """Decorate the handler of a path that answers with an event stream.

        The handler is a coroutine function. It takes the `Connection` and, by name, the path's parameters:
        `{name}` matches one segment, and `{name:int}` and so on are typed (`str`, `int`, `float`, `uuid`, and
        `path`, which also matches slashes). The segments are split before they are decoded, so a slash that
        was sent as `%2F` is a part of a value. A path with a segment `.` or `..` matches no route.

        The stream ends when the handler returns. A route for GET also answers HEAD. The body of a POST is in
        `connection.request.body`.

        Raises:
            ValueError: the path or a method is not acceptable, or already has a handler.
            TypeError: the handler is not a coroutine function, or does not take the path's parameters.
        """

        def decorate(handler: StreamFunction) -> StreamFunction:
            self._routes.add_stream(path, methods, handler)
            return handler

        return decorate

    def endpoint(
        self, path: str, *, methods: Iterable[str] = ("GET",)
    ) -> Callable[[EndpointFunction], EndpointFunction]:
        """Decorate the handler of a path that answers with a whole response.

        The handler is a coroutine function. It takes the `Request` and, by name, the path's parameters, as in
        `route`, and returns a `Response`. Endpoints are for the few pages and actions that go with a stream;
        a whole web site is better served by an app.

        Raises:
            ValueError, TypeError: as `route` does.
        """

        def decorate(handler: EndpointFunction) -> EndpointFunction:
            self._routes.add_endpoint(path, methods, handler)
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
        """Decorate the handler of a path that is a WebSocket (RFC 6455).

        The handler is a coroutine function. It takes the `trio_sse.websocket.WebSocketConnection` and, by
        name, the path's parameters, as in `route`. The bounds and hooks of streams apply.

        Args:
            origins: the other origins whose pages may open it, or `*`. Pages of the request's own host always
                may, and so may clients that are not browsers.
            subprotocols: those that the path supports, the preferred one first.
            max_message_size: the largest message from the client, in bytes; a larger one closes the WebSocket
                with 1009.

        Raises:
            ValueError: the path or an option is not acceptable, or the path already has a handler.
            TypeError: the handler is not a coroutine function, or does not take the path's parameters.
        """
        make_route = websocket_route(
            origins=origins, subprotocols=subprotocols, max_message_size=max_message_size
        )

        def decorate(handler: WebSocketFunction) -> WebSocketFunction:
            self._routes.add_websocket(path, make_route(handler))
            return handler

        return decorate

    # Hooks

    def on_connect(self, hook: ConnectFunction) -> ConnectFunction:
        """Decorate a function, plain or async, that is called with the `Connection` before each handler.

        It may raise `HTTPException` to refuse the stream.
        """
        self._manager.on_connect.append(hook)
        return hook

    def on_disconnect(self, hook: DisconnectFunction) -> DisconnectFunction:
        """Decorate a plain function that is called with the `Connection` after each stream has ended.

        It is not async: the stream's cancel scope has been left, and often the server's, too. It is called
        once for each stream that passed all `on_connect` hooks. `connection.end_reason` says why the stream
        ended.

        Raises:
            TypeError: the function is async.
        """
        self._manager.add_disconnect_hook(hook)
        return hook

    def configure(self, **changes: object) -> None:
        """Change options of a server that was created elsewhere, before it is served.

        The options are those of the constructor, except `app`, `hub`, `cors_origins` and `cors_credentials`.

        Raises:
            RuntimeError: the server is being served.
            TypeError, ValueError: an option is not acceptable.
        """
        if self._manager.serve_scopes:
            raise RuntimeError("configure the server before it is served")
        if changes:
            self._use(self._options.with_changes(changes))

    # Serving

    async def serve(
        self,
        host: str | None = "127.0.0.1",
        port: int = 8000,
        *,
        ssl_context: ssl.SSLContext | None = None,
        backlog: int | None = None,
        proxy_protocol: bool = False,
        task_status: trio.TaskStatus[list[Address]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Listen on an address and serve until cancelled or drained.

        `task_status.started` is called with the list of the sockets' addresses. If this is cancelled, every
        stream ends at once; when it returns, all sockets are closed and no task is left.

        Args:
            host: an address or a name; `None` for all addresses.
            port: 0 for any free port.
            ssl_context: serve with TLS.
            backlog: how many connections may wait to be accepted; by default as many as the system allows.
            proxy_protocol: see `serve_listeners`.

        Raises:
            OSError: the address cannot be listened on.
            ValueError: the TLS context is a client's, or `proxy_protocol` is set without `trusted_proxies`.
        """
        self._calls.check(ssl_context, proxy_protocol=proxy_protocol)
        listeners = await trio.open_tcp_listeners(port, host=host, backlog=backlog)
        await self.serve_listeners(
            listeners,
            ssl_context=ssl_context,
            exclusive=True,
            proxy_protocol=proxy_protocol,
            task_status=task_status,
        )

    async def serve_listeners(
        self,
        listeners: Sequence[trio.SocketListener | socket.socket],
        *,
        ssl_context: ssl.SSLContext | None = None,
        exclusive: bool = False,
        proxy_protocol: bool = False,
        task_status: trio.TaskStatus[list[Address]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve on listening sockets, TCP or Unix, as `serve` does. The server owns and closes them.

        Args:
            exclusive: no other process has these sockets, or ever gets them. Then a drain can refuse new
                clients before it closes the sockets, so that it resets none. On a socket that systemd or
                another process also has, that would last, and refuse its clients, too.
            proxy_protocol: each connection from one of the `trusted_proxies` begins with a header of the
                PROXY protocol, version 1 or 2, which says who the client is. A connection without one is
                closed. Other peers must not send one, and are served as what they are.

        Raises:
            ValueError: a socket does not listen, the TLS context is a client's, or `proxy_protocol` is set
                without `trusted_proxies`.
        """
        if self._console is not None and self._options.console.console:
            self._console.show_token(listeners, is_secure=ssl_context is not None)
        await self._calls.serve_listeners(
            listeners, ssl_context, task_status, exclusive=exclusive, proxy_protocol=proxy_protocol
        )

    async def serve_stream(self, stream: trio.abc.Stream, *, peer: str = "stream") -> None:
        """Serve one client over any Trio stream until either side closes it, or until cancelled or drained.

        The stream is closed at the end. Writing to it has to wait, so such a connection has three tasks
        instead of one.

        Args:
            peer: the client's address, for logs and `Request.peer`; also to tell whether it is one of the
                `trusted_proxies`.
        """
        await self._calls.serve_stream(stream, peer)

    async def serve_in_memory(
        self, *, task_status: trio.TaskStatus[Callable[[trio.abc.Stream, str], None]]
    ) -> None:
        """Serve Trio streams that are passed one by one, until cancelled or drained.

        `task_status.started` is called with a function that takes a stream and the client's address. Once the
        server drains or was cancelled, it raises `ConnectionRefusedError`, and the stream stays the caller's.
        `trio_sse.testing` serves this way.
        """
        await self._calls.serve_in_memory(task_status)

    def stop_accepting(self) -> None:
        """Accept no further connections. Open ones continue, and are answered, until `drain`."""
        self._calls.stop_accepting()

    async def drain(self) -> None:
        """Shut down gracefully: end every call to serve, and return when they have ended.

        Requests that have begun to arrive are answered, also those of clients that wait to be accepted. After
        that, no connection is accepted and no request is answered. Streams are ended over a part of
        `drain_timeout`, so that their clients do not all reconnect at once. After `drain_timeout`, the
        remaining connections are cancelled. If this is cancelled, no further streams are ended; those already
        ending still end.
        """
        await self._calls.drain()

    def problems(self) -> list[str]:
        """Return why no client should be sent to this server now; nothing if it is ready.

        The words are for programs: `not_serving`, `draining`, `hub_not_running`, `log_not_loaded`,
        `log_unavailable`, `log_not_writable`, `log_lagging`, and `app_not_running`.
        """
        return [*self._calls.problems(), *engine_of(self.hub).problems()]

    def warnings(self) -> list[str]:
        """Return what is wrong with the server although clients should be sent here; often nothing.

        The words are for programs. There is one: `full`, while `max_connections` is reached.
        """
        return ["full"] if self._admission.is_full else []

    def statistics(self) -> ServerStatistics:
        """Return a snapshot of the server's statistics. It visits every stream, so do not call it often."""
        return in_one_piece(self._statistics())

    async def collect_statistics(self) -> ServerStatistics:
        """Return the same, but let other tasks run between two parts of the streams.

        With 20,000 streams it takes some 20 ms, in pieces of about a millisecond.
        """
        return await in_pieces(self._statistics())

    def _candidates(self, meant: StreamFilter) -> Sequence[ListedStream]:
        if meant.identity is not None:
            return self._manager.identities.streams_of(meant.identity)
        scopes = self._manager.serve_scopes
        if meant.id is not None:
            return [scope.streams[meant.id] for scope in scopes if meant.id in scope.streams]
        return [stream for scope in scopes for stream in scope.streams.values()]

    def _statistics(self) -> Pausing[ServerStatistics]:
        manager, calls = self._manager, self._calls
        streams = [stream for serving in manager.serve_scopes for stream in serving.streams.values()]
        counted = yield from stream_statistics(streams, manager.counters, engine_of(manager.hub).statistics())
        return ServerStatistics(
            open_streams=counted.open_streams,
            opened=counted.opened,
            ended=counted.ended,
            events_sent=counted.events_sent,
            bytes_sent=counted.bytes_sent,
            refused=self._responder.refused.total(),
            turned_away=calls.turned_away,
            max_connections=self._admission.max_connections,
            endpoints=self._admission.endpoints,
            background_calls=self._admission.background_calls,
            pending_bytes=manager.pending_bytes.total,
            pending_cut=manager.pending_bytes.cut,
            is_draining=any(serving.is_draining for serving in manager.serve_scopes),
            streams=counted.streams,
            ages=counted.ages,
            oldest=counted.oldest,
            durations=counted.durations,
            refused_by_status=dict(self._responder.refused),
            loop_turns=calls.watchdog.monitor.turns.snapshot(),
            longest_loop_turn=calls.watchdog.monitor.longest,
            process=process_statistics(),
            hub=counted.hub,
        )


def serve_operators(server: Server) -> None:
    """Let a server that is not served yet answer operators, beside another one that serves clients.

    It leaves the event loop to the other one's watchdog and monitor, and may use some of the descriptors that
    are kept from clients.
    """
    server._calls.is_observed = False
    server._calls.is_for_operators = True


async def report_to_consoles(server: Server) -> float:
    """In a worker, let the consoles of other workers know what this one does, if anybody watches.

    Return how many seconds of CPU time that took. Call it once a second.
    """
    return 0.0 if server._console is None else await server._console.report()


def take_console_token(server: Server) -> str | None:
    """Return a token of the console that was made, for the program to print; `None` if there is none."""
    console = server._console
    return None if console is None or server.console_token is None else console.take_token()


def statistics_of(server: Server) -> Pausing[ServerStatistics]:
    """Return the computation of a server's statistics, for the other packages of trio_sse."""
    return server._statistics()
