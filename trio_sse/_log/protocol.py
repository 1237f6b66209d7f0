"""What a hub needs of a log that it shares with others, and its own window on it.

Everything published is appended to the shared log and comes back from it, on every node in one order. Each
node keeps the newest part of it in memory, its window, so that replay and live traffic meet in it as they do
in the in-memory log, and a replay asks nobody.

The entries of a log carry its epoch and are numbered from 1 without holes. So a node sees whatever goes
wrong with the log's continuity: another epoch (it was emptied or replaced), a number left out (entries were
dropped before this node had read them) or given again (the log has lost its newest entries). Its subscribers
are then told by a `reset`.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol, final

from .._wire.event import ServerSentEvent
from .._wire.message import Message
from .._wire.topic import check_topic
from .memory import MemoryLog

# Made once: `json.dumps` with options makes one for each call. It is quicker with texts than with a list.
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

_MOST_BROKEN = 64

_ID = re.compile(r"(0|[1-9][0-9]{0,19})-(0|[1-9][0-9]{0,19})", re.ASCII)


class LogUnavailable(Exception):
    """The shared log can't be reached, or doesn't answer in time. Later it may."""


class LogRefused(Exception):
    """The shared log refuses to serve: wrong credentials, say. Trying again won't help."""


class Entry(NamedTuple):
    """An entry of a shared log.

    Attributes:
        id: its id, two whole numbers joined by a hyphen; ids grow.
        epoch: what changes when the log's continuity is lost; a whole number, less than its ids' first part
            or equal to it. Empty for an entry that is none of a hub's.
        number: its place in its epoch, from 1, without holes.
        record: what was appended.
    """

    id: str
    epoch: str
    number: int
    record: bytes


class LogEnd(NamedTuple):
    """Where a log ends.

    Attributes:
        epoch, number: of the newest entry; the number is 0 if there was none in this epoch.
        last: its id; if there is none, or none any more, an id after all that were and before all that will
            come.
    """

    epoch: str
    number: int
    last: str


class LogSession(Protocol):
    """A connection to a shared log, used by one task.

    Each method raises `LogUnavailable` within a bounded time if the log doesn't answer; the session is then
    left for another one.
    """

    async def end(self) -> LogEnd:
        """Tell where the log ends; make it, with an epoch, if there is none."""

    async def read_back(self, upto: str, limit: int) -> Sequence[Entry]:
        """Give the entries up to an id and with it, newest first; none mean that there are no older ones."""

    async def read(self, after: str, limit: int) -> Sequence[Entry]:
        """Give the entries after an id, oldest first; wait a second or so for the first, then give none.

        Fewer than `limit` mean that there were no more.
        """

    async def append(self, publisher: str, records: Sequence[tuple[int, bytes]]) -> None:
        """Append records in their order, all or none; return when they are stored.

        Each has the publisher's number for it, and these grow. What has a number that isn't above the
        publisher's last is stored already, and left out: so an append whose reply was lost can be repeated.
        """


class Log(Protocol):
    """A log that hubs share.

    Attributes:
        publish_timeout: for how many seconds `Hub.publish` waits until its event is stored.
    """

    publish_timeout: float

    def connect(self) -> AbstractAsyncContextManager[LogSession]:
        """Give a session; entering it raises `LogUnavailable` or `LogRefused`."""


def encode_record(message: Message, mark: str) -> bytes:
    """Encode a message for a log, with a mark that tells it from others with the same content."""
    event = message.unplaced_event
    fields = (message.topic, event.data, event.event, message.key, event.retry, mark)
    return f"[{','.join(['null' if field is None else _encode(field) for field in fields])}]".encode()


def decode_record(record: bytes) -> Message:
    """Make a message of a log's record; raises `ValueError` or `TypeError` if it is none."""
    fields = json.loads(record.decode())  # of bytes, it would look for their encoding
    if not isinstance(fields, list) or len(fields) < 5:
        raise ValueError("it is no list of five fields and a mark")
    topic, data, event, key, retry, *_ = fields
    if not isinstance(data, str) or not isinstance(key, str | None):
        raise TypeError("its data or key is no text")
    made = ServerSentEvent(data, event=event, retry=retry)
    return Message(check_topic(topic), made, str(made.data), key)


@final
class Window(MemoryLog):
    """The newest messages of a shared log, in memory. Its positions are the entries' numbers."""

    __slots__ = ("_broken", "_hashes", "_ids", "_last_id", "_start", "_start_id")

    def __init__(self, *, max_events: int, max_bytes: int) -> None:
        super().__init__(max_events=max_events, max_bytes=max_bytes)
        self._ids: deque[tuple[int, int]] = deque()  # of the messages
        self._hashes: deque[int] = deque()  # of their records
        self._broken: dict[str, int] = {}  # numbers, by id, of the newest entries that can't be read
        self.restart("0", 0, "0-0")

    def restart(self, epoch: str, number: int, last_id: str) -> None:
        """Begin anew, empty, after the entry with this number."""
        self.epoch = epoch
        self.last = self._start = number
        self._last_id = self._start_id = last_id
        self._messages.clear()
        self._by_topic.clear()
        self._ids.clear()
        self._hashes.clear()
        self._broken.clear()
        self._size = 0

    @property
    def start(self) -> int:
        return self._start

    def follows(self, entry: Entry) -> bool:
        """Whether an entry is the next one."""
        return entry.epoch == self.epoch and entry.number == self.last + 1

    def put(self, entry: Entry, message: Message | None) -> None:
        """Add the next entry; a `None` message stands for one that can't be read."""
        self.last = entry.number
        self._last_id = entry.id
        if message is None:
            if self._messages:
                self._broken[entry.id] = entry.number
                if len(self._broken) > _MOST_BROKEN:
                    del self._broken[next(iter(self._broken))]
            else:
                self._start, self._start_id = entry.number, entry.id
            return
        message.place(entry.number, entry.id)
        first, _, second = entry.id.partition("-")
        self._ids.append((int(first), int(second)))
        self._hashes.append(hash(entry.record))
        self._keep(message)

    def holds(self, number: int, record: bytes) -> bool | None:
        """Whether the message with this number was made of this record; `None` if there is none."""
        index = bisect_left(self._messages, number, key=lambda message: message.sequence)
        if index == len(self._messages) or self._messages[index].sequence != number:
            return None
        return self._hashes[index] == hash(record)

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
        index = bisect_left(self._messages, position, key=lambda message: message.sequence)
        return self._messages[index].id

    def position_of(self, event_id: str) -> int | None:
        """Give the position that an id names. One between two messages' may be of a log that has lost it."""
        if event_id == self._last_id:
            return self.last
        if event_id == self._start_id:
            return self._start
        parsed = parse_id(event_id)
        if parsed is None:
            return None
        index = bisect_right(self._ids, parsed) - 1
        if index >= 0 and self._ids[index] == parsed:
            return self._messages[index].sequence
        number = self._broken.get(event_id)
        return number if number is not None and number > self._start else None

    def is_ahead(self, event_id: str) -> bool:
        """Whether an id is after all that has come here; another hub may have read on further."""
        parsed = parse_id(event_id)
        return parsed is not None and parsed > (parse_id(self._last_id) or (0, 0))

    def is_foreign(self, event_id: str) -> bool:
        parsed = parse_id(event_id)
        return parsed is None or parsed < (int(self.epoch), 0) or parsed > (parse_id(self._last_id) or (0, 0))


def parse_id(event_id: str) -> tuple[int, int] | None:
    """Give an id's two numbers; `None` if it is none of a log's."""
    match = _ID.fullmatch(event_id)
    return (int(match[1]), int(match[2])) if match else None
