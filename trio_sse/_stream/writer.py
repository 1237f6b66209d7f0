"""A stream's write side: the head, turns between tasks, coalescing, flushing, keepalives.

Everything written goes through the transport's `pending` rule (see `_transport/base.py`): nothing is sent
while something is pending. A task that has to wait holds the write lock, so several tasks may send.

Between checkpoints, there is one writer: a task, the hub's pump (see `_subscription/feed.py`), the coalescer
or the keepalive scheduler. None of them writes while something is pending. The coalescer is used only while
no subscription is forwarded, since the pump would overtake what is buffered.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from threading import get_ident
from typing import Protocol

import trio

from .._http.fields import field_pairs
from .._http.response import add_fields
from .._subscription.feed import Feed
from .._transport.base import AppendableTransport, Transport
from .._transport.pending_bytes import PendingSend
from .._wire.cursor import (
    CursorForm,
    frame_heartbeat,
    frame_keepalive,
    frame_keepalive_with,
    frame_unshared_keepalive,
)
from .composite_ids import CompositeIds
from .end_reason import EndReason
from .lifetime import StreamLifetime
from .options import StreamOptions

# After asking an app to start its response, look again after this time.
_START_REQUEST_SECONDS = 1.0


class ResponseStart(Protocol):
    """Starts the response where an app decides about its head."""

    watches_peer: bool
    """Whether the app's server notices a disconnect until the response has started."""

    @property
    def waits_for_body(self) -> bool:
        """Whether the request's body is arriving: the handler may still read it, or refuse it."""

    async def start_response(self) -> None:
        """Start the response, which calls `StreamWriter.set_head`. Several tasks may call this at once."""

    async def wait_started(self) -> None:
        """Wait until the response has started, or never will."""

    @property
    def is_head_final(self) -> bool:
        """Whether the app has the response's head already, so that no field can be added."""

    def request_start(self) -> None:
        """Ask for the response to start soon, without waiting for it."""


