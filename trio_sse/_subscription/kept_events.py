"""What a group of throttled subscriptions keeps until its interval is over, and the pages made of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, final

from .._wire.message import Batch, Key, Message

# What was kept is delivered in pages of this size.
PAGE_EVENTS = 256
PAGE_BYTES = 64 * 1024

# As many encodings are kept while groups are flushed one after the other.
_MOST_SHARED = 16

#: What a group has kept, in the order of ids. Groups that have kept the same take equal tuples.
Taken = tuple[Batch, ...] | tuple[Message, ...]


class Kept(Protocol):
    """What a group has kept since its last flush."""

    @property
    def events(self) -> int: ...

    @property
    def size(self) -> int: ...

    def keep(self, batch: Batch) -> None:
        """Keep what is published."""

    def take(self) -> Taken:
        """Remove and return everything, in the order of ids."""


@final
class AllKept:
    """All events, as the batches in which they came, so that keeping them costs nothing for each."""

    __slots__ = ("_batches", "events", "size")

    def __init__(self) -> None:
        self._batches: list[Batch] = []
        self.events = 0
        self.size = 0

    def keep(self, batch: Batch) -> None:
        self._batches.append(batch)
        self.events += batch.count
        self.size += batch.size

    def take(self) -> tuple[Batch, ...]:
        taken = tuple(self._batches)
        self._batches.clear()
        self.events = self.size = 0
        return taken


@final
class NewestKept:
    """The newest event of each topic and key."""

    __slots__ = ("_newest", "size")

    def __init__(self) -> None:
        self._newest: dict[Key, Message] = {}
        self.size = 0

    @property
    def events(self) -> int:
        return len(self._newest)

    def keep(self, batch: Batch) -> None:
        for key, message in batch.newest.items():
            # Out and in again rather than in place: the newest goes last, so ids only grow.
            replaced = self._newest.pop(key, None)
            self._newest[key] = message
            self.size += len(message.wire) - (0 if replaced is None else len(replaced.wire))

    def take(self) -> tuple[Message, ...]:
        taken = tuple(self._newest.values())
        self._newest.clear()
        self.size = 0
        return taken


@final
class SharedPages:
    """The encodings of what was flushed last, for other groups that flush the same."""

    def __init__(self) -> None:
        self._pages: dict[Taken, list[Batch]] = {}

    def of(self, taken: Taken) -> list[Batch]:
        """Return what was kept as pages."""
        pages = self._pages.get(taken)
        if pages is None:
            if len(self._pages) == _MOST_SHARED:
                del self._pages[next(iter(self._pages))]
            pages = self._pages[taken] = list(_paged(taken))
        return pages

    def clear(self) -> None:
        """Forget all of them."""
        self._pages.clear()


def _paged(taken: Taken) -> Iterator[Batch]:
    if len(taken) == 1 and isinstance(taken[0], Batch):
        yield taken[0]  # those who have no interval may have encoded it already
        return
    page: list[Message] = []
    size = 0
    for message in messages_of(taken):
        length = len(message.wire)
        if page and (len(page) == PAGE_EVENTS or size + length > PAGE_BYTES):
            yield Batch(page)
            page, size = [], 0
        page.append(message)
        size += length
    if page:
        yield Batch(page)


def messages_of(taken: Taken) -> Iterator[Message]:
    """Yield what was taken, message by message."""
    for part in taken:
        yield from part.messages if isinstance(part, Batch) else (part,)
