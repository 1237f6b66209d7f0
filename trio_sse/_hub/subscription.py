"""One subscriber's view of a hub: what it missed from the log, then what is published, in order.

A subscription is fed by the hub's pump and read by one task, either by `async for` or by a connection that
forwards it. It passes through these states:

0. *Ahead*, with a shared log only: its client comes from a hub that has read on further than this one. It
   waits until this one has come to the client's id, or to the log's end without having seen it.
1. *Replaying*: it has a position in the log and reads on from there, page by page. The log itself is its
   queue; nothing is kept for it.
2. *Live*: it is among the topic's subscribers. It becomes so in the same step in which a read of the log
   found nothing more, so there is neither a hole nor a duplicate between history and what follows.
3. *Over*: it was left, the hub ended, or its queue overflowed.

While it is live and a connection forwards it, its messages have one of two ways, and `_writer` says which:

- `_writer` is set: **the pump owns the write side**, nothing is queued, and the pump writes to the
  transport itself. This is the fast path: no task wakes up.
- `_writer` is `None`: **the task owns it**; what the pump delivers is queued, and the task is woken. The task
  hands the write side back to the pump when it has caught up.

It changes hands only between checkpoints, so no lock is needed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from enum import Enum
from typing import Protocol, final

import trio

from .._wire.event import ServerSentEvent
from .._wire.message import Batch, Framing, Message
from .pacing import Pace
from .queue import Overflow, Queue, QueueFull, make_queue, take_page


class SlowConsumer(trio.BrokenResourceError):
    """A subscription's reader fell so far behind that its queue overflowed, under `Overflow.DISCONNECT`."""


class Writer(Protocol):
    """What the pump may write to itself, while nothing is pending there."""

    framing: Framing
    pending: bytes | memoryview | None

    def send_nowait(self, payload: bytes, events: int, now: float) -> bool:
        """Write `payload`, which holds `events` events; keep as `pending` what doesn't go out at once.

        Return whether everything went out. Never raises: a broken transport keeps everything pending.
        """


class Registry(Protocol):
    """What a subscription needs of its hub."""

    def join(self, subscription: Subscription) -> int | list[Message] | None:
        """Take it in. Return the position to replay from, or what it begins with: a reset, or nothing.

        `None` means that this is not known yet, and that `Subscription.begin` will be called.
        """

    def read(self, position: int, topics: Collection[str]) -> tuple[list[Message], int] | list[Message]:
        """Read a page of the log after `position`, or give what stands for what it dropped."""

    def has_states(self, topics: Collection[str]) -> bool:
        """Whether some of the topics are states, of whose changes none may be left out."""

    def go_live(self, subscription: Subscription) -> None:
        """Deliver to it from now on."""

    def change(self, subscription: Subscription, topics: tuple[str, ...]) -> list[Message]:
        """Deliver other topics to a live one from now on. Return what those begin with that are new to it."""

    def leave(self, subscription: Subscription) -> None:
        """Forget it."""


class _Phase(Enum):
    NEW = "not entered"
    AHEAD = "ahead of the log"
    REPLAYING = "replaying"
    LIVE = "live"
    ENDED = "ended with its hub"
    OVERFLOWED = "overflowed"
    LEFT = "left"


_OVER = (_Phase.ENDED, _Phase.OVERFLOWED, _Phase.LEFT)


