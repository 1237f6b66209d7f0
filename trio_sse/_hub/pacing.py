"""Fewer updates for those who don't need each: groups of subscriptions, written to once in an interval.

All live subscriptions with the same topics and the same interval are one group. What is published is kept by
the group, not by each of them; when the interval is over, it is joined to one batch that all members are
given, in the way that the pump gives it: one encoding, and a direct write to whoever keeps up. So ten
thousand dashboards that are updated once a second cost what a broadcast once a second costs, whatever is
published in between.

A group keeps the newest event of each topic and key (`interval`), or all of them (`batch`). The first event
after a quiet time goes out at once, and the last one always does. As a flush takes all that waits, in the
order of ids, ids only grow on every connection.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol, final

import trio

from .._wire.message import Batch, Message
from .state import State

# A batch that waits is written early if it has grown as large as the pump's own.
_MOST_EVENTS = 256
_MOST_BYTES = 64 * 1024

_WRITES_PER_CHECKPOINT = 100


class Pace(NamedTuple):
    """How often a subscription is to be written to.

    Attributes:
        seconds: at most once in this time.
        keeps_all: nothing is left out; otherwise the newest of each topic and key is kept.
    """

    seconds: float
    keeps_all: bool


class Member(Protocol):
    """A subscription, to its group."""

    def deliver(self, batch: Batch, now: float) -> None:
        """Write a batch, or queue it."""

    def cut_off(self) -> None:
        """End it, since it can't be given what comes next."""


@final
class PacedGroup:
    """Live subscriptions that are written to together; to the pump, it is one subscription.

    Attributes:
        due: when it may be flushed, in Trio's time; meaningless while nothing waits.
    """

    def __init__(self, pace: Pace, schedule: Schedule, states: Sequence[State]) -> None:
        """Make an empty group; `states` are those of its topics that are states."""
        self.due = -float("inf")
        # What its members have of each state: where only the newest counts, all changes become one.
        self._states = {} if pace.keeps_all else {state.topic: state for state in states}
        self._known = {topic: state.text for topic, state in self._states.items()}
        self._pace = pace
        self._schedule = schedule
        self._members: dict[Member, int] = {}  # and the position from which on each is live
        self._waiting: dict[tuple[str, str | None] | int, Message] = {}
        self._size = 0

    def __len__(self) -> int:
        return len(self._members)

    def __lt__(self, other: PacedGroup) -> bool:
        return self.due < other.due

    @property
    def queued_events(self) -> int:
        """The events that wait for the interval's end."""
        return len(self._waiting)

    def add(self, member: Member, position: int) -> None:
        """Take in a subscription that has been given everything up to `position`."""
        self._members[member] = position

    def restart(self, position: int) -> None:
        """Begin anew at this position, of another log: all have been given what there was."""
        self._members = dict.fromkeys(self._members, position)

    def remove(self, member: Member) -> None:
        """Give no more to a subscription."""
        self._members.pop(member, None)

    # The pump's side

    def deliver(self, batch: Batch, now: float) -> None:
        """Keep what was published until the interval is over."""
        if not self._waiting:
            self.due = max(self.due, now)
            self._schedule.add(self)
        self._schedule.deliveries -= batch.count  # the pump has counted this group as one subscription
        for message in batch.messages:
            self._keep(message)
        if self._pace.keeps_all and (len(self._waiting) >= _MOST_EVENTS or self._size >= _MOST_BYTES):
            self.due = now
            self._schedule.hurry()

    def _keep(self, message: Message) -> None:
        key: tuple[str, str | None] | int
        key = message.sequence if self._pace.keeps_all else (message.topic, message.key)
        # Out and in again rather than in place: the newest goes last, so ids only grow.
        replaced = self._waiting.pop(key, None)
        self._waiting[key] = message
        self._size += len(message.wire) - (0 if replaced is None else len(replaced.wire))

    def cut_off(self) -> None:
        """Do nothing: a defect in one member doesn't concern the others."""

    # The schedule's side

    def flush(self, now: float) -> Iterator[None]:
        """Give each member what waits; yield after each."""
        waiting = list(self._waiting.values())
        self._waiting.clear()
        self._size = 0
        self.due = now + self._pace.seconds
        messages = [self._since_last(message) for message in waiting]
        batch = Batch(messages)
        for member, position in list(self._members.items()):
            if member not in self._members:
                continue  # it was left since
            given = batch
            if position >= messages[0].sequence:  # it has come in the meantime
                given = Batch([self._snapshot(message) for message in waiting if message.sequence > position])
            if given.count:
                self._schedule.deliveries += given.count
                member.deliver(given, now)
            yield

    def _since_last(self, message: Message) -> Message:
        """Give all changes of a state since the last flush, if the message is of one."""
        state = self._states.get(message.topic)
        if state is None:
            return message
        known, self._known[message.topic] = self._known[message.topic], state.text
        return state.changes_since(known, message)

    def _snapshot(self, message: Message) -> Message:
        state = self._states.get(message.topic)
        return message if state is None else state.snapshot(message.sequence, message.id)


@final
class Schedule:
    """Flushes groups when they are due, in one task.

    Attributes:
        turn: held while a group is flushed, and, as long as there are groups, by the pump while it hands out
            what has just been given its ids. So a flush never sees but a part of that.
        groups: how many there are.
        deliveries: events given to members, less those that were given to groups.
    """

    def __init__(self) -> None:
        self.turn = trio.StrictFIFOLock()
        self.groups = 0
        self.deliveries = 0  # beyond those that the pump counts
        self._due: list[PacedGroup] = []  # a heap of those for which something waits
        self._going_out: Iterator[None] = iter(())
        self._changed = trio.lowlevel.ParkingLot()

    def add(self, group: PacedGroup) -> None:
        """Flush a group, which nobody has added since it was flushed last, when it is due."""
        heapq.heappush(self._due, group)
        if self._due[0] is group:
            self._changed.unpark_all()

    def hurry(self) -> None:
        """Take note that a group has become due earlier."""
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
            async with self.turn:
                if not self._due:
                    continue
                self._going_out = heapq.heappop(self._due).flush(trio.current_time())
                for _ in self._going_out:
                    written += 1
                    if written % _WRITES_PER_CHECKPOINT == 0:
                        await trio.lowlevel.checkpoint()

    def finish(self) -> None:
        """Flush all groups for which something waits, as `run` was cancelled and nothing more will come."""
        for _ in self._going_out:
            pass
        due, self._due = self._due, []
        for group in due:
            for _ in group.flush(trio.current_time()):
                pass


def check_pace(interval: float | None, batch: float | None) -> Pace | None:
    """Give the pace that a subscription asks for.

    Raises:
        TypeError, ValueError: there is none such.
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
        return Pace(float(seconds), keeps_all=name == "batch")
    return None
