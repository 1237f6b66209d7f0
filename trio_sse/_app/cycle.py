"""One request to an ASGI app on our server, and its response: what the app sends, and how that is framed.

`request.py` has what the app receives. When the client disconnects after the response has begun and
before it is complete, an app with a task in `receive` learns it there, and ends by itself: frameworks still
run their background tasks then. If no task is there, nothing would tell the app, and its call is cancelled.

A response that is incomplete when the app returns is truncated, so that no client takes it for complete.

The cycle owns the connection's transport. When an event stream writes the response's body, `start_stream`
hands the transport over to it. When the response is complete and the app's call goes on, `hand_over` does,
and nothing that the call still does reaches the connection. Whether the connection may carry another request
is decided once, when the head is encoded, and is announced in it: not if the request's body was not read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import NamedTuple, final

import trio

from .._asgi.client_disconnected import ClientDisconnected
from .._asgi.types import Message, exact_bytes
from .._http.exceptions import HTTPException, TemporaryRefusal
from .._http.request import Request
from .._request.body import RequestBody
from .._stream.end_reason import EndReason
from .._stream.scope import ServeScope
from .._transport.base import Transport, send_at_once, send_rest
from .._transport.losses import TOO_MUCH_PENDING
from .._transport.pending_bytes import LARGE
from .._transport.response_room import ResponsePlace
from .request import AppRequest
from .response import AppResponse

# Where a client takes all at once, an app may send for this long while other tasks wait. To let them have
# their turn after each part would cost more than all else that sending it needs.
_STEP_SECONDS = 0.001

_TORN = "a send was cancelled in the middle of a part, so nothing can follow"

_CHUNKED_LINE = b"Transfer-Encoding: chunked\r\n"


class StreamStart(NamedTuple):
    """What an event stream gets when its response starts.

    Attributes:
        transport: the connection, which the stream owns from now on.
        head: the head's bytes, which were not sent yet.
        may_keep_alive: whether the connection may carry another request afterwards, as the head announces.
    """

    transport: Transport
    head: bytes
    may_keep_alive: bool


@final
class RequestResponseCycle(AppRequest):
    """The `receive` and `send` of one request.

    Attributes:
        call: the scope of the app's call; `None` if that is not to be cancelled.
        is_complete: the app has sent its whole response.
        is_cut_short: the server drains, and has let the app know.
        on_start: called when the app sends its response's head, which then stays unsent.
        is_of_stream: returns whether that head is the one that `on_start` waits for; `None` if any is.
        on_other_head: called if it is not.
        is_left_to_stream: returns whether a stream will begin the body of this response.
        on_complete: called when the app has sent its whole response.
        place: that of the response, if it is large, or expected to be.
    """

    __slots__ = (
        "_ignores_app",
        "_is_ending",
        "_on_lost_client",
        "_response",
        "_sent",
        "_write_timeout",
        "_yields_at",
        "call",
        "is_chunked",
        "is_complete",
        "is_cut_short",
        "is_left_to_stream",
        "is_of_stream",
        "on_complete",
        "on_other_head",
        "on_start",
        "place",
    )

    def __init__(
        self,
        transport: Transport,
        serving: ServeScope,
        request: Request,
        body: RequestBody,
        *,
        may_keep_alive: bool,
        write_timeout: float,
        call: trio.CancelScope | None = None,
        on_complete: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(transport, serving, request, body, may_keep_alive=may_keep_alive)
        self.call = call
        self.is_complete = False
        self.is_cut_short = False
        self._is_ending = False  # the last part of the response is being sent, or was
        self.on_complete = on_complete
        self.on_start: Callable[[], None] | None = None
        self.is_of_stream: Callable[[AppResponse], bool] | None = None
        self.on_other_head: Callable[[], None] | None = None
        self.is_left_to_stream: Callable[[AppResponse], bool] | None = None
        self._on_lost_client: Callable[[], None] | None = None
        self._response: AppResponse | None = None
        self._write_timeout = write_timeout
        self.place: ResponsePlace | None = None
        self.is_chunked = False
        self._ignores_app = False  # what the app still sends is not part of the response
        self._sent = 0  # bytes of the body
        self._yields_at = 0.0  # when other tasks get their turn

    def watch_disconnect(self, on_lost_client: Callable[[], None]) -> None:
        """Call a function when the client disconnects while no stream has the transport, or now if it has."""
        self._on_lost_client = on_lost_client
        if self.is_disconnected:
            on_lost_client()

    def on_disconnect(self) -> None:
        if self._is_ending or self.is_released:
            return
        self.is_disconnected = True
        is_received = self.is_awaited
        self.set_over()
        if self._on_lost_client is not None:
            self._on_lost_client()
        if self.has_begun and not (self.is_complete or is_received) and self.call is not None:
            self.call.cancel()

    @property
    def is_body_sent(self) -> bool:
        """Whether the client has the whole body already, though the app has not said that it ends."""
        response = self._response
        if response is None or not self.has_begun:
            return False
        has_body = response.has_body and self._request.method != "HEAD"
        return not has_body or response.content_length == self._sent

    @property
    def status(self) -> int | None:
        """The status of the response, if the app has begun it."""
        return None if self._response is None else self._response.status

    @property
    def awaits_head(self) -> bool:
        """Whether the app's head has not arrived here. Middleware may hold it back."""
        return self._response is None

    @property
    def may_keep_alive(self) -> bool:
        """Whether the connection may carry another request, as it is now."""
        closes = self._response is not None and self._response.closes
        return self._may_keep_alive and self._body.is_complete and not (closes or self._serving.is_draining)

    def release(self) -> None:
        """Drop everything that a finished call no longer needs; the app may still refer to this object.

        It also breaks all circles of references, which is much cheaper than having them collected.
        """
        self._serving.app_responses.pop(self, None)
        self.is_released = True
        self._release_place()
        self.on_complete = self.watcher = self.call = None
        self.forget_stream()
        del self._body, self._response

    def take_back(self, transport: Transport) -> None:
        """Own the transport again, after a stream inside the call: the response is complete."""
        self.transport = transport
        self._complete()

    def _complete(self) -> None:
        self.is_complete = self._is_ending = True
        self._release_place()
        self.set_over()
        self.stop_receiving()
        if self.on_complete is not None:
            self.on_complete()

    def complete_if_sent(self) -> bool:
        """Complete the response if the client has all of it, though the app has failed; return whether so.

        To the client it is complete, and its head may have promised that the connection goes on.
        """
        if not self.is_body_sent or self.is_disconnected or self.transport.pending is not None:
            return False
        self.transport.end_response()
        self.on_complete = None  # the call has ended
        self._complete()
        return True

    def detach(self) -> None:
        """Note that a stream in another task writes the rest of the response."""
        self._complete()

    # When the server drains

    @property
    def is_resumable(self) -> bool:
        """Whether it is an event stream whose client reconnects when it ends."""
        response = self._response
        return response is not None and response.is_event_stream and self._request.method == "GET"

    def end(self, reason: EndReason) -> None:
        """Let the app know that its response should end, as if its client had left; it can still send."""
        self.is_cut_short = True
        self.set_over()

    async def hand_over(self) -> Transport:
        """Return a handle that owns the connection, once the response is complete."""
        await self.stop_watching()
        return self.transport.hand_over()

    def take_back_unused(self, transport: Transport) -> None:
        """Own the transport again, after a stream that has not even written the head."""
        self.transport = transport
        self.has_begun = False

    # What the app sends

    async def send(self, message: Message) -> None:
        """Send a part of the response.

        When the client has disconnected, an empty last part is dropped without an error: there is nothing to
        stop, and the app would take the error for a failure of its own.

        Raises:
            ClientDisconnected: the client has disconnected, or has taken nothing for too long; or a send was
                cancelled when it had sent some of its part.
            RuntimeError: this message cannot follow what the app has sent before.
            ValueError: a header field, or the body's length, is not acceptable.
        """
        sending = self._sending  # what several tasks send is written in the order in which it is encoded
        if sending.is_taken:
            await sending.wait()
        sending.is_taken = True
        try:
            if self._ignores_app:
                return
            kind = message["type"]
            if kind == "http.response.body":
                # A send that is cancelled sends nothing. From here on it would lose what has been encoded.
                await trio.lowlevel.checkpoint_if_cancelled()
            if self.is_disconnected or self.transport.pending is not None:  # after a cancelled send
                if self._is_empty_end(message):
                    return
                raise ClientDisconnected("the client has disconnected" if self.is_disconnected else _TORN)
            if self.is_released:
                raise ClientDisconnected("the request was answered, and its call has returned")
            if kind == "http.response.body" and self._response is not None and not self._is_ending:
                goes_on = bool(message.get("more_body", False))
                data = exact_bytes(message.get("body", b""))
                if goes_on and not (data or self.has_begun) and self._is_left_to_stream():
                    return  # middleware passes the head on, which the stream sends
                payloads = self._encode_body(self._response, data, goes_on=goes_on)
                left = send_at_once(self.transport, payloads) if any(payloads) else ()
                if left:
                    await self._send_rest(left)
                elif goes_on and perf_counter() >= self._yields_at:
                    await trio.lowlevel.cancel_shielded_checkpoint()
                    self._yields_at = perf_counter() + _STEP_SECONDS
                if not goes_on:
                    self.transport.end_response()
                    self._complete()  # not before: `receive` ends then, and Quart cancels what it sends
            elif kind == "http.response.start" and self._response is None:
                self._response = AppResponse(message)
                self._serving.app_responses[self] = None  # it may wait long before its body begins
                if self.on_start is not None:
                    if self.is_of_stream is None or self.is_of_stream(self._response):
                        await self._wait_for_stream()
                    elif self.on_other_head is not None:
                        self.on_other_head()
            else:
                raise RuntimeError(f"the app sends {kind!r}, which cannot follow what it has sent before")
        finally:
            sending.end()

    def _is_left_to_stream(self) -> bool:
        is_left, response = self.is_left_to_stream, self._response
        return is_left is not None and response is not None and is_left(response)

    def _is_empty_end(self, message: Message) -> bool:
        """Return whether the app has sent all before, and says so."""
        is_end = message["type"] == "http.response.body" and not message.get("more_body", False)
        has_begun = not self.is_released and self._response is not None
        return is_end and has_begun and not message.get("body", b"")

    def forget_stream(self) -> None:
        """Call nothing for a stream any more."""
        self.on_start = self.is_of_stream = self.on_other_head = self._on_lost_client = None
        self.is_left_to_stream = None

    async def _wait_for_stream(self) -> None:
        """Let the stream that waits for the response's head start."""
        await self.stop_watching()
        if self.on_start is None:  # the stream has ended meanwhile, in another task
            self._ignores_app = True
        else:
            self.on_start()

    async def _send_rest(self, left: Sequence[bytes]) -> None:
        try:
            await send_rest(
                self.transport,
                left,
                write_timeout=self._write_timeout,
                counts=self._serving.pending_bytes,
            )
        except trio.BrokenResourceError as error:
            self.is_disconnected = True
            self.set_over()
            raise ClientDisconnected(str(error)) from None
        except trio.Cancelled:
            self._is_ending = False
            self.set_over()  # nothing can follow a part that is torn
            raise

    def _encode_body(self, response: AppResponse, data: bytes, *, goes_on: bool) -> tuple[bytes, ...]:
        is_sent = response.has_body and self._request.method != "HEAD"
        length, sent = response.content_length, self._sent + len(data)
        if is_sent and length is not None and (sent > length or not (goes_on or sent == length)):
            raise ValueError(f"the body has {sent} bytes, but the head announced {length}")
        if is_sent and not self.has_begun and (len(data) > LARGE or self.place is not None):
            self._take_place(data)
        payload = b"" if self.has_begun else self._start(response, None if goes_on else len(data))
        self._sent = sent
        self._is_ending = not goes_on
        if not is_sent:
            return (payload,)
        if not self.is_chunked:
            return payload, data
        end = b"" if goes_on else b"0\r\n\r\n"
        return (payload + b"%x\r\n" % len(data), data, b"\r\n" + end) if data else (payload + end,)

    def _release_place(self) -> None:
        if self.place is not None:
            self.place.release()
            self.place = None

    def _take_place(self, data: bytes) -> None:
        """Note how large the response's first part is, which is all of it with most apps."""
        if self.place is None:
            self.place = ResponsePlace(self._serving.response_room, self._request.path, self.transport)
        has_room = self.place.take(data)
        self.place.begin_sending()
        if not has_room:
            self.refusal = TemporaryRefusal(503, TOO_MUCH_PENDING)
            self.is_disconnected = True
            self.set_over()
            raise ClientDisconnected(TOO_MUCH_PENDING)

    def _start(self, response: AppResponse, whole_size: int | None) -> bytes:
        """Return the head's bytes; `whole_size` is that of the body if all of it is known."""
        self.has_begun = True
        if whole_size is None:
            self._yields_at = perf_counter() + _STEP_SECONDS
        lines: list[bytes] = []
        is_head = self._request.method == "HEAD"
        if response.content_length is None and whole_size is not None:
            # For HEAD, many apps send no body, and then its length is not known.
            response.content_length = whole_size if whole_size or not is_head else None
        if not response.has_body:
            lines += [b"Content-Length: 0\r\n"] if response.status == 205 else []
        elif response.content_length is not None:
            lines.append(b"Content-Length: %d\r\n" % response.content_length)
        elif is_head and whole_size is not None:
            pass  # there is no body whose end the client could miss
        elif self._request.http_version == "1.1":
            lines.append(_CHUNKED_LINE)
            self.is_chunked = True
        else:
            self._may_keep_alive = False  # the body ends with the connection
        # An app that answers piece by piece may still read the rest of the request, or it is read off.
        # But one that still waits for permission will not get it, and a malformed one has no end.
        will_be_read = whole_size is None and not (response.closes or self._body.is_awaited)
        will_be_read = will_be_read and not self._serving.is_draining and self._body.can_be_read_off()
        return self._encode_head(response, lines, will_be_read=will_be_read)

    def _encode_head(
        self,
        response: AppResponse,
        lines: list[bytes],
        *,
        without: tuple[bytes, ...] = (),
        will_be_read: bool = False,
    ) -> bytes:
        if not will_be_read:
            self._may_keep_alive = self.may_keep_alive  # what the head announces stays true
        options = [] if self._may_keep_alive else [b"close"]
        if response.upgrades and self._request.http_version == "1.1":
            options.append(b"Upgrade")  # the field concerns this connection only (RFC 9110, 7.8)
        elif response.upgrades:
            without = (*without, b"upgrade")
        if options:
            lines = [*lines, b"Connection: %b\r\n" % b", ".join(options)]
        return response.encode(lines, without=without)

    def refuse(self, refusal: HTTPException) -> None:
        """Answer with a refusal instead of the response whose head the app has sent."""
        self.refusal = refusal
        self._ignores_app = True

    def start_stream(self) -> StreamStart:
        """Hand the transport over to an event stream, which writes the body instead of the app.

        Call `stop_watching` before. What the app still sends is ignored.

        Raises:
            RuntimeError: the app has not sent its response's head, or has sent some of its body.
            trio.BusyResourceError: a task of the app still receives the request's body.
        """
        response = self._response
        if response is None or self.has_begun:
            raise RuntimeError("a stream can begin only where a response's head has just been sent")
        if not response.has_body or self._request.method == "HEAD":
            raise RuntimeError(
                f"a response to {self._request.method} of status {response.status} has no body"
            )
        transport = self.transport.hand_over()
        self.has_begun = self._ignores_app = True
        self._release_place()
        if self._body.buffer:
            self._may_keep_alive = False  # it belongs to the stream from here on, and is never parsed
        lines = [_CHUNKED_LINE] if self._request.http_version == "1.1" else []
        head = self._encode_head(response, lines, without=(b"content-encoding",))
        self._body.buffer = bytearray()
        return StreamStart(transport, head, self._may_keep_alive)
