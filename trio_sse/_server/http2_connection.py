"""Serving one connection of HTTP/2: its requests are child tasks, which end before it does.

One task reads. What it reads wakes the tasks of the streams, and starts those of new requests, which
`ConnectionHandler` serves as it serves those of HTTP/1.1. Nobody closes the transport but this task.

The connection ends when the peer disconnects, when it breaks the protocol, when it has been idle for as long
as an idle connection of HTTP/1.1, and in a drain, once its streams have ended. Before our own ends, GOAWAY
tells the peer which requests were processed (RFC 9113, 6.8).
"""

from __future__ import annotations

import math
from collections.abc import Awaitable
from typing import Protocol, final

import trio

from .._generators import close_generators_of
from .._http.exceptions import HTTPException
from .._http.request_head import RequestHead
from .._http2.error_code import ErrorCode
from .._http2.events import PingAnswered, RequestReceived, WindowOpened
from .._http2.limits import Http2Limits
from .._http2.protocol import Http2Protocol
from .._logger import get_logger
from .._request.options import ServerOptions
from .._request.request_reader import HEAD_SECONDS
from .._stream.draining import DRAIN_GRACE_SECONDS
from .._stream.scope import ServeScope
from .._transport.base import Transport
from .._transport.http2_response import ResponseKind
from .._transport.http2_stream import Http2StreamTransport
from .._transport.http2_writer import Http2Writer
from .request_tasks import contain_failure

logger = get_logger("trio_sse.server")

_DRAIN_PING = b"trio_sse"

_TASK_NAME = "trio_sse stream"

# Tasks of requests that their client has reset may need a moment to clean up. They may be as many again as
# the open streams; then further requests are refused.
_TASKS_PER_STREAM = 2


class ServeRequest(Protocol):
    """Serves the one request of a stream, and closes its transport; see `SingleRequests.serve`."""

    def __call__(
        self, transport: Transport, serving: ServeScope, head: RequestHead | HTTPException, /
    ) -> Awaitable[None]: ...


@final
class Http2Connections:
    """What the connections of one server have in common."""

    def __init__(self, serve_request: ServeRequest, options: ServerOptions) -> None:
        self.serve_request = serve_request
        self.head_limits = options.requests.head_limits
        self.limits = Http2Limits.of_heads(self.head_limits, max_streams=options.http2.http2_max_streams)
        self.idle_timeout = options.requests.keep_alive
        self.write_timeout = options.streams.write_timeout

    async def serve(self, transport: Transport, serving: ServeScope, received: bytes = b"") -> None:
        """Serve a connection until it has ended, and close it; `received` was already read from it.

        It raises only what must pass.
        """
        try:
            try:
                await _Connection(self, transport, serving).run(received)
            except trio.BrokenResourceError as error:
                logger.debug("peer=%s has disconnected: %s", transport.peer, error)
            finally:
                await transport.aclose(abort=transport.pending is not None)
        except BaseException as failure:
            contain_failure(failure, transport)


