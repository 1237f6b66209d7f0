"""The engine of a subscription: what its reader missed, from the log, and then what is published, in order.

A feed is filled by the hub's pump and read by one task, either by `async for` on its `Subscription` or by a
connection that forwards it. It passes through these phases:

| phase      | what it does                                 | what ends the phase                     |
|------------|----------------------------------------------|-----------------------------------------|
| new        | nothing: it is not registered                | `enter`                                 |
| ahead      | waits until a shared log has reached its id  | `start`, at the id, or at the log's end |
| fetching   | reads a shared log itself, page by page      | a page after which memory has the rest  |
| replaying  | reads the log in memory, page by page        | a read that finds nothing more          |
| live       | receives what is published to its topics     | the hub's end, an overflow, `leave`     |
| ended      | still has what is queued, and no more        | `leave`                                 |
| overflowed | nothing                                      | `leave`                                 |
| left       | nothing                                      |                                         |

A feed is ahead if its client comes from another hub that reads the shared log faster. It fetches if its
client has missed more than is in memory, also if that becomes so while it is replaying. While it replays, the
log itself is its queue, and nothing is kept for it but a page.

It goes live in the same step in which a read of the log finds nothing more, so nothing is missing or repeated
between history and what follows.

The invariant of a live feed that a connection forwards: **the write side has one owner**, and `_writer` says
which.

- `_writer` is set: the pump owns it. The queue is empty, and the pump writes to the transport itself. This is
  the fast path: no task wakes up.
- `_writer` is `None`: the reading task owns it. The pump queues what it delivers and wakes the task, which
  returns the write side to the pump when it has caught up.

The owner changes only between checkpoints, so no lock is needed.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Protocol, final

import trio

from .._shared_log.history import Fetch
from .._wire.composite_id import NOTHING, tag_of
from .._wire.cursor import Cursor
from .._wire.message import Batch, Framing, Message
from .kept_events import NewestKept
from .queue import Overflow, Queue, QueueFull, make_queue, take_page, take_run
from .source import FetchFrom, ReplayFrom, Source, StartWith, WaitForLog
from .throttle import Throttle


class Writer(Protocol):
    """What the pump may write to itself, while nothing is pending there."""

    framing: Framing
    pending: bytes | memoryview | None
    written_at: float

    def send_nowait(self, payload: bytes, events: int, now: float) -> bool:
        """Write `payload`, which holds `events` events; keep as `pending` what is not sent at once.

        Return whether everything was sent. Never raise: a broken transport keeps everything pending.
        """


class _Phase(Enum):
    NEW = "not entered"
    AHEAD = "ahead of the log"
    FETCHING = "reading the shared log"
    REPLAYING = "replaying"
    LIVE = "live"
    ENDED = "ended with its hub"
    OVERFLOWED = "overflowed"
    LEFT = "left"


# Looking up a member of an enumeration takes longer than a global.
_NEW, _AHEAD, _FETCHING, _REPLAYING, _LIVE, _ENDED, _OVERFLOWED, _LEFT = _Phase
_PAGES_AT_ONCE = 8  # of the log, if only the newest of each key counts; some 0.5 ms
_FAR = 1 << 62  # a position after all others
_OVER = (_ENDED, _OVERFLOWED, _LEFT)


@final
class Feed:
    """What one reader of some topics receives; created by `HubEngine.make_feed`.

    Attributes:
        topics, last_event_id, overflow, throttle: what was asked for.
        queue_bounds: how many events, and how many bytes, wait for a reader that lags.
        dropped: events that were dropped, or replaced by newer ones.
        on_overflow: called when it overflows, for a reader that waits elsewhere.
        on_live: called when it has read all that its reader had missed.
    """

    __slots__ = (
        "_cursor",
        "_fetch",
        "_is_told",
        "_newest",
        "_page",
        "_phase",
        "_position",
        "_queue",
        "_reached",
        "_source",
        "_task",
        "_writer",
        "dropped",
        "last_event_id",
        "on_live",
        "on_overflow",
        "overflow",
        "queue_bounds",
        "throttle",
        "topics",
    )

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
        self.overflow = overflow
        self.queue_bounds = queue_bounds
        self.throttle = throttle
        self.dropped = 0
        self.on_overflow: Callable[[], None] | None = None
        self.on_live: Callable[[], None] | None = None
        self._source = source
        self._phase = _NEW
        self._queue: Queue | None = None  # made when the reader lags, dropped when it has caught up
        self._page: deque[Message] | None = None  # what was read of the log and not yet taken
        self._newest: NewestKept | None = None  # under an interval, what was read of the log for the page
        self._position = 0  # while replaying: where to read on in the log
        self._cursor = ""  # its id
        self._fetch: Fetch | None = None  # while fetching: where to read on in the shared log
        self._reached = NOTHING  # everything up to here was written to the reader; it may have received more
        self._is_told = False  # the reader has received the id of that position
        self._task: trio.lowlevel.Task | None = None  # the one that waits in `wait`
        self._writer: Writer | None = None

    def __repr__(self) -> str:
        return f"<Subscription to {', '.join(self.topics)}: {self._phase.value}, {self.queued_events} queued>"

    @property
    def queued_events(self) -> int:
        """How many events wait for the reader."""
        queued = len(self._queue) if self._queue is not None else 0
        return queued + len(self._first)

    @property
    def queued_bytes(self) -> int:
        """The bytes of the events that wait for the reader."""
        queued = self._queue.size if self._queue is not None else 0
        return queued + sum([len(message.wire) for message in self._first])

    @property
    def _first(self) -> Sequence[Message]:
        """The events with which it went live, and that were not taken: a reset, and snapshots."""
        return self._page if self._page is not None and self._phase is _Phase.LIVE else ()

    @property
    def is_over(self) -> bool:
        """Whether nothing more will be delivered."""
        return self._phase in _OVER

    @property
    def is_live(self) -> bool:
        """Whether it receives what is published."""
        return self._phase is _LIVE

    @property
    def has_ended(self) -> bool:
        """Whether its hub has ended."""
        return self._phase is _ENDED

    @property
    def has_overflowed(self) -> bool:
        """Whether it was cut off because its reader fell too far behind."""
        return self._phase is _OVERFLOWED

    # Its lifetime

    def enter(self) -> None:
        """Register, as entering the subscription's context does. There is no checkpoint in it."""
        if self._phase is not _NEW:
            raise RuntimeError("this subscription has been entered already: subscribe again for another")
        start = self._source.join(self)
        if isinstance(start, WaitForLog):
            self._phase = _AHEAD
            self._reached = Cursor(_FAR, self.last_event_id or "")
        else:
            self._start(start)

    def start(self, start: ReplayFrom | FetchFrom | StartWith) -> None:
        """Start after `enter` had to wait for the log."""
        self._start(start)
        self.return_to_task()

    def _start(self, start: ReplayFrom | FetchFrom | StartWith) -> None:
        if isinstance(start, ReplayFrom):
            self._phase = _REPLAYING
            self._position, self._cursor = start
            self._reached = Cursor(start.position, start.id)
        elif isinstance(start, FetchFrom):
            self._phase = _FETCHING
            self._fetch = Fetch(*start, self.return_to_task)
            self._reach(Cursor(-1 if start.position is None else start.position, start.id))
        else:
            if start.messages:  # a reset, or snapshots: until they are written, it begins again as now
                self._reached = NOTHING if self.last_event_id is None else Cursor(-1, self.last_event_id)
            self._go_live(start.messages)

    def skip_replay(self, first: Sequence[Message]) -> None:
        """Go live with these messages: what it was reading from the log is lost."""
        if self._phase in (_FETCHING, _REPLAYING):
            read = self._page or (self._newest.take() if self._newest is not None else ())
            self._newest = None
            self._go_live([*read, *first])
            self.return_to_task()

    def restart(self) -> None:
        """Continue on another log, whose positions are others: a reset will tell the reader."""
        self._reached = Cursor(-1, self._reached.id)

    def leave(self) -> None:
        """Unregister, as leaving the subscription's context does. There is no checkpoint in it."""
        self._source.check_thread()
        self._stop(_LEFT)

    def end(self) -> None:
        """End it for its reader, which first receives what is queued."""
        self._stop(_ENDED)

    def check_entered(self) -> None:
        """Raise an error unless it was entered and not left.

        Raises:
            trio.ClosedResourceError: it was not entered, or was left.
            RuntimeError: the hub runs in another thread.
        """
        self._source.check_thread()
        if self._phase in (_NEW, _LEFT):
            raise trio.ClosedResourceError("use a subscription inside its own `async with`")

    def change_topics(self, topics: tuple[str, ...]) -> None:
        """Receive other topics from now on, if it is live; what is queued stays.

        Call it by `HubEngine.when_settled`: during a batch, a state's snapshot could overtake older events.
        """
        if self._phase is _LIVE:
            first = self._source.change_topics(self, topics)
            self.topics = topics
            if first:
                self._enqueue(Batch(first))

    def _go_live(self, first: Sequence[Message] = ()) -> None:
        self._end_fetch()
        end = self._source.go_live(self)
        self._phase = _LIVE
        if first:
            self._page = deque(first)
        else:
            self._reach(end)
        if self.on_live is not None:
            self.on_live()

    def _stop(self, phase: _Phase) -> None:
        if self._phase not in _OVER:
            self._end_fetch()
            self._source.leave(self)
        self._phase = phase
        if phase is not _ENDED:
            self._queue = self._page = None
        self._newest = None
        self.return_to_task()

    def _end_fetch(self) -> None:
        if self._fetch is not None:
            self._source.cancel_fetch(self._fetch)
            self._fetch = None

    # The pump's side

    def deliver(self, batch: Batch, now: float) -> None:
        """Write a batch to the transport, or queue it for the task. Called for live feeds only."""
        writer = self._writer
        if writer is not None and writer.pending is None:
            if not writer.send_nowait(batch.framed(writer.framing), batch.count, now):
                newest = batch.messages[-1]
                self._reached = Cursor(newest.sequence, newest.id)
                self.return_to_task()
            return
        if self._phase is _LIVE:  # it may have been left since the pump listed the subscribers
            if writer is not None:
                self.reached(writer.written_at)  # while nothing is queued
            self._enqueue(batch)

    def _enqueue(self, batch: Batch) -> None:
        if self._queue is None:
            self._queue = make_queue(self.overflow, *self.queue_bounds)
        try:
            for message in batch.messages:
                self.dropped += self._queue.put(message)
        except QueueFull:
            self.cut_off()
        else:
            self.return_to_task()

    def cut_off(self) -> None:
        """End it as overflowed: the next event cannot be delivered, and none may be left out silently."""
        self._stop(_OVERFLOWED)
        if self.on_overflow is not None:
            self.on_overflow()

    def return_to_task(self) -> None:
        """Return the write side to the reading task, and wake it."""
        self._writer = None
        if self._task is not None:
            trio.lowlevel.reschedule(self._task)
            self._task = None

    # The reading task's side

    def take(self) -> Sequence[Message]:
        """Return the next messages, in order, a page at most; none if it has caught up, or is over."""
        page = self._take_replayed()
        if not page and self._queue is not None:
            page = take_page(self._queue)
            if not self._queue:
                self._queue = None
        return page

    def take_one(self) -> Message | None:
        """Return the next message, or `None` if it has caught up, or is over.

        Only one is removed: those that still wait may yet be replaced or dropped.
        """
        if self._page is None and (page := self._take_replayed()):
            self._page = deque([*page, *(self._page or ())])
        if self._page is not None:
            message = self._page.popleft()
            self._page = self._page or None
            return message
        if self._queue is None:
            return None
        message = self._queue.pop()
        self._queue = self._queue if self._queue else None
        return message

    def _take_replayed(self) -> Sequence[Message]:
        if self._page is not None:
            page = take_run(self._page)
            self._page = self._page or None
            return page
        if self._phase not in (_FETCHING, _REPLAYING):
            return ()
        if self.throttle is None or self.throttle.keeps_all or self._source.has_states(self.topics):
            return self._read_on()
        return self._take_newest(self.throttle)

    def _take_newest(self, throttle: Throttle) -> Sequence[Message]:
        """Read some of the log; return the newest of each key when nothing was left out, or they are many.

        As long as there is more to read, nothing is returned, and `wait` has it read, or other tasks run.
        """
        kept = self._newest = self._newest or NewestKept()
        before = self._reached, self._is_told
        for _ in range(_PAGES_AT_ONCE):
            messages = self._read_on()
            kept.keep(Batch(messages))
            is_full = kept.events >= throttle.most_events or kept.size >= throttle.most_bytes
            if self._phase not in (_FETCHING, _REPLAYING) or is_full:
                self._newest = None
                self._page = deque(kept.take()) or None
                break
            if not messages and self._fetch is not None:
                break  # a page is to be read first
        if kept.events or self._page is not None:
            self._reached, self._is_told = before  # until they are written
        return self._take_replayed() if self._newest is None else ()

    def _read_on(self) -> list[Message]:
        """Read the next page, of the log in memory or of the shared one."""
        return self._read_log() if self._fetch is None else self._take_fetched(self._fetch)

    def _read_log(self) -> list[Message]:
        """Read the next page of the log; go live if there are no more, or if they are lost."""
        found = self._source.read(self._position, self._cursor, self.topics)
        if isinstance(found, StartWith):
            self._go_live()
            return found.messages
        if isinstance(found, FetchFrom):
            self._start(found)
            return []
        self._position, self._cursor = found.position, found.id
        if not found.messages:
            self._go_live()
        return found.messages

    def _take_fetched(self, fetch: Fetch) -> list[Message]:
        """Return what was read of the shared log; nothing if `wait` must have it read."""
        while (found := self._source.take_fetched(fetch, self.topics)) is not None:
            if isinstance(found, StartWith):
                self._go_live()
                return found.messages
            if found.is_covered:
                self._fetch = None
                self._phase = _REPLAYING
                self._position, self._cursor = found.page.position, found.page.id
                return found.page.messages or self._read_log()
            if found.page.messages:
                return found.page.messages
        return []

    # The reader's cursor

    def untold_cursor(self) -> Cursor | None:
        """Return the position that the reader has reached, and tell it, unless the reader was told.

        Call it only if nothing is left to take. The position may be older than that of `reached`.
        """
        if self._is_told or self._phase is not _LIVE:
            return None
        self._is_told = True
        return self._reached

    @property
    def tag(self) -> str:
        """What names it in the ids of a connection that forwards several."""
        return tag_of(self.topics, self.throttle)

    def tell(self, cursor: Cursor) -> None:
        """Record that the reader receives a cursor, or the events up to it."""
        self._reached = cursor
        self._is_told = True

    def reached(self, written_at: float) -> Cursor:
        """Return the newest position that is known now up to which everything was written to the reader.

        Call it only if all that was taken is written; the last write was at `written_at`.
        """
        if self._phase is _LIVE and self._queue is None and self._page is None:
            cursor = self._source.cursor(self, self._reached.position, written_at)
            if cursor is not None:
                self._reach(cursor)
        return self._reached

    def _reach(self, cursor: Cursor) -> None:
        self._is_told = self._is_told and cursor.id == self._reached.id
        self._reached = cursor

    def new_cursor(self, written_at: float) -> Cursor | None:
        """Return the reader's cursor if the reader is live and was not told it yet; see `reached`."""
        cursor = self.reached(written_at)
        return None if self._is_told or self._phase is not _LIVE else cursor

    def first_cursor(self) -> str | None:
        """Return the cursor with which the reader begins; `None` if its first event has one.

        Nothing was written to it yet. While it is replaying, this is the id that it has resumed from.
        """
        if self._page is not None or self._phase is not _LIVE:
            return self.last_event_id
        cursor = self.reached(-math.inf)
        self._is_told = True
        return cursor.id

    async def forward_to(self, writer: Writer) -> None:
        """Let the pump write to `writer` itself; return when the task has something to do again.

        Call it only when `take` has returned nothing and nothing is pending in `writer`, without a checkpoint
        in between. When it returns, or is cancelled, the write side is the task's again.
        """
        if self._task is not None:
            raise self._busy()
        if self._newest is not None and self._fetch is None:  # the log is read on
            await trio.lowlevel.checkpoint()
            return
        self._writer = writer
        self._task = trio.lowlevel.current_task()
        if self._fetch is not None:
            self._source.request_fetch(self._fetch)
        try:
            await trio.lowlevel.wait_task_rescheduled(self._abort_wait)
        finally:
            self._writer = None

    async def wait(self) -> None:
        """Wait until something is queued or read, something is pending in the writer, or it is over."""
        if self._task is not None:
            raise self._busy()
        if self._newest is not None and self._fetch is None:  # the log is read on
            await trio.lowlevel.checkpoint()
            return
        self._task = trio.lowlevel.current_task()
        if self._fetch is not None:
            self._source.request_fetch(self._fetch)
        await trio.lowlevel.wait_task_rescheduled(self._abort_wait)

    def _busy(self) -> trio.BusyResourceError:
        return trio.BusyResourceError("another task is waiting for an event of this subscription")

    def _abort_wait(self, raise_cancel: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED
