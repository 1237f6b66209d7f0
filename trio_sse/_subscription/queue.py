"""The bounded queue of a subscription whose reader lags, under one of four overflow policies.

The queue holds references to messages that all readers share, so a burst that outruns every reader costs
its own size once. Both bounds hold at all times, except that an empty queue accepts a message larger than the
byte bound.

A `reset` is never dropped. Under the policies that drop events, it replaces whatever waits, because its
reader loads everything anew, and it does not count for the bounds.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import Protocol, final

from .._log.memory import PAGE_BYTES, PAGE_EVENTS
from .._wire.message import Message


@final
class Overflow(Enum):
    """What happens when a subscription's queue is full."""

    DISCONNECT = "disconnect"
    """End the subscription. The client reconnects with its `Last-Event-ID` and receives what it missed, so
    nothing is lost."""

    DROP_OLDEST = "drop_oldest"
    """Drop the event that has waited longest."""

    DROP_NEWEST = "drop_newest"
    """Drop the event that was just published."""

    LATEST = "latest"
    """Keep only the newest event of each topic and key while the reader lags. If there are more keys than
    the bounds allow, the subscription ends as with `DISCONNECT`."""


class QueueFull(Exception):
    """A message does not fit, and the policy allows none to be dropped."""


class Queue(Protocol):
    """What the policies have in common."""

    @property
    def size(self) -> int:
        """The bytes of all messages in it."""

    def __len__(self) -> int: ...

    def put(self, message: Message) -> int:
        """Add a message and return how many were dropped for it, or raise `QueueFull`."""

    def pop(self) -> Message:
        """Remove and return the first message; there must be one."""


def make_queue(overflow: Overflow, max_events: int, max_bytes: int) -> Queue:
    """Return an empty queue under this policy."""
    if overflow is Overflow.DISCONNECT:
        return _FifoQueue(overflow, max_events, max_bytes)
    if overflow is Overflow.LATEST:
        return _ResetKeepingQueue(_LatestQueue(max_events, max_bytes))
    return _ResetKeepingQueue(_FifoQueue(overflow, max_events, max_bytes))


def take_page(queue: Queue) -> list[Message]:
    """Remove and return the first messages, a page at most; there must be one."""
    page = [queue.pop()]
    size = len(page[0].wire)
    while queue and len(page) < PAGE_EVENTS and size < PAGE_BYTES:
        page.append(queue.pop())
        size += len(page[-1].wire)
    return page


def take_run(messages: deque[Message]) -> list[Message]:
    """Remove and return the first messages that are written together, a page at most; there must be one."""
    run = [messages.popleft()]
    size = len(run[0].wire)
    while messages and not (run[0].shares_frames or messages[0].shares_frames):
        if len(run) == PAGE_EVENTS or size >= PAGE_BYTES:
            break
        run.append(messages.popleft())
        size += len(run[-1].wire)
    return run


@final
class _ResetKeepingQueue:
    """A queue under a policy that drops events: a reset empties it, and stays the first in it."""

    __slots__ = ("_queue", "_reset")

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._reset: Message | None = None

    def __len__(self) -> int:
        return len(self._queue) + (self._reset is not None)

    @property
    def size(self) -> int:
        return self._queue.size + (0 if self._reset is None else len(self._reset.wire))

    def put(self, message: Message) -> int:
        if not message.is_reset:
            return self._queue.put(message)
        dropped = len(self._queue)
        while self._queue:
            self._queue.pop()
        self._reset = message
        return dropped

    def pop(self) -> Message:
        if self._reset is None:
            return self._queue.pop()
        message, self._reset = self._reset, None
        return message


@final
class _FifoQueue:
    __slots__ = ("_max_bytes", "_max_events", "_messages", "_overflow", "size")

    def __init__(self, overflow: Overflow, max_events: int, max_bytes: int) -> None:
        self.size = 0
        self._overflow = overflow
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._messages: deque[Message] = deque()

    def __len__(self) -> int:
        return len(self._messages)

    def _is_full_for(self, size: int) -> bool:
        messages = self._messages
        return bool(messages) and (len(messages) >= self._max_events or self.size + size > self._max_bytes)

    def put(self, message: Message) -> int:
        size = len(message.wire)
        dropped = 0
        while self._is_full_for(size):
            if self._overflow is Overflow.DISCONNECT:
                raise QueueFull
            if self._overflow is Overflow.DROP_NEWEST:
                return 1
            self.pop()
            dropped += 1
        self._messages.append(message)
        self.size += size
        return dropped

    def pop(self) -> Message:
        message = self._messages.popleft()
        self.size -= len(message.wire)
        return message


@final
class _LatestQueue:
    __slots__ = ("_max_bytes", "_max_events", "_messages", "size")

    def __init__(self, max_events: int, max_bytes: int) -> None:
        self.size = 0
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._messages: dict[tuple[str, str | None], Message] = {}

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, message: Message) -> int:
        size = len(message.wire)
        # Out and in again rather than in place: the newest goes last, so ids only grow.
        replaced = self._messages.pop((message.topic, message.key), None)
        if replaced is not None:
            self.size -= len(replaced.wire)
        if self._messages and (len(self) >= self._max_events or self.size + size > self._max_bytes):
            raise QueueFull
        self._messages[message.topic, message.key] = message
        self.size += size
        return 0 if replaced is None else 1

    def pop(self) -> Message:
        message = self._messages.pop(next(iter(self._messages)))
        self.size -= len(message.wire)
        return message
