"""A page of a shared log, as it was read for clients that have missed more than the window holds.

Clients that reconnect together have missed the same events. So a page is kept for a while, and read only once
for all of them; its records are decoded only if somebody receives them, and then shared.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Collection, Sequence
from operator import attrgetter
from typing import final

from .._log.memory import PAGE_BYTES, PAGE_EVENTS, Page
from .._wire.message import Message
from .protocol import Entry
from .record import decode_record, topic_of

_MOST_PAGES = 32
_MOST_BYTES = 4 * 1024 * 1024

_sequence = attrgetter("sequence")


@final
class HistoryPage:
    """Consecutive entries of one epoch.

    Attributes:
        after: the number of the entry before the first one.
        end, end_id: the number and id of the last one; foreign entries may lie between it and the next.
        size: the bytes of its records.
    """

    __slots__ = ("_decoded", "_numbers", "_records", "after", "end", "end_id", "size")

    def __init__(self, after: int, entries: Sequence[Entry], end_id: str) -> None:
        self.after = after
        self.end = after + len(entries)
        self.end_id = end_id
        self.size = sum(len(entry.record) for entry in entries)
        self._numbers = {entry.id: entry.number for entry in entries}
        self._records: dict[str, list[Entry]] = {}  # by topic, until they are decoded
        self._decoded: dict[str, list[Message]] = {}
        for entry in entries:
            topic = topic_of(entry.record)
            if topic is not None:
                self._records.setdefault(topic, []).append(entry)

    def number_of(self, id: str) -> int | None:
        """Return the number of the entry with this id, if it is on the page."""
        return self._numbers.get(id)

    def read(self, position: int, topics: Collection[str]) -> Page:
        """Return the messages of these topics after a position, as many as a page of a replay has."""
        runs = [self._of_topic(topic) for topic in topics if topic in self._records]
        messages: list[Message] = []
        size = 0
        for message in heapq.merge(*runs, key=_sequence):
            if message.sequence <= position:
                continue
            size += len(message.wire)
            if messages and (len(messages) == PAGE_EVENTS or size > PAGE_BYTES):
                return Page(messages, messages[-1].sequence, messages[-1].id)
            messages.append(message)
        return Page(messages, self.end, self.end_id)

    def _of_topic(self, topic: str) -> list[Message]:
        decoded = self._decoded.get(topic)
        if decoded is None:
            decoded = self._decoded[topic] = []
            for entry in self._records[topic]:
                try:
                    message = decode_record(entry.record)
                except Exception:  # a corrupt record, which the follower has logged and skipped
                    continue
                if message.change is not None and not message.change.is_sent:
                    continue
                message.place(entry.number, entry.id)
                decoded.append(message)
            self._records[topic] = []
        return decoded


@final
class HistoryPages:
    """The pages that were read last, bounded in number and in bytes."""

    def __init__(self) -> None:
        self._pages: deque[HistoryPage] = deque()
        self._size = 0

    def find(self, position: int) -> HistoryPage | None:
        """Return a page that continues after this position, if there is one."""
        for page in self._pages:
            if page.after <= position < page.end:
                return page
        return None

    def number_of(self, id: str) -> int | None:
        """Return the number of the entry with this id, if it is on one of the pages."""
        for page in self._pages:
            if (number := page.number_of(id)) is not None:
                return number
        return None

    def add(self, page: HistoryPage) -> None:
        """Keep a page, and drop the oldest ones."""
        self._pages.appendleft(page)
        self._size += page.size
        while len(self._pages) > _MOST_PAGES or (self._size > _MOST_BYTES and len(self._pages) > 1):
            self._size -= self._pages.pop().size

    def clear(self) -> None:
        """Drop all pages."""
        self._pages.clear()
        self._size = 0
