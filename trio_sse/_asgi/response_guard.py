"""One request on a server that is not ours, seen from outside everything else: how its response ends.

ASGI has no message that truncates a response. But servers close an HTTP/1.1 connection whose response is
incomplete when the app returns. So a stream that was cut marks its response, and the guard then withholds the
end, whichever middleware sends it. It has to be the outermost wrapper of the app for that.

A stream of HTTP/2 would stay open forever if its response were incomplete. So over HTTP/2 every response is
ended, also that of an app that fails. And it is ended only when the request's body has come, as far as that
takes a short time: hypercorn ends its whole server if a body continues after the response.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, final

import trio

from .._groups import plain_cancellation
from .._http.response import Response
from .._nursery import UserCodeNursery
from .._stream.end_reason import EndReason
from .announced_body import AnnouncedBody
from .client_disconnected import ClientDisconnected
from .extension_messages import checked_extension
from .guarded_input import GuardedInput
from .request import announces_body
from .response_fields import checked_fields, is_event_stream
from .response_messages import failure_messages, response_messages
from .scope_object import ScopeObject
from .sends_under_way import SendsUnderWay
from .types import Message, Receive, Scope, Send

#: Where a scope's `extensions` have the `ResponseGuard` of the request.
GUARD = "trio_sse.response"

# How long the end of a response over HTTP/2 waits for the rest of the request's body.
_BODY_SECONDS = 30.0

# Bytes that a client is expected to receive in a second, at least.
_SLOWEST = 16 * 1024

_CLOSE = (b"connection", b"close")


def find_guard(scope: Mapping[str, Any]) -> ResponseGuard | None:
    """Return the guard of a request's response, if its scope has one."""
    guard: ResponseGuard | None = (scope.get("extensions") or {}).get(GUARD)
    return guard


