"""An event stream in the response of an app on our server.

A stream of `trio_sse.quart` or `trio_sse.asgi` finds the `AppStream` of its request in the scope. When its
response starts, it receives the transport from the `RequestResponseCycle`: it writes to it directly, shares
encodings with all other streams, and belongs to the same scopes as any other stream.
`_asgi/response_stream.py` describes how the response and the stream meet.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Protocol, final

import trio

from .._asgi.client_disconnected import is_of_disconnect
from .._asgi.inline_head import InlineHead
from .._asgi.response_stream import PendingState, PendingStream, begin_body
from .._asgi.scope_object import ScopeObject
from .._asgi.types import Send
from .._http.exceptions import HTTPException, TemporaryRefusal
from .._http.request import Request
from .._nursery import UserCodeNursery
from .._request.admission import Admission
from .._request.request_reader import RoutedRequest
from .._request.results import AfterResponse
from .._stream.closing import linger_if_unread
from .._stream.end_reason import EndReason
from .._stream.lifecycle import Ended, Handle, Refused, StreamOutcome, run_stream
from .._stream.live_stream import LiveStream
from .._stream.manager import StreamManager
from .._stream.padding import padding
from .._stream.scope import ServeScope
from .._stream.writer import ResponseStart
from .._transport.awaited import AwaitedTransport
from .._wire.message import Framing
from .cycle import RequestResponseCycle
from .response import AppResponse


class ResumeServing(Protocol):
    """Runs a detached stream in its own task, and serves its transport's further requests afterwards.

    `buffer` has what the client sends after the request.
    """

    def __call__(
        self,
        serving: ServeScope,
        buffer: bytearray,
        routed: RoutedRequest,
        manager: StreamManager,
        pending: PendingStream,
        handle: Handle,
    ) -> Awaitable[None]: ...


def _may_be_of_stream(head: AppResponse) -> bool:
    return head.is_event_stream or not head.has_content_type


def _is_left_to(pending: PendingStream, head: AppResponse) -> bool:
    """Return whether a stream will begin the body behind this head."""
    return pending.state is PendingState.READY and _may_be_of_stream(head)


@final
class AppStream(ScopeObject):
    """The `StreamExtension` and the `InlineStream` of one request.

    Attributes:
        ended: what becomes of the transport after a stream inside the app's call; `None` without one.
        has_place: the call is counted, and its place is for its stream.
    """

    __slots__ = (
        "_admission",
        "_app_send",
        "_buffer",
        "_cycle",
        "_is_abandoned",
        "_is_inline",
        "_may_keep_alive",
        "_pending",
        "_resume_serving",
        "_routed",
        "_serving",
        "_started",
        "ended",
        "has_place",
    )

    def __init__(
        self,
        admission: Admission,
        cycle: RequestResponseCycle,
        buffer: bytearray,
        serving: ServeScope,
        routed: RoutedRequest,
        resume_serving: ResumeServing,
    ) -> None:
        self.ended: AfterResponse | None = None
        self.has_place = False
        self._admission = admission
        self._app_send: Send | None = None
        self._cycle = cycle
        self._buffer = buffer
        self._serving = serving
        self._routed = routed
        self._resume_serving = resume_serving
        self._pending: PendingStream | None = None
        self._may_keep_alive = False
        self._started: trio.lowlevel.ParkingLot | None = None  # of a stream inside the app's call
        self._is_inline = False  # such a stream runs
        self._is_abandoned = False  # middleware has answered instead of it

    @property
    def request(self) -> Request:
        return self._routed.request

    @property
    def has_body(self) -> bool:
        """Whether the request has a body; see `may_have_body`."""
        return self._cycle.has_body

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

    @property
    def watches_peer(self) -> bool:
        return True

    def _awaited(self) -> AwaitedTransport:
        transport = self._cycle.transport
        return AwaitedTransport(
            transport.peer,
            self._framing,
            is_direct=transport.is_direct,
            is_watchable=transport.is_watchable,
            connection_number=transport.connection_number,
        )

    def watch_disconnect(self, on_disconnect: Callable[[], None]) -> None:
        self._cycle.watch_disconnect(on_disconnect)

    def is_head_held(self) -> bool:
        return not self._cycle.is_released and self._cycle.awaits_head

    # A stream that runs inside the app's call

    def is_disconnect(self, error: OSError) -> bool:
        return is_of_disconnect(error)

    @contextmanager
    def answering(self, manager: StreamManager) -> Iterator[ServeScope]:
        self.check()
        counted = self._cycle.transport
        self._admission.enter_address(counted)
        try:
            yield self._serving
        finally:
            self._admission.leave_address(counted)

    def prepare_inline(
        self, manager: StreamManager, request: Request, response_start: ResponseStart
    ) -> LiveStream:
        self.check()
        self._is_inline = True
        stream = manager.new_stream(self._serving, self._awaited(), request, response_start)
        self._started = trio.lowlevel.ParkingLot()
        self._cycle.on_start = partial(self._start, stream)
        self._cycle.watch_disconnect(partial(self._on_disconnect, stream))
        if isinstance(response_start, InlineHead):
            self._cycle.is_of_stream = response_start.may_be
            self._cycle.on_other_head = partial(self._abandon, stream)
        return stream

    def _abandon(self, stream: LiveStream) -> None:
        """End a stream, because middleware has answered the request by itself."""
        self._cycle.forget_stream()
        self._is_abandoned = True
        stream.end(EndReason.REFUSED)
        self._wake_started()

    def _on_disconnect(self, stream: LiveStream) -> None:
        stream.on_disconnect()
        self._wake_started()  # a stream that has finished still waits for its head

    def _start(self, stream: LiveStream) -> None:
        start = self._cycle.start_stream()
        start.transport.framing = self._framing
        stream.start_on(start.transport, start.head + padding(self.request, self._framing))
        self._may_keep_alive = start.may_keep_alive
        self._wake_started()

    def _wake_started(self) -> None:
        assert self._started is not None
        self._started.unpark_all()

    def head_sent(self, stream: LiveStream) -> None:
        """Do nothing: the cycle calls `_start` when it receives the head, which middleware may hold back."""

    async def wait_started(self, stream: LiveStream) -> None:
        while self._is_inline and not (
            stream.response_start is None or self._cycle.is_disconnected or self._is_abandoned
        ):
            assert self._started is not None
            await self._started.park()

    async def run_inline(self, manager: StreamManager, stream: LiveStream, handle: Handle) -> StreamOutcome:
        counted = self._cycle.transport
        self.give_place()
        self._admission.enter(counted)
        try:
            outcome = await run_stream(manager, self._serving, stream, handle)
            has_started = stream.response_start is None
            if isinstance(outcome, Ended) and has_started and not outcome.may_reuse:
                await linger_if_unread(self._serving, stream)
        except BaseException:
            await stream.transport.aclose(abort=stream.transport.pending is not None)
            raise
        finally:
            self._admission.leave(counted)
            self._is_inline = False
            self._cycle.forget_stream()
            self._wake_started()  # tasks outside the handler: it never will
        if has_started and isinstance(outcome, Refused):
            # The head has not been written, so the client can still get an answer, but not the app's.
            self._cycle.take_back_unused(stream.transport.hand_over())
        elif has_started:
            may_reuse = isinstance(outcome, Ended) and outcome.may_reuse
            self.ended = AfterResponse.reuse_if(may_reuse and self._may_keep_alive)
            self._cycle.take_back(stream.transport.hand_over() if may_reuse else stream.transport)
        return outcome

    async def refuse_late(self, stream: LiveStream, refusal: HTTPException) -> None:
        self._cycle.refuse(refusal)

    # A stream that outlives the app's call

    def start_detached(self, manager: StreamManager, handle: Handle, name: str) -> PendingStream:
        self.check()
        self._routed = self._routed._replace(app_body=None)  # the stream outlives it
        pending = self._pending = PendingStream()
        if not self._cycle.is_body_complete:
            pending.awaits_body = self._cycle.awaits_body
        pending.stream = manager.new_stream(self._serving, self._awaited(), self.request, pending)
        self._cycle.watch_disconnect(partial(pending.abandon, EndReason.CLIENT_DISCONNECTED))
        self._cycle.is_left_to_stream = partial(_is_left_to, pending)
        self.give_place()
        self._serving.start_contained(
            self._resume_serving,
            self._serving,
            self._buffer,
            self._routed,
            manager,
            pending,
            handle,
            name=name,
        )
        return pending

    def send_through(self, send: Send) -> None:
        self._app_send = send

    async def detach(self, pending: PendingStream) -> None:
        self._check_call()
        if self._cycle.awaits_head:
            await self._detach_later(pending)
        else:
            await self._cycle.stop_watching()
            self._detach(pending)
        self._app_send = None

    async def _detach_later(self, pending: PendingStream) -> None:
        """Wait until middleware, in whatever task, has sent the head, or the stream has ended."""
        self._cycle.on_start = partial(self._detach, pending)
        self._cycle.is_of_stream = _may_be_of_stream
        self._cycle.on_other_head = partial(self._abandon_pending, pending)
        try:
            async with UserCodeNursery() as nursery:

                async def wait_started() -> None:
                    await pending.wait_started()
                    if not pending.has_started:
                        nursery.cancel_scope.cancel()

                nursery.start_soon(wait_started)
                if self._app_send is not None:
                    await begin_body(self._app_send, self.is_head_held)
        finally:
            self._cycle.forget_stream()
        if not (pending.has_started or self._is_abandoned):
            self._refuse_ended()

    def _abandon_pending(self, pending: PendingStream) -> None:
        """As `_abandon`."""
        self._cycle.forget_stream()
        self._is_abandoned = True
        pending.abandon(EndReason.REFUSED)

    def _refuse_ended(self) -> None:
        self._cycle.refuse(TemporaryRefusal(503, "the stream ended before it began"))

    def _detach(self, pending: PendingStream) -> None:
        if pending.state is not PendingState.READY:
            self._refuse_ended()
            return
        # No checkpoint from here on, so the state does not change.
        start = self._cycle.start_stream()
        start.transport.framing = self._framing
        head = start.head + padding(self.request, self._framing)
        pending.start(head, start.transport, may_keep_alive=start.may_keep_alive)
        self._cycle.detach()

    def check(self) -> None:
        if self._pending is not None or self.ended is not None or self._is_inline:
            raise RuntimeError("a request can be answered with one stream only")
        self._check_call()
        if not self._cycle.awaits_head:
            raise RuntimeError("the request has been answered, so no stream can answer it")
        self._admission.check(self._cycle.transport, self._serving, has_place=self.has_place)

    def _check_call(self) -> None:
        if self._cycle.is_released:
            raise RuntimeError("the app's call for this request has returned")

    def give_place(self) -> None:
        """Count the call no longer."""
        if self.has_place:
            self.has_place = False
            self._admission.end_call()

    def close(self) -> None:
        """End a handler whose response was never sent, and count the call no longer."""
        self.give_place()
        if self._pending is not None and not self._pending.has_started:
            is_disconnected = self._cycle.is_disconnected
            self._pending.abandon(EndReason.CLIENT_DISCONNECTED if is_disconnected else EndReason.REFUSED)
