"""How far a feed's reader is: the cursor from which it would resume without a loss or a repetition.

A cursor never passes an event that was not written to the reader. The reader receives it with each event, or
alone: when the feed goes live, and later with a keepalive, if it has moved.
"""

from __future__ import annotations

import math

from .._wire.composite_id import tag_of
from .._wire.cursor import Cursor, cursor_holding
from .backlog import Backlog
from .phases import AHEAD, LIVE, Phase
from .source import Source
from .throttle import Throttle

FAR = 1 << 62  # a position after all others


class ReaderCursor:
    """The part of a `Feed` that knows how far its reader is.

    It is no object of its own, and has no `__init__`: each stream has a feed, and would pay for both.
    """

    __slots__ = (
        "_backlog",
        "_is_sent",
        "_phase",
        "_reached",
        "_source",
        "last_event_id",
        "mark",
        "throttle",
        "topics",
    )

    topics: tuple[str, ...]
    throttle: Throttle | None
    last_event_id: str | None
    mark: str  # of its states, if its reader has all of them, or else empty; see `held_states`
    _source: Source
    _phase: Phase
    _backlog: Backlog | None  # made when the reader lags, dropped when it has caught up
    _reached: Cursor  # everything up to here was written to the reader; it may have received more
    _is_sent: bool  # the reader has received the id of that position

    @property
    def is_live(self) -> bool:
        """Whether it receives what is published."""
        return self._phase is LIVE

    @property
    def tag(self) -> str:
        """What names it in the ids of a connection that forwards several."""
        return tag_of(self.topics, self.throttle)

    def tell(self, cursor: Cursor) -> None:
        """Record that the reader receives a cursor, or the events up to it."""
        self._reached = cursor
        self._is_sent = True

    def reached(self, written_at: float) -> Cursor:
        """Return the newest position that is known now up to which everything was written to the reader.

        Call it only if all that was taken is written; the last write was at `written_at`.
        """
        if self._phase is LIVE and self._backlog is None:
            cursor = self._source.cursor(self.topics, self.throttle, self._reached.position, written_at)
            if cursor is not None:
                self._reach(cursor_holding(cursor, self.mark) if self.mark else cursor)
        return self._reached

    def unsent_cursor(self) -> Cursor | None:
        """Return the position that the reader has reached, to be sent; `None` if the reader has it.

        Call it only if nothing is left to take. The position may be older than that of `reached`.
        """
        # One that waits for the log has a position only if its reader has brought no id.
        has_place = self._phase is LIVE or (self._phase is AHEAD and self._reached.position < FAR)
        if self._is_sent or not has_place:
            return None
        self._is_sent = True
        return self._reached

    def new_cursor(self, written_at: float) -> Cursor | None:
        """Return the reader's cursor if the reader is live and has not received it yet; see `reached`."""
        cursor = self.reached(written_at)
        return None if self._is_sent or self._phase is not LIVE else cursor

    def first_cursor(self) -> str | None:
        """Return the cursor with which the reader begins; `None` if its first event has one.

        Nothing was written to it yet. While it waits or is replaying, this is the id that it starts from.
        """
        if self._backlog is not None or self._phase is not LIVE:
            return self.last_event_id
        cursor = self.reached(-math.inf)
        self._is_sent = True
        return cursor.id

    def _reach(self, cursor: Cursor) -> None:
        self._is_sent = self._is_sent and cursor.id == self._reached.id
        self._reached = cursor
