"""One connection's life: its scope, its writes, its end.

The handler runs in the connection's task, inside the scope `lifetime`. Whatever ends the stream from outside
(the maximum duration, a hang-up, a drain, an overflow, a failed write) sets the reason, once, and cancels
that scope; so the handler always leaves by one way, and nothing can outlive the scope.

On a socket this task is the only one. Hang-ups are noticed by the server's `HangupWatcher` and keepalives
written by its `KeepaliveKeeper`, both between checkpoints. On other streams, which can't be written to
without waiting, two helper tasks do the same inside the scope.

What is written goes through the transport's `pending` rule (see `_transport.py`): no byte is sent while there
is a leftover, and a task that has to wait holds `_lock`, so that several tasks may send.
"""

from __future__ import annotations

import contextlib
import random
from typing import NoReturn, final

import trio

from ._end_reason import EndReason
from ._event import ServerSentEvent, encode_comment, encode_retry
from ._message import Framing, frame, join
from ._queue import Overflow
from ._request import Request
from ._serving import Serving
from ._subscription import Subscription
from ._transport import Transport

# WHATWG (HTML, 9.2.7) advises a comment every 15 seconds or so. No blank line: see `encode_comment`.
_KEEPALIVE = {framing: frame(b":\n", framing) for framing in Framing}

_END_OF_BODY = {Framing.PLAIN: b"", Framing.CHUNKED: b"0\r\n\r\n"}


