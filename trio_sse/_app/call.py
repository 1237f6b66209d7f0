"""One call of an ASGI app on our server, and what becomes of the connection after it.

The call runs in the connection's own task. When it goes on after its response is complete, another task takes
the connection, and this one only runs the call to its end. Such a call is counted like an open stream. It
ends with the server, at the latest at the end of the drain time.

Invariant: once another task has taken the connection, this call neither reads from it, nor writes to it, nor
closes it. Its handle is MOVED.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import NamedTuple, final

import trio

from .._asgi.asyncio_advice import AsyncioAdvice
from .._asgi.client_disconnected import is_of_disconnect
from .._asgi.types import ASGIApp, Scope
from .._generators import closing_generators
from .._groups import only_exception, split_failure
from .._http.exceptions import HTTPException, TemporaryRefusal
from .._logger import get_logger
from .._request.access_log import log_request
from .._request.admission import Admission
from .._request.request_reader import RoutedRequest
from .._request.results import AfterResponse
from .._stream.overdue import Overdue
from .._stream.scope import ServeScope
from .._transport.base import Transport
from .._transport.losses import TOO_MUCH_PENDING
from .._transport.response_room import ResponsePlace
from .background import OngoingCall
from .cycle import RequestResponseCycle
from .stream import AppStream, ResumeServing

logger = get_logger("trio_sse.app")

_REUSE, _CLOSE = AfterResponse  # looking up a member of an enumeration takes longer than a global


class Answered(NamedTuple):
    """The app has answered.

    Attributes:
        after: what becomes of the transport.
        transport: the handle that is to be used further, or closed. Another task may own the connection; then
            this handle is MOVED.
        refusal: the answer, if the app has not answered. The connection must not be used again after it.
    """

    after: AfterResponse
    transport: Transport
    refusal: HTTPException | None = None


class CallContext(NamedTuple):
    """What the calls for one server's connections need.

    Attributes:
        calls: those that have begun, or have completed their responses, a moment ago.
        advice: looks at their failures.
        write_timeout: how long a client may accept nothing.
        resume_serving: runs a detached stream, then serves its connection further.
        continue_serving: serves the connection of a call that goes on after its response.
    """

    admission: Admission
    calls: Overdue[OngoingCall, OngoingCall]
    advice: AsyncioAdvice
    write_timeout: float
    resume_serving: ResumeServing
    continue_serving: Callable[[AppCall], Awaitable[None]]


@final
class AppCall:
    """One call of the app.

    Args:
        scope: is cancelled when the client disconnects while it has only a part of the response.

    Attributes:
        serving: the scope of its connection.
        buffer: what its client sends after the request.
        stream: for the app's scope.
    """

    __slots__ = (
        "_context",
        "_cycle",
        "_has_closed",
        "_is_counted",
        "_is_overdue",
        "_mark",
        "_request",
        "_taken",
        "_transport",
        "_was_complete",
        "buffer",
        "serving",
        "stream",
    )

    def __init__(
        self,
        context: CallContext,
        transport: Transport,
        serving: ServeScope,
        routed: RoutedRequest,
        scope: trio.CancelScope,
    ) -> None:
        body = routed.app_body
        assert body is not None
        self.serving = serving
        self.buffer = body.buffer
        self._context = context
        self._cycle = RequestResponseCycle(
            transport,
            serving,
            routed.request,
            body,
            may_keep_alive=routed.may_keep_alive,
            write_timeout=context.write_timeout,
            call=scope,
            on_complete=self._on_complete,
        )
        self.stream = AppStream(
            context.admission, self._cycle, self.buffer, serving, routed, context.resume_serving
        )
        self._request = routed.request
        self._mark = routed.mark
        self._transport = transport
        self._is_counted = False  # it goes on after its response
        self._is_overdue = False  # it has taken longer than a moment, and watches the client
        self._was_complete = False  # the response, when this was overdue
        self._has_closed = False  # it was cancelled, and closes the connection
        self._taken: trio.Event | None = None  # another task takes the connection, or has taken it

    @property
    def transport(self) -> Transport:
        """The handle that the call has, or has had."""
        return self._cycle.transport

    async def run(self, app: ASGIApp, scope: Scope) -> Answered:
        """Call the app, until it returns.

        The connection has been closed, or belongs to another task, if this raises an exception.
        """
        cycle = self._cycle
        try:
            self._context.admission.begin_call()
            self.stream.has_place = True
            if cycle.watcher is None:
                has_failed = await self._call(app, scope)
            else:
                has_failed = await cycle.watcher.run(partial(self._call, app, scope))
            if self.stream.is_detached:
                # Frameworks keep the scope and the two callables as long as the stream may use its request.
                scope.clear()
                return Answered(_CLOSE, cycle.transport)
            if self._taken is not None:
                await self._taken.wait()
                return Answered(_CLOSE, cycle.transport)
            if cycle.is_complete and self.stream.ended is None and cycle.may_keep_alive:
                return Answered(_REUSE, cycle.transport)
            return Answered(await self._finish(has_failed=has_failed), cycle.transport)
        except HTTPException as refusal:
            return Answered(AfterResponse.CLOSE, cycle.transport, refusal)
        except BaseException:
            self._has_closed = True
            if cycle.is_disconnected and cycle.has_begun:
                self._log(is_cut=not cycle.is_body_sent)
            await cycle.transport.aclose(abort=True)
            raise
        finally:
            cycle.release()

    async def _call(self, app: ASGIApp, scope: Scope) -> bool:
        """Call the app; return whether it has failed, which is logged."""
        cycle, calls = self._cycle, self._context.calls
        calls.add(self, self)
        try:
            if self.serving.response_room.expected and not await self._wait_for_place():
                return True
            await closing_generators(app(scope, cycle.receive, cycle.send))
        except BaseException as failure:
            passing, contained = split_failure(failure)
            only = None
            knows_of_disconnect = cycle.is_disconnected or cycle.is_cut_short
            if contained is not None and not (knows_of_disconnect and is_of_disconnect(contained)):
                path = self._request.target.partition("?")[0]
                self._context.advice.note(contained)
                only, peer = only_exception(contained), cycle.transport.peer
                logger.error("the app failed for path=%.200s peer=%s", path, peer, exc_info=only)
            elif contained is not None:
                logger.debug("peer=%s has disconnected, or the server drains", cycle.transport.peer)
            try:
                if passing is not None:
                    raise passing from None
                return True
            finally:
                # Otherwise this frame and the exception refer to one another, and keep what the app has sent.
                del passing, contained, only
        finally:
            calls.discard(self)
            if self._is_overdue:
                self._transport.unwatch()
            if self._is_counted:
                self._context.admission.leave_background(self._transport)
            self.stream.close()
        return False

    async def _wait_for_place(self) -> bool:
        """Wait until there is room for a large response, if one is expected; return whether there is."""
        place = ResponsePlace(self.serving.response_room, self._request.path, self._transport)
        if place.must_wait():
            self._cycle.place = place
            with trio.move_on_after(self._context.write_timeout) as limit:
                await place.wait()
            if limit.cancelled_caught:
                self._cycle.refusal = TemporaryRefusal(503, TOO_MUCH_PENDING)
                return False
        return True

    async def _finish(self, *, has_failed: bool) -> AfterResponse:
        """Check what the app has sent, now that it has returned."""
        cycle = self._cycle
        if cycle.is_complete:
            return await self.finish_response(cycle.transport)
        if not cycle.has_begun:
            if cycle.is_disconnected and cycle.refusal is None:
                self._log()
                return AfterResponse.CLOSE
            if cycle.is_cut_short and cycle.refusal is None:
                raise TemporaryRefusal(503, "the server is shutting down")
            if not has_failed and cycle.refusal is None:
                logger.error("the app returned without a response")
            raise cycle.refusal or HTTPException(500)
        if not (has_failed or cycle.is_disconnected or cycle.is_cut_short):
            logger.error("the app returned before its response was complete")
        if cycle.complete_if_sent():
            self._log()
            return await self.finish_response(cycle.transport)
        self._log(is_cut=not cycle.is_body_sent)
        # So that no client takes it for complete. A chunked body has an end that the client then misses.
        await cycle.transport.aclose(abort=not (cycle.is_cut_short and cycle.is_chunked))
        return AfterResponse.CLOSE

    async def finish_response(self, transport: Transport) -> AfterResponse:
        """Return what becomes of the transport after a response that is complete."""
        if self.stream.ended is not None:
            return AfterResponse.CLOSE if self.buffer else self.stream.ended
        cycle = self._cycle
        if cycle.is_body_complete:
            return AfterResponse.reuse_if(cycle.may_keep_alive)
        if await cycle.discard_body(transport):
            return AfterResponse.reuse_if(not self.serving.is_draining)
        await self.serving.linger(transport)
        return AfterResponse.CLOSE

    # When it takes longer than a moment

    def on_overdue(self) -> bool:
        """Watch the client until the response is complete; return whether it was a moment ago, too."""
        was_complete, self._was_complete = self._was_complete, self._cycle.is_complete
        self._is_overdue = True
        if self._was_complete and not was_complete:
            self._context.calls.add(self, self)
        elif not self._was_complete and self._cycle.watcher is None:
            self._transport.watch(self._cycle)
        return was_complete

    def _on_complete(self) -> None:
        if self.stream.ended is None and not self.stream.is_detached:  # a stream has lines of its own
            self._log()
        if self._is_overdue:
            self._context.calls.add(self, self)

    def _log(self, *, is_cut: bool = False) -> None:
        mark, self._mark = self._mark, None
        if mark is not None:
            log_request(mark, self._cycle.transport, self._request, self._cycle.status, is_cut=is_cut)

    def continue_connection(self) -> None:
        """Have another task go on with the connection.

        If the server has no room for what comes next beside a call that goes on, its connection waits for it.
        """
        try:
            self._context.admission.check_room(self._transport)
        except HTTPException:
            return
        self._is_counted = True
        self._context.admission.enter_background(self._transport)
        self.stream.give_place()
        if self.stream.is_detached:
            return  # the stream has the connection
        self._taken = trio.Event()
        self.serving.start_soon(self._context.continue_serving, self, name="trio_sse connection")

    async def take_connection(self) -> Transport | None:
        """Return a handle that owns the connection. The call itself cannot reach it any more.

        Return `None` if the call has closed it: a client that left just before its response was complete has
        had the call cancelled.
        """
        assert self._taken is not None
        try:
            if not self._has_closed:
                await self._cycle.stop_watching()
            return None if self._has_closed else self._cycle.transport.hand_over()
        finally:
            self._taken.set()
