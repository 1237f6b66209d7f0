"""Who is subscribed to what in a hub, and what those who come back are given first."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import final

from ._event import ServerSentEvent
from ._log import MemoryLog
from ._message import Message
from ._subscription import Subscription


@final
class Subscribers:
    """The hub's subscriptions: all that are registered, and for each topic those that are live."""

    def __init__(self, log: MemoryLog, check_running: Callable[[], None]) -> None:
        self.replayed = 0  # events given from the log
        self.resets = 0
        self._log = log
        self._check_running = check_running
        self._registered: dict[Subscription, None] = {}
        self._live: dict[str, dict[Subscription, None]] = {}

    def __len__(self) -> int:
        return len(self._registered)

    def __iter__(self) -> Iterator[Subscription]:
        return iter(self._registered)

    @property
    def topics(self) -> int:
        """How many topics have live subscribers."""
        return len(self._live)

    def live(self, topic: str) -> list[Subscription]:
        """Give the topic's live subscribers of this moment."""
        return list(self._live.get(topic, ()))

    def join(self, subscription: Subscription, last_event_id: str | None) -> int | Message | None:
        """Register a subscription; see `Registry.join`."""
        self._check_running()
        self._registered[subscription] = None
        if last_event_id is None:
            return None
        position = self._log.position_of(last_event_id)
        if position is None:
            return self._reset("unknown" if self._log.is_foreign(last_event_id) else "expired")
        return position if position < self._log.last else None  # it has missed nothing

    def read(self, position: int, topics: Collection[str]) -> tuple[list[Message], int] | Message:
        """Read a page of the log; see `Registry.read`."""
        found = self._log.read(position, topics)
        if found is None:
            return self._reset("expired")
        self.replayed += len(found[0])
        return found

    def go_live(self, subscription: Subscription) -> None:
        """Add a subscription to its topics' subscribers."""
        for topic in subscription.topics:
            self._live.setdefault(topic, {})[subscription] = None

    def leave(self, subscription: Subscription) -> None:
        """Forget a subscription, and the topics that nobody else is subscribed to."""
        self._registered.pop(subscription, None)
        for topic in subscription.topics:
            subscribers = self._live.get(topic)
            if subscribers is not None:
                subscribers.pop(subscription, None)
                if not subscribers:
                    del self._live[topic]

    def _reset(self, reason: str) -> Message:
        """Make the event that stands for a gap: after it, the client goes on from now."""
        self.resets += 1
        text = f'{{"reason":"{reason}"}}'
        reset = Message("", ServerSentEvent(text, event="reset"), text)
        reset.place(self._log.last, self._log.id_at(self._log.last))
        return reset
