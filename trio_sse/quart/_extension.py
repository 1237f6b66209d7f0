"""The extension that gives an app its event streams."""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import aclosing
from functools import partial, wraps
from types import TracebackType
from typing import Any, TypeVar, final

import trio
from quart import Quart, Request, Response, abort, current_app, request
from quart.wrappers.response import ResponseBody
from quart_trio import QuartTrio
from werkzeug.datastructures import Headers
from werkzeug.exceptions import HTTPException as WerkzeugHTTPException

from .._asgi.foreign_server import HostedStage, Siblings
from .._asgi.response_stream import Launch, Stage
from .._asgi.types import STREAMS, ASGIApp, Receive, Scope, Send
from .._http.exceptions import HTTPException
from .._http.request import Request as StreamRequest
from .._http.response import STREAM_FIELDS, error_response
from .._http.response import Response as StreamResponse
from .._http.websocket_handshake import SUBPROTOCOL, Handshake
from .._hub.hub import Hub
from .._stream.connection import Connection
from .._stream.lifecycle import Handle
from .._stream.manager import (
    ConnectHook,
    DisconnectHook,
    StreamManager,
    StreamOptions,
    StreamStatistics,
)
from .._stream.polling import run_poll, wants_poll
from .._stream.scope import ServeScope, end_streams
from .._validate import check_bounds, check_seconds
from .._websocket.subprotocol import Allowed
from .._wire.event import Dumps, dumps_compact
from .._wire.topic import TopicError
from ._websocket import serve_quart_websocket

logger = logging.getLogger("trio_sse.quart")

_NAME = "trio_sse"  # in the app's `extensions`

#: A coroutine function of the connection and the URL's variables, or an async generator function of these
#: variables, which may take the connection as `connection`.
Handler = Callable[..., Awaitable[None]] | Callable[..., AsyncIterator[object]]
HandlerFunction = TypeVar("HandlerFunction", bound=Handler)
View = Callable[..., Awaitable[Response]]


