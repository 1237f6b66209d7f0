"""One request to an ASGI app on our server: what the app receives and sends, and how that is framed.

The app is called in the connection's own task. It is told that its client has gone in the two ways that ASGI
has: `receive` gives `http.disconnect`, and `send` raises an `OSError`. What is wrong with a body that it
reads looks like a disconnect to the app, and is answered when it has returned, if it hasn't answered by then.

A response that isn't complete when the app is done with it is cut, so that nobody takes it for a whole one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import final

import trio

from .._asgi.types import Message
from .._http.exceptions import HTTPException
from .._http.fields import check_raw_field
from .._http.request import Request
from .._http.response import WITHOUT_BODY, http_date
from .._stream.scope import ServeScope
from .._transport.base import Transport, send_all
from .app_disconnects import PeerWatch
from .body import BodyReader


class ClientDisconnected(OSError):
    """The client has gone: nobody is there to send to."""


@final
class AppResponse:
    """A response's head as the app gives it, checked; and its bytes on the wire."""

    def __init__(self, message: Message) -> None:
        """Take an `http.response.start`; raises `ValueError` for what can't be sent."""
        self.status = int(message["status"])
        if not 200 <= self.status < 600:
            raise ValueError(f"a response's status must be 200 to 599, not {self.status}")
        self.content_length: int | None = None
        self.closes = False  # the app asks for the connection to be closed
        self._fields: list[tuple[bytes, bytes]] = []
        has_date = False
        headers: Iterable[tuple[bytes, bytes]] = message.get("headers", ())
        for name, value in headers:
            name, value = bytes(name), bytes(value).strip()
            check_raw_field(name, value)
            match name.lower():
                case b"content-length":
                    self.content_length = int(value)
                case b"connection":
                    self.closes |= value.lower() == b"close"
                case b"transfer-encoding" | b"keep-alive":
                    pass  # the server's own (ASGI's HTTP specification, "Response Start")
                case lower:
                    has_date |= lower == b"date"
                    self._fields.append((name, value))
        if not has_date:
            self._fields.append((b"Date", http_date().encode()))

    @property
    def has_body(self) -> bool:
        """Whether the status allows for a body."""
        return self.status not in WITHOUT_BODY

    def encode(self, fields: list[tuple[bytes, bytes]], *, without: bytes | None = None) -> bytes:
        """Give the head's bytes, with further fields, the server's own."""
        lines = [b"HTTP/1.1 %d %b" % (self.status, _phrase(self.status))]
        lines += [b"%b: %b" % field for field in (*self._fields, *fields) if field[0].lower() != without]
        return b"\r\n".join(lines) + b"\r\n\r\n"


