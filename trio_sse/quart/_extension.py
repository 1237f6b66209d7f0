"""The extension that adds event streams to an app."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, TypeVar, final

from quart import Quart
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException as WerkzeugHTTPException

from .._http.id_header import check_id_header
from .._http.websocket_handshake import SUBPROTOCOL, Handshake
from .._hub.hub import Hub
from .._pausing import in_one_piece, in_pieces
from .._runs.routes import BodyFunction, OwnerOf, RunRoutes
from .._runs.runs import Runs
from .._stream.listing import ListedStream, StreamFilter
from .._stream.manager import (
    ConnectHook,
    DisconnectHook,
    StreamManager,
)
from .._stream.options import StreamOptions
from .._stream.scope import ServeScope
from .._stream.statistics import StreamStatistics
from .._stream.stream_owner import StreamOwner
from .._validate import check_bounds, check_seconds
from .._websocket.subprotocol import Allowed
from .._wire.event import Dumps, dumps_compact
from ._hosting import AppServices, StreamMiddleware
from ._views import Handler, View, make_view
from ._websocket import serve_quart_websocket

_NAME = "trio_sse"  # in the app's `extensions`

HandlerFunction = TypeVar("HandlerFunction", bound=Handler)
RunFunction = TypeVar("RunFunction", bound=BodyFunction)


@final
class QuartSSE(StreamOwner):
    """Adds event streams to an app, on any server that runs it.

    Args:
        app: a `QuartTrio`; or call `init_app` later.
        hub: the hub of `Connection.subscribe`, by default one of its own. It runs in the app's own nursery
            while the app runs, unless it runs already.
        max_connections: streams that may be open at once; further requests are answered 503.
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
        connection_id_header: str | None = None,
        dumps: Dumps = dumps_compact,
    ) -> None:
        check_id_header(connection_id_header)
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
            host="quart",
            max_connections=max_connections,
            refusals=(WerkzeugHTTPException,),
        )
        self._manager.id_header = connection_id_header
        self._drain_timeout = drain_timeout
        self._app: QuartTrio | None = None
        self._routes: list[Callable[[QuartTrio], object]] = []  # added before there was an app
        self._services: AppServices | None = None  # while the app runs
        self._runs: Runs | None = None
        if app is not None:
            self.init_app(app)

    @property
    def hub(self) -> Hub:
        """The hub of this app's streams."""
        return self._manager.hub

    @property
    def runs(self) -> Runs:
        """The runs of `run`, unless it was passed others; with the default options."""
        if self._runs is None:
            self._runs = Runs(self.hub)
        return self._runs

    def init_app(self, app: Quart) -> None:
        """Attach to an app, before it serves. Routes that were declared before are added to it.

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
        # Quart's documentation adds middleware this way.
        app.asgi_app = StreamMiddleware(app.asgi_app, self._find_serving)  # type: ignore[method-assign, assignment]
        for add in self._routes:
            add(app)
        self._routes.clear()

    # Decorators

    def route(
        self, rule: str, *, methods: Iterable[str] = ("GET",), **options: Any
    ) -> Callable[[HandlerFunction], HandlerFunction]:
        """Decorate a handler: requests for `rule`, as Quart writes it, are answered with its event stream.

        The handler itself is returned unchanged. `options` are those of `Quart.route`. To add other
        decorators, and in blueprints, use Quart's own route above `stream`.
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

    def run(
        self,
        rule: str,
        *,
        runs: Runs | None = None,
        owner: OwnerOf | None = None,
        in_order: bool = False,
        **options: Any,
    ) -> Callable[[RunFunction], RunFunction]:
        """Decorate a run's function: a POST to `rule` starts a run, and streams it.

        ::

            @sse.run("/answers")
            async def answer(run: Run, question: str) -> None:
                async for token in model(question):
                    await run.append(token)

        The function receives the run and the request's body, as a JSON value or as a text. It runs in the
        run's own task, without the request. `rule/<id>` joins a run, and a POST to `rule/<id>/cancel` cancels
        it. So `TrioSSE.run(rule)` in a page needs nothing else.

        Args:
            runs: what starts and keeps the runs; by default `QuartSSE.runs`.
            owner: returns whose run a request is about, by default `Connection.identity`, which a hook of
                `on_connect` can set. It is called within the request. Others neither join nor cancel it.
            in_order: as for `RunView.stream`.
            options: those of `Quart.route`, for all three.
        """

        def decorate(function: RunFunction) -> RunFunction:
            routes = RunRoutes(runs or self.runs, function, owner=owner, in_order=in_order)
            name = options.pop("endpoint", None) or getattr(function, "__name__", "run")
            for suffix, methods, handler in (
                ("", ["POST"], routes.start),
                ("/<id>", ["GET"], routes.join),
                ("/<id>/cancel", ["POST"], routes.cancel),
            ):
                endpoint = f"{name}_{handler.__name__}"
                self.route(rule + suffix, methods=methods, endpoint=endpoint, **options)(handler)
            return function

        return decorate

    def stream(self, handler: Handler) -> View:
        """Make a view of a handler, for Quart's own decorators.

        The handler is a coroutine function of the `Connection` and, by name, the URL's variables; the stream
        ends when it returns. Or it is an async generator function of the URL's variables, which yields
        `ServerSentEvent`, or data for one; if it has a parameter `connection`, it receives the connection.

        Raises:
            TypeError: it is neither.
        """
        return make_view(handler, self._manager)

    async def serve_topics(
        self,
        *,
        topics: Allowed,
        publish: Allowed = (),
        origins: Collection[str] = (),
        identity: str | None = None,
        expires_at: float | None = None,
    ) -> None:
        """Serve the hub's topics by "trio-sse.v1" on the WebSocket of this view, until it ends.

        ::

            @app.websocket("/ws")
            async def ws() -> None:
                await sse.serve_topics(topics=["news"])

        Args:
            topics, publish: what the client may subscribe and publish to, as in
                `trio_sse.websocket.serve_topics`.
            origins: other origins whose pages may open it, or `*`. Pages of the request's own host may,
                and so may clients that are not browsers; others are refused with 403.
            identity, expires_at: whose WebSocket it is, and when the client's credentials expire; see
                `trio_sse.Connection`.

        Raises:
            RuntimeError: the app has not been started.
            TypeError, ValueError: the identity or the time is not acceptable.
        """
        if self._services is None:
            raise RuntimeError("the app has not been started: serve it, or use its test_app")
        await serve_quart_websocket(
            self._manager,
            self._services.serving,
            topics=topics,
            publish=publish,
            handshake=Handshake(origins=origins, subprotocols=[SUBPROTOCOL]),
            identity=identity,
            expires_at=expires_at,
        )

    def on_connect(self, hook: ConnectHook) -> ConnectHook:
        """Decorate a function of the `Connection`, plain or async, that is called before each handler.

        It may refuse the stream, by `abort` or `trio_sse.HTTPException`.
        """
        self._manager.on_connect.append(hook)
        return hook

    def on_disconnect(self, hook: DisconnectHook) -> DisconnectHook:
        """Decorate a plain function of the `Connection` that is called when each stream has ended."""
        self._manager.add_disconnect_hook(hook)
        return hook

    def _candidates(self, meant: StreamFilter) -> Sequence[ListedStream]:
        return self._manager.candidates(meant)

    def statistics(self) -> StreamStatistics:
        """Return the statistics of this app's streams. It visits every stream: do not call it often."""
        return in_one_piece(self._manager.statistics())

    async def collect_statistics(self) -> StreamStatistics:
        """Return the same, but let other tasks run between two parts of the streams."""
        return await in_pieces(self._manager.statistics())

    # The app's lifespan

    async def _start(self) -> None:
        assert self._app is not None
        self._services = AppServices(self._manager, self._drain_timeout)
        await self._app.nursery.start(self._services.run)
        # Added only now, so that it runs after the app's own hooks, which may still publish.
        if self._stop not in self._app.after_serving_funcs:
            self._app.after_serving_funcs.append(self._stop)

    async def _stop(self) -> None:
        if self._services is not None:
            services, self._services = self._services, None
            await services.stop()

    def _find_serving(self) -> ServeScope | None:
        """Return what the streams share on a server that is not ours, while the app runs."""
        return None if self._services is None else self._services.serving
