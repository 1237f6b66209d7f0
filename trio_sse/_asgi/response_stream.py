"""How an app's response and a stream meet.

An app's view returns its response as a whole, and a server sends the response's head first. A handler starts
before that, may still refuse the request, and only later has something to send. There are two ways to bring
them together:

- **Detached** (`StreamExtension`, for `trio_sse.quart`): the handler runs in its own task, in a copy of
  the view's context, and a `PendingStream` connects it to the view. On our own server the app's call then
  ends and the stream continues without it. On other servers the call waits in `detach` until the stream is
  over.
- **Inline** (`InlineStream`, for `trio_sse.asgi`): the handler runs inside the app's call, and sends the head
  through the app's `send` when it first has something to send.

A detached stream, from the view's side::

    pending = extension.start_detached(manager, handle, name)    the handler runs
    if await pending.wait_ready():                               it has something to send
        ...                                                      the view returns a response, its head is sent
        await extension.detach(pending)                          the stream writes the body

A stream on our server has no transport until its response starts. In the step START it gets that of the app's
call, by `hand_over`. With it comes the decision whether the connection may carry another request, which the
head has announced.

The states of a `PendingStream`, and who may change them. What is not listed changes nothing.

=========  =======  =====================================  =========  ======================================
state      step     caused by                              next       what is left behind
=========  =======  =====================================  =========  ======================================
PREPARING  ASK      the handler sends, or has returned     READY      `wait_ready` returns True; the handler
                    without sending; a keepalive is due               waits for the head
PREPARING  END      the handler refuses, fails, runs too   ENDED      `wait_ready` raises what it raised, or
                    long or is cancelled                              returns False; the view answers
READY      START    the view's response has reached its    STREAMING  the handler writes the body; the
                    body, so its head is complete                     transport belongs to the stream
READY      END      the stream ends while the view still   ENDED      nothing was written, and nothing will
                    works on its response                             be; the server ends the response
PREPARING  ABANDON  the app's call ends or is cancelled,   ABANDONED  the stream is ended, so the handler is
or READY            or its response is another one                    cancelled; END follows
STREAMING  END      `run_stream` has returned              ENDED      the transport can be closed or reused
=========  =======  =====================================  =========  ======================================

ASK and END belong to the handler's side, START and ABANDON to the app's. An app's call that ends while the
state is STREAMING ends the stream, too, on a server that is not ours; END follows.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol, final

import trio

from .._http.exceptions import HTTPException
from .._http.request import Request
from .._stream.end_reason import EndReason
from .._stream.lifecycle import Handle, Refused, StreamOutcome
from .._stream.live_stream import LiveStream
from .._stream.manager import StreamManager
from .._stream.scope import ServeScope
from .._stream.writer import ResponseStart
from .._transport.base import Transport
from .types import Send


async def begin_body(send: Send, is_head_held: Callable[[], bool]) -> None:
    """Let middleware that holds the head back until the body begins pass it on.

    Some of it waits for the first bytes, and some passes no empty part on to the middleware around it.
    """
    # Each message is made here, as middleware may change it.
    await send({"type": "http.response.body", "body": b"", "more_body": True})
    if is_head_held():
        comment = b":\n\n"  # which clients ignore
        await send({"type": "http.response.body", "body": comment, "more_body": True})


class PendingState(enum.Enum):
    """The states of a `PendingStream`; see the table above."""

    PREPARING = enum.auto()
    READY = enum.auto()
    STREAMING = enum.auto()
    ENDED = enum.auto()
    ABANDONED = enum.auto()


class _Step(enum.Enum):
    ASK = enum.auto()
    START = enum.auto()
    END = enum.auto()
    ABANDON = enum.auto()


_NEXT = {
    PendingState.PREPARING: {
        _Step.ASK: PendingState.READY,
        _Step.END: PendingState.ENDED,
        _Step.ABANDON: PendingState.ABANDONED,
    },
    PendingState.READY: {
        _Step.START: PendingState.STREAMING,
        _Step.END: PendingState.ENDED,
        _Step.ABANDON: PendingState.ABANDONED,
    },
    PendingState.STREAMING: {_Step.END: PendingState.ENDED},
    PendingState.ENDED: {},
    PendingState.ABANDONED: {},
}


class StreamExtension(Protocol):
    """What a request's ASGI scope offers for a stream that outlives the view, in its `extensions`."""

    @property
    def request(self) -> Request:
        """The request, without its body, which is the app's to read."""

    @property
    def is_disconnected(self) -> bool:
        """Whether the client is known to have disconnected."""

    def watch_disconnect(self, on_disconnect: Callable[[], None]) -> None:
        """Call a function when the client disconnects before the response has begun.

        Middleware may keep a disconnect from the app. A stream calls another function.
        """

    def is_head_held(self) -> bool:
        """Return whether the head is known not to have reached the server."""

    def answering(self, manager: StreamManager) -> AbstractContextManager[ServeScope]:
        """Return what the streams of the server share, for a poll or HEAD that ends before the block does.

        Raises:
            HTTPException: there is no room for another, or the server drains.
            RuntimeError: the request has a stream already.
        """

    def start_detached(self, manager: StreamManager, handle: Handle, name: str) -> PendingStream:
        """Start a handler in a task with this name.

        Raises:
            HTTPException: there is no room for another stream.
            RuntimeError: the request has a stream already.
        """

    def send_through(self, send: Send) -> None:
        """Record the app's own `send`, by which middleware around the app is asked for a head."""

    async def detach(self, pending: PendingStream) -> None:
        """Let the stream write the response's body, now that the app has sent its head.

        When this returns, or is cancelled, the app has nothing more to do with the stream.
        """


