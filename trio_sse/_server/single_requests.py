"""Serving a transport that carries one request, whose head is known: a stream of HTTP/2.

While an event stream runs, the frames of its task are most of its memory. The outermost one counts twice,
since Trio looks at it when it starts the task. So `_run` has few variables, and everything that can be done
before the task starts, or after the stream, is done in other functions.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, final

from .._generators import count_open_nurseries, has_left_open
from .._http.exceptions import HTTPException
from .._http.request_head import RequestHead
from .._request.admission import Admission
from .._request.request_reader import RequestReader, routed_to_stream
from .._request.routes import StreamRoute
from .._stream.closing import linger_if_unread
from .._stream.connection import Connection, stream_of
from .._stream.lifecycle import (
    Failure,
    Handle,
    Refused,
    StreamOutcome,
    close_generators,
    end_stream,
    start_stream,
    start_with_hooks,
)
from .._stream.live_stream import LiveStream
from .._stream.manager import StreamManager
from .._stream.polling import wants_poll
from .._stream.scope import ServeScope
from .._transport.base import Transport
from .connection_handler import ConnectionHandler
from .request_tasks import contain_failure, name_task
from .stream_requests import AdmittedStream, StreamRequests


@final
class SingleRequests:
    """Serves event streams by itself, and leaves everything else to a `ConnectionHandler`."""

    def __init__(
        self,
        manager: StreamManager,
        reader: RequestReader,
        admission: Admission,
        streams: StreamRequests,
        handler: ConnectionHandler,
    ) -> None:
        self._manager = manager
        self._reader = reader
        self._admission = admission
        self._streams = streams
        self._handler = handler

    def serve(
        self, transport: Transport, serving: ServeScope, head: RequestHead | HTTPException
    ) -> Coroutine[Any, Any, None]:
        """Return what serves the request of a transport, and closes it; see `ConnectionHandler.serve`.

        Start it in a task of its own.

        Args:
            head: the request's head, or why it is refused.
        """
        admitted = self._admit(transport, serving, head)
        if admitted is None:
            return self._handler.serve(transport, serving, None, head)
        return self._run(Connection(admitted.stream), admitted.handle, admitted.began_at)

    def _admit(
        self, transport: Transport, serving: ServeScope, head: RequestHead | HTTPException
    ) -> AdmittedStream | None:
        """Return the stream that answers a request without a body; `None` if anything else does."""
        if isinstance(head, HTTPException) or head.content_length != 0:
            return None
        try:
            routed = self._reader.route(transport, bytearray(), head)
            self._admission.check(transport, serving)
        except HTTPException:
            return None
        route, request = routed.destination, routed.request
        if not isinstance(route, StreamRoute) or route.manager is not None:
            return None
        if request.method == "HEAD" or wants_poll(request):
            return None
        return self._streams.begin(transport, serving, routed, route)

    async def _run(self, connection: Connection, handle: Handle, began_at: float | None) -> None:
        answer: object = None
        nurseries = count_open_nurseries()
        try:
            name_task(handle)
            if self._manager.on_connect:
                await start_with_hooks(self._manager, connection)
            else:
                start_stream(self._manager, connection)
            answer = await handle(connection)
        except BaseException as failure:
            answer = Failure(failure)
        if has_left_open(nurseries):
            answer = await close_generators(nurseries, answer)
        await self._end(connection, began_at, answer)

    async def _end(self, connection: Connection, began_at: float | None, answer: object) -> None:
        stream = stream_of(connection)
        try:
            outcome = await end_stream(self._manager, connection, answer)
            await self._after_stream(stream, outcome, began_at)
        except BaseException as failure:
            contain_failure(failure, stream.transport)
        finally:
            self._admission.leave(stream.transport)
            await stream.transport.aclose()

    async def _after_stream(self, stream: LiveStream, outcome: StreamOutcome, began_at: float | None) -> None:
        """Answer the request if its stream never started, and let the client read the end of one that did."""
        if not isinstance(outcome, Refused):
            await linger_if_unread(stream.serving, stream)
            return
        routed = routed_to_stream(stream.request, began_at, may_keep_alive=False)
        await self._streams.answer_refused(stream.transport.hand_over(), stream.serving, routed, outcome)