class StreamWriter(StreamLifetime):
    """The part of a `LiveStream` that writes; for speed, `LiveStream` sets the attributes of both.

    Attributes:
        transport: where it is written to; while an app decides about the response, an `AwaitedTransport`.
        options: the options of its server or app.
        cursor_form: how the client receives cursors; `None` until a subscription is forwarded.
        composite: makes the ids where several subscriptions are forwarded; otherwise `None`.
        added_fields: header fields that the response's head has besides its own; `None` without one.
    """

    __slots__ = (
        "_feeds",
        "_head",
        "_lock",
        "added_fields",
        "composite",
        "cursor_form",
        "options",
        "transport",
    )

    options: StreamOptions
    transport: Transport
    cursor_form: CursorForm | None
    composite: CompositeIds | None
    added_fields: list[tuple[str, str]] | None
    _feeds: Feed | tuple[Feed, ...]
    _head: bytes | ResponseStart | None
    _lock: trio.Lock | None  # made when a task has to wait

    @property
    def forwarded(self) -> tuple[Feed, ...]:
        """The feeds whose pump may have the write side. One is stored alone: a tuple has 48 bytes."""
        feeds = self._feeds
        return feeds if isinstance(feeds, tuple) else (feeds,)

    @forwarded.setter
    def forwarded(self, feeds: tuple[Feed, ...]) -> None:
        self._feeds = feeds[0] if len(feeds) == 1 else feeds

    def sent(self) -> tuple[int, int]:
        """Return how many events and bytes were sent."""
        transport = self.transport
        if waiting := self.serving.coalescer.pending(self):
            return transport.events_sent + len(waiting), transport.bytes_sent + sum(map(len, waiting))
        return transport.events_sent, transport.bytes_sent

    # The head

    @property
    def has_started(self) -> bool:
        """Whether the response's head was sent, so that the request cannot be refused any more."""
        return self._head is None

    @property
    def response_start(self) -> ResponseStart | None:
        """What starts the response; `None` if that has happened, or no app decides about it."""
        head = self._head
        return None if head is None or isinstance(head, bytes) else head

    def add_field(self, name: str, value: str) -> None:
        """Add a header field to the response's head; see `Connection.add_header`."""
        pairs = field_pairs([(name, value)])
        if name.lower() == "content-type":
            raise ValueError(
                "the Content-Type of a stream is text/event-stream: return a Response to change it"
            )
        if self.has_started or (self.response_start is not None and self.response_start.is_head_final):
            raise RuntimeError("the response's head has been sent")
        if self.end_reason is not None:
            raise self.ended_error()
        self.added_fields = [*(self.added_fields or ()), *pairs]

    def take_added_fields(self) -> Sequence[tuple[str, str]]:
        """Return the added fields, which the caller sends in the response's head."""
        fields, self.added_fields = self.added_fields or (), None
        return fields

    async def start_response(self) -> None:
        """Start the response where an app decides about its head; otherwise do nothing."""
        if self.response_start is not None:
            await self.response_start.start_response()

    def set_head(self, head: bytes) -> None:
        """Record that the response has started; `head` is what must still precede the first byte."""
        self._head = head or None

    def start_on(self, transport: Transport, head: bytes) -> None:
        """Record that the response has started; from now on the stream owns `transport`, and watches it."""
        transport.bytes_sent = transport.events_sent = 0
        transport.written_at = self.transport.written_at  # keepalives are due as they were
        self.transport = transport
        self.set_head(head)
        transport.watch(self)

    def with_head(self, payload: bytes) -> bytes:
        """Return the payload, preceded by the head if it was not sent yet."""
        head, self._head = self._head, None
        if head is None:
            return payload
        assert isinstance(head, bytes), "the response has not started"
        if self.added_fields is not None and head:
            head = add_fields(head, self.take_added_fields())
        if self.sends_heartbeats:
            return head + frame_heartbeat(self.options.keepalive, self.transport.framing) + payload
        return head + payload

    # Tasks that write

    async def write(self, payload: bytes, events: int = 0) -> None:
        """Write what is framed already. Every task writes through this.

        Raises:
            trio.ClosedResourceError: the stream has ended.
            RuntimeError: this is another thread than that of the server.
        """
        if self.serving.thread != get_ident():
            self.serving.check_thread()
        await trio.lowlevel.checkpoint_if_cancelled()
        if self.end_reason is not None:
            raise self.ended_error()
        coalescer = self.serving.coalescer
        if events == 1 and coalescer.append(self, payload):
            return
        has_coalesced = coalescer.flush(self)
        if self._head is not None:
            await self.start_response()
            if self.end_reason is not None:
                raise self.ended_error()
            has_coalesced = coalescer.flush(self) or has_coalesced  # what other tasks have sent meanwhile
            payload = self.with_head(payload)
        if self.transport.pending is not None:
            await self.flush_then_write(payload, events)
        elif not payload or self.transport.send_nowait(payload, events, trio.current_time()):
            if events == 1 and not has_coalesced and self._may_coalesce:
                coalescer.begin(self)
            else:
                await trio.lowlevel.cancel_shielded_checkpoint()
        else:
            await self.flush_then_write()

    @property
    def write_lock(self) -> trio.Lock:
        """The lock that a task holds while it waits to write."""
        if self._lock is None:
            self._lock = trio.Lock()
        return self._lock

    async def flush_then_write(self, payload: bytes = b"", events: int = 0) -> None:
        """Wait for this task's turn and until nothing is pending, then write `payload`."""
        async with self.write_lock:
            await self._flush()
            if self.end_reason is not None:
                raise self.ended_error()
            if payload and not self.transport.send_nowait(payload, events, trio.current_time()):
                await self._flush()

    async def _flush(self) -> None:
        if self.transport.pending is None:
            return
        with PendingSend(self.serving.pending_bytes, self.transport, self.transport.pending) as send:
            while self.transport.pending is not None:
                with trio.move_on_after(self.options.write_timeout) as timeout:
                    try:
                        await self.transport.flush_some()
                        continue
                    except trio.BrokenResourceError as error:
                        self.on_broken(error)
                    except trio.Cancelled:
                        # By the timeout, by one of the handler's scopes, because too much is pending, or at
                        # the end of a drain. Nothing can follow half an event. If the stream had ended
                        # already, its reason stays.
                        if send.is_cut:
                            self.end(EndReason.SLOW_CONSUMER)
                        elif self.serving.is_draining and not timeout.cancel_called:
                            self.end(EndReason.SERVER_SHUTDOWN)
                        else:
                            self.end(EndReason.WRITE_TIMEOUT)
                        raise
                await self.leave()
        if send.is_cut:
            await self.leave()

    def stop_writers(self) -> None:
        """Let nothing else write: the handler is over, whatever tasks outside it still do."""
        self.serving.coalescer.flush(self)
        for feed in self.forwarded:
            feed.return_to_task()

    # The coalescer

    @property
    def _may_coalesce(self) -> bool:
        return not self._feeds and isinstance(self.transport, AppendableTransport)

    def send_coalesced(self, payload: bytes, events: int, now: float) -> bool:
        """Send events that were buffered; return whether a task has to wait to send the rest."""
        transport = self.transport
        assert isinstance(transport, AppendableTransport)
        if transport.pending is None:
            return not transport.send_nowait(payload, events, now)
        transport.append_pending(payload, events)
        return True

    def flush_soon(self) -> None:
        """Start a task that sends what is pending, unless a task does so already."""
        if self._lock is None or not self._lock.locked():
            self.serving.start_soon(self._flush_alone, name="trio_sse.flush")

    async def _flush_alone(self) -> None:
        # This task ends with the stream: it fails when the transport is closed. And the transport does not
        # carry another stream before that, since the stream's end waits for the write lock.
        with contextlib.suppress(trio.ClosedResourceError, trio.BrokenResourceError):
            await self.flush_then_write()

    # Keepalives

    @property
    def sends_heartbeats(self) -> bool:
        """Whether its keepalives are events, written however much else is."""
        raise NotImplementedError

    @property
    def keepalive_due(self) -> float:
        """When a keepalive is due, if nothing is written before."""
        return self.transport.written_at + self.options.keepalive

    def keep_alive(self, now: float) -> float:
        """Write a keepalive if the stream has been idle, and end it at its deadline.

        Return when to look again, not later than at the deadline.
        """
        if now >= self.deadline:
            self.end(self.deadline_reason)
            return math.inf
        return min(self._keep_alive(now), self.deadline)

    def _keep_alive(self, now: float) -> float:
        transport, options = self.transport, self.options
        if transport.pending is not None:
            if self._lock is None or not self._lock.locked():  # no task waits to write it
                transport.flush_nowait(now)
            if transport.pending is not None and now >= transport.written_at + options.write_timeout:
                self.end(EndReason.WRITE_TIMEOUT)
            return now + min(options.keepalive, options.write_timeout)
        due = transport.written_at + options.keepalive
        if due > now and not self.sends_heartbeats:
            return due
        if self.response_start is not None:
            if not self.response_start.waits_for_body:
                self.response_start.request_start()
            return now + min(_START_REQUEST_SECONDS, options.keepalive)  # then the head goes out
        transport.send_nowait(self.with_head(self._next_keepalive()), 0, now)
        return now + options.keepalive

    async def keep_alive_task(self) -> None:
        """Write keepalives where writing has to wait, until cancelled."""
        while True:
            if self.sends_heartbeats:
                await trio.sleep(self.options.keepalive)
            else:
                await trio.sleep_until(self.keepalive_due)
                if self.keepalive_due > trio.current_time():
                    continue
            if self.response_start is not None and self.response_start.waits_for_body:
                await trio.sleep(min(_START_REQUEST_SECONDS, self.options.keepalive))
                continue
            await self.write(self._next_keepalive())

    def _next_keepalive(self) -> bytes:
        """Return a keepalive, with the client's cursor if that has moved. Write it without a checkpoint."""
        if self.sends_heartbeats and self._head is None:  # otherwise the head comes with one
            return self._next_comment() + frame_heartbeat(self.options.keepalive, self.transport.framing)
        return self._next_comment()

    def _next_comment(self) -> bytes:
        transport = self.transport
        form = self.cursor_form
        if form and self.forwarded and transport.pending is None and self.response_start is None:
            if self.composite is not None:
                if id := self.composite.new_id(self.forwarded, transport.written_at):
                    return frame_unshared_keepalive(id, transport.framing, form)
            elif cursor := self.forwarded[0].new_cursor(transport.written_at):
                self.forwarded[0].tell(cursor)
                return frame_keepalive_with(cursor.id, transport.framing, form)
        return frame_keepalive(transport.framing)