@final
class QuartSSE:
    """Give an app event streams, on whatever server it runs.

    Args:
        app: a `QuartTrio`; or call `init_app` later.
        hub: the hub of `Connection.subscribe`, by default one of its own. It runs in the app's own nursery
            from the app's start to its end, unless it runs already.
        max_connections: streams that may be open at once; further requests for one are answered 503.
        drain_timeout: seconds that streams may take to end when the app shuts down.

    The other options are those of `trio_sse.Server`, for the streams of this app.

    Raises:
        TypeError, ValueError: an option is not acceptable.
    """

    def __init__(
        self,
        app: Quart | None = None,
        *,
        hub: Hub | None = None,
        keepalive: float = 15.0,
        max_duration: float = 3600.0,
        max_connections: int = 16_384,
        write_timeout: float = 30.0,
        drain_timeout: float = 10.0,
        reconnect_spread: float = 5.0,
        dumps: Dumps = dumps_compact,
    ) -> None:
        check_seconds(drain_timeout=drain_timeout)
        check_bounds(1, max_connections=max_connections)
        options = StreamOptions(
            keepalive=keepalive,
            max_duration=max_duration,
            write_timeout=write_timeout,
            reconnect_spread=reconnect_spread,
            dumps=dumps,
        )
        self._manager = StreamManager(
            Hub() if hub is None else hub,
            options,
            max_connections=max_connections,
            refusals=(WerkzeugHTTPException,),
        )
        self._drain_timeout = drain_timeout
        self._app: QuartTrio | None = None
        self._routes: list[Callable[[QuartTrio], object]] = []  # given before there was an app
        self._support: _Support | None = None  # while the app runs
        if app is not None:
            self.init_app(app)

    @property
    def hub(self) -> Hub:
        """The hub of this app's streams."""
        return self._manager.hub

    def init_app(self, app: Quart) -> None:
        """Take an app on, before it serves. Routes that were given by then are added to it.

        Raises:
            TypeError: it is no `QuartTrio`.
            RuntimeError: it has a `QuartSSE` already, or this has an app.
        """
        if not isinstance(app, QuartTrio):
            raise TypeError(f"the app must be a QuartTrio, which runs on Trio, not {type(app).__name__}")
        if self._app is not None or _NAME in app.extensions:
            raise RuntimeError("an app has one QuartSSE, and a QuartSSE has one app")
        self._app = app
        app.extensions[_NAME] = self
        app.before_serving(self._start)
        # As Quart advises to add what stands around an app.
        app.asgi_app = _HostStreams(app.asgi_app, self)  # type: ignore[method-assign, assignment]
        for add in self._routes:
            add(app)
        self._routes.clear()

    # Decorators

    def route(
        self, rule: str, *, methods: Iterable[str] = ("GET",), **options: Any
    ) -> Callable[[HandlerFunction], HandlerFunction]:
        """Decorate a handler: `rule`, as Quart writes them, answers with the event stream that it drives.

        The handler stays what it was. `options` are those of `Quart.route`. To add other decorators, and in
        blueprints, use Quart's own route above `stream`.
        """

        def decorate(handler: HandlerFunction) -> HandlerFunction:
            view = self.stream(handler)

            def add(app: QuartTrio) -> None:
                app.route(rule, methods=list(methods), **options)(view)

            if self._app is None:
                self._routes.append(add)
            else:
                add(self._app)
            return handler

        return decorate

    def stream(self, handler: Handler) -> View:
        """Make a view of a handler, for Quart's own decorators.

        The handler is a coroutine function of the `Connection` and, by name, the URL's variables; the stream
        ends when it returns. Or it is an async generator function of the URL's variables, which yields
        `ServerSentEvent`, or data for one; it is given the connection if it has a parameter `connection`.

        Raises:
            TypeError: it is neither.
        """
        run = _as_coroutine_function(handler)
        name = getattr(handler, "__qualname__", repr(handler))

        @wraps(handler)
        async def view(**variables: object) -> Response:
            return await self._respond(partial(run, **variables) if variables else run, name)

        return view

    async def serve_topics(
        self, *, topics: Allowed, publish: Allowed = (), origins: Collection[str] = ()
    ) -> None:
        """Serve the hub's topics by "trio-sse.v1" on the WebSocket of this view, until it ends.

        ::

            @app.websocket("/ws")
            async def ws() -> None:
                await sse.serve_topics(topics=["news"])

        Args:
            topics, publish: what the client may subscribe and publish to, as in
                `trio_sse.websocket.serve_topics`.
            origins: pages of which other origins may open it, or `*`. Pages of the request's own host may,
                and so may clients that are no browsers; others are answered 403.

        Raises:
            RuntimeError: the app has not been started.
        """
        if self._support is None:
            raise RuntimeError("the app has not been started: serve it, or use its test_app")
        await serve_quart_websocket(
            self.hub,
            self._support.serving,
            topics=topics,
            publish=publish,
            handshake=Handshake(origins=origins, subprotocols=[SUBPROTOCOL]),
            write_timeout=self._manager.options.write_timeout,
        )

    def on_connect(self, hook: ConnectHook) -> ConnectHook:
        """Decorate a function of the `Connection`, plain or async, that is called before each handler.

        It may refuse the stream, by `abort` or `trio_sse.HTTPException`.
        """
        self._manager.on_connect.append(hook)
        return hook

    def on_disconnect(self, hook: DisconnectHook) -> DisconnectHook:
        """Decorate a plain function of the `Connection` that is called when each stream has ended."""
        self._manager.on_disconnect.append(hook)
        return hook

    def statistics(self) -> StreamStatistics:
        """Give the figures of this app's streams. It looks at every stream: not for hot code."""
        return self._manager.statistics()

    # A request

    async def _respond(self, handle: Handle, name: str) -> Response:
        if request.method == "HEAD":
            return self._response(_EmptyBody())
        extensions: Mapping[str, Any] = request.scope.get("extensions") or {}
        stage: Stage | None = extensions.get(STREAMS)
        if stage is None:
            raise RuntimeError(
                "this app has not been started: serve it, or run it by trio_sse.testing or app.test_app()"
            )
        try:
            self._manager.check_room()
            asked = stage.request
            if wants_poll(asked):
                return await self._poll(stage.serving, asked, handle)
            launch = stage.launch(self._manager, handle, name)
            is_open = await launch.ready()
            _share_names(request)
        except HTTPException as refusal:
            return self._refusal(refusal)
        except TopicError as error:
            return self._refusal(HTTPException(400, str(error)))
        if not is_open:
            return self._refusal(HTTPException(503, "the stream ended before it began"))
        return self._response(_StreamBody(stage, launch))

    async def _poll(self, serving: ServeScope, asked: StreamRequest, handle: Handle) -> Response:
        # Quart cancels the view when its client goes.
        answer = await run_poll(
            serving, self._manager, asked, handle, peer=asked.peer, discard=trio.sleep_forever
        )
        if isinstance(answer, Exception):
            raise answer
        return self._whole(answer or error_response(HTTPException(503, "the client has gone")))

    def _refusal(self, refusal: HTTPException) -> Response:
        return self._whole(error_response(refusal))

    def _whole(self, response: StreamResponse) -> Response:
        assert self._app is not None
        made: Response = self._app.response_class(response.body, response.status, dict(response.headers))
        made.content_type = response.content_type
        return made

    def _response(self, body: ResponseBody) -> Response:
        assert self._app is not None
        response: Response = self._app.response_class(body, headers=STREAM_FIELDS)
        response.timeout = None  # Quart would cut the stream after a minute (RESPONSE_TIMEOUT)
        return response

    # The app's lifespan

    async def _start(self) -> None:
        assert self._app is not None
        self._support = _Support(self._manager, self._drain_timeout)
        await self._app.nursery.start(self._support.run)
        # Now, so that it comes after those of the app, which may still publish.
        if self._stop not in self._app.after_serving_funcs:
            self._app.after_serving_funcs.append(self._stop)

    async def _stop(self) -> None:
        if self._support is not None:
            support, self._support = self._support, None
            await support.stop()

    @property
    def serving(self) -> ServeScope | None:
        """What the streams share on a server that isn't ours, while the app runs."""
        return None if self._support is None else self._support.serving


