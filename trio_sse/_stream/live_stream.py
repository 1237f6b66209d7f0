"""One open stream as the package sees it; the handler has a `Connection`, which shows a part of it.

It is one object, though three files describe it (see `lifetime.py` and `writer.py`): a server has many
streams, and each further object costs memory for as long as the stream lives.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn, final

import trio

from .._http.request import Request, announced_body_size
from .._hub.feed import Feed
from .._hub.hub import Hub
from .._transport.base import Transport
from .._wire.cursor import frame_cursor, frame_keepalive
from .._wire.message import Message, frame_messages
from .cursor_form import cursor_form
from .disconnects import MAX_UNREAD_BYTES
from .end_reason import EndReason
from .options import StreamOptions
from .scope import ServeScope
from .writer import ResponseStart, StreamWriter


@final
class LiveStream(StreamWriter):
    """An open stream; created by `StreamManager.new_stream`.

    Attributes:
        id: its number in this server, as in the log.
        request: the request that opened it.
        hub: the hub of `Connection.subscribe`.
        is_connected: whether every `on_connect` hook has accepted it.
        close_frame: how a WebSocket is closed, where the reason alone is not enough.
    """

    __slots__ = ("close_frame", "hub", "id", "is_connected", "request")

    def __init__(
        self,
        serving: ServeScope,
        options: StreamOptions,
        transport: Transport,
        head: bytes | ResponseStart,
        *,
        id: int,
        request: Request,
        hub: Hub,
    ) -> None:
        super().__init__(serving, options, transport, head)
        self.id = id
        self.request = request
        self.hub = hub
        self.is_connected = False
        self.close_frame: bytes | None = None

    @property
    def is_resumable(self) -> bool:
        """Whether its client reconnects when it is cut: one that has sent a POST does not send it again."""
        return self.request.method == "GET"

    def on_excess_input(self) -> None:
        # An app may leave the body that the request has announced unread.
        if self.transport.unread_bytes() > MAX_UNREAD_BYTES + announced_body_size(self.request):
            super().on_excess_input()

    # Forwarding

    async def forward(self, feed: Feed) -> None:
        """Send all events of an entered feed until it is over; see `Connection.forward`."""
        if feed.on_overflow is not None:
            raise trio.BusyResourceError("another task forwards this subscription")
        self.serving.coalescer.flush(self)
        if self.cursor_form is None:
            self.cursor_form = cursor_form(self.request)
        feed.on_overflow = self._on_overflow
        self.forwarded += (feed,)
        try:
            while self.end_reason is None:
                if self.transport.pending is not None:
                    await self.flush_then_write()
                    continue
                if self.response_start is not None:
                    await self.start_response()
                    continue
                await trio.lowlevel.checkpoint_if_cancelled()
                # No checkpoint from here on: what is taken is written, and no cursor passes what waits.
                messages = feed.take()
                payload = self._next_payload(feed, messages)
                if payload and not self.transport.send_nowait(payload, len(messages), trio.current_time()):
                    continue
                if messages:
                    await trio.lowlevel.cancel_shielded_checkpoint()
                elif feed.is_over:
                    break
                else:
                    await feed.forward_to(self.transport)  # now the pump has the write side
        finally:
            feed.on_overflow = None
            self.forwarded = tuple(other for other in self.forwarded if other is not feed)
            if self.transport.pending is not None:
                # One of the handler's scopes was cancelled in the middle of an event: as in `_flush`.
                self.end(EndReason.WRITE_TIMEOUT)
        feed.check_entered()

    def _next_payload(self, feed: Feed, messages: Sequence[Message]) -> bytes:
        """Return what is to be written next: messages, or the first cursor, with the head before it."""
        payload = b""
        if messages:
            feed.tell(messages[-1].sequence)
            payload = frame_messages(messages, self.transport.framing)
        elif not feed.is_told:
            transport = self.transport
            cursor = feed.new_cursor(transport.written_at)
            if cursor is not None and self.cursor_form:
                feed.tell(cursor.position)
                payload = frame_cursor(cursor.id, transport.framing, self.cursor_form)
            elif self._head is not None:
                payload = frame_keepalive(transport.framing)  # some proxies withhold the head until the body
        return self.with_head(payload) if self._head is not None else payload

    async def end_forwarded(self, feed: Feed) -> NoReturn:
        """Leave the handler, since its subscription is over: it overflowed, or the hub has ended."""
        self.end(EndReason.SLOW_CONSUMER if feed.has_overflowed else EndReason.SERVER_SHUTDOWN)
        await self.leave()

    def _on_overflow(self) -> None:
        self.end(EndReason.SLOW_CONSUMER)
