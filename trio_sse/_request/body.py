"""Receiving request bodies within bounds of size and time: whole for routes, in pieces for apps."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import final

import trio

from .._http.body_decoders import BodyDecoder, ChunkedDecoder, EndedDecoder, SizedDecoder
from .._http.exceptions import HTTPException, TemporaryRefusal
from .._http.request_head import RequestHead
from .._transport.arriving_bytes import TOO_MUCH_ARRIVED, ArrivingBody, ArrivingBytes
from .._transport.base import LINGER_SECONDS, LINGER_SILENCE_SECONDS, Transport, send_all
from .._transport.pending_bytes import PendingBytes

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

# A body of which a route holds all may take the timeout in all, and a large one longer, as long as it arrives
# at this rate. An app receives a body as it arrives, perhaps for hours, so only each pause of it is bounded.
_BYTES_PER_SECOND = 16 * 1024


@final
class BodyReader:
    """Reads the body of a request that the router has accepted, and leaves in `buffer` what follows it.

    The time of waiting for the peer and of decoding counts, not what the caller takes between calls.

    Args:
        timeout: how long the body may pause, in seconds.
        is_bounded_in_all: it is how long the body may take in all, and one second more for each 16 KiB.

    Attributes:
        receive: waits for bytes of the peer; from its transport, unless another task reads from that.
    """

    __slots__ = (
        "_decoder",
        "_fault",
        "_is_bounded_in_all",
        "_must_continue",
        "_patience",
        "_timeout",
        "_transport",
        "buffer",
        "receive",
    )

    def __init__(
        self,
        head: RequestHead,
        transport: Transport,
        buffer: bytearray,
        max_size: int,
        *,
        timeout: float,
        is_bounded_in_all: bool,
    ) -> None:
        self._transport = transport
        self._timeout = timeout
        self._is_bounded_in_all = is_bounded_in_all
        self.buffer = buffer
        self.receive: Callable[[], Awaitable[bytes]] = transport.receive_some
        self._decoder: BodyDecoder
        if head.content_length is None:
            self._decoder = EndedDecoder(max_size) if head.http_version == "2" else ChunkedDecoder(max_size)
        else:
            self._decoder = SizedDecoder(head.content_length)
        # A client that has sent some of its body does not wait for permission, even if it asked.
        is_waiting = b"expect" in head.known and head.http_version != "1.0" and not buffer
        self._must_continue = is_waiting and not self.is_complete
        self._patience = timeout
        self._fault: tuple[int, str] | None = None  # since it, where the body ends is unknown

    @property
    def is_complete(self) -> bool:
        """Whether the body has been read to its end."""
        return self._decoder.is_complete and not self._decoder.body

    @property
    def is_awaited(self) -> bool:
        """Whether the client waits for `100 Continue`."""
        return self._must_continue

    def can_be_read_off(self) -> bool:
        """Return whether what is left can only be malformed if the client disconnects.

        A chunked body that has not arrived as a whole may turn out malformed, or too large.
        """
        if isinstance(self._decoder, SizedDecoder):
            return True
        try:
            self._feed()
        except HTTPException:
            return False
        return self._decoder.is_complete

    async def permit(self) -> None:
        """Send `100 Continue` if the client waits for it. The first read does so, too.

        Raises:
            trio.BrokenResourceError: the peer has disconnected.
        """
        if self._must_continue:
            await send_all(self._transport, _CONTINUE, write_timeout=self._timeout, counts=PendingBytes())
            self._must_continue = False

    def never_permit(self) -> None:
        """Never send `100 Continue`: the response has begun, and would be torn apart."""
        self._must_continue = False

    async def receive_some(self) -> bytes:
        """Wait for the next bytes of the body and return them; return `b""` when the body is complete.

        If this is cancelled, nothing is lost.

        Raises:
            HTTPException: the body is malformed, too large, or too slow.
            trio.BrokenResourceError: the peer disconnected before the end of the body.
        """
        deadline = trio.current_time() + self._patience
        await self.permit()
        while (piece := self.receive_nowait()) is None:
            self.buffer += await self._wait(deadline)
        if self._is_bounded_in_all:
            self._patience = deadline - trio.current_time() + len(piece) / _BYTES_PER_SECOND
        return piece

    def receive_nowait(self) -> bytes | None:
        """Return what `receive_some` does; `None` if that would have to wait, or to send something.

        Raises:
            HTTPException: the body is malformed or too large.
        """
        if self._must_continue:
            return None
        self._feed()
        if not (self._decoder.body or self._decoder.is_complete):
            return None
        piece = bytes(self._decoder.body)
        self._decoder.body.clear()
        return piece

    def _feed(self) -> None:
        if self._fault is not None:
            raise HTTPException(*self._fault)
        try:
            self._decoder.feed(self.buffer)
        except HTTPException as fault:  # a part of the body may be taken for the next request from here on
            self._fault = fault.status, fault.detail
            raise

    async def discard(self) -> bool:
        """Read off the rest of the body, for as long as `Transport.linger` would; return whether it has come.

        As much is read as comes: if less were, and the rest came all the same, its client would take the
        connection for one that can carry another request.
        """
        self._decoder.lift_bound()
        with trio.move_on_after(LINGER_SECONDS):
            try:
                while not (self.is_complete or self._must_continue):
                    with trio.move_on_after(LINGER_SILENCE_SECONDS) as silence:
                        await self.receive_some()
                    if silence.cancelled_caught:
                        return False
            except (HTTPException, trio.BrokenResourceError):
                return False
        return self.is_complete

    async def _wait(self, deadline: float) -> bytes:
        await trio.lowlevel.checkpoint()  # a peer that sends without a pause must not starve the others
        data = None
        if trio.current_time() <= deadline:
            with trio.move_on_at(deadline):
                data = await self.receive()
        if data is None:
            raise HTTPException(408, "the request's body did not arrive in time")
        if not data and not self._decoder.end():
            raise trio.BrokenResourceError("the peer disconnected before the end of the request's body")
        return data


@final
class NoBody:
    """The body of an app's request that has none, which costs hardly anything; see `BodyReader`."""

    __slots__ = ("buffer", "receive")

    is_complete = True
    is_awaited = False

    def __init__(self, transport: Transport, buffer: bytearray) -> None:
        self.buffer = buffer
        self.receive: Callable[[], Awaitable[bytes]] = transport.receive_some

    def can_be_read_off(self) -> bool:
        """Return `True`: there is nothing to read off."""
        return True

    async def permit(self) -> None:
        """Do nothing: the client does not wait."""

    def never_permit(self) -> None:
        """Do nothing: the client does not wait."""

    def receive_nowait(self) -> bytes:
        """Return no bytes: the body is complete."""
        return b""

    async def receive_some(self) -> bytes:
        """Return no bytes: the body is complete."""
        return b""

    async def discard(self) -> bool:
        """Do nothing, and return `True`: there is nothing to read off."""
        return True


RequestBody = BodyReader | NoBody


async def receive_body(reader: BodyReader, arriving: ArrivingBytes) -> bytes:
    """Receive a body and return it whole.

    Raises:
        HTTPException: as `BodyReader.receive_some`; or too much has arrived of other bodies.
        trio.BrokenResourceError: as there.
    """
    piece = reader.receive_nowait()  # most of them have arrived with the head
    if piece is not None and reader.is_complete:
        return piece
    body = bytearray(piece or b"")
    try:
        with ArrivingBody(arriving) as arrival:
            arrival.grow(len(body))
            while piece := await reader.receive_some():
                body += piece
                arrival.grow(len(piece))
        if arrival.is_cut:
            raise TemporaryRefusal(503, TOO_MUCH_ARRIVED)
        return bytes(body)
    finally:
        # An exception keeps this frame for as long as its refusal takes to be sent.
        body.clear()
        piece = None
