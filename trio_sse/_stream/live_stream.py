"""One open stream as the package sees it; the handler has a `Connection`, which shows a part of it.

It is one object, though three files describe it (see `lifetime.py` and `writer.py`): a server has many
streams, and each further object costs memory for as long as the stream lives.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, final

import trio

from .._http.request import Request, announced_body_size
from .._hub.hub import Hub, engine_of
from .._hub.tracing import RequestSpan
from .._subscription.feed import Feed
from .._transport.base import Transport
from .._wire.composite_id import parse_composite
from .._wire.cursor import Cursor, frame_cursor, frame_keepalive, frame_unshared_cursor
from .._wire.identity import check_identity
from .._wire.message import Framing, Message, frame_messages, frame_with_ids, frame_with_topics
from .composite_ids import MAX_PINNED, PIN_SECONDS, CompositeIds
from .cursor_form import cursor_form
from .disconnects import MAX_UNREAD_BYTES
from .end_reason import EndReason
from .identities import IdentityIndex
from .keepalive import KeepaliveEntry
from .listing import ConnectionInfo, ListedStream
from .options import StreamOptions
from .scope import ServeScope
from .stream_kind import kind_of
from .writer import ResponseStart, StreamWriter


class StreamHome(Protocol):
    """What a stream needs of the manager that made it.

    Attributes:
        host: what the manager belongs to; see `ConnectionInfo`.
        hub: the hub of `Connection.subscribe`.
        identities: the manager's streams by identity.
    """

    host: str
    hub: Hub
    identities: IdentityIndex[ListedStream]


#: The parameter of a query with which a page's own code asks for keepalives that it receives.
_HEARTBEAT_PARAMETER = "heartbeat_events"


@final
class LiveStream(StreamWriter):
    """An open stream; created by `StreamManager.new_stream`.

    Attributes:
        id: its number in this server, as in the log.
        request: the request that opened it.
        home: the manager that made it.
        kind: what statistics count it as; it does not change while the stream runs.
        is_connected: whether every `on_connect` hook has accepted it.
        keepalive_entry: its place in the order of keepalives, if it has one there.
    """

    __slots__ = ("home", "id", "is_connected", "keepalive_entry", "kind", "request")

    def __init__(
        self,
        serving: ServeScope,
        options: StreamOptions,
        transport: Transport,
        head: bytes | ResponseStart,
        *,
        id: int,
        request: Request,
        home: StreamHome,
    ) -> None:
        super().__init__(serving, options.max_duration)
        self.options = options
        self.transport = transport
        transport.bytes_sent = transport.events_sent = 0  # a kept-alive connection counts for each stream
        transport.written_at = self._opened_at
        self._feeds = ()
        self.cursor_form = None
        self.composite = None
        self.added_fields = None
        self._head = head
        self._lock = None
        self.id = id
        self.request = request
        self.home = home
        self.kind = kind_of(request, transport)
        self.is_connected = False
        self.keepalive_entry: KeepaliveEntry | None = None

    @property
    def hub(self) -> Hub:
        """The hub of `Connection.subscribe`."""
        return self.home.hub

    @property
    def close_frame(self) -> bytes | None:
        """How a WebSocket is closed, where the reason alone is not enough."""
        return None if self._extras is None else self._extras.close_frame

    @close_frame.setter
    def close_frame(self, frame: bytes) -> None:
        self._make_extras().close_frame = frame

    @property
    def span(self) -> RequestSpan | None:
        """What traces it, if anything does."""
        return None if self._extras is None else self._extras.span

    @span.setter
    def span(self, span: RequestSpan) -> None:
        self._make_extras().span = span

    @property
    def is_resumable(self) -> bool:
        """Whether its client reconnects when it is cut: one that has sent a POST does not send it again."""
        return self.request.method in ("GET", "HEAD")

    @property
    def sends_heartbeats(self) -> bool:
        request = self.request
        return (
            _HEARTBEAT_PARAMETER in request.target
            and request.query.get(_HEARTBEAT_PARAMETER) == "1"
            and self.transport.framing is not Framing.WEBSOCKET
        )

    def on_excess_input(self) -> None:
        # An app may leave the body that the request has announced unread.
        if self.transport.unread_bytes() > MAX_UNREAD_BYTES + announced_body_size(self.request):
            super().on_excess_input()

    # Whose it is, and what is known of it

    @property
    def identity(self) -> str | None:
        """Whose stream it is; see `Connection.identity`."""
        return None if self._extras is None else self._extras.identity

    def set_identity(self, identity: str | None) -> None:
        """Say whose stream it is; see `Connection.identity`."""
        checked = None if identity is None else check_identity(identity)
        if checked == self.identity:
            return
        self.serving.check_thread()
        self.forget_identity()
        self._make_extras().identity = checked
        if checked is not None and self.end_reason is None:
            for index in self._indexes:
                index.add(checked, self)
            self.end_if_revoked(self._opened_at)

    def end_if_revoked(self, since: float) -> None:
        """End it if its identity was revoked since this moment, when it could not be found yet."""
        identity, hubs = self.identity, {self.hub, self.serving.hub}
        if identity is not None and any(engine_of(h).revocations.is_revoked(identity, since) for h in hubs):
            self.revoke(reconnect=True)

    def forget_identity(self) -> None:
        """Let nobody find the stream by its identity any more."""
        if (identity := self.identity) is not None:
            for index in self._indexes:
                index.discard(identity, self)

    @property
    def _indexes(self) -> tuple[IdentityIndex[ListedStream], ...]:
        own, shared = self.home.identities, self.serving.identities
        return (own,) if own is shared else (own, shared)

    @property
    def topics(self) -> tuple[str, ...]:
        """What it forwards."""
        if len(self.forwarded) == 1:
            return self.forwarded[0].topics
        return tuple(dict.fromkeys(topic for feed in self.forwarded for topic in feed.topics))

    def info(self) -> ConnectionInfo:
        """Return what is known of it now."""
        transport, kind = self.transport, self.kind
        pending = transport.pending
        events, size = self.sent()
        return ConnectionInfo(
            id=self.id,
            identity=self.identity,
            expires_at=self.expires_at,
            host=self.home.host,
            route=kind.route,
            transport=kind.transport,
            http_version=kind.http_version,
            is_secure=kind.is_secure,
            path=self.request.target.partition("?")[0],
            peer=transport.peer,
            age=self.duration,
            idle=trio.current_time() - transport.written_at,
            topics=self.topics,
            events_sent=events,
            bytes_sent=size,
            queued_events=sum(feed.queued_events for feed in self.forwarded),
            queued_bytes=sum(feed.queued_bytes for feed in self.forwarded),
            pending_bytes=0 if pending is None else len(pending),
        )

    def revoke(self, *, reconnect: bool) -> bool:
        """End it, and let the hub write nothing more to it; return whether it was open."""
        if self.end_reason is not None:
            return False
        self.end(EndReason.REVOKED if reconnect else EndReason.FINISHED)
        for feed in self.forwarded:
            feed.return_to_task()
        return True

    # Forwarding

    @property
    def is_behind(self) -> bool:
        """Whether a subscription that it forwards has not read all that the client has missed."""
        return any(not feed.is_live and not feed.is_over for feed in self.forwarded)

    async def forward(self, feed: Feed, *, is_own: bool = False) -> None:
        """Send all events of a feed until the stream ends; see `Connection.forward`.

        Args:
            is_own: enter the feed before, and leave it after. To do that in a coroutine of its own would cost
                each stream 0.2 KiB.
        """
        feed.connection_number = self.transport.connection_number
        if not is_own:
            feed.check_entered()
        if feed.forwarder is not None:
            raise trio.BusyResourceError("another task forwards this subscription")
        self.serving.coalescer.flush(self)
        if self.cursor_form is None:
            self.cursor_form = cursor_form(self.request)
        feed.forwarder = self
        if self.forwarded or feed.last_event_id is not None:
            self._use_composite_ids(feed)
        if is_own:
            feed.enter()
        self.forwarded += (feed,)
        try:
            if feed.last_event_id is not None:
                await trio.lowlevel.checkpoint()  # let others begin before the first id is written
            while self.end_reason is None:
                if self.transport.pending is not None:
                    await self.flush_then_write()
                    continue
                if self.response_start is not None:
                    await self.start_response()
                    continue
                await trio.lowlevel.checkpoint_if_cancelled()
                written = self._write_next(feed)
                if self.transport.pending is not None:
                    continue
                if written:
                    await trio.lowlevel.cancel_shielded_checkpoint()
                elif feed.is_over:
                    break
                elif self.composite is None:
                    await feed.forward_to(self.transport)  # now the pump has the write side
                else:
                    await feed.wait()
        finally:
            feed.forwarder = None
            self._remove_forwarded(feed)
            if self.transport.pending is not None:
                # One of the handler's scopes was cancelled in the middle of an event: as in `_flush`.
                self.end(EndReason.WRITE_TIMEOUT)
            if is_own:
                feed.leave()
        if not is_own:
            feed.check_entered()
        self.end(EndReason.SLOW_CONSUMER if feed.has_overflowed else EndReason.SERVER_SHUTDOWN)
        await self.leave()

    def _use_composite_ids(self, feed: Feed) -> None:
        """Begin with composite ids if this feed is one of several, or its client resumes from such an id."""
        pinned = None
        if not self.forwarded and feed.last_event_id is not None and self.request.last_event_id is not None:
            pinned = parse_composite(self.request.last_event_id)
            if pinned is not None and len(pinned.own) > MAX_PINNED:
                pinned = None
        if self.composite is None and (self.forwarded or pinned is not None):
            self.composite = CompositeIds(pinned, trio.current_time() + PIN_SECONDS)
            for other in self.forwarded:
                other.reached(self.transport.written_at)
                other.return_to_task()  # its ids are composite from now on

    def _remove_forwarded(self, feed: Feed) -> None:
        self.forwarded = tuple(other for other in self.forwarded if other is not feed)
        if self.end_reason is None and not feed.is_over:
            if self.composite is None:
                self.composite = CompositeIds()
            feed.reached(self.transport.written_at)
            self.composite.park(feed)
        for other in self.forwarded:
            other.return_to_task()  # it may be the only one now

    def _write_next(self, feed: Feed) -> int:
        """Write what the feed has now; return how many messages that were.

        There is no checkpoint in it: what is taken is written, and no cursor passes what waits. It is its own
        function so that a stream that sleeps holds no payload.
        """
        messages = feed.take()
        if payload := self._next_payload(feed, messages):
            self.transport.send_nowait(payload, len(messages), trio.current_time())
        return len(messages)

    def _next_payload(self, feed: Feed, messages: Sequence[Message]) -> bytes:
        """Return what is to be written next: messages, or the first cursor, with the head before it."""
        payload = b""
        transport = self.transport
        composite = self.composite
        if composite is not None and not composite.is_needed(self.forwarded, trio.current_time()):
            composite = self.composite = None
        if messages:
            if composite is None:
                newest = messages[-1]
                feed.tell(Cursor(newest.sequence, newest.id))
                frame = frame_with_topics if feed.includes_topic else frame_messages
                payload = frame(messages, transport.framing)
            else:
                ids = composite.ids_of(feed, messages, self.forwarded, transport.written_at)
                payload = frame_with_ids(messages, ids, transport.framing, with_topic=feed.includes_topic)
        elif self.cursor_form and (cursor := feed.unsent_cursor()) is not None:
            if composite is None:
                payload = frame_cursor(cursor.id, transport.framing, self.cursor_form)
            elif id := composite.new_id(self.forwarded, transport.written_at):
                payload = frame_unshared_cursor(id, transport.framing, self.cursor_form)
        if self._head is None:
            return payload
        # Some proxies withhold the head until the body begins.
        return self.with_head(payload or frame_keepalive(transport.framing))

    def on_overflow(self) -> None:
        """End the stream: a subscription that it forwards has overflowed."""
        self.end(EndReason.SLOW_CONSUMER)
