"""Fewer updates: groups of subscriptions that are written to once in an interval.

All live subscriptions with the same topics and the same throttle are one group. The group, not each of its
members, keeps what is published. When the interval is over, it joins what it has kept to one batch and
delivers it to all members as the pump does: one encoding, and a direct write to each member that keeps up. So
ten thousand dashboards that are updated once a second cost what a broadcast once a second costs, whatever is
published in between.

A group keeps the newest event of each topic and key (`interval`), or all events (`batch`). The first event
after a quiet time is sent at once, and the last one is always sent. A flush takes all that waits, in the
order of ids, so ids only grow on every connection.

The invariant: a flush never sees a part of a batch. `FlushScheduler.lock` ensures it.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple, Protocol, final

import trio

from .._wire.message import Batch, Message
from .containment import cut_off_alone
from .state_topic import StateTopic

# A group that keeps all is flushed early when it holds as much as a batch of the pump.
_MOST_EVENTS = 256
_MOST_BYTES = 64 * 1024

_WRITES_PER_CHECKPOINT = 100


class Throttle(NamedTuple):
    """How often a subscription is written to.

    Attributes:
        seconds: at most once in this time.
        keeps_all: no event is left out; otherwise only the newest of each topic and key is sent.
    """

    seconds: float
    keeps_all: bool


class Subscriber(Protocol):
    """What batches are delivered to: a feed, or a group of them."""

    def deliver(self, batch: Batch, now: float) -> None:
        """Write a batch, or queue it."""

    def cut_off(self) -> None:
        """End it, since the next event cannot be delivered."""


@final
class ThrottledGroup:
    """Live subscriptions that are written to together; to the pump, they are one subscriber.

    Attributes:
        due: when it may be flushed, in Trio's time; meaningless while nothing waits.
    """

    def __init__(self, throttle: Throttle, scheduler: FlushScheduler, states: Sequence[StateTopic]) -> None:
        """Make an empty group; `states` are those of its topics that are states."""
        self.due = -float("inf")
        # What its members have of each state: where only the newest counts, all changes become one.
        self._states = {} if throttle.keeps_all else {state.name: state for state in states}
        self._known = {topic: state.text for topic, state in self._states.items()}
        self._throttle = throttle
        self._scheduler = scheduler
        self._members: dict[Subscriber, int] = {}  # and the position from which on each is live
        self._waiting: dict[tuple[str, str | bool | None] | int, Message] = {}
        self._size = 0
        self._is_flushing = False

    def __len__(self) -> int:
        return len(self._members)

    def __lt__(self, other: ThrottledGroup) -> bool:
        return self.due < other.due

    @property
    def is_settled(self) -> bool:
        """Whether its members have received all that was delivered to it."""
        return not (self._waiting or self._is_flushing)

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

    # The pump's side

    def deliver(self, batch: Batch, now: float) -> None:
        """Keep what was published until the interval is over."""
        if not self._waiting:
            self.due = max(self.due, now)
            self._scheduler.add(self)
        self._scheduler.deliveries -= batch.count  # the pump has counted this group as one subscriber
        for message in batch.messages:
            self._keep(message)
        if self._throttle.keeps_all and (len(self._waiting) >= _MOST_EVENTS or self._size >= _MOST_BYTES):
            self.due = now
            self._scheduler.reorder()

    def _keep(self, message: Message) -> None:
        key: tuple[str, str | bool | None] | int
        if self._throttle.keeps_all:
            key = message.sequence
        else:  # the event of an ordinary topic does not replace a change of the state that it was
            key = (message.topic, message.key if message.change is None else True)
        # Out and in again rather than in place: the newest goes last, so ids only grow.
        replaced = self._waiting.pop(key, None)
        self._waiting[key] = message
        self._size += len(message.wire) - (0 if replaced is None else len(replaced.wire))

    def cut_off(self) -> None:
        """Do nothing: a defect in one member does not concern the others."""

    # The scheduler's side

    def flush(self, now: float) -> Iterator[None]:
        """Deliver to each member what waits; yield after each."""
        self._is_flushing = True
        waiting = list(self._waiting.values())
        self._waiting.clear()
        self._size = 0
        self.due = now + self._throttle.seconds
        messages = [self._since_last(message) for message in waiting]
        batch = Batch(messages)
        for member, position in list(self._members.items()):
            if member not in self._members:
                continue  # it was left since
            own = batch
            if position >= messages[0].sequence:  # it joined while these were waiting
                own = Batch([self._snapshot(message) for message in waiting if message.sequence > position])
            if own.count:
                self._scheduler.deliveries += own.count
                try:
                    member.deliver(own, now)
                except BaseException as failure:  # as in the pump
                    cut_off_alone(member, failure)
            yield
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


@final
class FlushScheduler:
    """Flushes groups when they are due, in one task.

    Attributes:
        lock: held while a group is flushed, and, as long as there are groups, by the pump while it delivers a
            batch.
        groups: how many there are.
        deliveries: events delivered to members, less those delivered to groups, which the pump has counted.
    """

    def __init__(self) -> None:
        self.lock = trio.StrictFIFOLock()
        self.groups = 0
        self.deliveries = 0
        self._due: list[ThrottledGroup] = []  # a heap of those for which something waits
        self._under_way: Iterator[None] = iter(())
        self._changed = trio.lowlevel.ParkingLot()

    def add(self, group: ThrottledGroup) -> None:
        """Flush a group when it is due; it must not have been added since its last flush."""
        heapq.heappush(self._due, group)
        if self._due[0] is group:
            self._changed.unpark_all()

    def reorder(self) -> None:
        """Reorder the heap, since a group has become due earlier."""
        heapq.heapify(self._due)
        self._changed.unpark_all()

    async def run(self) -> None:
        """Flush groups until cancelled."""
        written = 0
        while True:
            due = self._due[0].due if self._due else float("inf")
            if due > trio.current_time():
                with trio.move_on_at(due):
                    await self._changed.park()
                continue
            async with self.lock:
                if not self._due:
                    continue
                self._under_way = heapq.heappop(self._due).flush(trio.current_time())
                for _ in self._under_way:
                    written += 1
                    if written % _WRITES_PER_CHECKPOINT == 0:
                        await trio.lowlevel.checkpoint()

    def complete(self) -> None:
        """Flush the rest of the group that was being flushed when `run` was cancelled."""
        for _ in self._under_way:
            pass

    def finish(self) -> None:
        """Flush everything that waits, without a checkpoint: `run` was cancelled, or the log has a gap."""
        self.complete()
        due, self._due = self._due, []
        for group in due:
            for _ in group.flush(trio.current_time()):
                pass


def check_throttle(interval: float | None, batch: float | None) -> Throttle | None:
    """Return the throttle that a subscription asks for, or `None` if it asks for none.

    Raises:
        TypeError, ValueError: an option is not acceptable.
    """
    if interval is not None and batch is not None:
        raise ValueError("a subscription has an interval or a batch, not both")
    for name, seconds in (("interval", interval), ("batch", batch)):
        if seconds is None:
            continue
        if isinstance(seconds, bool) or not isinstance(seconds, int | float):
            raise TypeError(f"{name} must be a number of seconds, not {type(seconds).__name__}")
        if not 0.01 <= seconds <= 3600:
            raise ValueError(f"{name} must be 0.01 to 3600 seconds, not {seconds}")
        return Throttle(float(seconds), keeps_all=name == "batch")
    return None
