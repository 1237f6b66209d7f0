"""Event ids, and the bounded in-memory log from which a client that reconnects receives what it missed.

An id is `epoch.sequence`, in characters that need no escaping in a header or a URL. The sequence grows by
one with each event of a hub; the epoch changes whenever continuity is lost, so an id from before the loss
is never mistaken for one from after it. The log's positions are the sequences: the message after position
*n* is the one whose sequence is *n* + 1.

The log holds its messages by topic, and the topics share its bounds fairly. When a bound is exceeded, the
oldest message of the larger of two topics goes: of the one just appended to, or of the one that has the
oldest message. So a busy topic makes room in itself, and the few messages of a quiet one stay.
"""

from __future__ import annotations

import heapq
import math
import re
import secrets
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Collection, Iterator
from enum import Enum
from itertools import islice
from operator import attrgetter
from typing import NamedTuple, final

from .._wire.message import Message
from .retention import RetentionRules
from .topic_log import Loss, Losses, TopicHeap, TopicLog

_ID = re.compile(r"([0-9A-Za-z_~-]{1,32})\.(0|[1-9][0-9]{0,17})", re.ASCII)

# The log is read in pages: a reader that has missed much takes a page, waits until its peer has received it,
# and reads the next one. So what it holds stays small whatever it missed.
PAGE_EVENTS = 256
PAGE_BYTES = 64 * 1024


class Page(NamedTuple):
    """What one read of the log returns.

    Attributes:
        messages: in their order; none if there are no more.
        position, id: where to read on from.
    """

    messages: list[Message]
    position: int
    id: str


@final
class Gap(Enum):
    """Why the log cannot be read on from a position; the value is the reason that a `reset` carries."""

    UNKNOWN = "unknown"
    """The log has never had the id."""

    EXPIRED = "expired"
    """The log has dropped messages that stood after it."""