@final
class Subscription:
    """A bounded, ordered view of some topics; only `Hub.subscribe` makes one.

    Use it as an async context manager, which registers it, and iterate over it in one task::

        async with hub.subscribe("prices", last_event_id=connection.last_event_id) as events:
            async for event in events:
                ...

    Each event is a `ServerSentEvent` whose data is text and whose id is the hub's. If not all events after
    `last_event_id` can be given, the first event is of the type `reset`. The iteration ends when the hub
    ends. A cancelled iteration loses no event: the next one begins with it.

    Raises (when it is iterated over):
        SlowConsumer: the queue overflowed under `Overflow.DISCONNECT`.
        trio.BusyResourceError: another task is waiting for an event of this subscription.
        trio.ClosedResourceError: its context has not been entered, or has been left.
    """

    __slots__ = (
        "_dropped",
        "_page",
        "_phase",
        "_position",
        "_queue",
        "_queue_bounds",
        "_registry",
        "_task",
        "_writer",
        "last_event_id",
        "on_live",
        "on_overflow",
        "overflow",
        "pace",
        "topics",
    )

    def __init__(
        self,
        registry: Registry,
        topics: tuple[str, ...],
        *,
        last_event_id: str | None,
        overflow: Overflow,
        queue_bounds: tuple[int, int],
        pace: Pace | None = None,
    ) -> None:
        self.topics = topics
        self.pace = pace
        self.overflow = overflow
        self._registry = registry
        self.last_event_id = last_event_id
        self._queue_bounds = queue_bounds
        self._phase = _Phase.NEW
        self._queue: Queue | None = None  # made when the reader lags, dropped when it has caught up
        self._page: deque[Message] | None = None  # what was read of the log and not yet taken
        self._position = 0  # while replaying: where to read on in the log
        self._dropped = 0
        self._task: trio.lowlevel.Task | None = None  # the one that waits in `wait`
        self._writer: Writer | None = None
        self.on_overflow: Callable[[], None] | None = None  # for a reader that waits elsewhere
        self.on_live: Callable[[], None] | None = None  # is called when it has read all that it had missed

    def __repr__(self) -> str:
        return f"<Subscription to {', '.join(self.topics)}: {self._phase.value}, {self.queued_events} queued>"

    @property
    def dropped(self) -> int:
        """The events that the overflow policy has dropped, or replaced by newer ones."""
        return self._dropped

    @property
    def queued_events(self) -> int:
        """The events that wait for the reader."""
        return len(self._queue) if self._queue is not None else 0

    @property
    def queued_bytes(self) -> int:
        """The bytes of the events that wait for the reader; all who lag share them."""
        return self._queue.size if self._queue is not None else 0

    @property
    def is_over(self) -> bool:
        """Whether nothing more will be delivered: the hub ended, the queue overflowed, or it was left."""
        return self._phase in _OVER

    @property
    def is_live(self) -> bool:
        """Whether it is given what is published."""
        return self._phase is _Phase.LIVE

    @property
    def has_overflowed(self) -> bool:
        """Whether it was cut off because its reader fell too far behind."""
        return self._phase is _Phase.OVERFLOWED

    # Its lifetime

    def enter(self) -> None:
        """Register, as entering the context does. There is no checkpoint in it."""
        if self._phase is not _Phase.NEW:
            raise RuntimeError("this subscription has been entered already: subscribe again for another")
        start = self._registry.join(self)
        if start is None:
            self._phase = _Phase.AHEAD
        else:
            self._begin(start)

    def begin(self, start: int | list[Message]) -> None:
        """Go on from where `enter` has left it: it is known now what it begins with."""
        self._begin(start)
        self.hand_back()

    def _begin(self, start: int | list[Message]) -> None:
        if isinstance(start, int):
            self._phase = _Phase.REPLAYING
            self._position = start
        else:
            self._go_live(start)

    def give_up_replay(self, first: Sequence[Message]) -> None:
        """Go on from now, beginning with what is given: what it was to read from the log is gone."""
        if self._phase is _Phase.REPLAYING:
            self._go_live([*(self._page or ()), *first])
            self.hand_back()

    def leave(self) -> None:
        """Unregister, as leaving the context does. There is no checkpoint in it."""
        self._stop(_Phase.LEFT)

    def end(self) -> None:
        """End it for its reader, who is first given what is queued."""
        self._stop(_Phase.ENDED)

    async def __aenter__(self) -> Subscription:
        self.enter()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.leave()

    def _go_live(self, first: Sequence[Message] = ()) -> None:
        self._registry.go_live(self)
        self._phase = _Phase.LIVE
        if first:
            self._page = deque(first)
        if self.on_live is not None:
            self.on_live()

    def change(self, topics: tuple[str, ...]) -> None:
        """Take other topics from now on, where it is live; what is queued stays so.

        Call it by way of `Hub.when_settled`: amid a batch, a state's snapshot could come before older events.
        """
        if self._phase is _Phase.LIVE:
            first = self._registry.change(self, topics)
            self.topics = topics
            if first:
                self._enqueue(Batch(first))

    def _stop(self, phase: _Phase) -> None:
        if self._phase not in _OVER:
            self._registry.leave(self)
        self._phase = phase
        if phase is not _Phase.ENDED:
            self._queue = self._page = None
        self._writer = None
        self._wake()

    # The pump's side

    def deliver(self, batch: Batch, now: float) -> None:
        """Write a batch to the transport, or queue it for the task. Called for live subscriptions."""
        writer = self._writer
        if writer is not None and writer.pending is None:
            if not writer.send_nowait(batch.framed(writer.framing), batch.count, now):
                self.hand_back()
            return
        if self._phase is _Phase.LIVE:  # it may have been left since the pump took the subscribers
            self._enqueue(batch)

    def _enqueue(self, batch: Batch) -> None:
        if self._queue is None:
            self._queue = make_queue(self.overflow, *self._queue_bounds)
        try:
            for message in batch.messages:
                self._dropped += self._queue.put(message)
        except QueueFull:
            self.cut_off()
        else:
            self.hand_back()

    def cut_off(self) -> None:
        """End it as overflowed: it can't be given what comes next, and nothing may be left out silently."""
        self._stop(_Phase.OVERFLOWED)
        if self.on_overflow is not None:
            self.on_overflow()

    def hand_back(self) -> None:
        """Give the write side to the task."""
        self._writer = None
        self._wake()

    def _wake(self) -> None:
        if self._task is not None:
            trio.lowlevel.reschedule(self._task)
            self._task = None

    # The reading task's side

    def take(self) -> Sequence[Message]:
        """Give the next page of messages, in order. None: it is live with nothing queued, or over."""
        page = self._take_replayed()
        if not page and self._queue is not None:
            page = take_page(self._queue)
            if not self._queue:
                self._queue = None
        return page

    def _take_replayed(self) -> Sequence[Message]:
        if self._page is not None:
            page, self._page = list(self._page), None
            return page
        if self._phase is not _Phase.REPLAYING:
            return ()
        newest: dict[tuple[str, str | None], Message] = {}
        while self._phase is _Phase.REPLAYING:
            found = self._registry.read(self._position, self.topics)
            if isinstance(found, list):
                self._go_live()
                return found
            page, self._position = found
            if not page:
                self._go_live()
            elif self.pace is None or self.pace.keeps_all or self._registry.has_states(self.topics):
                return page
            for message in page:
                newest.pop((message.topic, message.key), None)
                newest[message.topic, message.key] = message
            if len(newest) >= self._queue_bounds[0]:
                break
        return list(newest.values())

    def check_entered(self) -> None:
        """Raise `trio.ClosedResourceError` unless its context has been entered and not been left."""
        if self._phase in (_Phase.NEW, _Phase.LEFT):
            raise trio.ClosedResourceError("use a subscription inside its own `async with`")

    async def forward_to(self, writer: Writer) -> None:
        """Let the pump write to `writer` itself; return when the task has something to do again.

        Call it only when `take` gave nothing and nothing is pending in `writer`, without a checkpoint
        in between. When it returns, or is cancelled, the write side is the task's again.
        """
        if self._task is not None:
            raise self._busy()
        self._writer = writer
        self._task = trio.lowlevel.current_task()
        try:
            await trio.lowlevel.wait_task_rescheduled(self._abort_wait)
        finally:
            self._writer = None

    async def wait(self) -> None:
        """Wait until something is queued, something is pending in the writer, or all is over."""
        if self._task is not None:
            raise self._busy()
        self._task = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._abort_wait)

    def _busy(self) -> trio.BusyResourceError:
        return trio.BusyResourceError("another task is waiting for an event of this subscription")

    def _abort_wait(self, raise_cancel: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> ServerSentEvent:
        await trio.lowlevel.checkpoint_if_cancelled()
        while (message := self._next()) is None:
            if self._phase is _Phase.ENDED:
                raise StopAsyncIteration
            await self.wait()
        await trio.lowlevel.cancel_shielded_checkpoint()
        return message.event

    def _next(self) -> Message | None:
        self.check_entered()
        if self._page is None and (page := self._take_replayed()):
            self._page = deque(page)
        if self._page is not None:
            message = self._page.popleft()
            self._page = self._page or None
            return message
        if self._phase is _Phase.OVERFLOWED:
            events, size = self._queue_bounds
            raise SlowConsumer(f"the reader fell more than {events} events or {size} bytes behind")
        if self._queue is None:
            return None
        message = self._queue.pop()  # one only: what still waits may yet be replaced or dropped
        self._queue = self._queue if self._queue else None
        return message
