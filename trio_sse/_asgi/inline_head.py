"""The head of a response whose stream runs inside the app's call: it is sent by the app's own `send`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NoReturn, Protocol, final

import trio

from .._groups import split_failure, stray_cancellation_fails
from .._http.fields import merge_fields
from .._logger import get_logger
from .._stream.end_reason import EndReason
from .._stream.live_stream import LiveStream
from .response_fields import is_event_stream
from .response_messages import encode_fields
from .response_stream import InlineStream, begin_body
from .types import Send

logger = get_logger("trio_sse.stream")


class SentHead(Protocol):
    """The head of an app's response, as it has reached the server."""

    @property
    def has_content_type(self) -> bool:
        """Whether it says what the body is."""

    @property
    def is_event_stream(self) -> bool:
        """Whether it says that the body is an event stream."""


@final
class InlineHead:
    """The response's head, sent when the handler has something to send; see `ResponseStart`.

    Attributes:
        has_been_tried: a task sends it, or has sent it, or was cancelled while it did.
        has_been_sent: the app's `send` has returned.
    """

    stream: LiveStream
    waits_for_body = False  # it was read before

    def __init__(self, inline: InlineStream, send: Send, headers: list[tuple[bytes, bytes]]) -> None:
        self.has_been_tried = False
        self.has_been_sent = False
        self.watches_peer = inline.watches_peer
        self._inline = inline
        self._send = send
        self._headers = headers
        self._starting: trio.CancelScope | None = None  # of the task that sends the head, if there is one
        self._has_tried = trio.Event()
        self._is_interrupted = False  # the task that sent it was cancelled
        self._is_event_stream = False  # its Content-Type says so

    @property
    def is_head_final(self) -> bool:
        return self.has_been_tried

    async def start_response(self) -> None:
        if self.has_been_tried:
            await self.wait_started()
            return
        self.has_been_tried = True
        try:
            headers = with_fields(self._headers, self.stream.take_added_fields())
            self._is_event_stream = any(map(is_event_stream, headers))
            with stray_cancellation_fails():
                await self._send({"type": "http.response.start", "status": 200, "headers": headers})
                self.has_been_sent = True
                await begin_body(self._send, self._inline.is_head_held)
        except OSError as error:  # how ASGI servers report a disconnect
            if not self._inline.is_disconnect(error):
                raise
            self.stream.on_disconnect()
            await self._leave()
        except trio.Cancelled:
            self._is_interrupted = True
            self.stream.end(EndReason.WRITE_TIMEOUT)  # how much of the head was sent is unknown
            raise
        except Exception as error:
            if self.stream.end_reason is not None:  # middleware has its own exception for that
                raise self.stream.ended_error() from error
            self.stream.end(EndReason.HANDLER_ERROR)  # the head will not be sent a second time
            raise
        self._inline.head_sent(self.stream)
        await self.wait_started()

    def may_be(self, head: SentHead) -> bool:
        """Return whether a head that has reached the server may be this one.

        Middleware may answer by itself while the app goes on, as when it has waited for too long.
        """
        is_another_type = self._is_event_stream and head.has_content_type and not head.is_event_stream
        return self.has_been_tried and not is_another_type

    async def wait_started(self) -> None:
        if self._is_interrupted:
            # Nobody would wake this: the head will never be there.
            if self.stream.end_reason is EndReason.FINISHED:
                self.stream.override_end_reason(EndReason.WRITE_TIMEOUT)
            await self.stream.leave()
        await self._inline.wait_started(self.stream)
        if self.stream.response_start is not None:
            await self._leave()

    async def _leave(self) -> NoReturn:
        """Leave a stream whose response never begins; one that has finished is not cancelled any more."""
        if self.stream.end_reason is not EndReason.FINISHED:
            await self.stream.leave()
        await trio.lowlevel.checkpoint()
        raise trio.BrokenResourceError("the client has disconnected before the response began")

    def request_start(self) -> None:
        """Send the head from its own task, as the handler has nothing to send yet."""
        if not self.has_been_tried and self._starting is None:
            self._starting = trio.CancelScope()
            self.stream.serving.start_soon(self._start_alone, self._starting, name="trio_sse.start_response")

    async def _start_alone(self, scope: trio.CancelScope) -> None:
        try:
            with scope:
                await self.start_response()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the stream has ended for it
        except BaseException as failure:
            passing, contained = split_failure(failure)
            if contained is not None:
                logger.error("the app's send failed for id=%d", self.stream.id, exc_info=contained)
                self.stream.end(EndReason.HANDLER_ERROR)
            if passing is not None:
                raise passing from None
        finally:
            self._has_tried.set()

    async def aclose(self) -> None:
        """Send nothing more, since the app's call ends."""
        if self._starting is not None:
            self._starting.cancel()
            with trio.CancelScope(shield=True):  # it has been cancelled
                await self._has_tried.wait()


def with_fields(
    headers: list[tuple[bytes, bytes]], fields: Iterable[tuple[str, str]]
) -> list[tuple[bytes, bytes]]:
    """Return a new list of headers with further fields, as `merge_fields` does.

    Middleware may add to it what concerns one client, such as a cookie.
    """
    if not fields:
        return list(headers)
    own = [(name.decode(), value.decode("latin-1")) for name, value in headers]
    return encode_fields(merge_fields(own, fields))
