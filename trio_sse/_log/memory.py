"""Event ids, and the bounded in-memory log from which a client that reconnects receives what it missed.

An id is `epoch.sequence`, in characters that need no escaping in a header or a URL. The sequence grows by
one with each event of a hub; the epoch changes whenever continuity is lost, so an id from before the loss
is never mistaken for one from after it. The log's positions are the sequences: the message after position
*n* is the one whose sequence is *n* + 1.
"""

from __future__ import annotations

import heapq
import re
import secrets
from bisect import bisect_right
from collections import deque
from collections.abc import Collection, Iterator
from enum import Enum
from operator import attrgetter
from typing import NamedTuple, final

from .._wire.message import Message

_ID = re.compile(r"([0-9A-Za-z_~-]{1,32})\.(0|[1-9][0-9]{0,17})", re.ASCII)

# The log is read in pages: a reader that has missed much takes a page, waits until its peer has received it,
# and reads the next one. So what it holds stays small whatever it missed.
PAGE_EVENTS = 256
PAGE_BYTES = 64 * 1024


class Page(NamedTuple):
    """What one read of the log returns.

    Attributes:
        messages: in their order; none if there are no more.
        position: where to read on from.
    """

    messages: list[Message]
    position: int


@final
class Gap(Enum):
    """Why the log cannot be read on from a position; the value is the reason that a `reset` carries."""

    UNKNOWN = "unknown"
    """The log has never had the id."""

    EXPIRED = "expired"
    """The log has dropped messages that stood after it."""


class MemoryLog:
    """The last messages of a hub, in memory, bounded in events and in bytes."""

    __slots__ = ("_by_topic", "_max_bytes", "_max_events", "_messages", "_size", "epoch", "last")

    def __init__(self, *, max_events: int, max_bytes: int) -> None:
        self.epoch = secrets.token_hex(4)
        self.last = 0  # the sequence of the newest message, 0 before the first
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._messages: deque[Message] = deque()
        # The same by topic: a reader of a quiet topic must not read through a busy one's messages.
        self._by_topic: dict[str, deque[Message]] = {}
        self._size = 0

    def __len__(self) -> int:
        return len(self._messages)

    @property
    def size(self) -> int:
        """The bytes on the wire of all messages held."""
        return self._size

    @property
    def start(self) -> int:
        """The position before the oldest message held: the oldest one that can be resumed from."""
        return self.last - len(self)

    @property
    def last_id(self) -> str:
        """The id of the newest message."""
        return self.id_at(self.last)

    def append(self, message: Message) -> None:
        """Place a message after the newest one, and keep it as long as the bounds allow."""
        self.last += 1
        message.place(self.last, self.id_at(self.last))
        self._keep(message)

    def _keep(self, message: Message) -> None:
        self._messages.append(message)
        self._by_topic.setdefault(message.topic, deque()).append(message)
        self._size += len(message.wire)
        while len(self._messages) > self._max_events or self._size > self._max_bytes:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        message = self._messages.popleft()
        self._size -= len(message.wire)
        of_topic = self._by_topic[message.topic]
        of_topic.popleft()
        if not of_topic:
            del self._by_topic[message.topic]

    def renew(self) -> None:
        """Start a new epoch: this log is a copy, and earlier ids belong to the original."""
        self.epoch = secrets.token_hex(4)

    def id_at(self, position: int) -> str:
        """Return the id of a position: the cursor of a reader that has seen everything up to it."""
        return f"{self.epoch}.{position}"

    def position_of(self, event_id: str) -> int | Gap:
        """Return the position of an id, or the gap if the log cannot be read on from there."""
        match = _ID.fullmatch(event_id)
        if match is None or match[1] != self.epoch:
            return Gap.UNKNOWN
        position = int(match[2])
        if position > self.last:
            return Gap.UNKNOWN
        return position if position >= self.start else Gap.EXPIRED

    def is_ahead(self, event_id: str) -> bool:
        """Whether another hub may have placed this id already; never for a log that is not shared."""
        return False

    def read(self, position: int, topics: Collection[str]) -> Page | Gap:
        """Return the next page of these topics' messages after `position`."""
        if position < self.start:
            return Gap.EXPIRED
        logs = [self._by_topic[topic] for topic in topics if topic in self._by_topic]
        runs = [_after(position, log) for log in logs if log[-1].sequence > position]
        messages: list[Message] = []
        size = 0
        for message in runs[0] if len(runs) == 1 else heapq.merge(*runs, key=_sequence):
            size += len(message.wire)
            if messages and (len(messages) == PAGE_EVENTS or size > PAGE_BYTES):
                return Page(messages, messages[-1].sequence)
            messages.append(message)
        return Page(messages, self.last)


_sequence = attrgetter("sequence")


def _after(position: int, log: deque[Message]) -> Iterator[Message]:
    for index in range(bisect_right(log, position, key=_sequence), len(log)):
        yield log[index]
