"""A hub's window on a shared log: the log's newest messages, in memory.

Replay and live traffic meet in the window as they do in the in-memory log, so a replay reads no other
process. `LogFollower` keeps it in step with the log. Its positions are the entries' numbers.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from operator import attrgetter
from typing import final

from .._wire.message import Message
from .entry_id import parse_id
from .memory import Gap, MemoryLog
from .protocol import Entry

_MOST_CORRUPT = 64

_sequence = attrgetter("sequence")


@final
class Window(MemoryLog):
    """The newest messages of a shared log."""

    __slots__ = ("_corrupt", "_hashes", "_ids", "_last_id", "_start", "_start_id")

    def __init__(self, *, max_events: int, max_bytes: int) -> None:
        super().__init__(max_events=max_events, max_bytes=max_bytes)
        self._ids: deque[tuple[int, int]] = deque()  # of the messages
        self._hashes: deque[int] = deque()  # of their records
        self._corrupt: dict[str, int] = {}  # by id, the numbers of the newest entries that cannot be read
        self.restart("0", 0, "0-0")

    def restart(self, epoch: str, number: int, last_id: str) -> None:
        """Empty the window and continue after the entry with this number."""
        self.epoch = epoch
        self.last = self._start = number
        self._last_id = self._start_id = last_id
        self._messages.clear()
        self._by_topic.clear()
        self._ids.clear()
        self._hashes.clear()
        self._corrupt.clear()
        self._size = 0

    @property
    def start(self) -> int:
        return self._start

    def put(self, entry: Entry, message: Message | None) -> None:
        """Add the next entry; `message` is `None` if its record is corrupt."""
        self.last = entry.number
        self._last_id = entry.id
        if message is None:
            if self._messages:
                self._corrupt[entry.id] = entry.number
                if len(self._corrupt) > _MOST_CORRUPT:
                    del self._corrupt[next(iter(self._corrupt))]
            else:
                self._start, self._start_id = entry.number, entry.id
            return
        message.place(entry.number, entry.id)
        first, _, second = entry.id.partition("-")
        self._ids.append((int(first), int(second)))
        self._hashes.append(hash(entry.record))
        self._keep(message)

    def holds_record(self, number: int, record: bytes) -> bool:
        """Whether the window has the message with this number, made of this record."""
        index = self._index_of(number)
        return index is not None and self._hashes[index] == hash(record)

    def contradicts(self, number: int, record: bytes) -> bool:
        """Whether the window has the message with this number, made of another record."""
        index = self._index_of(number)
        return index is not None and self._hashes[index] != hash(record)

    def _index_of(self, number: int) -> int | None:
        index = bisect_left(self._messages, number, key=_sequence)
        is_held = index < len(self._messages) and self._messages[index].sequence == number
        return index if is_held else None

    def _drop_oldest(self) -> None:
        message = self._messages[0]
        self._ids.popleft()
        self._hashes.popleft()
        self._start, self._start_id = message.sequence, message.id
        super()._drop_oldest()

    def id_at(self, position: int) -> str:
        if position == self.last:
            return self._last_id
        if position == self._start:
            return self._start_id
        index = bisect_left(self._messages, position, key=_sequence)
        return self._messages[index].id

    def position_of(self, event_id: str) -> int | Gap:
        """Return the position of an id, or the gap if the window cannot be read on from there.

        An id between those of two messages has no position: the log may have lost its entry.
        """
        if event_id == self._last_id:
            return self.last
        if event_id == self._start_id:
            return self._start
        parsed = parse_id(event_id)
        if parsed is None:
            return Gap.UNKNOWN
        index = bisect_right(self._ids, parsed) - 1
        if index >= 0 and self._ids[index] == parsed:
            return self._messages[index].sequence
        number = self._corrupt.get(event_id)
        if number is not None and number > self._start:
            return number
        is_foreign = parsed < (int(self.epoch), 0) or self._is_after_last(parsed)
        return Gap.UNKNOWN if is_foreign else Gap.EXPIRED

    def is_ahead(self, event_id: str) -> bool:
        """Whether an id is after all that this hub has read; another hub may have read on further."""
        parsed = parse_id(event_id)
        return parsed is not None and self._is_after_last(parsed)

    def _is_after_last(self, parsed: tuple[int, int]) -> bool:
        return parsed > (parse_id(self._last_id) or (0, 0))
