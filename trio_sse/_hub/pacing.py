"""Fewer updates: groups of subscriptions that are written to once in an interval.

All live subscriptions with the same topics and the same throttle are one group. The group, not each of its
members, keeps what is published. When the interval is over, it joins what it has kept and delivers it to all
members as the pump does: one encoding, and a direct write to each member that keeps up. So ten thousand
dashboards that are updated once a second cost what a broadcast once a second costs, whatever is published in
between. Groups that have kept the same, since only their other topics differ, share the encoding, too.

A group keeps the newest event of each topic and key (`interval`), or all events (`batch`). The first event
after a quiet time is sent at once, and the last one is always sent. A flush takes all that waits, in the
order of ids, so ids only grow on every connection.

What waits is bounded: a group that has kept as much as its throttle allows is flushed early, before the pump
delivers anything more; see `flushing`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Protocol, final

from .._containment import cut_off_alone
from .._state.topic import StateTopic
from .._subscription.kept_events import (
    PAGE_BYTES,
    PAGE_EVENTS,
    AllKept,
    Kept,
    NewestKept,
    SharedPages,
    messages_of,
)
from .._subscription.throttle import Throttle
from .._wire.message import Batch, Message
from .write_order import in_write_order


class Subscriber(Protocol):
    """What batches are delivered to: a feed, or a group of them.

    Attributes:
        connection_number: that of the connection which it shares with others, or 0.
    """

    connection_number: int

    def deliver(self, batch: Batch, now: float) -> BegunDelivery | None:
        """Write a batch, or queue it; return what is to be finished before the next checkpoint."""

    def cut_off(self) -> None:
        """End it, since the next event cannot be delivered."""


class BegunDelivery(Protocol):
    """A subscriber for which a batch is encrypted, but not sent yet."""

    def finish_delivery(self, batch: Batch, now: float) -> None:
        """Send the batch."""

    def cut_off(self) -> None:
        """End it, since the next event cannot be delivered."""


def deliver_alone(subscriber: Subscriber, batch: Batch, now: float) -> None:
    """Deliver a batch to one subscriber; what fails there ends nothing else."""
    try:
        begun = subscriber.deliver(batch, now)
        if begun is not None:
            begun.finish_delivery(batch, now)
    except BaseException as failure:
        cut_off_alone(subscriber, failure)


class Scheduler(Protocol):
    """What a group needs of the scheduler that flushes it."""

    deliveries: int

    def add(self, group: ThrottledGroup) -> None:
        """Flush a group when it is due."""

    def hurry(self, group: ThrottledGroup) -> None:
        """Flush a group as soon as possible."""


@final
class ThrottledGroup:
    """Live subscriptions that are written to together; to the pump, they are one subscriber.

    Attributes:
        due: when it may be flushed, in Trio's time; meaningless while nothing waits.
        is_scheduled, is_ready: the scheduler's.
    """

    connection_number = 0

    def __init__(self, throttle: Throttle, scheduler: Scheduler, states: Sequence[StateTopic]) -> None:
        """Make an empty group; `states` are those of its topics that are states."""
        self.due = -float("inf")
        self.is_scheduled = False
        self.is_ready = False
        # What its members have of each state: where only the newest counts, all changes become one.
        self._states = {} if throttle.keeps_all else {state.name: state for state in states}
        self._known = {topic: state.text for topic, state in self._states.items()}
        self._throttle = throttle
        self._scheduler = scheduler
        self._members: dict[Subscriber, int] = {}  # and the position from which on each is live
        self._kept: Kept = AllKept() if throttle.keeps_all else NewestKept()
        self._is_flushing = False

    def __len__(self) -> int:
        return len(self._members)

    @property
    def waiting_events(self) -> int:
        """How many events wait for the interval's end."""
        return self._kept.events

    @property
    def waiting_bytes(self) -> int:
        """The bytes of the events that wait."""
        return self._kept.size

    @property
    def is_settled(self) -> bool:
        """Whether its members have received all that was delivered to it."""
        return not (self._kept.events or self._is_flushing)

    def add(self, member: Subscriber, position: int) -> None:
        """Add a subscription that has received everything up to `position`."""
        self._members[member] = position

    def restart(self, position: int) -> None:
        """Continue at a position of another log: all members have received what there was."""
        self._members = dict.fromkeys(self._members, position)

    def know_again(self, states: Collection[str]) -> None:
        """Record that all members receive these states as they are now."""
        for topic in states:
            if topic in self._states:
                self._known[topic] = self._states[topic].text

    def remove(self, member: Subscriber) -> None:
        """Stop delivering to a subscription."""
        self._members.pop(member, None)
        if not self._members:
            self._kept.take()

    # The pump's side

    def deliver(self, batch: Batch, now: float) -> None:
        """Keep what was published until the interval is over."""
        self._scheduler.deliveries -= batch.count  # the pump has counted this group as one subscriber
        if not self._members:
            return  # the last one has left since the pump listed the subscribers
        kept = self._kept
        if not kept.events:
            self.due = max(self.due, now)
            self._scheduler.add(self)
        kept.keep(batch)
        if kept.events >= self._throttle.most_events or kept.size >= self._throttle.most_bytes:
            self._scheduler.hurry(self)

    def cut_off(self) -> None:
        """Do nothing: a defect in one member does not concern the others."""

    # The scheduler's side

    def flush(self, now: float, shared: SharedPages) -> Iterator[int]:
        """Deliver to each member what waits; yield after each write how many bytes it had."""
        self.due = now + self._throttle.seconds
        if not self._kept.events:
            return
        self._is_flushing = True
        kept = self._kept.take()
        as_snapshots: Callable[[Message], Message] | None = None
        if self._states:
            as_snapshots = self._snapshot
            kept = tuple([self._since_last(message) for message in messages_of(kept)])
        pages = shared.of(kept)
        for page in pages:
            first = page.messages[0].sequence
            for member in in_write_order(self._members):
                position = self._members.get(member)
                if position is None:
                    continue  # it was left since
                own = page
                if position >= first:  # it joined while these were waiting
                    own = _after(position, page, as_snapshots)
                if own.count:
                    self._scheduler.deliveries += own.count
                    deliver_alone(member, own, now)
                yield own.size
        self._is_flushing = False

    def _since_last(self, message: Message) -> Message:
        """Return all changes of a state since the last flush as one, if the message is a state's."""
        state = self._states.get(message.topic)
        if state is None or message.change is None:
            return message
        known, self._known[message.topic] = self._known[message.topic], state.text
        return state.changes_since(known, message)

    def _snapshot(self, message: Message) -> Message:
        state = self._states.get(message.topic)
        if state is None or message.change is None:
            return message
        return state.snapshot(message.sequence, message.id)


