"""An event stream in the response of an app on our server.

A stream of `trio_sse.quart` or `trio_sse.asgi` finds the `AppStream` of its request in the scope. It receives
the transport itself: it writes to it directly, shares encodings with all other streams, and belongs to the
same scopes as any other stream. `_asgi/response_stream.py` describes how the response and the stream meet.
"""

from __future__ import annotations

from collections.abc import Awaitable
from functools import partial
from typing import Protocol, final

import trio

from .._asgi.response_stream import PendingState, PendingStream
from .._http.exceptions import HTTPException
from .._http.request import Request
from .._stream.closing import linger_if_unread
from .._stream.end_reason import EndReason
from .._stream.lifecycle import Ended, Handle, StreamOutcome, run_stream
from .._stream.live_stream import LiveStream
from .._stream.manager import StreamManager
from .._stream.padding import padding
from .._stream.scope import ServeScope
from .._stream.writer import ResponseStart
from .._transport.base import Transport
from .._transport.socket import SocketTransport
from .._wire.message import Framing
from .admission import Admission
from .app_cycle import RequestResponseCycle
from .request_reader import RoutedRequest


class ResumeServing(Protocol):
    """Runs a detached stream in its own task, and serves its transport's further requests afterwards."""

    def __call__(
        self,
        transport: Transport,
        serving: ServeScope,
        buffer: bytearray,
        routed: RoutedRequest,
        manager: StreamManager,
        pending: PendingStream,
        handle: Handle,
    ) -> Awaitable[None]: ...


@final
class AppStream:
    """The `StreamExtension` and the `InlineStream` of one request.

    Attributes:
        ended: how the stream has ended that ran inside the app's call, if one did.
    """

    __slots__ = (
        "_admission",
        "_cycle",
        "_pending",
        "_resume_serving",
        "_routed",
        "_serving",
        "_started",
        "_transport",
        "ended",
    )

    def __init__(
        self,
        admission: Admission,
        cycle: RequestResponseCycle,
        transport: Transport,
        serving: ServeScope,
        routed: RoutedRequest,
        resume_serving: ResumeServing,
    ) -> None:
        self.ended: Ended | None = None
        self._admission = admission
        self._cycle = cycle
        self._transport = transport
        self._serving = serving
        self._routed = routed._replace(app_body=None)
        self._resume_serving = resume_serving
        self._pending: PendingStream | None = None
        self._started = trio.lowlevel.ParkingLot()

    @property
    def request(self) -> Request:
        return self._routed.request

    @property
    def serving(self) -> ServeScope:
        return self._serving

    @property
    def is_disconnected(self) -> bool:
        return self._cycle.is_disconnected

    @property
    def is_detached(self) -> bool:
        """Whether a stream has taken the transport from the app's call."""
        return self._pending is not None and self._pending.has_started

    @property
    def _framing(self) -> Framing:
        return Framing.CHUNKED if self.request.http_version == "1.1" else Framing.PLAIN

    # A stream that runs inside the app's call

    def serving_for(self, manager: StreamManager) -> ServeScope:
        return self._serving

    def prepare_inline(
        self, manager: StreamManager, request: Request, response_start: ResponseStart
    ) -> LiveStream:
        self.check()
        self._transport.framing = self._framing
        stream = manager.new_stream(self._serving, self._transport, request, response_start)
        self._cycle.on_start = partial(self._start, stream)
        return stream

    def _start(self, stream: LiveStream) -> None:
        stream.set_head(self._cycle.start_stream() + padding(self.request, self._framing))
        self._started.unpark_all()

    def head_sent(self, stream: LiveStream) -> None:
        """Do nothing: the cycle calls `_start` when it receives the head, which middleware may hold back."""

    async def wait_started(self, stream: LiveStream) -> None:
        while stream.response_start is not None:
            await self._started.park()

    async def run_inline(self, manager: StreamManager, stream: LiveStream, handle: Handle) -> StreamOutcome:
        await self._cycle.stop_watching()
        self._admission.enter(self._transport)
        try:
            outcome = await run_stream(manager, self._serving, stream, handle)
        finally:
            self._admission.leave(self._transport)
            self._cycle.on_start = None
        if isinstance(outcome, Ended):
            self.ended = outcome
            if not outcome.may_reuse:
                await linger_if_unread(self._serving, stream)
        return outcome

    # A stream that outlives the app's call

    def start_detached(self, manager: StreamManager, handle: Handle, name: str) -> PendingStream:
        self.check()
        pending = self._pending = PendingStream()
        self._transport.framing = self._framing
        pending.stream = manager.new_stream(self._serving, self._transport, self.request, pending)
        self._serving.connections.start_soon(
            self._resume_serving,
            self._transport,
            self._serving,
            self._cycle.buffer,
            self._routed,
            manager,
            pending,
            handle,
            name=name,
        )
        return pending

    async def detach(self, pending: PendingStream) -> None:
        await self._cycle.stop_watching()
        if pending.state is PendingState.ENDED:
            self._cycle.refuse(HTTPException(503, "the stream ended before it began"))
            return
        pending.start(self._cycle.start_stream() + padding(self.request, self._framing))
        if isinstance(self._transport, SocketTransport) and self._serving.disconnects is not None:
            self._serving.disconnects.add(self._transport, pending.stream)

    def check(self) -> None:
        if self._pending is not None or self.ended is not None:
            raise RuntimeError("a request can be answered with one stream only")
        self._admission.check(self._transport, self._serving)

    def close(self) -> None:
        """End a handler whose response was never sent."""
        if self._pending is not None and not self._pending.has_started:
            is_disconnected = self._cycle.is_disconnected
            self._pending.abandon(EndReason.CLIENT_DISCONNECTED if is_disconnected else EndReason.REFUSED)