class MemoryLog:
    """The last messages of a hub, in memory, bounded in events and in bytes.

    Args:
        retention: the topics' own bounds.
        clock: returns the time in seconds, for the bounds on age. Messages that are too old go when something
            is appended or read.

    Attributes:
        last: the sequence of the newest message, 0 before the first.
        evicted: how many messages were dropped.
    """

    __slots__ = (
        "_aging",
        "_by_topic",
        "_clock",
        "_events",
        "_losses",
        "_max_bytes",
        "_max_events",
        "_newest_loss",
        "_oldest",
        "_retention",
        "_size",
        "epoch",
        "evicted",
        "last",
    )

    def __init__(
        self,
        *,
        max_events: int,
        max_bytes: int,
        retention: RetentionRules | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.epoch = secrets.token_hex(4)
        self.last = 0
        self.evicted = 0
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._retention = retention
        self._clock = clock
        self._events = 0
        self._size = 0
        self._by_topic: dict[str, TopicLog] = {}
        self._losses = Losses((0, ""), max_events)
        self._newest_loss = (0, "")
        self._oldest = TopicHeap(_first_sequence)
        self._aging = TopicHeap(_first_expiry)  # only topics with a bound on age

    def __len__(self) -> int:
        return self._events

    @property
    def size(self) -> int:
        """The bytes on the wire of all messages held."""
        return self._size

    @property
    def topics(self) -> int:
        """How many topics have messages in the log."""
        return len(self._by_topic)

    def topic_logs(self) -> Iterator[TopicLog]:
        """Yield the parts of all topics that have messages."""
        yield from list(self._by_topic.values())

    def topic_log(self, name: str) -> TopicLog | None:
        """Return the part of a topic, if it has messages."""
        return self._by_topic.get(name)

    @property
    def topic_names(self) -> list[str]:
        """The topics that have messages in the log."""
        return list(self._by_topic)

    def size_of(self, name: str) -> tuple[int, int]:
        """Return how many messages of a topic are held, and how many bytes."""
        topic = self._by_topic.get(name)
        return (0, 0) if topic is None else (len(topic.messages), topic.size)

    @property
    def last_id(self) -> str:
        """The id of the newest message."""
        return self.id_at(self.last)

    def first_id(self, topics: Collection[str]) -> str:
        """Return the oldest cursor from which these topics can be read without a gap; if none, all topics."""
        return self.id_at(self._newest_loss_of(topics)[0])

    def _newest_loss_of(self, topics: Collection[str]) -> Loss:
        return max(map(self._loss_of, topics)) if topics else self._newest_loss

    def _loss_of(self, name: str) -> Loss:
        topic = self._by_topic.get(name)
        return self._losses.of(name) if topic is None else topic.loss

    def newest(self, topic: str) -> Message | None:
        """Return the newest message of a topic, if there is one."""
        held = self._by_topic.get(topic)
        return held.messages[-1] if held is not None and held.messages else None

    def append(self, message: Message) -> None:
        """Place a message after the newest one, and keep it as long as the bounds allow."""
        self.last += 1
        message.place(self.last, self.id_at(self.last))
        self._keep(message)

    def _keep(self, message: Message) -> None:
        topic = self._by_topic.get(message.topic)
        if topic is None:
            topic = self._add_topic(message)
        size = len(message.wire)
        topic.messages.append(message)
        topic.size += size
        self._size += size
        self._events += 1
        if topic.retention is not None:
            topic.note_expiry(self._clock)
            while topic.exceeds_own_bounds():
                self._drop_first(topic)
        if self._aging:
            self._drop_expired()
        while self._events > self._max_events or self._size > self._max_bytes:
            self._make_room(topic)

    def _add_topic(self, message: Message) -> TopicLog:
        name = message.topic
        retention = self._retention.of(name) if self._retention is not None else None
        topic = self._by_topic[name] = TopicLog(name, self._losses.remove(name), retention)
        self._oldest.add(topic, message.sequence, len(self._by_topic))
        if topic.expiries is not None:
            self._aging.add(topic, -math.inf, len(self._by_topic))
        return topic

    # What goes

    def _make_room(self, appended: TopicLog) -> None:
        """Drop the oldest message of the topic that was appended to, or of that with the oldest message.

        The larger one of the two. A topic's only message stays, unless it exceeds the bound alone.
        """
        if self._events > self._max_events:
            share, total = len(appended.messages), self._events
        else:
            has_more = len(appended.messages) > 1 or appended.size > self._max_bytes
            share, total = appended.size if has_more else 0, self._size
        if 2 * share > total:  # larger than any other
            self._drop_first(appended)
            return
        oldest = self._oldest.first()
        assert oldest is not None
        is_larger = share > (len(oldest.messages) if total is self._events else oldest.size)
        self._drop_first(appended if is_larger else oldest)

    def _drop_expired(self) -> None:
        now = self._clock()
        while (topic := self._aging.first()) is not None and _first_expiry(topic) <= now:
            self._drop_first(topic)

    def _drop_first(self, topic: TopicLog) -> None:
        """Drop a topic's oldest message, and forget the topic if that was its last one."""
        messages = topic.messages
        message = messages.popleft()
        size = len(message.wire)
        topic.size -= size
        self._size -= size
        self._events -= 1
        self.evicted += 1
        topic.loss = loss = (message.sequence, message.id)
        if loss > self._newest_loss:
            self._newest_loss = loss
        if topic.expiries is not None:
            topic.expiries.popleft()
        if not messages:
            del self._by_topic[topic.name]
            self._losses.add(topic.name, loss)

    def renew(self) -> None:
        """Start a new epoch: this log is a copy, and earlier ids belong to the original."""
        self.epoch = secrets.token_hex(4)

    # Reading

    def id_at(self, position: int) -> str:
        """Return the id of a position: the cursor of a reader that has seen everything up to it."""
        return f"{self.epoch}.{position}"

    def position_of(self, event_id: str, topics: Collection[str]) -> int | Gap:
        """Return the position of an id that a reader of these topics has, or the gap if the log has none.

        Whether the log can be read on from there, `covers` says.
        """
        match = _ID.fullmatch(event_id)
        if match is None or match[1] != self.epoch:
            return Gap.UNKNOWN
        position = int(match[2])
        return Gap.UNKNOWN if position > self.last else position

    def is_ahead(self, event_id: str) -> bool:
        """Whether another hub may have placed this id already; never for a log that is not shared."""
        return False

    def covers(self, position: int, topics: Collection[str]) -> bool:
        """Whether the log has all messages of these topics after `position`."""
        if self._aging:
            self._drop_expired()
        return all(self._loss_of(topic)[0] <= position for topic in topics)

    def continues(self, page: Page) -> bool:
        """Whether this log has what follows a page that was read elsewhere; a log that is not shared has."""
        return True

    def read(self, position: int, topics: Collection[str]) -> Page | Gap:
        """Return the next page of these topics' messages after `position`."""
        if not self.covers(position, topics):
            return Gap.EXPIRED
        logs = [self._by_topic[topic].messages for topic in topics if topic in self._by_topic]
        runs = [_after(position, log) for log in logs if log[-1].sequence > position]
        messages: list[Message] = []
        size = 0
        for message in runs[0] if len(runs) == 1 else heapq.merge(*runs, key=_sequence):
            size += len(message.wire)
            if messages and (len(messages) == PAGE_EVENTS or size > PAGE_BYTES):
                return Page(messages, messages[-1].sequence, messages[-1].id)
            messages.append(message)
        return Page(messages, self.last, self.last_id)


_sequence = attrgetter("sequence")


def _first_sequence(topic: TopicLog) -> int:
    return topic.messages[0].sequence


def _first_expiry(topic: TopicLog) -> float:
    assert topic.expiries is not None
    return topic.expiries[0]


def _after(position: int, log: deque[Message]) -> Iterator[Message]:
    return islice(log, bisect_right(log, position, key=_sequence), None)