def _after(position: int, page: Batch, as_snapshots: Callable[[Message], Message] | None) -> Batch:
    """Return the messages of a page for a member that has received everything up to a position."""
    messages = [message for message in page.messages if message.sequence > position]
    return Batch(messages if as_snapshots is None else [as_snapshots(message) for message in messages])


def check_throttle(
    interval: float | None, batch: float | None, queue_bounds: tuple[int, int]
) -> Throttle | None:
    """Return the throttle that a subscription asks for, or `None` if it asks for none.

    Raises:
        TypeError, ValueError: an option is not acceptable.
    """
    if interval is None and batch is None:  # as in most calls
        return None
    if interval is not None and batch is not None:
        raise ValueError("a subscription has an interval or a batch, not both")
    for name, seconds in (("interval", interval), ("batch", batch)):
        if seconds is None:
            continue
        if isinstance(seconds, bool) or not isinstance(seconds, int | float):
            raise TypeError(f"{name} must be a number of seconds, not {type(seconds).__name__}")
        if not 0.01 <= seconds <= 3600:
            raise ValueError(f"{name} must be 0.01 to 3600 seconds, not {seconds}")
        events, size = _most_waiting(queue_bounds)
        if name == "batch":
            return Throttle(float(seconds), True, min(PAGE_EVENTS, events), min(PAGE_BYTES, size))
        return Throttle(float(seconds), False, events, size)
    return None


def _most_waiting(queue_bounds: tuple[int, int]) -> tuple[int, int]:
    """Return how much may wait so that it fits into the queue of a reader that has caught up.

    A batch of the pump may come on top of it.
    """
    events, size = queue_bounds
    return max(events - PAGE_EVENTS, events // 2, 1), max(size - PAGE_BYTES, size // 2, 1)
