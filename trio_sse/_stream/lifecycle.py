"""Running one stream: the scope around its handler, and what happens when that is left.

`run_stream` has three exits:

- It returns `Refused`: the stream never began, and the caller answers the request. That is also so when it
  was ended from outside before it had anything to send.
- It returns `Ended`: the stream began and has ended, and its last bytes were sent as far as possible.
- It raises: it was cancelled from outside, so the stream has ended as `SERVER_SHUTDOWN`.

At each exit the stream is unregistered, counted and logged, the disconnect hooks have run, and nothing but
the caller writes to the transport.

The stream owns its transport (see `_transport/base.py`) from the start of its response on. The caller takes
it back by `hand_over`, or closes it.

While a stream runs on a socket, its task is the only one: the scope's `DisconnectWatcher` and
`KeepaliveScheduler` do their part between checkpoints. Other transports, and WebSockets, need tasks of the
stream's own.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import final

import trio

from .._generators import (
    close_left_open,
    closing_generators,
    count_open_nurseries,
    has_left_open,
)
from .._groups import (
    as_exception,
    leaf_exceptions,
    only_exception,
    shallow,
    split_failure,
    stray_cancellation_fails,
)
from .._http.exceptions import HTTPException, TemporaryRefusal
from .._http.response import Response
from .._logger import get_logger
from .._nursery import UserCodeNursery
from .._subscription.subscription import SlowConsumer
from .._wire.topic import TopicError
from .closing import finish_stream, send_reconnect_hint
from .connection import Connection, stream_of
from .disconnects import MAX_UNREAD_BYTES
from .end_reason import EndReason
from .live_stream import LiveStream
from .manager import StreamManager
from .registration import call_connect_hooks, enter_stream, path_of, unregister
from .scope import ServeScope

logger = get_logger("trio_sse.stream")

#: A handler, without the parameters of its path. It may return a `Response` instead of using the connection.
Handle = Callable[[Connection], Awaitable[object]]

#: Takes everything that the peer sends, until it disconnects.
Read = Callable[[], Awaitable[None]]


@final
@dataclass(frozen=True, slots=True)
class Refused:
    """The stream never began, because the handler or a hook raised this. The caller answers the request.

    The caller also logs the error, unless it is a deliberate refusal. It is a `TemporaryRefusal` if the
    stream was ended before it began, by a drain for example.
    """

    error: Exception


@final
@dataclass(frozen=True, slots=True)
class Ended:
    """The stream has ended; `may_reuse` says whether the transport may carry another request."""

    may_reuse: bool


StreamOutcome = Refused | Ended


@final
class Failure:
    """What a handler has raised, until `end_stream` takes it, so that no frame keeps what refers to it."""

    __slots__ = ("_error",)

    def __init__(self, error: BaseException) -> None:
        self._error: BaseException | None = error

    def take(self) -> BaseException:
        """Return the error, once."""
        error, self._error = self._error, None
        assert error is not None
        return error


# Why a stream is ended though its client still waits for an answer.
_ENDED_BY_US = (
    EndReason.MAX_DURATION,
    EndReason.SLOW_CONSUMER,
    EndReason.WRITE_TIMEOUT,
    EndReason.RECONNECT,
    EndReason.REVOKED,
    EndReason.EXPIRED,
    EndReason.SERVER_SHUTDOWN,
)


async def run_stream(
    manager: StreamManager,
    serving: ServeScope,
    stream: LiveStream,
    handle: Handle,
    *,
    read: Read | None = None,
) -> StreamOutcome:
    """Run a stream to its end; the exits are listed at the top of this file.

    Args:
        read: reads from the peer, in its own task, instead of only noticing that it disconnects.
    """
    connection = Connection(stream)
    answer: object = None
    nurseries = count_open_nurseries()
    try:
        if read is not None or not stream.transport.is_watchable:
            enter_stream(manager, stream)
            await _handle_with_helpers(manager, connection, handle, read)
        else:
            if manager.on_connect:
                await start_with_hooks(manager, connection)
            else:
                start_stream(manager, connection)
            answer = await handle(connection)
    except BaseException as failure:
        answer = Failure(failure)
    if has_left_open(nurseries):
        answer = await close_generators(nurseries, answer)
    return await end_stream(manager, connection, answer)


def start_stream(manager: StreamManager, connection: Connection) -> None:
    """Begin what `run_stream` does on a transport that is watched, for a manager without `on_connect` hooks.

    Then call the handler, and pass what it has returned, or a `Failure` if anything was raised, to
    `end_stream`. So the task of a stream needs no coroutine but its own and the handler's while it runs.
    """
    stream = stream_of(connection)
    enter_stream(manager, stream)
    _watch(stream)
    _begin_keepalives(stream)


async def start_with_hooks(manager: StreamManager, connection: Connection) -> None:
    """Do the same where there are hooks."""
    stream = stream_of(connection)
    enter_stream(manager, stream)
    _watch(stream)
    stream.lifetime.deadline = stream.deadline
    await call_connect_hooks(manager, connection)
    if not stream.needs_deadline:
        stream.lifetime.deadline = math.inf
    _begin_keepalives(stream)


async def close_generators(nurseries: int, answer: object) -> object:
    """Close the generators that a handler has left inside a nursery; return what `end_stream` takes.

    Do this before anything else if the handler `has_left_open` something.
    """
    try:
        await close_left_open(nurseries)
    except BaseException as failure:
        if not isinstance(answer, Failure):
            return Failure(failure)
    return answer


async def end_stream(manager: StreamManager, connection: Connection, answer: object) -> StreamOutcome:
    """End a stream whose handler is over, and send its last bytes; the exits are those of `run_stream`."""
    stream = stream_of(connection)
    refused: Refused | None = None
    try:
        try:
            refused = _leave(manager, stream, answer)
        finally:
            stream.stop_writers()
        if refused is not None:
            return refused  # and nothing was sent: the answer is the caller's
        stream.end(EndReason.FINISHED)
        may_reuse = await finish_stream(stream, manager.options)
        return _refuse_late(stream) or Ended(may_reuse)
    except BaseException:
        _end_cancelled(stream, manager)
        raise
    finally:
        unregister(manager, stream, connection, refused.error if refused else None)


def _leave(manager: StreamManager, stream: LiveStream, answer: object) -> Refused | None:
    """Leave the scope of the handler, and settle what is left of what it has raised or returned."""
    failure = answer.take() if isinstance(answer, Failure) else None
    if stream.keepalive_entry is not None:
        stream.serving.keepalives.remove(stream.keepalive_entry)
    stream.transport.unwatch()
    try:
        if failure is None:
            stream.lifetime.__exit__(None, None, None)
            _check_answer(stream, answer)
            return None
        failure = shallow(failure)
        if stream.lifetime.__exit__(type(failure), failure, failure.__traceback__):
            return None
    except BaseException as raised:
        return _settle(manager, stream, raised)
    return _settle(manager, stream, failure)


def _end_cancelled(stream: LiveStream, manager: StreamManager) -> None:
    stream.end(EndReason.SERVER_SHUTDOWN)
    if stream.end_reason is EndReason.SERVER_SHUTDOWN and stream.transport.is_direct:
        send_reconnect_hint(stream, manager.options)


# Noticing disconnects, and keepalives


def _watch(stream: LiveStream) -> None:
    """Let the scope's task notice a disconnect, unless the app's server still does."""
    if stream.response_start is None or not stream.response_start.watches_peer:
        stream.transport.watch(stream)


def _begin_keepalives(stream: LiveStream) -> None:
    stream.is_connected = True
    due = min(stream.keepalive_due, stream.deadline)
    stream.keepalive_entry = stream.serving.keepalives.add(stream, due)


async def _handle_with_helpers(
    manager: StreamManager, connection: Connection, handle: Handle, read: Read | None
) -> None:
    """Run the hooks and the handler where reading, or writing keepalives, takes tasks of the stream's own."""
    stream = stream_of(connection)
    keepalives, entry = stream.serving.keepalives, None
    stream.lifetime.deadline = stream.deadline
    async with UserCodeNursery() as nursery:
        nursery.start_soon(read or partial(_watch_peer, stream))
        try:
            # The scope ends those that the code has left open: the nursery could not.
            with stray_cancellation_fails(), trio.CancelScope():
                await closing_generators(call_connect_hooks(manager, connection))
                stream.is_connected = True
                if stream.transport.is_direct:
                    entry = keepalives.add(stream, stream.keepalive_due)
                else:
                    nursery.start_soon(stream.keep_alive_task)
                _check_answer(stream, await closing_generators(handle(connection)))
        finally:
            if entry is not None:
                keepalives.remove(entry)
        async with stream.write_lock:  # let a helper finish what it is writing
            nursery.cancel_scope.cancel()


