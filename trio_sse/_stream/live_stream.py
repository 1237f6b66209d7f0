"""One open stream as the package sees it; the handler has a `Connection`, which shows a part of it.

It is one object, though three files describe it (see `lifetime.py` and `writer.py`): a server has many
streams, and each further object costs memory for as long as the stream lives.
"""

from __future__ import annotations

from typing import NoReturn, final

import trio

from .._http.request import Request, announced_body_size
from .._hub.feed import Feed
from .._hub.hub import Hub
from .._transport.base import Transport
from .._wire.message import frame_messages
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
        has_forwarded: whether a subscription was forwarded, so that its events' ids are the hub's.
        close_frame: how a WebSocket is closed, where the reason alone is not enough.
    """

    __slots__ = ("close_frame", "has_forwarded", "hub", "id", "is_connected", "request")

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
        self.has_forwarded = False
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
        self.has_forwarded = True
        self.serving.coalescer.flush(self)
        feed.on_overflow = self._on_overflow
        self.forwarded += (feed,)
        try:
            await self.send_head()
            while self.end_reason is None:
                if self.transport.pending is not None:
                    await self.flush_then_write()
                    continue
                # What is taken must be written: a cancellation in between would lose it.
                await trio.lowlevel.checkpoint_if_cancelled()
                if messages := feed.take():
                    await self.write(frame_messages(messages, self.transport.framing), len(messages))
                elif feed.is_over:
                    break
                else:
                    # No checkpoint since `take` returned nothing: now the pump has the write side.
                    await feed.forward_to(self.transport)
        finally:
            feed.on_overflow = None
            self.forwarded = tuple(other for other in self.forwarded if other is not feed)
            if self.transport.pending is not None:
                # One of the handler's scopes was cancelled in the middle of an event: as in `_flush`.
                self.end(EndReason.WRITE_TIMEOUT)
        feed.check_entered()

    async def end_forwarded(self, feed: Feed) -> NoReturn:
        """Leave the handler, since its subscription is over: it overflowed, or the hub has ended."""
        self.end(EndReason.SLOW_CONSUMER if feed.has_overflowed else EndReason.SERVER_SHUTDOWN)
        await self.leave()

    def _on_overflow(self) -> None:
        self.end(EndReason.SLOW_CONSUMER)