@final
class Connection:
    """One live event stream, given to the handler; only a server makes one.

    Its methods may be called by any task inside the handler. When the stream has ended, the handler is
    cancelled, and `send` and the others raise `trio.ClosedResourceError` in tasks that are not.

    Attributes:
        id: a number of its own in this server, as in the log.
        request: the request that opened it.
        last_event_id: the id that the client resumes from, or `None`.
    """

    __slots__ = (
        "_end_reason",
        "_head",
        "_lock",
        "_opened_at",
        "_serving",
        "id",
        "last_event_id",
        "lifetime",
        "request",
        "transport",
    )

    def __init__(self, serving: Serving, transport: Transport, request: Request, head: bytes) -> None:
        """Prepare a stream over `transport`; `head` is what goes before its first byte."""
        self.id = next(serving.host.ids)
        self.request = request
        self.last_event_id = request.last_event_id
        self._serving = serving
        self.transport = transport
        transport.bytes_sent = transport.events_sent = 0  # counted for each stream of a kept-alive connection
        self._head: bytes | None = head
        self._end_reason: EndReason | None = None
        self._opened_at = trio.current_time()
        # Jittered, so that clients that came together don't come back together.
        duration = serving.host.options.max_duration * random.uniform(0.8, 1)
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
    def events_sent(self) -> int:
        """The events that have been sent, replayed ones among them."""
        return self.transport.events_sent

    @property
    def bytes_sent(self) -> int:
        """The bytes that have been sent, as they were before TLS."""
        return self.transport.bytes_sent

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
        await self._write(b"")

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
        ends the stream: no later event can follow half an event.
        """
        if not isinstance(data, ServerSentEvent):
            data = ServerSentEvent(data, event=event, id=id, retry=retry)
        elif event is not None or id is not None or retry is not None:
            raise TypeError("a ServerSentEvent is sent as it is: give event, id and retry when it is made")
        await self._write(self._framed(data.encode(dumps=self._serving.host.options.dumps)), 1)

    async def comment(self, text: str) -> None:
        """Send a comment, which receivers ignore; raises what `send` does."""
        await self._write(self._framed(encode_comment(text)))

    async def subscribe(
        self,
        *topics: str,
        overflow: Overflow = Overflow.DISCONNECT,
        queue: int | None = None,
        queue_bytes: int | None = None,
    ) -> None:
        """Subscribe to the hub's topics and forward them, as `forward` does, until the stream ends.

        What the client missed since `last_event_id` comes first. The arguments are those of
        `Hub.subscribe`, and so are the errors.
        """
        subscription = self._serving.host.hub.subscribe(
            *topics, last_event_id=self.last_event_id, overflow=overflow, queue=queue, queue_bytes=queue_bytes
        )
        subscription.enter()
        try:
            await self.forward(subscription)
        finally:
            subscription.leave()

    async def forward(self, subscription: Subscription) -> None:
        """Send all events of an entered subscription until the stream ends; it doesn't return before.

        This is the fast path: while the peer keeps up, the hub writes to the socket itself, and this task
        sleeps.

        Raises:
            trio.ClosedResourceError: the subscription has not been entered or was left, or the stream ended.
            trio.BusyResourceError: another task is waiting for an event of this subscription.

        If it is cancelled and the stream goes on, no event is lost: the subscription may be used further.
        """
        subscription.check_entered()
        subscription.on_overflow = self._overflowed
        try:
            await self.start()
            while True:
                if self.transport.pending is not None:
                    await self._flush_in_turn()
                    continue
                # What is taken must be written: cancelled in between, it would be lost.
                await trio.lowlevel.checkpoint_if_cancelled()
                if messages := subscription.take():
                    await self._write(self._framed(join(messages)), len(messages))
                elif subscription.is_over:
                    break
                else:
                    # No checkpoint since `take` gave nothing: the write side is the pump's now.
                    await subscription.forward_to(self.transport)
        finally:
            subscription.on_overflow = None
        subscription.check_entered()
        # It overflowed before it was forwarded, or the hub has ended.
        self.end(EndReason.SLOW_CONSUMER if subscription.has_overflowed else EndReason.SERVER_SHUTDOWN)
        await self._leave()

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

    def _framed(self, data: bytes) -> bytes:
        return frame(data, self.transport.framing)

    def _with_head(self, payload: bytes) -> bytes:
        head, self._head = self._head, None
        return payload if head is None else head + payload

    async def _write(self, payload: bytes, events: int = 0) -> None:
        """Write what is framed already; the one way in which a task writes."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self.end_reason is not None:
            raise self._ended_error()
        if self._head is not None:
            payload = self._with_head(payload)
        if self.transport.pending is not None:
            await self._flush_in_turn(payload, events)
        elif not payload or self.transport.send_nowait(payload, events, trio.current_time()):
            await trio.lowlevel.cancel_shielded_checkpoint()
        else:
            await self._flush_in_turn()

    async def _flush_in_turn(self, payload: bytes = b"", events: int = 0) -> None:
        """Wait until nothing is pending, then write `payload`; tasks that do this take turns."""
        if self._lock is None:
            self._lock = trio.Lock()
        async with self._lock:
            await self._flush()
            if payload and not self.transport.send_nowait(payload, events, trio.current_time()):
                await self._flush()

    async def _flush(self) -> None:
        while self.transport.pending is not None:
            with trio.move_on_after(self._serving.host.options.write_timeout):
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

    async def _leave(self) -> NoReturn:
        """Leave the handler of a stream that has ended."""
        await trio.lowlevel.checkpoint()
        # Only a task that is outside the lifetime, or shielded, gets here.
        raise self._ended_error()

    def _ended_error(self) -> trio.ClosedResourceError:
        reason = "unknown" if self.end_reason is None else self.end_reason.value
        return trio.ClosedResourceError(f"the stream has ended: {reason}")

    def hung_up(self) -> None:
        """Take note that the peer is gone."""
        self.end(EndReason.CLIENT_DISCONNECTED)

    def sent_too_much(self) -> None:
        """Take note that the peer goes on sending, and won't stop."""
        self.end(EndReason.PROTOCOL_ERROR)

    def _overflowed(self) -> None:
        self.end(EndReason.SLOW_CONSUMER)

    def keep_alive(self, now: float) -> float:
        """Write a keepalive if the stream has been idle; return when to look again."""
        transport, options = self.transport, self._serving.host.options
        if transport.pending is not None:
            if self._lock is None or not self._lock.locked():  # no task waits to write it
                transport.flush_nowait(now)
            if transport.pending is not None and now >= transport.written_at + options.write_timeout:
                self.end(EndReason.WRITE_TIMEOUT)
            return now + min(options.keepalive, options.write_timeout)
        due = transport.written_at + options.keepalive
        if due > now:
            return due
        transport.send_nowait(self._with_head(self._keepalive), 0, now)
        return now + options.keepalive

    async def keep_alive_task(self) -> None:
        """Write keepalives where writing has to wait, until cancelled."""
        while True:
            await trio.sleep_until(self.keepalive_due)
            if self.keepalive_due <= trio.current_time():
                await self._write(self._keepalive)

    @property
    def keepalive_due(self) -> float:
        """When a keepalive is due if nothing is written before."""
        return self.transport.written_at + self._serving.host.options.keepalive

    async def end_body(self) -> bool:
        """Say the last of a stream that has ended: properly, or so that the client comes back.

        Nothing is said where something is still pending: it would follow half an event. Return whether
        the connection may carry another request.
        """
        transport = self.transport
        if self._end_reason is EndReason.FINISHED:
            may_be_reused = transport.framing is Framing.CHUNKED and not transport.unread_bytes()
            try:
                await self._flush_in_turn(self._with_head(_END_OF_BODY[transport.framing]))
            except trio.ClosedResourceError:
                return False
            return may_be_reused
        if self._end_reason is EndReason.SERVER_SHUTDOWN and self.has_started and transport.pending is None:
            seconds = random.uniform(1, self._serving.host.options.reconnect_spread)
            retry = self._framed(encode_retry(round(seconds * 1000)))
            if not transport.send_nowait(retry, 0, trio.current_time()):
                with trio.move_on_after(1), contextlib.suppress(trio.BrokenResourceError):
                    await transport.flush_some()
        return False
