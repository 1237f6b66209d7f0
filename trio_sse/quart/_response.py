"""Quart responses: the body that an event stream writes itself, and whole responses."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from types import TracebackType
from typing import final

from quart import Response, current_app
from quart.wrappers.response import ResponseBody
from werkzeug.datastructures import Headers

from .._asgi.response_stream import PendingStream, StreamExtension
from .._http.fields import field_pairs, merge_fields
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


def empty_response(fields: Iterable[tuple[str, str]]) -> Response:
    """Return the answer to HEAD: the head of a stream, with further fields."""
    return _response(_EmptyBody(), fields)


def stream_response(extension: StreamExtension, pending: PendingStream) -> Response:
    """Return a response whose body is the stream."""
    fields = pending.stream.take_added_fields()
    return _response(_StreamBody(extension, pending), fields)


def whole_response(response: PlainResponse) -> Response:
    """Return one of our responses as one of the app's."""
    headers = Headers(list(field_pairs(response.headers)))
    made: Response = current_app.response_class(response.body, response.status, headers)
    made.content_type = response.content_type
    return made


def _response(body: ResponseBody, fields: Iterable[tuple[str, str]]) -> Response:
    headers = Headers(merge_fields(STREAM_FIELDS.items(), fields)) if fields else STREAM_FIELDS
    response: Response = current_app.response_class(body, headers=headers)
    response.timeout = None  # Quart would cut the stream after a minute (RESPONSE_TIMEOUT)
    return response
