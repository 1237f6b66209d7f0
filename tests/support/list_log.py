"""A shared log in a list, for tests of what a hub does with one: it can be trimmed, broken and cut off."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import trio

from trio_sse import Entry, LogEnd, LogSession, LogUnavailable, ServerSentEvent
from trio_sse._shared_log.record import encode_record
from trio_sse._wire.message import Message


class ListLog:
    """A log whose ids are its epoch and an entry's place in the list.

    Attributes:
        entries: what it has; tests may remove and change them.
        is_away: it cannot be reached.
        takes: how many seconds each read takes.
        unreadable: ids after which reading fails, though the log is there.
        open, most_open: sessions.
        reads: the id and limit of each read that returned something.
    """

    publish_timeout = 5.0

    def __init__(self, epoch: str = "1") -> None:
        self.epoch = epoch
        self.entries: list[Entry] = []
        self.number = 0
        self.is_away = False
        self.takes = 0.0
        self.unreadable: set[str] = set()
        self.open = 0
        self.most_open = 0
        self.reads: list[tuple[str, int]] = []
        self.last: dict[str, int] = {}
        self.changed = trio.lowlevel.ParkingLot()
        self._places = 0

    def add(self, record: bytes) -> Entry:
        self.number += 1
        return self._add(Entry("", self.epoch, self.number, record))

    def add_foreign(self) -> Entry:
        """Add an entry that no hub has appended."""
        return self._add(Entry("", "", 0, b""))

    def _add(self, entry: Entry) -> Entry:
        self._places += 1
        self.entries.append(entry._replace(id=f"{self.epoch}-{self._places}"))
        self.changed.unpark_all()
        return self.entries[-1]

    def publish(self, topic: str, *data: str, key: str | None = None) -> list[str]:
        """Add events as another node does, and return their ids."""
        ids = []
        for text in data:
            message = Message(topic, ServerSentEvent(text), text, key)
            ids.append(self.add(encode_record(message, f"m-{self.number}")).id)
        return ids

    def trim(self, count: int) -> None:
        """Drop all but the newest entries."""
        self.entries = self.entries[-count:] if count else []

    def index_after(self, id: str) -> int:
        """Return where the entries after an id begin."""
        return bisect_right(self.entries, order(id), key=lambda entry: order(entry.id))

    def check(self) -> None:
        if self.is_away:
            raise LogUnavailable("it is away")

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[LogSession]:
        self.check()
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            yield ListSession(self)
        finally:
            self.open -= 1


class ListSession:
    def __init__(self, log: ListLog) -> None:
        self.log = log

    async def tail(self) -> LogEnd:
        self.log.check()
        return LogEnd(self.log.epoch, self.log.number, f"{self.log.epoch}-{self.log._places}")

    async def read_backward(self, upto: str, limit: int) -> Sequence[Entry]:
        await trio.sleep(self.log.takes)
        self.log.check()
        end = self.log.index_after(upto)
        return self.log.entries[max(0, end - limit) : end][::-1]

    async def read(self, after: str, limit: int) -> Sequence[Entry]:
        log = self.log
        deadline = trio.current_time() + 1
        while True:
            await trio.sleep(log.takes)
            log.check()
            if after in log.unreadable:
                raise ValueError("it cannot be read on from there")
            start = log.index_after(after)
            found = log.entries[start : start + limit]
            if found or trio.current_time() >= deadline:
                break
            with trio.move_on_at(deadline):
                await log.changed.park()
        if found:
            log.reads.append((after, limit))
        return found

    async def append(self, publisher: str, records: Sequence[tuple[int, bytes]]) -> None:
        self.log.check()
        for number, record in records:
            if number > self.log.last.get(publisher, 0):
                self.log.last[publisher] = number
                self.log.add(record)


def order(id: str) -> tuple[int, int]:
    first, _, second = id.partition("-")
    return int(first), int(second)