@final
class _Support:
    """What runs in the app's nursery: the hub, and what streams share on servers that are not ours."""

    def __init__(self, manager: StreamManager, drain_timeout: float) -> None:
        self.serving = ServeScope(manager, drain_timeout=drain_timeout)
        self._drain_timeout = drain_timeout
        self._is_stopping = trio.Event()
        self._has_ended = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        async def work() -> None:
            task_status.started()
            await self._is_stopping.wait()

        try:
            await self.serving.run(work)
        finally:
            self._has_ended.set()

    async def stop(self) -> None:
        """End the streams that are left, then the hub."""
        self.serving.stop_accepting()
        self._is_stopping.set()
        with trio.move_on_after(self._drain_timeout):
            await end_streams(list(self.serving.streams), drain_timeout=self._drain_timeout)
            await self._has_ended.wait()
            return
        self.serving.connections.cancel_scope.cancel()
        await self._has_ended.wait()


@final
class _HostStreams:
    """The app's ASGI callable, with a `Stage` for its streams where the server has provided none."""

    def __init__(self, app: ASGIApp, sse: QuartSSE) -> None:
        self._app = app
        self._sse = sse
        self._siblings: Siblings = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        extensions: Mapping[str, object] = scope.get("extensions") or {}
        serving = self._sse.serving
        if scope["type"] != "http" or serving is None or STREAMS in extensions:
            await self._app(scope, receive, send)
            return
        stage = HostedStage(serving, self._siblings, scope, receive, send)
        scope["extensions"] = {**extensions, STREAMS: stage}
        try:
            await self._app(scope, stage.receive, stage.send)
        finally:
            stage.close()


class _Body(ResponseBody):
    """A body of which Quart gets nothing to send."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        raise StopAsyncIteration

    async def __aexit__(self, kind: type, error: BaseException, traceback: TracebackType) -> None:
        pass


@final
class _EmptyBody(_Body):
    async def __aenter__(self) -> _EmptyBody:
        return self


@final
class _StreamBody(_Body):
    """A body that an event stream writes. Quart enters it when it has sent the head."""

    def __init__(self, stage: Stage, launch: Launch) -> None:
        self._stage = stage
        self._launch = launch

    async def __aenter__(self) -> _StreamBody:
        stage, launch = self._stage, self._launch
        del self._stage, self._launch  # a body is sent once
        await stage.carry(launch)
        return self


def _share_names(request: Request) -> None:
    """Let a request share the names of its header fields with all others: a stream keeps it for an hour."""
    request.headers = Headers([(sys.intern(name), value) for name, value in request.headers])


def _as_coroutine_function(handler: Handler) -> Callable[..., Awaitable[None]]:
    """Give a coroutine function of the connection and the URL's variables."""
    if inspect.iscoroutinefunction(handler):

        async def run_and_answer(connection: Connection, **variables: object) -> None:
            answer: Any = await handler(connection, **variables)
            if answer is not None:
                # A decorator's, as a rule: a redirect to the login. Once the stream has begun, it's an error.
                response: Any = await current_app.make_response(answer)
                abort(response)

        return run_and_answer
    if not inspect.isasyncgenfunction(handler):
        raise TypeError(f"a handler must be a coroutine or async generator function, not {handler!r}")
    takes_connection = "connection" in inspect.signature(handler).parameters

    async def run(connection: Connection, **variables: object) -> None:
        if takes_connection:
            variables["connection"] = connection
        async with aclosing(handler(**variables)) as events:
            async for event in events:
                await connection.send(event)

    return run
