"""Quart responses: the body that an event stream writes itself, and whole responses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import TracebackType
from typing import final

from quart import Response, current_app
from quart.wrappers.response import ResponseBody

from .._asgi.response_stream import PendingStream, StreamExtension
from .._http.response import STREAM_FIELDS
from .._http.response import Response as PlainResponse


class _SilentBody(ResponseBody):
    """A body that yields nothing for Quart to send."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        raise StopAsyncIteration

    async def __aexit__(self, kind: type, error: BaseException, traceback: TracebackType) -> None:
        pass


@final
class _EmptyBody(_SilentBody):
    """The body of a response to HEAD."""

    async def __aenter__(self) -> _EmptyBody:
        return self


@final
class _StreamBody(_SilentBody):
    """A body that an event stream writes. Quart enters it when it has sent the response's head."""

    def __init__(self, extension: StreamExtension, pending: PendingStream) -> None:
        self._extension = extension
        self._pending = pending

    async def __aenter__(self) -> _StreamBody:
        extension, pending = self._extension, self._pending
        del self._extension, self._pending  # a body is sent once
        await extension.detach(pending)
        return self


def empty_response() -> Response:
    """Return the answer to HEAD: the head of a stream."""
    return _response(_EmptyBody())


def stream_response(extension: StreamExtension, pending: PendingStream) -> Response:
    """Return a response whose body is the stream."""
    return _response(_StreamBody(extension, pending))


def whole_response(response: PlainResponse) -> Response:
    """Return one of our responses as one of the app's."""
    made: Response = current_app.response_class(response.body, response.status, dict(response.headers))
    made.content_type = response.content_type
    return made


def _response(body: ResponseBody) -> Response:
    response: Response = current_app.response_class(body, headers=STREAM_FIELDS)
    response.timeout = None  # Quart would cut the stream after a minute (RESPONSE_TIMEOUT)
    return response