class InlineStream(Protocol):
    """What a request's ASGI scope offers for a stream that runs inside the app's call."""

    def is_disconnect(self, error: OSError) -> bool:
        """Whether an error of the app's `send` reports a disconnect. Middleware may raise its own."""

    @property
    def watches_peer(self) -> bool:
        """Whether the server notices a disconnect until the response has started."""

    def prepare_inline(
        self, manager: StreamManager, request: Request, response_start: ResponseStart
    ) -> LiveStream:
        """Return the stream, for `run_inline`.

        Raises:
            HTTPException: there is no room for another stream.
        """

    def answering(self, manager: StreamManager) -> AbstractContextManager[ServeScope]:
        """As that of `StreamExtension`."""

    def watch_disconnect(self, on_disconnect: Callable[[], None]) -> None:
        """As that of `StreamExtension`."""

    def is_head_held(self) -> bool:
        """As that of `StreamExtension`."""

    def head_sent(self, stream: LiveStream) -> None:
        """Record that the app has sent the response's head."""

    async def wait_started(self, stream: LiveStream) -> None:
        """Wait until the response has begun, which is after its head was sent."""

    async def run_inline(self, manager: StreamManager, stream: LiveStream, handle: Handle) -> StreamOutcome:
        """Run the stream; see `run_stream`."""

    async def refuse_late(self, stream: LiveStream, refusal: HTTPException) -> None:
        """Refuse a stream that has not begun, though the app has sent the response's head.

        Middleware may hold the head back. Where it has not been written, the refusal is sent instead.
        """


@final
class PendingStream:
    """A handler that runs and the response that it waits for; to the stream, its `ResponseStart`.

    Attributes:
        has_started: the response has begun, and its transport belongs to the stream.
        may_keep_alive: whether the connection may carry another request after the response.
        outcome: what `run_stream` has returned; `None` before that, and if it was cancelled.
        awaits_body: returns whether the request's body is arriving, which the handler may read, or refuse.
    """

    __slots__ = ("_changed", "_state", "awaits_body", "has_started", "may_keep_alive", "outcome", "stream")

    watches_peer = True
    stream: LiveStream  # set by the `StreamExtension` that makes it

    def __init__(self) -> None:
        self.has_started = False
        self.may_keep_alive = False
        self.outcome: StreamOutcome | None = None
        self.awaits_body: Callable[[], bool] | None = None
        self._state = PendingState.PREPARING
        self._changed: trio.lowlevel.ParkingLot | None = trio.lowlevel.ParkingLot()  # while there is a wait

    @property
    def state(self) -> PendingState:
        """Where the view and the stream are; see the table at the top of this file."""
        return self._state

    def _move(self, step: _Step) -> bool:
        """Take a step of the table and wake those who wait; return whether the state has changed."""
        following = _NEXT[self._state].get(step)
        if following is None:
            return False
        self._state = following
        if self._changed is not None:
            self._changed.unpark_all()
            if following is not PendingState.READY:
                self._changed = None  # no task waits any more
                self.awaits_body = None
        return True

    # The handler's side; see `ResponseStart`

    @property
    def is_head_final(self) -> bool:
        return self._state is not PendingState.PREPARING

    @property
    def waits_for_body(self) -> bool:
        return self.awaits_body is not None and self.awaits_body()

    async def start_response(self) -> None:
        self.request_start()
        await self.wait_started()
        if not self.has_started:
            raise trio.ClosedResourceError("the app has answered the request itself, or not at all")

    async def wait_started(self) -> None:
        while self._changed is not None:
            await self._changed.park()

    def request_start(self) -> None:
        self._move(_Step.ASK)

    def end(self, outcome: StreamOutcome | None) -> None:
        """Record that `run_stream` has returned `outcome`, or was cancelled, which is `None`."""
        self.outcome = outcome
        self._move(_Step.END)

    # The app's side

    async def wait_ready(self) -> bool:
        """Wait until the response may begin; return whether there is a stream for it.

        There is none if the stream ended before it began, because the client disconnected, for example;
        `stream.end_reason` has the reason. If this is cancelled, so is the handler.

        Raises:
            Exception: what the handler raised before it had anything to send, such as its refusal.
        """
        try:
            while self._changed is not None and self._state is PendingState.PREPARING:
                await self._changed.park()
        except BaseException:
            self.abandon(EndReason.CLIENT_DISCONNECTED)
            raise
        if isinstance(self.outcome, Refused):
            raise self.outcome.error
        return self._state is PendingState.READY and self.stream.end_reason in (None, EndReason.FINISHED)

    def start(self, head: bytes, transport: Transport | None = None, *, may_keep_alive: bool = False) -> bool:
        """Let the handler write; `head` is what still has to precede its first byte.

        Return whether it will: the stream may have ended while the view worked on its response. Look at
        `state` before `transport` is handed over to this.
        """
        if not self._move(_Step.START):
            return False
        self.has_started = True
        self.may_keep_alive = may_keep_alive
        if transport is None:
            self.stream.set_head(head)
        else:
            self.stream.start_on(transport, head)
        return True

    def abandon(self, reason: EndReason) -> None:
        """End the stream, unless it has ended: nothing answers the request with it any more."""
        self.stream.end(reason)
        self._move(_Step.ABANDON)
