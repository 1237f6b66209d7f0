"""A hub's window on a shared log: the log's newest messages, in memory.

Replay and live traffic meet in the window as they do in the in-memory log. `LogFollower` keeps it in step
with the log. Its positions are the entries' numbers.

The window holds messages by topic, so a quiet topic's may be older than others that are gone. It also knows
the ids of the log's newest entries, whether it still holds their messages or not.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Collection
from typing import final

from .._log.memory import Gap, MemoryLog, Page
from .._log.retention import RetentionRules
from .._log.topic_log import Losses, TopicLog
from .._wire.message import Message
from .entry_id import parse_id
from .protocol import Entry


@final
class Window(MemoryLog):
    """The newest messages of a shared log.

    Attributes:
        restarts: how often it was emptied, since the log's continuity was lost.
    """

    __slots__ = ("_hashes", "_ids", "_last_id", "restarts")

    def __init__(self, *, max_events: int, max_bytes: int, retention: RetentionRules | None = None) -> None:
        super().__init__(max_events=max_events, max_bytes=max_bytes, retention=retention)
        # Of the newest entries, whose numbers have no holes: their ids, and the hashes of their records.
        self._ids: deque[tuple[int, int]] = deque(maxlen=max_events)
        self._hashes: deque[int] = deque(maxlen=max_events)
        self.restarts = 0
        self.restart("0", 0, "0-0")

    def restart(self, epoch: str, number: int, last_id: str) -> None:
        """Empty the window and continue after the entry with this number."""
        self.restarts += 1
        self.epoch = epoch
        self.last = number
        self._last_id = last_id
        self._newest_loss = (number, last_id)
        self._losses = Losses(self._newest_loss, self._max_events)
        self._by_topic.clear()
        self._oldest.clear()
        self._aging.clear()
        self._ids.clear()
        self._hashes.clear()
        self._events = self._size = 0

    def put(self, entry: Entry, message: Message | None) -> None:
        """Add the next entry; `message` is `None` if its record is corrupt."""
        self.last = entry.number
        self._last_id = entry.id
        first, _, second = entry.id.partition("-")
        self._ids.append((int(first), int(second)))
        self._hashes.append(hash(entry.record))
        if message is not None:
            message.place(entry.number, entry.id)
            self._keep(message)

    def holds_record(self, number: int, record: bytes) -> bool:
        """Whether the window knows the entry with this number, and it was made of this record."""
        return self._hash_of(number) == hash(record)

    def contradicts(self, number: int, record: bytes) -> bool:
        """Whether the window knows the entry with this number, and it was made of another record."""
        known = self._hash_of(number)
        return known is not None and known != hash(record)

    def continues(self, page: Page) -> bool:
        """Whether the window has what follows a page that was read from the log, of the same log.

        The log may have lost entries since the window read it, and have others with their numbers. So the two
        must have an entry in common; entries that contradict the window are on no page.
        """
        if page.position > self.last - len(self._ids) or page.position == self.last:
            return True
        return any(self._has(message) for message in page.messages[-1:])

    def _has(self, message: Message) -> bool:
        topic = self._by_topic.get(message.topic)
        parsed = parse_id(message.id)
        return topic is not None and parsed is not None and _number_in(topic, parsed) == message.sequence

    def _hash_of(self, number: int) -> int | None:
        index = number - self.last + len(self._hashes) - 1
        return self._hashes[index] if 0 <= index < len(self._hashes) else None

    def first_id(self, topics: Collection[str]) -> str:
        return self._newest_loss_of(topics)[1]

    @property
    def last_id(self) -> str:
        return self._last_id

    def position_of(self, event_id: str, topics: Collection[str]) -> int | Gap:
        """Return the position of an id that a reader of these topics has, or the gap if it is not known.

        An id between those of two entries has no position: the log may have lost its entry.
        """
        if event_id == self._last_id:
            return self.last
        parsed = parse_id(event_id)
        if parsed is None:
            return Gap.UNKNOWN
        index = bisect_right(self._ids, parsed) - 1
        if index >= 0 and self._ids[index] == parsed:
            return self.last - len(self._ids) + 1 + index
        for position, id in (self._newest_loss, *map(self._loss_of, topics)):
            if event_id == id:
                return position
        for name in topics:
            topic = self._by_topic.get(name)
            if topic is not None and (number := _number_in(topic, parsed)) is not None:
                return number
        is_foreign = parsed < (int(self.epoch), 0) or self._is_after_last(parsed)
        return Gap.UNKNOWN if is_foreign else Gap.EXPIRED

    def is_ahead(self, event_id: str) -> bool:
        """Whether an id is after all that this hub has read; another hub may have read on further."""
        parsed = parse_id(event_id)
        return parsed is not None and self._is_after_last(parsed)

    def _is_after_last(self, parsed: tuple[int, int]) -> bool:
        return parsed > (parse_id(self._last_id) or (0, 0))


def _order_of(message: Message) -> tuple[int, int]:
    return parse_id(message.id) or (0, 0)


def _number_in(topic: TopicLog, parsed: tuple[int, int]) -> int | None:
    index = bisect_left(topic.messages, parsed, key=_order_of)
    if index < len(topic.messages) and _order_of(topic.messages[index]) == parsed:
        return topic.messages[index].sequence
    return None