def _phrase(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b""  # one of the app's own


@final
class AppCall:
    """The two callables that an app is given for one request.

    Attributes:
        refusal: what the request is to be answered with if the app hasn't answered it.
        has_begun: the response's head has been sent.
        is_complete: the app has sent all of its response.
        is_disconnected: the client has gone.
        is_taken_over: an event stream answers the request: what the app still sends is ignored.
        on_start: is called instead when the app gives a response's head.
    """

    __slots__ = (
        "_body",
        "_body_was_given",
        "_disconnected",
        "_is_chunked",
        "_may_keep_alive",
        "_request",
        "_response",
        "_sent",
        "_serving",
        "_transport",
        "_turn",
        "_watch",
        "_write_timeout",
        "has_begun",
        "is_complete",
        "is_taken_over",
        "on_start",
        "refusal",
    )

    def __init__(
        self,
        transport: Transport,
        serving: ServeScope,
        request: Request,
        body: BodyReader,
        *,
        may_keep_alive: bool,
        write_timeout: float,
    ) -> None:
        self.refusal: HTTPException | None = None
        self.has_begun = False
        self.is_complete = False
        self.is_taken_over = False
        self.on_start: Callable[[], None] | None = None
        self._response: AppResponse | None = None
        self._turn = trio.StrictFIFOLock()
        self._transport = transport
        self._serving = serving
        self._request = request
        self._body = body
        self._body_was_given = False  # to the app, to its end
        self._may_keep_alive = may_keep_alive
        self._write_timeout = write_timeout
        self._is_chunked = False
        self._sent = 0  # bytes of the body
        self._disconnected = trio.Event()
        self._watch = PeerWatch(transport, serving, body, self._disconnected.set)

    @property
    def buffer(self) -> bytearray:
        """What has come after the request."""
        return self._body.buffer

    @property
    def is_disconnected(self) -> bool:
        """Whether the client has gone, or is taken for gone."""
        return self._disconnected.is_set()

    @property
    def may_keep_alive(self) -> bool:
        """Whether the connection may carry another request, as it is now."""
        closes = self._response is not None and self._response.closes
        return self._may_keep_alive and self._body.is_complete and not (closes or self._serving.is_draining)

    # What the app receives

    async def receive(self) -> Message:
        """Give the next piece of the body; after it, wait until the client has gone."""
        if not (self._body_was_given or self.is_complete or self.is_disconnected):
            try:
                piece = await self._body.receive_some()
            except HTTPException as refusal:
                self.refusal = refusal
                self._disconnected.set()
            except trio.BrokenResourceError:
                self._disconnected.set()
            else:
                self._body_was_given = self._body.is_complete
                return {"type": "http.request", "body": piece, "more_body": not self._body_was_given}
        if not (self.is_complete or self.is_disconnected):
            await self._watch.wait(self._disconnected)
        # Starlette's `is_disconnected` asks in a scope that it has cancelled: what is known is told all the
        # same.
        await trio.lowlevel.cancel_shielded_checkpoint()
        return {"type": "http.disconnect"}

    async def stop_watching(self) -> None:
        """Leave it to others to notice that the client has gone."""
        await self._watch.stop()

    def forget(self) -> None:
        """Let go of all that a call which is over needs no more; the app may still hold it."""
        del self._body, self._disconnected, self._response, self._watch

    # What the app sends

    async def send(self, message: Message) -> None:
        """Take a part of the response.

        Raises:
            ClientDisconnected: the client has gone, or has taken nothing for too long.
            RuntimeError: the app sends what can't follow what it has sent.
            ValueError: a header field, or the body's length, is not acceptable.
        """
        async with self._turn:  # what several tasks send goes out in the order in which it was encoded
            await self._take(message)

    async def _take(self, message: Message) -> None:
        if self.is_taken_over:
            return
        if (
            self.is_disconnected or self._transport.pending is not None
        ):  # the latter of a send that was cancelled
            raise ClientDisconnected("the client has gone")
        kind = message["type"]
        if kind == "http.response.start" and self._response is None:
            self._response = AppResponse(message)
            if self.on_start is not None:
                self.on_start()
        elif kind == "http.response.body" and self._response is not None and not self.is_complete:
            payload = self._encode_body(
                bytes(message.get("body", b"")), bool(message.get("more_body", False))
            )
            if payload:
                await self._send(payload)
        else:
            raise RuntimeError(f"the app sends {kind!r} where it can't follow what it has sent before")

    async def _send(self, payload: bytes) -> None:
        try:
            await send_all(self._transport, payload, write_timeout=self._write_timeout)
        except trio.BrokenResourceError as error:
            self._disconnected.set()
            raise ClientDisconnected(str(error)) from None

    def _encode_body(self, data: bytes, goes_on: bool) -> bytes:
        response = self._response
        assert response is not None
        is_sent = response.has_body and self._request.method != "HEAD"
        payload = b"" if self.has_begun else self._begin(response, None if goes_on else len(data))
        self._sent += len(data)
        length = response.content_length
        if is_sent and length is not None and (self._sent > length or not (goes_on or self._sent == length)):
            raise ValueError(f"the body has {self._sent} bytes where its head says {length}")
        self.is_complete = not goes_on
        if not is_sent:
            return payload
        if not self._is_chunked:
            return payload + data
        chunk = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
        return payload + chunk + (b"" if goes_on else b"0\r\n\r\n")

    def _begin(self, response: AppResponse, whole_size: int | None) -> bytes:
        """Give the head's bytes; `whole_size` is the body's if all of it has come."""
        self.has_begun = True
        fields: list[tuple[bytes, bytes]] = []
        if response.content_length is None and whole_size is not None and self._request.method != "HEAD":
            response.content_length = whole_size
        if not response.has_body:
            fields += [(b"Content-Length", b"0")] if response.status == 205 else []
        elif response.content_length is not None:
            fields.append((b"Content-Length", b"%d" % response.content_length))
        elif self._request.http_version == "1.1":
            fields.append((b"Transfer-Encoding", b"chunked"))
            self._is_chunked = True
        else:
            self._may_keep_alive = False  # the body ends with the connection
        # An app that answers piece by piece may still read the rest of the request.
        will_be_read = whole_size is None and not response.closes and not self._serving.is_draining
        return response.encode(fields + self._closing_fields(will_be_read=will_be_read))

    def _closing_fields(self, *, will_be_read: bool = False) -> list[tuple[bytes, bytes]]:
        self._may_keep_alive = (
            self._may_keep_alive if will_be_read else self.may_keep_alive
        )  # what is said holds
        return [] if self._may_keep_alive else [(b"Connection", b"close")]

    def begin_stream(self) -> bytes:
        """Give the head's bytes for an event stream, whose body is no longer the app's.

        Raises:
            RuntimeError: the app has not given its response's head, or has sent some of its body.
        """
        response = self._response
        if response is None or self.has_begun:
            raise RuntimeError("a stream can begin only where a response's head has just been given")
        self.has_begun = self.is_taken_over = True
        fields = [(b"Transfer-Encoding", b"chunked")] if self._request.http_version == "1.1" else []
        return response.encode(fields + self._closing_fields(), without=b"content-encoding")
