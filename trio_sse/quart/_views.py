"""How a handler becomes a view: the view starts the stream and returns its response to Quart."""

from __future__ import annotations

import inspect
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from functools import partial, wraps
from typing import Any, cast

import trio
from quart import Request, Response, abort, current_app, request
from werkzeug.datastructures import Headers

from .._asgi.request import may_have_body
from .._asgi.response_stream import StreamExtension
from .._asgi.types import STREAMS, Scope
from .._http.event_source import refusal_response
from .._http.exceptions import HTTPException, TemporaryRefusal
from .._http.request import Headers as RequestHeaders
from .._http.response import Response as PlainResponse
from .._http.response import error_response
from .._stream.connection import Connection, stream_of
from .._stream.head_request import StreamHead, run_head
from .._stream.lifecycle import Handle, Refused
from .._stream.manager import StreamManager
from .._stream.polling import run_poll, wants_poll
from .._stream.stream_kind import in_route
from .._stream.whole_body import is_in_need_of_body
from .._wire.topic import TopicError
from ._response import empty_response, stream_response, whole_response

#: A coroutine function of the connection and the URL's variables, which may return a response instead of
#: sending events; or an async generator function of these variables, which may take the connection as
#: `connection`.
Handler = Callable[..., Awaitable[object]] | Callable[..., AsyncIterator[object]]
View = Callable[..., Awaitable[Response]]


def make_view(handler: Handler, manager: StreamManager) -> View:
    """Return a view that answers with the handler's stream.

    Raises:
        TypeError: the handler is neither a coroutine function nor an async generator function.
    """
    run = _as_coroutine_function(handler)
    name = getattr(handler, "__qualname__", repr(handler))

    @wraps(handler)
    async def view(**variables: object) -> Response:
        return await _respond(manager, partial(run, **variables) if variables else run, name)

    return view


def _as_coroutine_function(handler: Handler) -> Callable[..., Awaitable[PlainResponse | None]]:
    """Return a coroutine function of the connection and the URL's variables."""
    if inspect.iscoroutinefunction(handler):
        needs_body = is_in_need_of_body(handler)

        async def run_and_answer(connection: Connection, **variables: object) -> PlainResponse | None:
            if needs_body:
                has_body = may_have_body(cast(Scope, request.scope))
                stream, body = stream_of(connection), await request.get_data() if has_body else b""
                assert isinstance(body, bytes)  # since it was not asked for as a text
                stream.request = replace(stream.request, body=body)
            answer: Any = await handler(connection, **variables)
            if isinstance(answer, PlainResponse):
                return answer
            if answer is not None:
                # Usually a decorator's, such as a redirect to the login. Once the stream has begun, it is an
                # error.
                response: Any = await current_app.make_response(answer)
                abort(response)
            return None

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


async def _respond(manager: StreamManager, handle: Handle, name: str) -> Response:
    """Answer the current request; `name` is that of the stream's task."""
    extension = _find_extension()
    headers = extension.request.headers
    try:
        manager.check_room()
        if wants_poll(extension.request) or extension.request.method == "HEAD":
            return await _answer_soon(extension, manager, handle)
        pending = extension.start_detached(manager, handle, name)
        pending.stream.kind = in_route(pending.stream.kind, _rule(), is_secure=request.scheme == "https")
        can_start = await pending.wait_ready()
        _share_header_names(request)
    except HTTPException as refusal:
        return _refuse(refusal, headers)
    except TopicError as error:
        return _refuse(HTTPException(400, str(error)), headers)
    if not can_start:
        return _refuse(TemporaryRefusal(503, "the stream ended before it began"), headers)
    return stream_response(extension, pending)


def _find_extension() -> StreamExtension:
    extensions: Mapping[str, Any] = request.scope.get("extensions") or {}
    extension: StreamExtension | None = extensions.get(STREAMS)
    if extension is None:
        raise RuntimeError(
            "this app has not been started: serve it, or run it by trio_sse.testing or app.test_app()"
        )
    return extension


async def _answer_soon(extension: StreamExtension, manager: StreamManager, handle: Handle) -> Response:
    """Answer a poll, or HEAD."""
    asked = extension.request
    run = run_poll if wants_poll(asked) else run_head
    with extension.answering(manager) as serving:
        answer = await run(
            manager,
            serving,
            asked,
            handle,
            peer=asked.peer,
            discard=trio.sleep_forever,  # Quart cancels the view when its client disconnects
            is_disconnected=lambda: extension.is_disconnected,
            watch_disconnect=extension.watch_disconnect,
            route=_rule(),
            is_secure=request.scheme == "https",
        )
    if isinstance(answer, Refused):
        raise answer.error
    if isinstance(answer, StreamHead):
        return empty_response(answer.fields)
    return whole_response(answer or error_response(HTTPException(503, "the client has disconnected")))


def _rule() -> str | None:
    """Return the pattern of the current request's route."""
    rule = request.url_rule
    return None if rule is None else rule.rule


def _refuse(refusal: HTTPException, headers: RequestHeaders) -> Response:
    return whole_response(refusal_response(refusal, headers))


def _share_header_names(asked: Request) -> None:
    """Share the names of a request's header fields with all other requests: a stream keeps it for an hour."""
    asked.headers = Headers([(sys.intern(name), value) for name, value in asked.headers])
