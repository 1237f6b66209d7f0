"""Event streams for Starlette, FastAPI, Litestar, or no framework at all: an ASGI endpoint for apps on Trio.

::

    async def prices(connection: Connection, symbol: str) -> None:
        await connection.subscribe(f"prices/{symbol}")

    app = Starlette(routes=[Route("/prices/{symbol}", event_stream(prices, hub=hub))], lifespan=...)

On `trio_sse.Server(app)` such a stream writes to the connection directly, as fast as a route of the server.
On other servers that run apps on Trio, such as hypercorn, it keeps the same promises as far as the server
allows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import trio

from ._app.stream import AppStream
from ._asgi.foreign_server import ForeignInlineStream, closing_fields
from ._asgi.inline_head import InlineHead, with_fields
from ._asgi.request import may_have_body, request_of
from ._asgi.response_messages import encode_fields, response_messages
from ._asgi.response_stream import InlineStream
from ._asgi.types import STREAMS, ASGIApp, Receive, Scope, Send
from ._http.event_source import refusal_response
from ._http.exceptions import HTTPException, TemporaryRefusal
from ._http.fields import HeaderFields, field_pairs, merge_fields
from ._http.id_header import check_id_header
from ._http.request import Request
from ._http.response import STREAM_FIELDS, Response, error_response
from ._hub.hub import Hub
from ._pausing import in_one_piece, in_pieces
from ._request.routes import StreamHandler
from ._runs.routes import BodyFunction, OwnerOf, RunRoutes
from ._runs.runs import Runs
from ._stream.head_request import run_head
from ._stream.lifecycle import Handle, Refused
from ._stream.listing import ListedStream, StreamFilter
from ._stream.manager import ConnectHook, DisconnectHook, StreamManager
from ._stream.options import StreamOptions
from ._stream.polling import run_poll, wants_poll
from ._stream.statistics import StreamStatistics
from ._stream.stream_kind import in_route
from ._stream.stream_owner import StreamOwner
from ._transport.arriving_bytes import TOO_MUCH_ARRIVED, ArrivingBody
from ._validate import check_bounds, check_functions
from ._wire.event import Dumps, dumps_compact
from ._wire.topic import TopicError

__all__ = ["ASGIApp", "EventStream", "RunEndpoints", "event_stream", "run_endpoints"]

_NEEDS_TRIO = (
    "an event_stream needs Trio, and this server runs the app on another library, such as asyncio: serve it "
    "with `trio-sse serve MODULE:APP`, with trio_sse.Server(app), or with `hypercorn -k trio MODULE:APP`"
)


def event_stream(
    handler: StreamHandler,
    *,
    hub: Hub | None = None,
    methods: Iterable[str] = ("GET",),
    headers: HeaderFields | None = None,
    keepalive: float = 15.0,
    max_duration: float = 3600.0,
    max_connections: int = 16_384,
    write_timeout: float = 30.0,
    reconnect_spread: float = 5.0,
    max_body_size: int = 1024 * 1024,
    identity: Callable[[Scope], str | None] | None = None,
    connection_id_header: str | None = None,
    dumps: Dumps = dumps_compact,
) -> EventStream:
    """Return an ASGI endpoint that answers with the event stream of a handler.

    The handler is a coroutine function of the `Connection` and, by name, of the path's parameters, if the
    framework puts them into the scope as `path_params`. Until it has sent something it may return a
    `Response`, or raise `HTTPException`; other exceptions go to the framework.

    Args:
        hub: the hub of `Connection.subscribe`. It has to be run: by the server, if it is the server's own,
            or in the app's lifespan by `await nursery.start(hub.run)`.
        methods: the allowed methods; GET includes HEAD. A POST's body is in `connection.request.body`.
        headers: further header fields of the stream's response, as a mapping or as pairs.
        max_body_size: the largest body that a request may have, in bytes; a larger one is refused with 413.
        identity: returns whose stream it is, from the request's ASGI scope, where middleware of the framework
            has put its user; see `Connection.identity`. It may raise `HTTPException`.

    The other options are those of `trio_sse.Server`, for the streams of this endpoint.

    Raises:
        TypeError, ValueError: an option is not acceptable.
    """
    options = StreamOptions(
        keepalive=keepalive,
        max_duration=max_duration,
        write_timeout=write_timeout,
        reconnect_spread=reconnect_spread,
        dumps=dumps,
    )
    check_functions(handler=handler)
    if identity is not None:
        check_functions(identity=identity)
    if isinstance(methods, str):
        raise TypeError("methods must be a collection of methods, not one str")
    check_id_header(connection_id_header)
    check_bounds(0, max_body_size=max_body_size)
    check_bounds(1, max_connections=max_connections)
    manager = StreamManager(
        Hub() if hub is None else hub, options, host="asgi", max_connections=max_connections
    )
    manager.id_header = connection_id_header
    fields = merge_fields(STREAM_FIELDS.items(), field_pairs(headers or {}))
    return EventStream(
        handler, manager, [method.upper() for method in methods], fields, max_body_size, identity
    )


@final
@dataclass(frozen=True, slots=True)
class RunEndpoints:
    """Three ASGI endpoints for runs of one function; created by `run_endpoints`.

    Attributes:
        start: a POST starts a run with the request's body, and streams it.
        join: GET streams the run of the path parameter `id`, or of the query's `id`.
        cancel: a POST cancels that run.
    """

    start: EventStream
    join: EventStream
    cancel: EventStream


def run_endpoints(
    function: BodyFunction,
    runs: Runs,
    *,
    owner: OwnerOf | None = None,
    in_order: bool = False,
    **options: Any,
) -> RunEndpoints:
    """Return endpoints that start, join and cancel runs of a function::

        answers = run_endpoints(answer, runs)  # async def answer(run: Run, body: Any) -> object
        Route("/answers", answers.start)
        Route("/answers/{id}", answers.join)
        Route("/answers/{id}/cancel", answers.cancel)

    Args:
        function: it receives the run and the request's body, as a JSON value or as a text.
        runs: what starts and keeps the runs.
        owner: returns whose run a request is about, by default `Connection.identity`, as the option
            `identity` sets it. Others neither join nor cancel it.
        in_order: as for `RunView.stream`.
        options: those of `event_stream`.
    """
    routes = RunRoutes(runs, function, owner=owner, in_order=in_order)
    options.setdefault("hub", runs.hub)
    return RunEndpoints(
        event_stream(routes.start, methods=["POST"], **options),
        event_stream(routes.join, **options),
        event_stream(routes.cancel, methods=["POST"], **options),
    )


@final
class EventStream(StreamOwner):
    """An ASGI endpoint that answers with an event stream; created by `event_stream`."""

    def __init__(
        self,
        handler: StreamHandler,
        manager: StreamManager,
        methods: list[str],
        fields: list[tuple[str, str]],
        max_body_size: int,
        identity: Callable[[Scope], str | None] | None,
    ) -> None:
        self._handler = handler
        self._manager = manager
        self._methods = [*methods, "HEAD"] if "GET" in methods else methods
        self._headers = encode_fields(fields)
        self._max_body_size = max_body_size
        self._identity = identity

    @property
    def hub(self) -> Hub:
        """The hub of this endpoint's streams."""
        return self._manager.hub

    def on_connect(self, hook: ConnectHook) -> ConnectHook:
        """Decorate a hook; see `Server.on_connect`."""
        self._manager.on_connect.append(hook)
        return hook

    def on_disconnect(self, hook: DisconnectHook) -> DisconnectHook:
        """Decorate a hook; see `Server.on_disconnect`."""
        self._manager.add_disconnect_hook(hook)
        return hook

    def statistics(self) -> StreamStatistics:
        """Return the statistics of this endpoint's streams. It visits every stream: do not call it often."""
        return in_one_piece(self._manager.statistics())

    async def collect_statistics(self) -> StreamStatistics:
        """Return the same, but let other tasks run between two parts of the streams."""
        return await in_pieces(self._manager.statistics())

    def _candidates(self, meant: StreamFilter) -> Sequence[ListedStream]:
        return self._manager.candidates(meant)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, as an ASGI app."""
        if not trio.lowlevel.in_trio_run():
            raise RuntimeError(_NEEDS_TRIO)
        if scope["type"] != "http":
            raise RuntimeError(f"an event stream answers HTTP only, not {scope['type']!r}")
        try:
            await self._answer(scope, receive, send)
        except _ClientLeft:
            # Middleware such as Starlette's expects some response, which the server drops.
            with suppress(OSError):
                await _send_response(error_response(HTTPException(503)), scope["method"], send)
        except HTTPException as refusal:
            response = refusal_response(refusal, request_of(scope).headers)
            await _send_response(response, scope["method"], send)
        except TopicError as error:
            await _send_response(error_response(HTTPException(400, str(error))), scope["method"], send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in self._methods:
            raise HTTPException(405, headers={"Allow": ", ".join(self._methods)})
        body = await self._receive_body(receive) if may_have_body(scope) else b""
        found = (scope.get("extensions") or {}).get(STREAMS)
        if isinstance(found, AppStream):
            await self._stream(scope, receive, send, found, request_of(scope, body))
            return
        inline = ForeignInlineStream(scope, receive, send)
        try:
            await self._stream(scope, receive, send, inline, request_of(scope, body))
        finally:
            inline.close()

    async def _stream(
        self, scope: Scope, receive: Receive, send: Send, inline: InlineStream, request: Request
    ) -> None:
        self._manager.check_room()
        handle = partial(self._handler, **scope.get("path_params", {}))
        identity = None if self._identity is None else self._identity(scope)
        if wants_poll(request) or request.method == "HEAD":
            await self._answer_soon(inline, request, handle, scope, receive, send, identity)
            return
        is_foreign = isinstance(inline, ForeignInlineStream)
        head = InlineHead(inline, send, [*self._headers, *(closing_fields(request) if is_foreign else ())])
        head.stream = stream = inline.prepare_inline(self._manager, request, head)
        stream.kind = in_route(stream.kind, self._route_of(scope), is_secure=_is_secure(scope))
        stream.set_identity(identity)
        try:
            outcome = await inline.run_inline(self._manager, head.stream, handle)
        finally:
            await head.aclose()
        # A `send` that was cancelled may have sent the head all the same.
        has_head = head.has_been_sent or (isinstance(inline, ForeignInlineStream) and inline.has_head)
        if isinstance(outcome, Refused):
            if not (head.has_been_tried and isinstance(outcome.error, HTTPException)):
                raise outcome.error
            await inline.refuse_late(head.stream, outcome.error)
            if not has_head:
                # The server has its answer. Middleware that has not passed the head on expects one, too.
                with trio.move_on_after(self._manager.options.write_timeout):
                    response = refusal_response(outcome.error, request.headers)
                    await _send_response(response, "GET", send)
                return
        if not has_head:
            raise _ClientLeft
        if not (isinstance(inline, ForeignInlineStream) and inline.is_cut):
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _route_of(self, scope: Scope) -> str:
        """Return the pattern of a request's route where the framework says it, or the handler's name."""
        path: object = scope.get("path_template") or getattr(scope.get("route"), "path", None)
        return path if isinstance(path, str) else getattr(self._handler, "__qualname__", "")

    async def _answer_soon(
        self,
        inline: InlineStream,
        request: Request,
        handle: Handle,
        scope: Scope,
        receive: Receive,
        send: Send,
        identity: str | None,
    ) -> None:
        """Answer a poll, or HEAD."""

        async def discard() -> bool:
            message = await receive()
            return bool(message["type"] != "http.disconnect")

        run = run_poll if wants_poll(request) else run_head
        with inline.answering(self._manager) as serving:
            answer = await run(
                self._manager,
                serving,
                request,
                handle,
                peer=request.peer,
                discard=discard,
                watch_disconnect=inline.watch_disconnect,
                route=self._route_of(scope),
                is_secure=_is_secure(scope),
                identity=identity,
            )
        if isinstance(answer, Refused):
            raise answer.error
        if answer is None:
            raise _ClientLeft
        if isinstance(answer, Response):
            await _send_response(answer, request.method, send)
            return
        headers = with_fields(self._headers, answer.fields)
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _receive_body(self, receive: Receive) -> bytes:
        piece, has_more = await _receive_piece(receive)
        body = bytearray(piece)
        try:
            if has_more:
                with ArrivingBody(self._manager.arriving_bytes) as arrival:
                    arrival.grow(len(piece))
                    while has_more and len(body) <= self._max_body_size:
                        piece, has_more = await _receive_piece(receive)
                        body += piece
                        arrival.grow(len(piece))
                if arrival.is_cut:
                    raise TemporaryRefusal(503, TOO_MUCH_ARRIVED)
            if len(body) > self._max_body_size:
                raise HTTPException(413, f"the body must have at most {self._max_body_size} bytes")
            return bytes(body)
        finally:
            body.clear()  # an exception keeps this frame for as long as its refusal takes to be sent


async def _receive_piece(receive: Receive) -> tuple[bytes, bool]:
    """Return the next piece of a request's body, and whether another one follows."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise _ClientLeft
    return message.get("body", b""), message.get("more_body", False)


class _ClientLeft(Exception):
    """The client has disconnected before the response's head was sent."""


async def _send_response(response: Response, method: str, send: Send) -> None:
    for message in response_messages(response, with_body=method != "HEAD"):
        await send(message)


def _is_secure(scope: Scope) -> bool:
    return bool(scope.get("scheme") == "https")
