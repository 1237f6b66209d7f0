"""Requests and their answers on one transport, one after the other, until it is closed.

While a stream runs, the frames of its task are most of its memory. So what only receiving a request needs is
kept in functions that have returned by then.
"""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import final

import trio

from ._connection import Connection
from ._end_reason import EndReason
from ._event import encode_comment
from ._http_exception import HTTPException
from ._message import Framing, frame
from ._reception import EndpointHandler, EndpointRoute, Received, Reception, StreamRoute
from ._response import Response, encode_stream_head, error_response
from ._serving import Serving
from ._stream import run_stream
from ._stream_host import StreamHost
from ._topic import TopicError
from ._transport import Transport, send_all

logger = logging.getLogger(__name__)

# Polyfills of EventSource ask for padding where a browser holds the first bytes back.
_PADDING = encode_comment(" " * 2047)


@final
class Exchanges:
    """Answers requests, and admits streams up to the server's bounds."""

    def __init__(
        self,
        host: StreamHost,
        reception: Reception,
        *,
        max_connections: int,
        max_connections_per_host: int | None,
    ) -> None:
        self.refused = 0  # requests that were answered with an error
        self._host = host
        self._reception = reception
        self._max_connections = max_connections
        self._max_connections_per_host = max_connections_per_host
        self._streams_of: Counter[str] = Counter()  # by the peer's address, while that is bounded

    async def serve(self, transport: Transport, serving: Serving) -> None:
        """Answer requests on a transport until it is done with, and close it.

        Nothing but cancellation leaves it: whatever goes wrong with one peer stays with that peer.
        """
        buffer = bytearray()
        task = trio.lowlevel.current_task()
        own_name = task.name
        try:
            may_go_on = True
            while may_go_on and not serving.is_draining:
                received = await self._reception.receive(transport, serving, buffer)
                if received is None:
                    break
                if isinstance(received.answer, StreamRoute):
                    may_go_on = await self._stream(transport, serving, received) and not buffer
                elif isinstance(received.answer, EndpointRoute):
                    response = await self._call(received.answer.handler, received)
                    may_go_on = await self._reply(transport, serving, received, response)
                else:
                    may_go_on = await self._reply(transport, serving, received, received.answer)
        except HTTPException as refusal:
            await self._refuse(transport, refusal)
        except trio.BrokenResourceError as error:
            logger.debug("peer=%s is gone: %s", transport.peer, error)
        except Exception:
            logger.exception("serving peer=%s failed", transport.peer)
        finally:
            try:
                await transport.aclose(abort=transport.pending is not None)
            finally:
                task.name = own_name

    async def _stream(self, transport: Transport, serving: Serving, received: Received) -> bool:
        """Answer with a stream, or refuse it; return whether the transport may carry another request."""
        request, route = received.request, received.answer
        assert isinstance(route, StreamRoute)
        head = self._stream_head(received)
        if request.method == "HEAD":
            await self._send(transport, head)
            return received.may_keep_alive
        refusal = self._refusal(transport, serving)
        if refusal is not None:
            return await self._reply(transport, serving, received, error_response(refusal))
        transport.framing = Framing.CHUNKED if request.http_version == "1.1" else Framing.PLAIN
        if "padding=" in request.target and request.query.get("padding") == "true":
            head += frame(_PADDING, transport.framing)
        connection = Connection(serving, transport, request, head)
        del head, request
        self._count_stream(transport, 1)
        _name_task(route.handler)
        try:
            handle = partial(route.handler, **received.parameters) if received.parameters else route.handler
            outcome = await run_stream(serving, connection, handle)
        finally:
            self._count_stream(transport, -1)
        if isinstance(outcome, bool):
            if not outcome and connection.end_reason is EndReason.FINISHED and transport.unread_bytes():
                await transport.linger()  # its end would be lost with what the client sent beside it
            return outcome and received.may_keep_alive
        return await self._reply(transport, serving, received, error_response(outcome))

    def _count_stream(self, transport: Transport, change: int) -> None:
        if self._max_connections_per_host is not None:
            self._streams_of[transport.host] += change
            if not self._streams_of[transport.host]:
                del self._streams_of[transport.host]

    def _refusal(self, transport: Transport, serving: Serving) -> HTTPException | None:
        """Say whether there is no room for another stream."""
        most = self._max_connections_per_host
        if serving.is_draining:
            status, detail = 503, "the server is shutting down"
        elif len(self._host.streams) >= self._max_connections:
            status, detail = 503, "the server has as many streams open as it may"
        elif most is not None and self._streams_of[transport.host] >= most:
            status, detail = 429, "your address has as many streams open as it may"
        else:
            return None
        # Jittered, so that those who are turned away together don't come back together.
        return HTTPException(status, detail, {"Retry-After": str(random.randint(1, 10))})

    def _stream_head(self, received: Received) -> bytes:
        request, cross_origin = received.request, self._reception.options.cross_origin
        fields = cross_origin.fields(request.headers.get("origin")) if cross_origin.is_set else {}
        if not received.may_keep_alive:
            fields["Connection"] = "close"
        return encode_stream_head(fields, is_chunked=request.http_version == "1.1")

    async def _call(self, handler: EndpointHandler, received: Received) -> Response:
        _name_task(handler)
        try:
            response = await handler(received.request, **received.parameters)
            if not isinstance(response, Response):
                raise TypeError(f"an endpoint must return a Response, not {type(response).__name__}")
            return response
        except HTTPException as error:
            return error_response(error)
        except TopicError as error:
            return error_response(HTTPException(400, str(error)))
        except Exception:
            logger.exception("endpoint failed for path=%.200s", received.request.target.partition("?")[0])
            return error_response(HTTPException(500))

    async def _reply(
        self, transport: Transport, serving: Serving, received: Received, response: Response
    ) -> bool:
        """Send a whole response; return whether the transport may carry another request."""
        request = received.request
        may_keep_alive = received.may_keep_alive and not serving.is_draining
        fields = self._reception.options.cross_origin.fields(request.headers.get("origin"))
        if not may_keep_alive:
            fields["Connection"] = "close"
        if response.status >= 400:
            self._note_refusal(transport, response.status, response.body)
        transport.framing = Framing.PLAIN
        await self._send(transport, response.encode(fields=fields, with_body=request.method != "HEAD"))
        return may_keep_alive

    async def _refuse(self, transport: Transport, refusal: HTTPException) -> None:
        """Answer what is no acceptable request. What follows it on the connection is never looked at."""
        self._note_refusal(transport, refusal.status, refusal.detail)
        try:
            response = error_response(refusal)
            await self._send(transport, response.encode(fields={"Connection": "close"}))
        except trio.BrokenResourceError:
            return
        await transport.linger()

    def _note_refusal(self, transport: Transport, status: int, detail: str | bytes) -> None:
        self.refused += 1
        text = detail if isinstance(detail, str) else "(bytes)"
        logger.info("refused peer=%s status=%d: %.200s", transport.peer, status, text.strip())

    async def _send(self, transport: Transport, payload: bytes) -> None:
        await send_all(transport, payload, write_timeout=self._host.options.write_timeout)


def _name_task(handler: Callable[..., object]) -> None:
    """Name the task after what it runs, for the watchdog and whoever looks at the tasks.

    The name stays until the next request: what blocked is named when the step is over, and the handler has
    returned by then.
    """
    trio.lowlevel.current_task().name = getattr(handler, "__qualname__", repr(handler))
