"""One topic's part of a log, and which topic holds the log's oldest message.

The invariant: a topic only ever loses its oldest messages. So a reader at a position has missed nothing of a
topic if the newest message that the topic has lost is not after it.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from heapq import heapify, heappop, heappush, heapreplace
from typing import final

from .._wire.message import Message
from .retention import Retention

# Of so many topics without messages, the log knows exactly what they have lost; or of as many as it may have
# messages, if these are fewer.
_MOST_RECORDED = 10_000

# A heap is rebuilt when it has so many entries, and twice as many as there are topics.
_LEAST_REBUILT = 64


#: The newest message that is no longer held, of a topic or of all: its position and id. A plain tuple, since
#: one is made for each message that goes.
Loss = tuple[int, str]


@final
class TopicLog:
    """The messages of a topic, in their order; there is one while the log holds some.

    Attributes:
        size: the bytes on the wire of the messages.
        loss: the newest message that it has lost; or one after it, if that was long ago.
        retention: its own bounds.
        expiries: when each message expires, if there is a bound on their age.
    """

    __slots__ = ("expiries", "loss", "messages", "name", "retention", "size")

    def __init__(self, name: str, loss: Loss, retention: Retention | None) -> None:
        self.name = name
        self.messages: deque[Message] = deque()
        self.size = 0
        self.loss = loss
        self.retention = retention
        self.expiries: deque[float] | None = deque() if retention and retention.age is not None else None

    def note_expiry(self, clock: Callable[[], float]) -> None:
        """Note when the newest message expires, if there is a bound on its age."""
        if self.expiries is not None and self.retention is not None and self.retention.age is not None:
            self.expiries.append(clock() + self.retention.age)

    def exceeds_own_bounds(self) -> bool:
        """Whether it has more than its own bounds allow; its messages' age does not count here."""
        assert self.retention is not None
        events, size = self.retention.events, self.retention.bytes
        return (events is not None and len(self.messages) > events) or (size is not None and self.size > size)


@final
class Losses:
    """What topics without messages have lost.

    It is known exactly for those that lost something not long ago. All others have at most lost what was lost
    by those that it no longer knows of: the `floor`.
    """

    __slots__ = ("_most", "_recorded", "floor")

    def __init__(self, floor: Loss, max_events: int) -> None:
        self.floor = floor
        self._most = min(max_events, _MOST_RECORDED)
        self._recorded: OrderedDict[str, Loss] = OrderedDict()  # a dict is slow to find its first key

    def of(self, topic: str) -> Loss:
        """Return what a topic has lost at most."""
        return self._recorded.get(topic, self.floor)

    def add(self, topic: str, loss: Loss) -> None:
        """Record what a topic has lost."""
        self._recorded[topic] = loss
        if len(self._recorded) > self._most:
            _, oldest = self._recorded.popitem(last=False)
            self.floor = max(self.floor, oldest)

    def remove(self, topic: str) -> Loss:
        """Return what a topic has lost, and forget it: its `TopicLog` knows it from now on."""
        return self._recorded.pop(topic, self.floor)


@final
class TopicHeap:
    """The topics ordered by a number of each that only grows; the order is corrected late where it has grown.

    So a topic that loses message after message, while another has the oldest one, costs nothing.
    """

    __slots__ = ("_entries", "_number")

    def __init__(self, number: Callable[[TopicLog], float]) -> None:
        self._number = number
        self._entries: list[tuple[float, int, TopicLog]] = []

    def __bool__(self) -> bool:
        return bool(self._entries)

    def add(self, topic: TopicLog, number: float, live: int) -> None:
        """Add a topic with its number, or one below it; `live` is how many topics have messages."""
        if len(self._entries) > max(_LEAST_REBUILT, 2 * live):
            self._entries = [
                (self._number(each), id(each), each) for _, _, each in self._entries if each.messages
            ]
            heapify(self._entries)
        heappush(self._entries, (number, id(topic), topic))

    def first(self) -> TopicLog | None:
        """Return the topic with the least number, or `None` if no topic has a message."""
        entries = self._entries
        while entries:
            number, _, topic = entries[0]
            if not topic.messages:
                heappop(entries)
            elif (now := self._number(topic)) != number:
                heapreplace(entries, (now, id(topic), topic))
            else:
                return topic
        return None

    def clear(self) -> None:
        """Remove all topics."""
        self._entries.clear()
