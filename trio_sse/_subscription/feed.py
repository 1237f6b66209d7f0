"""The engine of a subscription: what its reader missed, from the log, and then what is published, in order.

A feed is filled by the hub's pump and read by one task, either by `async for` on its `Subscription` or by a
connection that forwards it. `phases.py` has the phases that it passes through.

The invariant of a live feed that a connection forwards: **the write side has one owner**, and `_writer` says
which.

- `_writer` is set: the pump owns it. Nothing waits, and the pump writes to the transport itself. This is the
  fast path: no task wakes up.
- `_writer` is `None`: the reading task owns it. The pump queues what it delivers and wakes the task, which
  returns the write side to the pump when it has caught up.

The owner changes only between checkpoints, so no lock is needed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import ClassVar, Self

import trio

from .._wire.composite_id import NOTHING
from .._wire.cursor import Cursor, cursor_holding
from .._wire.held_states import id_holding
from .._wire.message import Batch, Message
from .backlog import Backlog
from .log_reading import LogReading
from .phases import AHEAD, ENDED, LEFT, LIVE, NEW, OVERFLOWED, REPLAYING, Phase
from .queue import Overflow, QueueFull
from .reader_cursor import FAR, ReaderCursor
from .source import FetchFrom, ReplayFrom, Source, StartWith, WaitForLog
from .throttle import Throttle
from .writer import Forwarder, Writer

_OVER = (ENDED, OVERFLOWED, LEFT)


class Feed(ReaderCursor):
    """What one reader of some topics receives; created by `HubEngine.make_feed`.

    Attributes:
        includes_topic: whether its reader receives each event's topic, too; see `topic_feed.py`.
        topics, last_event_id, overflow, throttle: what was asked for.
        mark: of its states, once its reader has them all, which its ids then say; the registry's.
        queue_bounds: how many events, and how many bytes, wait for a reader that lags.
        connection_number: that of the connection that its reader shares with others, or 0; set before
            `enter`, it has the events of all of them written together.
        dropped: events that were dropped, or replaced by newer ones.
        forwarder: the stream that forwards it, whose reader waits elsewhere.
        on_live: called when it has read all that its reader had missed, or ends.
    """

    __slots__ = (
        "_reading",
        "_task",
        "_writer",
        "connection_number",
        "dropped",
        "forwarder",
        "on_live",
        "overflow",
        "queue_bounds",
    )

    includes_topic: ClassVar[bool] = False

    def __init__(
        self,
        source: Source,
        topics: tuple[str, ...],
        *,
        last_event_id: str | None,
        overflow: Overflow,
        queue_bounds: tuple[int, int],
        throttle: Throttle | None = None,
    ) -> None:
        self.topics = topics
        self.last_event_id = last_event_id
        self.mark = ""
        self.overflow = overflow
        self.queue_bounds = queue_bounds
        self.throttle = throttle
        self.connection_number = 0
        self.dropped = 0
        self.forwarder: Forwarder | None = None
        self.on_live: Callable[[], None] | None = None
        self._source = source
        self._phase = NEW
        self._backlog = None
        self._reading: LogReading | None = None  # while replaying
        self._reached = NOTHING
        self._is_sent = False
        self._task: trio.lowlevel.Task | None = None  # the one that waits in `wait`
        self._writer: Writer | None = None

    def __repr__(self) -> str:
        return f"<Subscription to {', '.join(self.topics)}: {self._phase.value}, {self.queued_events} queued>"

    @property
    def queued_events(self) -> int:
        """How many events wait for the reader."""
        return 0 if self._backlog is None or self._reading is not None else len(self._backlog)

    @property
    def queued_bytes(self) -> int:
        """The bytes of the events that wait for the reader."""
        return 0 if self._backlog is None or self._reading is not None else self._backlog.size

    @property
    def is_over(self) -> bool:
        """Whether nothing more will be delivered."""
        return self._phase in _OVER

    @property
    def has_ended(self) -> bool:
        """Whether its hub has ended."""
        return self._phase is ENDED

    @property
    def has_overflowed(self) -> bool:
        """Whether it was cut off because its reader fell too far behind."""
        return self._phase is OVERFLOWED

    # Its lifetime

    def enter(self) -> None:
        """Register, as entering the subscription's context does. There is no checkpoint in it."""
        if self._phase is not NEW:
            raise RuntimeError("this subscription has been entered already: subscribe again for another")
        start = self._source.join(self)
        if isinstance(start, WaitForLog):
            self._phase = AHEAD
            if start.place is not None:
                self.last_event_id = start.place.id
            self._reached = start.place or Cursor(FAR, self.last_event_id or NOTHING.id)
        else:
            self._start(start)

    def start(self, start: ReplayFrom | FetchFrom | StartWith) -> None:
        """Start after `enter` had to wait for the log."""
        self._start(start)
        self.return_to_task()

    def _start(self, start: ReplayFrom | FetchFrom | StartWith) -> None:
        if not isinstance(start, StartWith):
            self._phase = REPLAYING
            self._reading = LogReading(self._source, self.topics, start, self.return_to_task)
            position = -1 if start.position is None else start.position
            self._reach(Cursor(position, self.last_event_id or start.id))
            return
        if start.messages:  # a reset, or snapshots: until they are written, it begins again as now
            self._reached = NOTHING if self.last_event_id is None else Cursor(-1, self.last_event_id)
        self._go_live(start.messages)

    def skip_replay(self, first: Sequence[Message]) -> None:
        """Go live with these messages: what it was reading from the log is lost."""
        if self._reading is not None:
            read = self._backlog.take_all_read() if self._backlog is not None else ()
            self._go_live([*read, *self._reading.stop(), *first])
            self.return_to_task()

    def restart(self) -> None:
        """Continue on another log, whose positions are others: a reset will tell the reader."""
        self._reached = Cursor(-1, self._reached.id)

    def leave(self) -> None:
        """Unregister, as leaving the subscription's context does. There is no checkpoint in it."""
        self._source.check_thread()
        self._stop(LEFT)

    def end(self) -> None:
        """End it for its reader, which first receives what is queued."""
        self._stop(ENDED)

    def check_entered(self) -> None:
        """Raise an error unless it was entered and not left.

        Raises:
            trio.ClosedResourceError: it was not entered, or was left.
            RuntimeError: the hub runs in another thread.
        """
        self._source.check_thread()
        if self._phase in (NEW, LEFT):
            raise trio.ClosedResourceError("use a subscription inside its own `async with`")

    def check_topics(self, topics: tuple[str, ...]) -> None:
        """Raise `ValueError` if it must not have these topics."""
        self._source.check_topics_of(self, topics)

    def when_settled(self, act: Callable[[], None]) -> None:
        """Call `act` between two batches."""
        self._source.when_settled(act)

    def change_topics(self, topics: tuple[str, ...]) -> None:
        """Receive other topics from now on, if it is live; what is queued stays.

        Call it by `when_settled`: during a batch, a state's snapshot could overtake older events.
        """
        if self._phase is LIVE:
            first = self._source.change_topics(self, topics)
            self.topics = topics
            if first:
                self._enqueue(Batch(first))

    def _go_live(self, first: Sequence[Message] = ()) -> None:
        if self._reading is not None:
            if self._reading.lacking:
                first = [*first, *self._source.snapshots_of(self._reading.lacking, self._reading.topics)]
            self._stop_reading()
        end = self._source.go_live(self)
        self._phase = LIVE
        if first:
            self._backlog = Backlog(first)
        else:
            self._reach(cursor_holding(end, self.mark) if self.mark else end)
        if self.on_live is not None:
            self.on_live()

    def _stop(self, phase: Phase) -> None:
        if self._phase not in _OVER:
            self._stop_reading()
            self._source.leave(self)
        self._phase = phase
        if phase is not ENDED:
            self._backlog = None
        if self.on_live is not None:
            self.on_live()  # it will not be: who waits looks
        self.return_to_task()

    def _stop_reading(self) -> None:
        if self._reading is not None:
            self._reading.stop()
            self._reading = None

    # The pump's side

    def deliver(self, batch: Batch, now: float) -> Self | None:
        """Write a batch to the transport, or queue it for the task. Called for live feeds only.

        Return this feed if its `finish_delivery` must be called before the next checkpoint.
        """
        if self.mark:
            batch = batch.holding(self.mark)
        writer = self._writer
        if writer is not None and writer.pending is None:
            is_sent = writer.begin_send(batch.framed(writer.framing), batch.count, now)
            return None if is_sent else self
        self._keep(batch)
        return None

    def _keep(self, batch: Batch) -> None:
        """Queue a batch for the task."""
        if self._phase is LIVE:  # it may have been left since the pump listed the subscribers
            if self._writer is not None:
                self.reached(self._writer.written_at)  # while nothing is queued
            self._enqueue(batch)

    def finish_delivery(self, batch: Batch, now: float) -> None:
        """Send what `deliver` has left in the transport; wake the task if that takes not all of it."""
        writer = self._writer
        if writer is not None:
            writer.flush_nowait(now)
            if writer.pending is None:
                return
        newest = batch.messages[-1]
        self._reached = Cursor(newest.sequence, id_holding(newest.id, self.mark))
        self.return_to_task()

    def _enqueue(self, batch: Batch) -> None:
        if self._backlog is None:
            self._backlog = Backlog()
        queue = self._backlog.queue(self.overflow, self.queue_bounds)
        try:
            for message in batch.messages:
                self.dropped += queue.put(message)
        except QueueFull:
            self.cut_off()
        else:
            self.return_to_task()

    def cut_off(self) -> None:
        """End it as overflowed: the next event cannot be delivered, and none may be left out silently."""
        self._stop(OVERFLOWED)
        if self.forwarder is not None:
            self.forwarder.on_overflow()

    def return_to_task(self) -> None:
        """Return the write side to the reading task, and wake it."""
        self._writer = None
        if self._task is not None:
            trio.lowlevel.reschedule(self._task)
            self._task = None

    # The reading task's side

    def take(self) -> Sequence[Message]:
        """Return the next messages, in order, a page at most; none if it has caught up, or is over."""
        if self._backlog is None:
            return () if self._reading is None else self._read_log(self._reading)
        messages = self._backlog.take()
        self._backlog = self._backlog if self._backlog else None
        return messages

    def take_one(self) -> Message | None:
        """Return the next message, or `None` if it has caught up, or is over.

        Only one is removed: those that still wait may yet be replaced or dropped.
        """
        if self._backlog is None:
            messages = self.take()
            if not messages:
                return None
            self._backlog = self._backlog or Backlog()
            self._backlog.put_back(messages)
        message = self._backlog.take_one()
        self._backlog = self._backlog if self._backlog else None
        return message

    def _read_log(self, reading: LogReading) -> Sequence[Message]:
        """Read on in the log; go live if there is nothing more.

        Under an interval, nothing is returned as long as there is more, and `wait` lets other tasks run.
        """
        throttle = self.throttle
        if throttle is None or throttle.keeps_all or self._source.has_states(self.topics):
            messages: Sequence[Message] = reading.read()
            if reading.is_over:
                self._go_live()
            return messages if messages or self._backlog is None else self.take()
        messages = reading.read_newest(throttle)
        if reading.is_over:
            self._go_live(messages)
        elif messages:
            self._backlog = Backlog(messages)
        return () if self._backlog is None else self.take()

    def forward_to(self, writer: Writer) -> Awaitable[None]:
        """Let the pump write to `writer` itself; return when the task has something to do again.

        Call it only when `take` has returned nothing and nothing is pending in `writer`, without a checkpoint
        in between, and await it at once. When it returns, or is cancelled, the task has the write side again.
        """
        # Not `async def`: each stream would keep another coroutine for as long as it lives.
        waiting = self.wait()
        if self._task is not None:
            self._writer = writer
        return waiting

    def wait(self) -> Awaitable[None]:
        """Wait until something is queued or read, something is pending in the writer, or it is over.

        Await it at once.
        """
        if self._task is not None:
            raise trio.BusyResourceError("another task is waiting for an event of this subscription")
        if self._reading is not None and self._reading.can_read_on:
            return _let_others_run()
        self._task = trio.lowlevel.current_task()
        if self._reading is not None:
            self._reading.request()
        return trio.lowlevel.wait_task_rescheduled(self)  # noqa: ASYNC105  # the caller awaits it

    def __call__(self, raise_cancel: object) -> trio.lowlevel.Abort:
        """Abort what `wait` has begun. Each waiting task would keep a bound method, if it had a name."""
        self._task = self._writer = None
        return trio.lowlevel.Abort.SUCCEEDED


async def _let_others_run() -> None:
    await trio.lowlevel.checkpoint()
