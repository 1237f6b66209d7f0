"""One connection's life: its scope, its writes, its end.

The handler runs in the connection's task, inside the scope `lifetime`. Whatever ends the stream from outside
(the maximum duration, a hang-up, a drain, an overflow, a failed write) sets the reason, once, and cancels
that scope; so the handler always leaves by one way, and nothing can outlive the scope.

On a socket this task is the only one. Hang-ups are noticed by the server's `DisconnectWatcher` and keepalives
written by its `KeepaliveScheduler`, both between checkpoints. On other streams, which can't be written to
without waiting, two helper tasks do the same inside the scope.

What is written goes through the transport's `pending` rule (see `_transport/base.py`): no byte is sent
while there is a leftover, and a task that has to wait holds `_lock`, so that several tasks may send.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import NoReturn, Protocol, final

import trio

from .._http.request import Request
from .._hub.feed import Feed
from .._hub.hub import engine_of
from .._hub.queue import Overflow
from .._hub.subscription import Subscription, feed_of
from .._transport.base import Transport
from .._transport.socket import SocketTransport
from .._wire.event import ServerSentEvent, encode_comment
from .._wire.message import Framing, frame, frame_event, frame_messages
from .._wire.websocket_frames import ping_frame
from .end_reason import EndReason
from .manager import StreamManager
from .scope import ServeScope

# How long an app may take to begin its response before it is looked at again.
_START_REQUEST_SECONDS = 1.0

# WHATWG (HTML, 9.2.7) advises a comment every 15 seconds or so. No blank line: see `encode_comment`.
_KEEPALIVE = {
    framing: ping_frame() if framing is Framing.WEBSOCKET else frame(b":\n", framing) for framing in Framing
}


class ResponseStart(Protocol):
    """Where a response's head comes from if it isn't the connection's own to make: an app has the say."""

    watches_peer: bool
    """Whether the app's host notices that the peer has gone, until the response has begun."""

    async def start_response(self) -> None:
        """Have the response begin, which calls `Connection.set_head`; several tasks may want it at once."""

    async def wait_started(self) -> None:
        """Wait until the response has begun, or never will."""

    def request_start(self) -> None:
        """Have the response begin soon, without waiting for it."""


