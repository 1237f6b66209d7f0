"""One request to an ASGI app on our server: what the app receives and sends, and how that is framed.

The app is called in the connection's own task. It learns of a disconnect in the two ways that ASGI has:
`receive` returns `http.disconnect`, and `send` raises an `OSError`. To the app, an invalid body looks like a
disconnect. If the app has not answered by the time it returns, the error in the body is the answer.

A response that is incomplete when the app returns is truncated, so that no client takes it for complete.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import trio

from .._asgi.types import Message
from .._http.exceptions import HTTPException
from .._http.request import Request
from .._stream.scope import ServeScope
from .._transport.base import Transport, send_all
from .app_disconnects import AppDisconnectWatcher
from .app_response import AppResponse
from .body import BodyReader


class ClientDisconnected(OSError):
    """The client has disconnected, so nothing can be sent."""


@final
class RequestResponseCycle:
    """The `receive` and `send` of one request.

    Attributes:
        refusal: the answer to the request, if the app does not answer.
        has_begun: the response's head has been sent.
        is_complete: the app has sent its whole response.
        on_start: called when the app sends its response's head, which then stays unsent.
    """

    __slots__ = (
        "_body",
        "_body_is_read",
        "_disconnected",
        "_ignores_app",
        "_is_chunked",
        "_may_keep_alive",
        "_request",
        "_response",
        "_send_lock",
        "_sent",
        "_serving",
        "_transport",
        "_watcher",
        "_write_timeout",
        "has_begun",
        "is_complete",
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
        self.on_start: Callable[[], None] | None = None
        self._response: AppResponse | None = None
        self._send_lock = trio.StrictFIFOLock()
        self._transport = transport
        self._serving = serving
        self._request = request
        self._body = body
        self._body_is_read = False  # the app has received all of it
        self._may_keep_alive = may_keep_alive
        self._write_timeout = write_timeout
        self._is_chunked = False
        self._ignores_app = False  # what the app still sends is not part of the response
        self._sent = 0  # bytes of the body
        self._disconnected = trio.Event()
        self._watcher = AppDisconnectWatcher(transport, serving, body, self._disconnected.set)

    @property
    def buffer(self) -> bytearray:
        """The bytes that the client has sent after the request."""
        return self._body.buffer

    @property
    def is_disconnected(self) -> bool:
        """Whether the client has disconnected, or is treated so."""
        return self._disconnected.is_set()

    @property
    def may_keep_alive(self) -> bool:
        """Whether the connection may carry another request, as it is now."""
        closes = self._response is not None and self._response.closes
        return self._may_keep_alive and self._body.is_complete and not (closes or self._serving.is_draining)

    # What the app receives

    async def receive(self) -> Message:
        """Return the next piece of the body; after it, wait until the client disconnects."""
        if not (self._body_is_read or self.is_complete or self.is_disconnected):
            try:
                piece = await self._body.receive_some()
            except HTTPException as refusal:
                self.refusal = refusal
                self._disconnected.set()
            except trio.BrokenResourceError:
                self._disconnected.set()
            else:
                self._body_is_read = self._body.is_complete
                return {"type": "http.request", "body": piece, "more_body": not self._body_is_read}
        if not (self.is_complete or self.is_disconnected):
            await self._watcher.wait(self._disconnected)
        # Starlette's `is_disconnected` calls this in a scope that it has cancelled, and must get the answer.
        await trio.lowlevel.cancel_shielded_checkpoint()
        return {"type": "http.disconnect"}

    async def stop_watching(self) -> None:
        """Stop to watch for a disconnect, which others do from now on."""
        await self._watcher.stop()

    def release(self) -> None:
        """Drop everything that a finished call no longer needs; the app may still refer to this object."""
        del self._body, self._disconnected, self._response, self._watcher

    # What the app sends

    async def send(self, message: Message) -> None:
        """Send a part of the response.

        Raises:
            ClientDisconnected: the client has disconnected, or has taken nothing for too long.
            RuntimeError: this message can't follow what the app has sent before.
            ValueError: a header field, or the body's length, is not acceptable.
        """
        async with self._send_lock:  # what several tasks send is written in the order in which it is encoded
            await self._send_message(message)

    async def _send_message(self, message: Message) -> None:
        if self._ignores_app:
            return
        if self.is_disconnected or self._transport.pending is not None:  # the latter after a cancelled send
            raise ClientDisconnected("the client has disconnected")
        kind = message["type"]
        if kind == "http.response.start" and self._response is None:
            self._response = AppResponse(message)
            if self.on_start is not None:
                self.on_start()
        elif kind == "http.response.body" and self._response is not None and not self.is_complete:
            data, goes_on = bytes(message.get("body", b"")), bool(message.get("more_body", False))
            payloads = self._encode_body(data, goes_on=goes_on)
            if any(payloads):
                await self._write(payloads)
        else:
            raise RuntimeError(f"the app sends {kind!r}, which can't follow what it has sent before")

    async def _write(self, payloads: tuple[bytes, ...]) -> None:
        try:
            await send_all(self._transport, *payloads, write_timeout=self._write_timeout)
        except trio.BrokenResourceError as error:
            self._disconnected.set()
            raise ClientDisconnected(str(error)) from None

    def _encode_body(self, data: bytes, *, goes_on: bool) -> tuple[bytes, ...]:
        response = self._response
        assert response is not None
        is_sent = response.has_body and self._request.method != "HEAD"
        payload = b"" if self.has_begun else self._start(response, None if goes_on else len(data))
        self._sent += len(data)
        length = response.content_length
        if is_sent and length is not None and (self._sent > length or not (goes_on or self._sent == length)):
            raise ValueError(f"the body has {self._sent} bytes, but the head announced {length}")
        self.is_complete = not goes_on
        if not is_sent:
            return (payload,)
        if not self._is_chunked:
            return payload, data
        end = b"" if goes_on else b"0\r\n\r\n"
        return (payload + b"%x\r\n" % len(data), data, b"\r\n" + end) if data else (payload + end,)

    def _start(self, response: AppResponse, whole_size: int | None) -> bytes:
        """Return the head's bytes; `whole_size` is that of the body if all of it is known."""
        self.has_begun = True
        fields: list[tuple[bytes, bytes]] = []
        is_head = self._request.method == "HEAD"
        if response.content_length is None and whole_size is not None:
            # For HEAD, many apps send no body, and then its length is not known.
            response.content_length = whole_size if whole_size or not is_head else None
        if not response.has_body:
            fields += [(b"Content-Length", b"0")] if response.status == 205 else []
        elif response.content_length is not None:
            fields.append((b"Content-Length", b"%d" % response.content_length))
        elif is_head and whole_size is not None:
            pass  # there is no body whose end the client could miss
        elif self._request.http_version == "1.1":
            fields.append((b"Transfer-Encoding", b"chunked"))
            self._is_chunked = True
        else:
            self._may_keep_alive = False  # the body ends with the connection
        # An app that answers piece by piece may still read the rest of the request.
        will_be_read = whole_size is None and not response.closes and not self._serving.is_draining
        return response.encode(fields + self._closing_fields(will_be_read=will_be_read))

    def _closing_fields(self, *, will_be_read: bool = False) -> list[tuple[bytes, bytes]]:
        if not will_be_read:
            self._may_keep_alive = self.may_keep_alive  # what the head announces stays true
        return [] if self._may_keep_alive else [(b"Connection", b"close")]

    def refuse(self, refusal: HTTPException) -> None:
        """Answer with a refusal instead of the response whose head the app has sent."""
        self.refusal = refusal
        self._ignores_app = True

    def start_stream(self) -> bytes:
        """Return the head's bytes for an event stream, which writes the body instead of the app.

        Raises:
            RuntimeError: the app has not sent its response's head, or has sent some of its body.
        """
        response = self._response
        if response is None or self.has_begun:
            raise RuntimeError("a stream can begin only where a response's head has just been sent")
        self.has_begun = self._ignores_app = True
        fields = [(b"Transfer-Encoding", b"chunked")] if self._request.http_version == "1.1" else []
        return response.encode(fields + self._closing_fields(), without=b"content-encoding")
