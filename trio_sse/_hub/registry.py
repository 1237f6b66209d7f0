"""Who is subscribed to what in a hub, and what those who come back are given first."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from typing import final

import trio

from .._log.memory import MemoryLog
from .._wire.event import ServerSentEvent
from .._wire.message import Batch, Message
from .pacing import Pace, PacedGroup, Schedule
from .state import State
from .subscription import Subscription

logger = logging.getLogger("trio_sse.hub")


@final
class Subscribers:
    """The hub's subscriptions: all that are registered, and for each topic those that are live."""

    def __init__(self, log: MemoryLog, check_running: Callable[[], None], schedule: Schedule) -> None:
        self.states: dict[str, State] = {}  # by topic
        self.replayed = 0  # events given from the log
        self.resets = 0
        self._log = log
        self._check_running = check_running
        self._registered: dict[Subscription, None] = {}
        self._ahead: dict[Subscription, None] = {}  # their ids are yet to come: another hub was faster
        self._live: dict[str, dict[Subscription | PacedGroup, None]] = {}
        self._groups: dict[tuple[tuple[str, ...], Pace], PacedGroup] = {}
        self._schedule = schedule

    def __len__(self) -> int:
        return len(self._registered)

    def __iter__(self) -> Iterator[Subscription]:
        return iter(self._registered)

    @property
    def topics(self) -> int:
        """How many topics have live subscribers."""
        return len(self._live)

    def live(self, topic: str) -> list[Subscription | PacedGroup]:
        """Give the topic's live subscribers of this moment; those of one pace together count as one."""
        return list(self._live.get(topic, ()))

    def join(self, subscription: Subscription) -> int | list[Message] | None:
        """Register a subscription; see `Registry.join`."""
        self._check_running()
        self._registered[subscription] = None
        last_event_id = subscription.last_event_id
        if last_event_id is None:
            return self._snapshots(subscription.topics)
        if self._log.is_ahead(last_event_id):
            self._ahead[subscription] = None
            return None
        return self._start_of(subscription, last_event_id)

    def ahead(self) -> list[Subscription]:
        """Give those that wait until the log has come to their ids."""
        return list(self._ahead)

    def settle_ahead(self, waited_enough: Collection[object]) -> None:
        """Begin those to whose ids the log has come by now, or which have waited for an id that isn't in
        it."""
        for subscription in list(self._ahead):
            assert subscription.last_event_id is not None
            if subscription in waited_enough or not self._log.is_ahead(subscription.last_event_id):
                del self._ahead[subscription]
                subscription.begin(self._start_of(subscription, subscription.last_event_id))

    def _start_of(self, subscription: Subscription, last_event_id: str) -> int | list[Message]:
        position = self._log.position_of(last_event_id)
        if position is None:
            reason = "unknown" if self._log.is_foreign(last_event_id) else "expired"
            return self._after_gap(subscription.topics, reason)
        return position if position < self._log.last else []  # it has missed nothing

    def read(self, position: int, topics: Collection[str]) -> tuple[list[Message], int] | list[Message]:
        """Read a page of the log; see `Registry.read`."""
        found = self._log.read(position, topics)
        if found is None:
            return self._after_gap(topics, "expired")
        self.replayed += len(found[0])
        return found

    def _snapshots(self, topics: Collection[str]) -> list[Message]:
        """Give the states among topics as they are now."""
        if not self.states:
            return []
        last, id = self._log.last, self._log.id_at(self._log.last)
        return [self.states[topic].snapshot(last, id) for topic in topics if topic in self.states]

    def _after_gap(self, topics: Collection[str], reason: str) -> list[Message]:
        """Give what stands for events that can't be given: a reset, and states as they are now.

        Where all topics are states, these are all that there is to know.
        """
        snapshots = self._snapshots(topics)
        return snapshots if len(snapshots) == len(topics) else [self._reset(reason), *snapshots]

    def has_states(self, topics: Collection[str]) -> bool:
        """Whether some topics are states; see `Registry.has_states`."""
        return bool(self.states) and not self.states.keys().isdisjoint(topics)

    def go_live(self, subscription: Subscription) -> None:
        """Add a subscription to its topics' subscribers."""
        if subscription.pace is None:
            self._add(subscription.topics, subscription)
            return
        group = self._groups.get((subscription.topics, subscription.pace))
        if group is None:
            states = [self.states[topic] for topic in subscription.topics if topic in self.states]
            group = PacedGroup(subscription.pace, self._schedule, states)
            self._schedule.groups += 1
            self._groups[subscription.topics, subscription.pace] = group
            self._add(subscription.topics, group)
        group.add(subscription, self._log.last)

    def change(self, subscription: Subscription, topics: tuple[str, ...]) -> list[Message]:
        """Change a live subscription's topics; see `Registry.change`."""
        assert subscription.pace is None, "those of one pace share their topics"
        added = [topic for topic in topics if topic not in subscription.topics]
        self._remove([topic for topic in subscription.topics if topic not in topics], subscription)
        self._add(added, subscription)
        return self._snapshots(added)

    def leave(self, subscription: Subscription) -> None:
        """Forget a subscription, and the topics that nobody else is subscribed to."""
        self._registered.pop(subscription, None)
        self._ahead.pop(subscription, None)
        if subscription.pace is None:
            self._remove(subscription.topics, subscription)
            return
        group = self._groups.get((subscription.topics, subscription.pace))
        if group is not None:
            group.remove(subscription)
            if not group:
                del self._groups[subscription.topics, subscription.pace]
                self._schedule.groups -= 1
                self._remove(subscription.topics, group)

    def _add(self, topics: Collection[str], subscriber: Subscription | PacedGroup) -> None:
        for topic in topics:
            self._live.setdefault(topic, {})[subscriber] = None

    def _remove(self, topics: Collection[str], subscriber: Subscription | PacedGroup) -> None:
        for topic in topics:
            subscribers = self._live.get(topic)
            if subscribers is not None:
                subscribers.pop(subscriber, None)
                if not subscribers:
                    del self._live[topic]

    def tell_gap(self, reason: str) -> None:
        """Give all subscriptions a reset, but those that are ahead: the log isn't continued."""
        if not self._registered:
            return
        self._schedule.finish()  # what waits for an interval's end came before
        for group in self._groups.values():
            group.restart(self._log.last)
        batch = Batch([self._reset(reason)])
        now = trio.current_time()
        for subscription in list(self._registered):
            if not subscription.is_live:
                subscription.give_up_replay(batch.messages)
            else:
                try:
                    subscription.deliver(batch, now)
                except Exception:  # as in the hub: a defect of one transport must not touch the others
                    logger.exception("delivery failed: %r is cut off", subscription)
                    subscription.cut_off()

    def _reset(self, reason: str) -> Message:
        """Make the event that stands for a gap: after it, the client goes on from now."""
        self.resets += 1
        text = f'{{"reason":"{reason}"}}'
        reset = Message("", ServerSentEvent(text, event="reset"), text)
        reset.place(self._log.last, self._log.id_at(self._log.last))
        return reset