@final
class Connection:
    """One live event stream, given to the handler; only a server makes one.

    Its methods may be called by any task inside the handler. When the stream has ended, the handler is
    cancelled, and `send` and the others raise `trio.ClosedResourceError` in tasks that are not.

    Attributes:
        id: a number of its own in this server, as in the log.
        request: the request that opened it.
        last_event_id: the id that the client resumes from, or `None`.
        is_connected: whether all `on_connect` hooks have let it pass.
        has_forwarded: whether a subscription was forwarded, so that its events' ids are the hub's.
    """

    __slots__ = (
        "_end_reason",
        "_forwarded",
        "_head",
        "_lock",
        "_opened_at",
        "_serving",
        "close_frame",
        "has_forwarded",
        "id",
        "is_connected",
        "last_event_id",
        "lifetime",
        "manager",
        "read",
        "request",
        "transport",
    )

    def __init__(
        self,
        serving: ServeScope,
        manager: StreamManager,
        transport: Transport,
        request: Request,
        head: bytes | ResponseStart,
    ) -> None:
        """Prepare a stream of `manager`; `head` is what goes before its first byte, or what gives that."""
        self.id = next(manager.ids)
        self.manager = manager
        self.request = request
        self.last_event_id = request.last_event_id
        self._serving = serving
        self.transport = transport
        transport.bytes_sent = transport.events_sent = 0  # counted for each stream of a kept-alive connection
        self._head: bytes | ResponseStart | None = head
        self._end_reason: EndReason | None = None
        self._forwarded: tuple[Feed, ...] = ()
        self.is_connected = False
        self.has_forwarded = False
        # What takes all that the peer sends, in a task of its own; `None` where nothing is to come.
        self.read: Callable[[], Awaitable[None]] | None = None
        self.close_frame: bytes | None = None  # of a WebSocket, where the reason alone doesn't tell
        self._opened_at = trio.current_time()
        # Jittered, so that clients that came together don't come back together.
        duration = manager.options.max_duration * (1 - 0.2 * random.random())
        self.lifetime = trio.CancelScope(deadline=self._opened_at + duration)
        self._lock: trio.Lock | None = None  # made when a task has to wait

    def __repr__(self) -> str:
        state = "open" if self.end_reason is None else self.end_reason.value
        return f"<Connection {self.id} from {self.peer} to {self.request.path}: {state}>"

    @property
    def peer(self) -> str:
        """The peer's address."""
        return self.transport.peer

    @property
    def has_started(self) -> bool:
        """Whether the response's head has been sent, so that the request can't be refused any more."""
        return self._head is None

    @property
    def response_start(self) -> ResponseStart | None:
        """Where the response's head is to come from, if an app has yet to say what it is."""
        return None if isinstance(self._head, bytes | None) else self._head

    @property
    def events_sent(self) -> int:
        """The events that have been sent, replayed ones among them."""
        return self.sent()[0]

    @property
    def bytes_sent(self) -> int:
        """The bytes that have been sent, as they were before TLS."""
        return self.sent()[1]

    def sent(self) -> tuple[int, int]:
        """Give `events_sent` and `bytes_sent`."""
        transport = self.transport
        if waiting := self._serving.coalescer.pending(self):
            return transport.events_sent + len(waiting), transport.bytes_sent + sum(map(len, waiting))
        return transport.events_sent, transport.bytes_sent

    @property
    def duration(self) -> float:
        """Seconds since it was opened."""
        return trio.current_time() - self._opened_at

    @property
    def end_reason(self) -> EndReason | None:
        """Why the stream ended; `None` while it is open.

        It is set before the handler is cancelled, so the handler's `finally` sees it. There, `None` means
        that the handler ends the stream itself, by returning or by an exception of its own.
        """
        if self._end_reason is None:
            if self.lifetime.cancel_called:
                self._end_reason = EndReason.MAX_DURATION
            elif self._serving.is_cancelled:
                self._end_reason = EndReason.SERVER_SHUTDOWN
        return self._end_reason

    # For the handler

    async def start(self) -> None:
        """Send the response's head now; otherwise it goes out with the first write or keepalive."""
        await self.write(b"")

    async def send(
        self,
        data: object,
        *,
        event: str | None = None,
        id: str | None = None,
        retry: int | None = None,
    ) -> None:
        """Send one event, waiting while the peer is slow.

        Args:
            data: a `ServerSentEvent`, which goes as it is; or data for one, as are the others.

        Raises:
            TypeError, ValueError: a field is not acceptable; see `ServerSentEvent`. Nothing was sent.
            trio.ClosedResourceError: the stream has ended.

        If it is cancelled before anything was sent, nothing is. A write that was cancelled half-way
        ends the stream: no later event can follow half an event. It always notices a cancellation, but lets
        other tasks run only after some events: what is sent in one go goes out together, see `coalescer.py`.
        """
        if not isinstance(data, ServerSentEvent):
            data = ServerSentEvent(data, event=event, id=id, retry=retry)
        elif event is not None or id is not None or retry is not None:
            raise TypeError("a ServerSentEvent is sent as it is: give event, id and retry when it is made")
        await self.write(frame_event(data, self.transport.framing, self.manager.options.dumps), 1)

    async def comment(self, text: str) -> None:
        """Send a comment, which receivers ignore; raises what `send` does. A WebSocket has none."""
        comment = encode_comment(text)
        is_stream = self.transport.framing is not Framing.WEBSOCKET
        await self.write(frame(comment, self.transport.framing) if is_stream else b"")

    async def subscribe(
        self,
        *topics: str,
        overflow: Overflow = Overflow.DISCONNECT,
        queue: int | None = None,
        queue_bytes: int | None = None,
        interval: float | None = None,
        batch: float | None = None,
    ) -> None:
        """Subscribe to the hub's topics and forward them, as `forward` does, until the stream ends.

        What the client missed since `last_event_id` comes first. The arguments are those of
        `Hub.subscribe`, and so are the errors.
        """
        feed = engine_of(self.manager.hub).make_feed(
            *topics,
            last_event_id=self.last_event_id,
            overflow=overflow,
            queue=queue,
            queue_bytes=queue_bytes,
            interval=interval,
            batch=batch,
        )
        feed.enter()
        try:
            await self._relay(feed)
            await self._end_forwarded(feed)
        finally:
            feed.leave()

    async def forward(self, subscription: Subscription) -> None:
        """Send all events of an entered subscription until the stream ends; it doesn't return before.

        This is the fast path: while the peer keeps up, the hub writes to the socket itself, and this task
        sleeps.

        Raises:
            trio.ClosedResourceError: the subscription has not been entered or was left, or the stream ended.
            trio.BusyResourceError: another task is waiting for an event of this subscription.

        If it is cancelled and the stream goes on, no event is lost: the subscription may be used further.
        """
        feed = feed_of(subscription)
        feed.check_entered()
        await self._relay(feed)
        await self._end_forwarded(feed)

    async def _end_forwarded(self, feed: Feed) -> NoReturn:
        """Leave the handler, as the subscription overflowed before it was forwarded, or the hub has ended."""
        self.end(EndReason.SLOW_CONSUMER if feed.has_overflowed else EndReason.SERVER_SHUTDOWN)
        await self._leave()

    async def _relay(self, feed: Feed) -> None:
        """Send all events of an entered feed, as `forward` does, until the feed is over."""
        if feed.on_overflow is not None:
            raise trio.BusyResourceError("another task forwards this subscription")
        self.has_forwarded = True
        self._serving.coalescer.flush(self)
        feed.on_overflow = self._overflowed
        self._forwarded += (feed,)
        try:
            await self._start_soon()
            while self.end_reason is None:
                if self.transport.pending is not None:
                    await self._flush_then_write()
                    continue
                # What is taken must be written: cancelled in between, it would be lost.
                await trio.lowlevel.checkpoint_if_cancelled()
                if messages := feed.take():
                    await self.write(frame_messages(messages, self.transport.framing), len(messages))
                elif feed.is_over:
                    break
                else:
                    # No checkpoint since `take` gave nothing: the write side is the pump's now.
                    await feed.forward_to(self.transport)
        finally:
            feed.on_overflow = None
            self._forwarded = tuple(other for other in self._forwarded if other is not feed)
            if self.transport.pending is not None:
                # Cancelled by a scope of the handler's, amid an event: as in `_flush`.
                self.end(EndReason.WRITE_TIMEOUT)
        feed.check_entered()

    def close(self, *, reconnect: bool = False) -> None:
        """End the stream. The handler is cancelled at its next checkpoint.

        The body is ended properly, so a client built on `fetch` takes it as done (`EventSource` comes back
        all the same). With `reconnect`, it is cut instead, and every client comes back.
        """
        self.end(EndReason.RECONNECT if reconnect else EndReason.FINISHED)

    # Writing

    @property
    def _keepalive(self) -> bytes:
        return _KEEPALIVE[self.transport.framing]

    async def start_response(self) -> None:
        """Have the response begin where an app has the say over its head; otherwise do nothing."""
        if self.response_start is not None:
            await self.response_start.start_response()

    def set_head(self, head: bytes) -> None:
        """Take note that the response has begun; `head` is what is still to be sent before its first byte."""
        self._head = head or None

    def with_head(self, payload: bytes) -> bytes:
        """Put the head before the stream's first bytes."""
        head, self._head = self._head, None
        if head is None:
            return payload
        assert isinstance(head, bytes), "the stream has not been opened"
        return head + payload

    async def write(self, payload: bytes, events: int = 0) -> None:
        """Write what is framed already; the one way in which a task writes."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self.end_reason is not None:
            raise self._ended_error()
        coalescer = self._serving.coalescer
        if events == 1 and coalescer.append(self, payload):
            return
        has_coalesced = coalescer.flush(self)
        if self._head is not None:
            await self.start_response()
            if self.end_reason is not None:
                raise self._ended_error()
            payload = self.with_head(payload)
        if self.transport.pending is not None:
            await self._flush_then_write(payload, events)
        elif not payload or self.transport.send_nowait(payload, events, trio.current_time()):
            if events == 1 and not has_coalesced and self._may_coalesce:
                coalescer.begin(self)
            else:
                await trio.lowlevel.cancel_shielded_checkpoint()
        else:
            await self._flush_then_write()

    @property
    def _may_coalesce(self) -> bool:
        """Whether nobody else writes to the transport: the hub would overtake what is gathered."""
        return not self._forwarded and isinstance(self.transport, SocketTransport)

    def send_coalesced(self, payload: bytes, events: int, now: float) -> bool:
        """Send events that were gathered; return whether somebody has to wait to send the rest."""
        transport = self.transport
        assert isinstance(transport, SocketTransport)
        if transport.pending is None:
            return not transport.send_nowait(payload, events, now)
        transport.append_pending(payload, events)
        return True

    def flush_soon(self) -> None:
        """Have what is pending sent by a task, unless one is at it; the handler is at something else."""
        if self._lock is None or not self._lock.locked():
            self._serving.connections.start_soon(self._flush_alone, name="trio_sse.flush")

    async def _flush_alone(self) -> None:
        # It ends with the stream: it fails when the transport is closed. And the transport is not used for
        # another stream before, as what ends this one properly waits for its turn.
        with contextlib.suppress(trio.ClosedResourceError):
            await self._flush_then_write()

    async def _start_soon(self) -> None:
        """Do what `start` does, but without a checkpoint where the head goes out at once: one is to come."""
        await trio.lowlevel.checkpoint_if_cancelled()
        head, transport = self._head, self.transport
        if (
            isinstance(head, bytes)
            and transport.is_direct
            and transport.pending is None
            and not self.end_reason
        ):
            transport.send_nowait(self.with_head(b""), 0, trio.current_time())
        else:
            await self.start()

    def write_lock(self) -> trio.Lock:
        """Give the lock under which tasks that have to wait write, one after the other."""
        if self._lock is None:
            self._lock = trio.Lock()
        return self._lock

    async def _flush_then_write(self, payload: bytes = b"", events: int = 0) -> None:
        """Wait until nothing is pending, then write `payload`; tasks that do this take turns."""
        async with self.write_lock():
            await self._flush()
            if self.end_reason is not None:
                raise self._ended_error()
            if payload and not self.transport.send_nowait(payload, events, trio.current_time()):
                await self._flush()

    async def _flush(self) -> None:
        while self.transport.pending is not None:
            with trio.move_on_after(self.manager.options.write_timeout):
                try:
                    await self.transport.flush_some()
                    continue
                except trio.BrokenResourceError:
                    self.end(EndReason.CLIENT_DISCONNECTED)
                except trio.Cancelled:
                    # By the timeout, or by a scope of the handler's: what follows half an event would
                    # be misread. If the stream had ended already, its reason stays.
                    self.end(EndReason.WRITE_TIMEOUT)
                    raise
            await self._leave()

    # Its life

    def end(self, reason: EndReason) -> None:
        """End the stream for this reason, unless it has ended already."""
        if self.end_reason is None:
            self._end_reason = reason
            self.lifetime.cancel()

    def override_end_reason(self, reason: EndReason) -> None:
        """Give another reason for the end of a stream that had been taken for finished."""
        self._end_reason = reason

    def stop_writers(self) -> None:
        """Take the transport back from everyone: the handler is over, whatever tasks outside it still do."""
        self._serving.coalescer.flush(self)
        for feed in self._forwarded:
            feed.return_to_task()

    async def _leave(self) -> NoReturn:
        """Leave the handler of a stream that has ended."""
        await trio.lowlevel.checkpoint()
        # Only a task that is outside the lifetime, or shielded, gets here.
        raise self._ended_error()

    def _ended_error(self) -> trio.ClosedResourceError:
        reason = "unknown" if self.end_reason is None else self.end_reason.value
        return trio.ClosedResourceError(f"the stream has ended: {reason}")

    def on_disconnect(self) -> None:
        """Take note that the peer is gone."""
        self.end(EndReason.CLIENT_DISCONNECTED)

    def on_excess_input(self) -> None:
        """Take note that the peer goes on sending, and won't stop."""
        self.end(EndReason.PROTOCOL_ERROR)

    def _overflowed(self) -> None:
        self.end(EndReason.SLOW_CONSUMER)

    def keep_alive(self, now: float) -> float:
        """Write a keepalive if the stream has been idle; return when to look again."""
        transport, options = self.transport, self.manager.options
        if transport.pending is not None:
            if self._lock is None or not self._lock.locked():  # no task waits to write it
                transport.flush_nowait(now)
            if transport.pending is not None and now >= transport.written_at + options.write_timeout:
                self.end(EndReason.WRITE_TIMEOUT)
            return now + min(options.keepalive, options.write_timeout)
        due = transport.written_at + options.keepalive
        if due > now:
            return due
        if self.response_start is not None:
            self.response_start.request_start()
            return now + min(_START_REQUEST_SECONDS, options.keepalive)  # then the head goes out
        transport.send_nowait(self.with_head(self._keepalive), 0, now)
        return now + options.keepalive

    async def keep_alive_task(self) -> None:
        """Write keepalives where writing has to wait, until cancelled."""
        while True:
            await trio.sleep_until(self.keepalive_due)
            if self.keepalive_due <= trio.current_time():
                await self.write(self._keepalive)

    @property
    def keepalive_due(self) -> float:
        """When a keepalive is due if nothing is written before."""
        return self.transport.written_at + self.manager.options.keepalive