async def _watch_peer(stream: LiveStream) -> None:
    """Read what the peer still sends, only to notice that it disconnects or keeps sending."""
    if stream.response_start is not None and stream.response_start.watches_peer:
        await stream.response_start.wait_started()
        if stream.response_start is not None:
            return  # it will never start
    transport = stream.transport
    try:
        while await transport.discard_some():
            if transport.unread_bytes() > MAX_UNREAD_BYTES:
                stream.on_excess_input()
    except trio.BrokenResourceError as error:
        stream.on_broken(error)
    stream.on_disconnect()


# Errors


def _check_answer(stream: LiveStream, answer: object) -> None:
    """Answer the request with what the handler has returned, if that is not `None`.

    Raises:
        HTTPException: it is a response, and is sent instead of a stream.
        TypeError: it is not a response, and the stream has not begun.
        RuntimeError: it is a response, and the stream has begun.
    """
    if answer is None:
        return
    if isinstance(answer, Response):
        if stream.has_started:
            raise RuntimeError("a handler whose stream has begun cannot answer with a Response")
        raise HTTPException(answer)
    if not stream.has_started and stream.end_reason is None:
        raise TypeError(f"a handler must return None or a Response, not {type(answer).__name__}")


def _settle(manager: StreamManager, stream: LiveStream, failure: BaseException) -> Refused | None:
    """Do what `_settle_failure` does for a part of the failure, and raise what must pass."""
    passing, contained = split_failure(failure)
    refused = None if contained is None else _settle_failure(manager, stream, contained)
    if passing is not None:
        raise passing from None
    return refused


