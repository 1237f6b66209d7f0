"""What waits for a subscription's reader: what was read of the log, and then what was published.

There is one only while something waits. The first part is not bounded by the queue's bounds, but by those of
a page of the log, or of what a state's snapshots and a throttle may hold.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import final

from .._wire.message import Message
from .queue import Overflow, Queue, make_queue, take_page, take_run


@final
class Backlog:
    """The messages that wait, in order.

    Args:
        page: what was read of the log.
    """

    __slots__ = ("_page", "_queue")

    def __init__(self, page: Iterable[Message] = ()) -> None:
        self._page = deque(page)
        self._queue: Queue | None = None

    def __len__(self) -> int:
        return len(self._page) + (0 if self._queue is None else len(self._queue))

    @property
    def size(self) -> int:
        """The bytes of all messages."""
        size = sum([len(message.wire) for message in self._page])
        return size if self._queue is None else size + self._queue.size

    def put_back(self, messages: Sequence[Message]) -> None:
        """Put messages before all others."""
        self._page.extendleft(reversed(messages))

    def queue(self, overflow: Overflow, bounds: tuple[int, int]) -> Queue:
        """Return the queue of what is published, which is made on first need."""
        if self._queue is None:
            self._queue = make_queue(overflow, *bounds)
        return self._queue

    def take(self) -> Sequence[Message]:
        """Remove and return the first messages, a page at most."""
        if self._page:
            return take_run(self._page)
        return take_page(self._queue) if self._queue else ()

    def take_one(self) -> Message | None:
        """Remove and return the first message, if there is one."""
        if self._page:
            return self._page.popleft()
        return self._queue.pop() if self._queue else None

    def take_all_read(self) -> Sequence[Message]:
        """Remove and return what was read of the log."""
        page, self._page = self._page, deque()
        return page
