"""Reading the log for a feed, from where its client resumes until there is nothing more.

The log in memory is read page by page, and is the feed's queue meanwhile: nothing is kept but a page. If the
client has missed more than is in memory, or if that becomes so while it is reading, the pages are those of
the shared log, until memory has the rest. These are fetched by tasks of the hub, while the feed waits.

If nothing but the newest event of each key counts, pages are read without delivering them until the end is
reached, or the feed keeps as much as its throttle allows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import final

from .._shared_log.history import Fetch
from .._wire.held_states import id_holding
from .._wire.message import Batch, Message
from .kept_events import NewestKept
from .source import FetchFrom, ReplayFrom, Source, StartWith
from .throttle import Throttle

_PAGES_AT_ONCE = 8  # of the log, if only the newest of each key counts; some 0.5 ms


@final
class LogReading:
    """A feed's place in the log.

    Args:
        wake: called when a page was fetched.

    Attributes:
        topics: those that are read.
        lacking: those that are not, since snapshots of them follow.
        is_over: there is nothing more to read, or it is lost, and what replaces it was returned.
    """

    __slots__ = (
        "_fetch",
        "_id",
        "_newest",
        "_position",
        "_source",
        "_wake",
        "is_over",
        "lacking",
        "topics",
    )

    def __init__(
        self,
        source: Source,
        topics: tuple[str, ...],
        start: ReplayFrom | FetchFrom,
        wake: Callable[[], None],
    ) -> None:
        self.is_over = False
        self.lacking = start.lacking
        self._source = source
        self.topics = tuple([topic for topic in topics if topic not in start.lacking])
        self._wake = wake
        self._position, self._id = 0, ""  # where to read on in memory
        self._fetch: Fetch | None = None  # where to read on in the shared log
        self._newest: NewestKept | None = None  # what was read, if only the newest of each key counts
        if isinstance(start, ReplayFrom):
            self._position, self._id = start.position, start.id
        else:
            self._fetch = Fetch(start.id, start.position, wake)

    @property
    def can_read_on(self) -> bool:
        """Whether `read_newest` has more to read at once, though it has returned nothing."""
        return self._newest is not None and self._fetch is None

    def request(self) -> None:
        """Have the next page fetched, if it is one of the shared log."""
        if self._fetch is not None:
            self._source.request_fetch(self._fetch)

    def stop(self) -> Sequence[Message]:
        """Read no more; return what was read and not returned yet."""
        if self._fetch is not None:
            self._source.cancel_fetch(self._fetch)
            self._fetch = None
        newest, self._newest = self._newest, None
        return () if newest is None else newest.take()

    def read(self) -> list[Message]:
        """Return the next page; it is empty if it must be requested first, or if this is over."""
        return self._read_memory() if self._fetch is None else self._take_fetched(self._fetch)

    def read_newest(self, throttle: Throttle) -> Sequence[Message]:
        """Read some pages; return the newest of each key when nothing was left out, or they are many.

        As long as there is more to read, nothing is returned.
        """
        kept = self._newest = self._newest or NewestKept()
        for _ in range(_PAGES_AT_ONCE):
            messages = self.read()
            kept.keep(Batch(messages))
            is_full = kept.events >= throttle.most_events or kept.size >= throttle.most_bytes
            if self.is_over or is_full:
                self._newest = None
                return kept.take()
            if not messages and self._fetch is not None:
                break  # a page is to be fetched first
        return ()

    def _read_memory(self) -> list[Message]:
        found = self._source.read(self._position, self._id, self.topics)
        if isinstance(found, StartWith):
            self.is_over = True
            return found.messages
        if isinstance(found, FetchFrom):
            self._fetch = Fetch(found.id, found.position, self._wake)
            return []
        self._position, self._id = found.position, found.id
        self.is_over = not found.messages
        mark = self._source.mark_of(self.topics)
        if not mark:
            return found.messages
        return [message.with_id(id_holding(message.id, mark)) for message in found.messages]

    def _take_fetched(self, fetch: Fetch) -> list[Message]:
        while (found := self._source.take_fetched(fetch, self.topics)) is not None:
            if isinstance(found, StartWith):
                self.is_over = True
                return found.messages
            if found.is_covered:
                self._fetch = None
                self._position, self._id = found.page.position, found.page.id
                return found.page.messages or self._read_memory()
            if found.page.messages:
                return found.page.messages
        return []