def _settle_failure(manager: StreamManager, stream: LiveStream, failure: BaseException) -> Refused | None:
    """End the stream for what the handler raised; return what to answer if the stream never began."""
    errors = leaf_exceptions(failure) if isinstance(failure, BaseExceptionGroup) else [failure]
    if all(isinstance(error, SlowConsumer) for error in errors):
        stream.end(EndReason.SLOW_CONSUMER)
        return None
    if stream.end_reason is not None and all(isinstance(e, trio.ClosedResourceError) for e in errors):
        return None  # it tried to send on a stream that had ended: the reason is known
    only = only_exception(failure)
    if not stream.has_started:
        refusal = _find_refusal(manager, errors)
        if refusal is not None:
            _end_unsent(stream, EndReason.REFUSED if _is_error(refusal) else EndReason.ANSWERED)
            return Refused(refusal)
        if _end_unsent(stream, EndReason.HANDLER_ERROR):
            return Refused(as_exception(only))
    peer, path = stream.transport.peer, path_of(stream)
    logger.error("the handler failed for id=%d peer=%s path=%.200s", stream.id, peer, path, exc_info=only)
    stream.end(EndReason.HANDLER_ERROR)
    return None


def _end_unsent(stream: LiveStream, reason: EndReason) -> bool:
    """End a stream that has sent nothing, also if its handler has closed it; return whether that is why."""
    stream.end(reason)
    if stream.end_reason in (EndReason.FINISHED, EndReason.RECONNECT):  # the handler closed it
        stream.override_end_reason(reason)
    return stream.end_reason is reason


def _is_error(refusal: Exception) -> bool:
    """Return whether the response that an exception asks for is an error."""
    if isinstance(refusal, HTTPException):
        return refusal.status >= 400
    status: object = getattr(getattr(refusal, "response", None), "status_code", None)  # of Werkzeug's
    return not (isinstance(status, int) and status < 400)


def _refuse_late(stream: LiveStream) -> Refused | None:
    """Return what to answer if a stream was ended before it began, so that its client tries again."""
    if stream.has_started or stream.end_reason not in _ENDED_BY_US:
        return None
    return Refused(TemporaryRefusal(503, "the stream ended before it began"))


def _find_refusal(manager: StreamManager, errors: list[BaseException]) -> Exception | None:
    """Return the error that refuses the request, if one does."""
    for error in errors:
        if isinstance(error, manager.refusals):
            return error
    first = errors[0]
    return first if isinstance(first, TopicError) and all(isinstance(e, TopicError) for e in errors) else None
