"""What an ASGI app receives of one request on our server, and when there is nothing more to receive.

The app learns of a disconnect in the two ways that ASGI has: `receive` returns `http.disconnect`, and `send`
raises an `OSError`. When its response is complete, `receive` returns `http.disconnect` in any case, also
where a task waits in it. To the app, an invalid body looks like a disconnect. If the app has not answered by
the time it returns, the error in the body is the answer.
"""

from __future__ import annotations

import trio

from .._asgi.types import Message
from .._http.exceptions import HTTPException
from .._http.request import Request
from .._request.body import NoBody, RequestBody
from .._request.request_disconnects import RequestDisconnectWatcher
from .._request.turns import Turns
from .._stream.scope import ServeScope
from .._transport.base import Transport


class AppRequest:
    """The request of one call of an app. Its subclass has the response, and `on_disconnect`.

    Attributes:
        transport: the handle that this has, or has had.
        refusal: the answer to the request, if the app does not answer.
        has_begun: the response's head has been sent.
        is_disconnected: the client has disconnected, or is treated so.
        is_released: the app's call has returned.
        watcher: what watches the client of a transport that is not watchable. Any other transport watches
            it for this object.
    """

    __slots__ = (
        "_body",
        "_body_is_read",
        "_is_over",
        "_is_reading_over",
        "_may_keep_alive",
        "_reading",
        "_receiving",
        "_request",
        "_sending",
        "_serving",
        "_waiting",
        "has_begun",
        "is_disconnected",
        "is_released",
        "refusal",
        "transport",
        "watcher",
    )

    def __init__(
        self,
        transport: Transport,
        serving: ServeScope,
        request: Request,
        body: RequestBody,
        *,
        may_keep_alive: bool,
    ) -> None:
        self.transport = transport
        self.refusal: HTTPException | None = None
        self.has_begun = False
        self.is_disconnected = False
        self.is_released = False
        self._serving = serving
        self._request = request
        self._body = body
        self._body_is_read = False  # the app has received all of it
        self._is_over = False  # there is nothing more to receive
        self._is_reading_over = False  # the app gets no more of the body
        self._may_keep_alive = may_keep_alive
        self._reading = Turns()  # of the tasks that read the body
        self._receiving: trio.CancelScope | None = None  # of that task
        self._sending = Turns()  # of the tasks that send
        self._waiting: trio.lowlevel.ParkingLot | None = None  # tasks that wait until it is over
        self.watcher: RequestDisconnectWatcher | None = None
        if not transport.is_watchable:
            self.watcher = RequestDisconnectWatcher(transport, body.buffer, self.on_disconnect)
            body.receive = self.watcher.receive_some

    def on_disconnect(self) -> None:
        """Note that the client has disconnected."""
        raise NotImplementedError

    def on_write_timeout(self) -> None:
        """As `on_disconnect`."""
        self.on_disconnect()

    def on_pending_cut(self) -> None:
        """As `on_disconnect`."""
        self.on_disconnect()

    def on_excess_input(self) -> None:
        """Do nothing: what follows the request stays unread in the socket, which bounds it."""

    @property
    def is_awaited(self) -> bool:
        """Whether a task is in `receive`, which a disconnect ends."""
        return self._receiving is not None or bool(self._waiting)

    def set_over(self) -> None:
        """Let `receive` return `http.disconnect` from now on."""
        self._is_over = True
        if self._waiting is not None:
            self._waiting.unpark_all()

    @property
    def has_body(self) -> bool:
        """Whether the request has a body, be it an empty one that is not known to be empty."""
        return not (self.is_released or isinstance(self._body, NoBody))

    @property
    def is_body_complete(self) -> bool:
        """Whether the request's body has been read to its end."""
        return self._body.is_complete

    def awaits_body(self) -> bool:
        """Return whether the app may still receive a part of the request's body."""
        return self._may_receive and not self._body.is_complete

    async def receive(self) -> Message:
        """Return the next piece of the body; after it, wait until the client or the response ends."""
        if self.is_released:
            await trio.lowlevel.checkpoint()
            return {"type": "http.disconnect"}
        if self._may_receive:
            piece = await self._receive_in_turn()
            if piece is not None:
                return {"type": "http.request", "body": piece, "more_body": not self._body_is_read}
        if self._is_over:
            # Starlette's `is_disconnected` calls this in a scope that it has cancelled, for this answer.
            await trio.lowlevel.cancel_shielded_checkpoint()
        else:
            if self._waiting is None:
                self._waiting = trio.lowlevel.ParkingLot()
            await self._waiting.park()
        return {"type": "http.disconnect"}

    def stop_receiving(self) -> None:
        """Let the task that receives a piece of the body receive nothing."""
        if self._receiving is not None:
            self._receiving.cancel()

    @property
    def _may_receive(self) -> bool:
        is_over = self.is_released or self._body_is_read or self._is_reading_over
        return not (is_over or self._is_over)

    async def _receive_in_turn(self) -> bytes | None:
        reading = self._reading
        if reading.is_taken:
            await reading.wait()
        reading.is_taken = True
        try:
            return await self._receive_body() if self._may_receive else None
        finally:
            reading.end()

    async def _receive_body(self) -> bytes | None:
        """Return the next piece of the body; `None` if it was invalid, or nothing more is to be read."""
        body = self._body  # the call may return meanwhile
        try:
            piece = body.receive_nowait()  # most of them have arrived with the head
            if piece is None and body.is_awaited:
                await self._permit_body(body)
                if not self._may_receive:
                    return None
            if piece is None:
                with trio.CancelScope() as self._receiving:
                    piece = await body.receive_some()
            self._body_is_read = body.is_complete
            return piece
        except HTTPException as refusal:
            self.refusal = refusal
            self.on_disconnect()
        except trio.BrokenResourceError:
            self.on_disconnect()
        finally:
            self._receiving = None
        return None

    async def _permit_body(self, body: RequestBody) -> None:
        """Send `100 Continue` before the response, never into it."""
        with trio.CancelScope() as self._receiving:  # `stop_watching` may be called with the lock held
            if self._sending.is_taken:
                await self._sending.wait()
            self._sending.is_taken = True
        if self._receiving.cancelled_caught:
            return
        try:
            if self.has_begun:
                body.never_permit()
            elif self._may_receive:
                await body.permit()
        finally:
            self._sending.end()

    async def stop_watching(self) -> None:
        """Stop watching and reading. Once this returns, no task of the app reads from the transport.

        Raises:
            RuntimeError: the app's call has returned.
        """
        if self.is_released:
            raise RuntimeError("the call that the request belongs to has returned")
        self._is_reading_over = True
        self.stop_receiving()
        reading = self._reading
        if reading.is_taken:
            await reading.wait()
        reading.is_taken = True
        try:
            if self.watcher is None:
                self.transport.unwatch()
            else:
                await self.watcher.stop()
        finally:
            reading.end()

    async def discard_body(self, transport: Transport) -> bool:
        """Read off what the app has left of the body, unless the head says that the connection closes.

        An app that has answered piece by piece may have left some, and its head has promised that the
        connection goes on.

        Return whether the body has been read to its end. The app's call may return meanwhile.
        """
        if not self._may_keep_alive or self._serving.is_draining:
            return False
        body = self._body
        body.receive = transport.receive_some  # nobody watches any more
        with trio.CancelScope() as scope:
            self._serving.waiting.add(scope)
            try:
                return await body.discard()
            finally:
                self._serving.waiting.discard(scope)
        return False