@final
class ResponseGuard(ScopeObject):
    """The outermost `receive` and `send` of one request.

    Attributes:
        has_started: the response's head was sent.
        is_resumable: the response is an event stream whose client reconnects when it ends.
        survives: a `send` that is cancelled still sends its whole message.
    """

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        write_timeout: float = float("inf"),
        survives: bool = False,
        nursery: trio.Nursery | None = None,
    ) -> None:
        """Guard a response.

        Args:
            nursery: outlives the app's call. Without one, some disconnects are not noticed.
            write_timeout: bounds the end of one over HTTP/2 that is no event stream.
            survives: a `send` that is cancelled still sends its whole message.
        """
        self.survives = survives
        self.has_started = False
        self.is_resumable = False
        self._send = send
        self._http_version: str = scope["http_version"]
        self._is_http2 = self._http_version >= "2"
        self._body = AnnouncedBody(is_head=scope.get("method") == "HEAD")
        self._is_get = scope.get("method") == "GET"
        self._has_failed_to_send = False
        self._is_cut = False
        self._is_over = False
        self._refusal: Response | None = None
        self._end_seconds = write_timeout  # how long the end may take, over HTTP/2
        self._is_stream_over = False
        self._input = GuardedInput(receive, is_body_over=not (self._is_http2 or announces_body(scope)))
        self._sends = SendsUnderWay(nursery)
        self._input.on_noticed = self._sends.hurry
        if self._is_http2:  # each `send` could watch, but that takes as long as all else that the guard does
            notice = partial(self._input.wait_disconnected, ahead=True)
            self._input.on_unawaited = partial(self._sends.watch, notice)

    @property
    def is_disconnected(self) -> bool:
        """Whether it is known that the client has disconnected."""
        return self._input.is_disconnected

    @property
    def has_lost_client(self) -> bool:
        """Whether that is known, or a `send` has failed for it."""
        return self._has_failed_to_send or self._input.is_disconnected

    def watch_disconnect(self, on_disconnect: Callable[[], None]) -> None:
        """Call a function when a disconnect is known, or now. Middleware may keep one from the app."""
        self._input.on_disconnect = on_disconnect
        if self._input.is_disconnected:
            on_disconnect()

    @property
    def was_ended(self) -> bool:
        """Whether the app was told of a disconnect because the server drains."""
        return self._input.has_stopped

    async def receive(self) -> Message:
        """Receive from the server."""
        message = await self._input.take()
        if message is not None:
            return message
        if self._input.is_disconnected:
            try:
                await self._sends.wait_returned()
            finally:
                self._input.on_disconnect()
        return {"type": "http.disconnect"}

    @property
    def is_being_sent(self) -> bool:
        """Whether the response has begun, and the app has not sent its end."""
        return self.has_started and not self._is_over

    def end(self, reason: EndReason) -> None:
        """Let the app know that its response should end, as if its client had left; it can still send."""
        self._input.stop()

    @contextmanager
    def _checked(self, scope: trio.CancelScope) -> Iterator[None]:
        """Send within a scope, which a disconnect bounds; if it is cancelled, raise `OSError`."""
        with self._sends.hurried(scope):
            yield
        if scope.cancelled_caught:
            self._input.stop()
            raise OSError("the client has disconnected, or takes nothing")

    async def send(self, message: Message) -> None:
        """Send to the server, except for the end of a response that was cut."""
        trio.lowlevel.current_task()  # in a thread that has none, this raises an error, and changes nothing
        if self._has_failed_to_send:  # perhaps the head, of which middleware has not told the app
            await trio.lowlevel.checkpoint()
            raise ClientDisconnected("the client has disconnected")
        await self._deliver(message)

    async def _deliver(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.trailers" and self.has_started:
            await trio.lowlevel.checkpoint()
            return  # not sent: a response ends with its body
        if self._is_over:
            raise ClientDisconnected("the response is over")
        if self._refusal is not None:
            await trio.lowlevel.checkpoint()
            return
        if kind == ("http.response.start" if self.has_started else "http.response.body"):
            raise RuntimeError(f"the app sends {kind!r}, which cannot follow what it has sent before")
        if kind == "http.response.start":
            message = self._checked_head(message)
            self.has_started = True
        elif kind == "http.response.body":
            self._body.add(message)
        else:
            message = checked_extension(message, self._http_version)
        try:
            with self._sends.counted():
                if kind == "http.response.body" and not message.get("more_body", False):
                    await self._end(message)
                elif self._is_watched(message) and not self._input.is_awaited:
                    await self._send_watched(message)
                else:
                    scope = self._bounded(message) if self.has_unread_body else trio.CancelScope()
                    with self._checked(scope):
                        await self._send(message)
        except (OSError, trio.BusyResourceError) as error:
            # Hypercorn closes the connection in one task and writes to it in another, which is then busy.
            self._has_failed_to_send = True
            text = str(error) if isinstance(error, OSError) else "the client has disconnected"
            raise ClientDisconnected(text) from error

    def _checked_head(self, message: Message) -> Message:
        status = message["status"]
        if not 200 <= int(status) < 600:
            raise ValueError(f"a response's status must be 200 to 599, not {status}")
        fields = checked_fields(message.get("headers", ()), self._http_version)
        self.is_resumable = self._is_get and any(map(is_event_stream, fields))
        fields = self._body.announce(status, fields)
        if not (self._is_http2 or self._input.is_body_over):
            fields.append(_CLOSE)  # hypercorn closes the connection of a body that nobody has read
        without_trailers = {"trailers": False} if message.get("trailers") else {}
        return {**message, "headers": fields, **without_trailers}

    def on_stream_end(self, *, is_cut: bool, end_seconds: float) -> None:
        """Record that an event stream has ended, which was this response's body.

        Args:
            is_cut: the client must not take the response for a complete one, if that can be avoided.
            end_seconds: how long the end of the response may take.
        """
        self._is_stream_over = True
        self._is_cut = is_cut
        self._end_seconds = end_seconds

    def refuse(self, refusal: Response) -> bool:
        """Answer with this instead of the response whose head middleware holds back.

        Return whether that is possible: not if the server has the head.
        """
        if self.has_started or self._is_over:
            return False
        self._refusal = refusal
        return True

    async def finish(self) -> None:
        """Complete what the app has left incomplete, now that it has returned or failed.

        Over HTTP/1.1 an incomplete response is cut, unless its client has all of it. But if the client has
        disconnected, hypercorn needs the end, to free a connection on which it has held back a request.
        """
        is_cut = self.has_started and not (self._is_http2 or self.is_disconnected or self._body.is_whole)
        if self._is_over or is_cut:
            self._is_over = True
            return
        refusal, self._refusal, self._is_cut = self._refusal, None, False
        self._body.forget_length()
        head, end = failure_messages() if refusal is None else response_messages(refusal)
        try:
            if not self.has_started:
                closes = [_CLOSE] if self._input.is_body_over and not self._is_http2 else []  # or it is added
                await self._deliver({**head, "headers": [*head["headers"], *closes]})
            await self._deliver(end)
        except ClientDisconnected:
            pass
        except Exception:  # a part of an announced length is missing, or the head, which could not be sent
            if not self.has_lost_client:
                raise

    async def _end(self, message: Message) -> None:
        self._is_over = True
        if self._is_http2:
            try:
                await self._input.discard_body(_BODY_SECONDS)
            except BaseException:
                self._is_over = False  # `finish` sends the end
                raise
            if self.is_disconnected:  # hypercorn would wait until the client has received it
                await trio.lowlevel.checkpoint()
            else:
                await self._end_http2(message)
        elif self._is_cut and not self.is_disconnected:
            await trio.lowlevel.checkpoint()
        elif self.has_unread_body:
            await self._send_beside(message, self.receive_rest)
        else:
            await self._send(message)

    async def _end_http2(self, message: Message) -> None:
        """Send the end, for a bounded time.

        Hypercorn waits until the client has received everything, also if it has disconnected. How much that
        still is, nobody learns. So a response has more time the larger it is.
        """
        more = 0.0 if self._is_stream_over else self._body.size / _SLOWEST
        with self._sends.hurried(trio.move_on_after(self._end_seconds + more)):
            await self._send_beside(message, self._input.wait_disconnected)

    async def _send_beside(self, message: Message, work: Callable[[], Awaitable[None]]) -> None:
        """Send a message while something else is done. What is raised is in no group."""
        with plain_cancellation():
            async with UserCodeNursery() as nursery:
                nursery.start_soon(work)
                await self._send(message)
                nursery.cancel_scope.cancel()

    def _is_watched(self, message: Message) -> bool:
        """Whether a disconnect is noticed while this is sent: not during a flush, which sends nothing."""
        return message["type"] == "http.response.body" and bool(self._is_http2 or message.get("body", b""))

    async def _send_watched(self, message: Message) -> None:
        """Send a part of the body, and notice that the client disconnects, for an app that does not receive.

        To such a client, hypercorn's `send` may wait forever for the window of HTTP/2, and sends nothing over
        HTTP/1.1, without a word.
        """
        scope = self._bounded(message)
        with self._checked(scope):
            await self._send_beside(message, partial(self._cancel_on_disconnect, scope))
        if self._input.is_disconnected and message.get("body", b""):
            raise OSError("the client has disconnected")

    def _bounded(self, message: Message) -> trio.CancelScope:
        """Return a scope that bounds a `send` of hypercorn that may wait forever.

        In an upload over HTTP/1.1, hypercorn reports a disconnect within `send`, and waits there until the
        app has received what came before. `receive_rest` does that when the app's call has ended.
        """
        if self._is_http2 or self.has_unread_body:
            return trio.move_on_after(self._end_seconds + len(message.get("body", b"")) / _SLOWEST)
        return trio.CancelScope()

    async def _cancel_on_disconnect(self, scope: trio.CancelScope) -> None:
        await self._input.wait_disconnected(ahead=True)
        if self._is_http2:  # over HTTP/1.1, a client that has only ended its side still receives this
            scope.cancel()

    def awaits_body(self) -> bool:
        """Return whether the app may still receive a part of the request's body."""
        return self._input.awaits_body

    @property
    def has_unread_body(self) -> bool:
        """Whether the request's body has not come to its end, over HTTP/1.1."""
        return self.awaits_body() and not self._is_http2

    async def receive_rest(self) -> None:
        """Receive until hypercorn has reported the end of the response.

        It waits for room in the app's queue to do that, before it closes the connection.
        """
        with trio.move_on_after(_BODY_SECONDS):
            await self._input.wait_disconnected()
        self._input.stop()