@final
class _Connection:
    """One connection."""

    def __init__(self, common: Http2Connections, transport: Transport, serving: ServeScope) -> None:
        self._common = common
        self._transport = transport
        self._serving = serving
        self._writer = Http2Writer(
            transport,
            serving.coalescer.flush_later,
            self._start_flushing,
            self._start_resetting,
            write_timeout=common.write_timeout,
        )
        self._protocol = self._writer.protocol = Http2Protocol(
            common.limits,
            common.head_limits,
            allows_websocket=True,
            on_output=self._writer.schedule,
            on_closed=self._on_closed,
            now=trio.current_time(),
        )
        self._tasks: trio.Nursery
        self._receiving: trio.CancelScope | None = None
        self._deadline = trio.current_time() + HEAD_SECONDS
        self._is_leaving = False  # a first GOAWAY has been sent
        self._is_final = False  # the peer knows which requests are processed
        self._is_failed = False  # it cannot be written to
        self._is_ending = False  # only tasks that have begun keep the nursery open

    async def run(self, received: bytes) -> None:
        protocol = self._protocol
        try:
            async with trio.open_nursery() as self._tasks:
                close_generators_of(self._tasks)
                try:
                    # If this is cancelled, the streams still send their last bytes.
                    await self._read(received)
                    protocol.lose_all()
                    await self._flush_last()  # calls of an app may go on for a while
                finally:
                    self._is_ending = True
        finally:
            self._writer.flush(trio.current_time())
            protocol.lose_all()

    # Reading

    async def _read(self, received: bytes) -> None:
        protocol = self._protocol
        while not (protocol.is_failed or self._is_failed):
            data = received or await self._receive()
            received = b""
            if data is None:
                if self._is_over():
                    return
                continue
            if not data:
                return
            is_new = not protocol.has_settings
            events = protocol.receive(data, trio.current_time())
            if is_new and protocol.has_settings:
                self._on_closed()  # there is no stream yet, and it may be long before there is one
            for event in events:
                if isinstance(event, RequestReceived):
                    if not (event.stream.is_lost or protocol.is_failed):
                        self._begin(event)
                elif isinstance(event, WindowOpened):
                    self._writer.wake()
                elif isinstance(event, PingAnswered) and self._is_leaving:
                    self._deadline = trio.current_time()
            # A peer that sends without a pause must not starve the others.
            await trio.lowlevel.checkpoint()

    async def _receive(self) -> bytes | None:
        """Wait for bytes; return `None` at the deadline, and when the server drains."""
        if self._serving.is_draining and not self._is_leaving:
            return None
        with trio.CancelScope(deadline=self._deadline) as self._receiving:
            self._serving.waiting.add(self._receiving)
            try:
                return await self._transport.receive_some()
            except trio.BrokenResourceError as error:
                logger.debug("peer=%s has disconnected: %s", self._transport.peer, error)
                return b""
            finally:
                self._serving.waiting.discard(self._receiving)
                self._receiving = None
        return None

    def _is_over(self) -> bool:
        """Decide, at the deadline or when the server drains, whether the connection ends."""
        protocol, now = self._protocol, trio.current_time()
        if self._serving.is_draining and not self._is_leaving:
            # Requests that are on their way are still answered: a PING shows when they have arrived.
            self._is_leaving = True
            protocol.send_goaway(is_final=False)
            protocol.send_ping(_DRAIN_PING)
            self._deadline = now + DRAIN_GRACE_SECONDS
            return False
        if now < self._deadline:
            return False
        if self._is_leaving and not self._is_final:
            self._is_final = True
            protocol.send_goaway(is_final=True)
        if protocol.streams:
            self._deadline = math.inf
            return False
        if not self._is_final:
            protocol.send_goaway(is_final=True)
        return True

    # Requests

    def _begin(self, event: RequestReceived) -> None:
        if not self._is_leaving:
            self._deadline = math.inf
        if len(self._tasks.child_tasks) >= _TASKS_PER_STREAM * self._common.limits.max_streams:
            self._protocol.reset(event.stream, ErrorCode.REFUSED_STREAM)
            return
        head = event.head
        method = head.method if isinstance(head, RequestHead) else ""
        kind = ResponseKind.of(method, is_websocket=event.is_websocket)
        transport = Http2StreamTransport(event.stream, self._writer, kind)
        # Without a coroutine in between, which each stream would keep for as long as it lives.
        self._tasks.start_soon(self._common.serve_request, transport, self._serving, head, name=_TASK_NAME)

    def _on_closed(self) -> None:
        """Begin to wait for the next request, if no stream is left."""
        if self._protocol.streams:
            return
        now = trio.current_time()
        if not self._is_leaving:
            self._deadline = now + self._common.idle_timeout
        elif self._deadline == math.inf:
            self._deadline = now
        if self._receiving is not None:
            self._receiving.deadline = self._deadline

    # Writing

    def _start_flushing(self) -> None:
        self._serving.start_soon(self._flush, name="trio_sse.flush")

    def _start_resetting(self) -> None:
        if self._is_ending and not self._tasks.child_tasks:
            self._writer.send_resets_now()  # a stream of an app, whose task is not among ours, ends last
            return
        self._tasks.start_soon(self._writer.send_resets, name="trio_sse.resets")

    async def _flush(self) -> None:
        try:
            await self._writer.flush_blocked(self._serving.pending_bytes)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            logger.debug("peer=%s has disconnected: %s", self._transport.peer, error)
            self._protocol.lose_all()
            if self._receiving is not None:
                self._receiving.cancel()
            self._is_failed = True

    async def _flush_last(self) -> None:
        """Wait until the last frames have been sent, and let the peer read them."""
        writer = self._writer
        writer.flush(trio.current_time())
        with trio.move_on_after(self._common.write_timeout):
            while writer.is_blocked and not self._is_failed:
                await writer.wait_unblocked()
        # What nobody has read would make the kernel reset the connection, and the peer miss our GOAWAY.
        if not writer.is_blocked and (self._protocol.is_failed or self._transport.unread_bytes()):
            await self._serving.linger(self._transport)
