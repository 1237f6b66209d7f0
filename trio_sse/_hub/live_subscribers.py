"""Who is live on each topic."""

from __future__ import annotations

from collections.abc import Collection
from typing import final

from .pacing import Subscriber, ThrottledGroup
from .write_order import in_write_order

# A list is made again when somebody comes or leaves. For few subscribers it is not worth keeping.
_KEPT_FROM = 16


@final
class LiveSubscribers:
    """The live subscribers of all topics."""

    def __init__(self) -> None:
        self._of: dict[str, dict[Subscriber, None]] = {}
        self._listed: dict[str, list[Subscriber]] = {}  # in the order of writing, made on first need

    def __len__(self) -> int:
        """Return how many topics have some."""
        return len(self._of)

    def counts(self) -> list[tuple[str, int]]:
        """Return the topics and how many entries each has; `count` also looks into groups."""
        return [(topic, len(subscribers)) for topic, subscribers in self._of.items()]

    def count(self, topic: str) -> int:
        """Return how many subscriptions are live on a topic, those in groups included."""
        subscribers = self._of.get(topic, {})
        return sum(len(each) if isinstance(each, ThrottledGroup) else 1 for each in subscribers)

    def of(self, topic: str) -> list[Subscriber]:
        """Return the topic's subscribers of this moment. The list does not change later."""
        listed = self._listed.get(topic)
        if listed is None:
            listed = in_write_order(self._of.get(topic, ()))
            if len(listed) >= _KEPT_FROM:
                self._listed[topic] = listed
        return listed

    def add(self, topics: Collection[str], subscriber: Subscriber) -> None:
        """Deliver these topics to a subscriber."""
        for topic in topics:
            self._of.setdefault(topic, {})[subscriber] = None
            self._listed.pop(topic, None)

    def remove(self, topics: Collection[str], subscriber: Subscriber) -> None:
        """Deliver these topics to it no longer."""
        for topic in topics:
            subscribers = self._of.get(topic)
            if subscribers is not None:
                self._listed.pop(topic, None)
                subscribers.pop(subscriber, None)
                if not subscribers:
                    del self._of[topic]
