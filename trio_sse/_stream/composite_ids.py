"""The ids of a stream on which several subscriptions are forwarded.

One id says how far each subscription is, so a client that is cut at any byte resumes each of them exactly.
The positions of the others change with each event, so the frames of such a stream are its own: the hub does
not write to it directly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from .._subscription.feed import Feed
from .._wire.composite_id import CompositeId, compose
from .._wire.cursor import Cursor
from .._wire.message import Message

# A client may bring positions of subscriptions that its handler has not begun yet. They are kept this long.
PIN_SECONDS = 10.0

# Each of them is in every id that is written meanwhile, and a client may make up as many as a head holds.
MAX_PINNED = 16


@final
class CompositeIds:
    """Makes the ids of one stream.

    Args:
        pinned: the id that the client resumes from, if it is composite.
        until: when its positions are forgotten that no subscription has claimed.
    """

    __slots__ = ("_parked", "_pinned", "_sent", "_until")

    def __init__(self, pinned: CompositeId | None = None, until: float = 0.0) -> None:
        self._parked: dict[Feed, None] = {}
        self._pinned = pinned
        self._until = until
        self._sent = ""

    def park(self, feed: Feed) -> None:
        """Keep the position of a subscription that is still entered, but not forwarded at the moment."""
        self._parked[feed] = None

    def is_needed(self, forwarded: Sequence[Feed], now: float) -> bool:
        """Whether there are positions of more than one subscription."""
        for feed in list(self._parked):
            if feed.is_over or feed in forwarded:
                del self._parked[feed]
        tags = {feed.tag for feed in (*forwarded, *self._parked)}
        if self._pinned is not None and (now >= self._until or self._pinned.own.keys() <= tags):
            self._pinned = None
        return self._pinned is not None or len(forwarded) + len(self._parked) > 1

    def ids_of(
        self, feed: Feed, messages: Sequence[Message], forwarded: Sequence[Feed], written_at: float
    ) -> list[str]:
        """Return the ids of a subscription's messages, which are to be written now."""
        others = self._cursors([other for other in forwarded if other is not feed], written_at)
        tag = feed.tag
        cursors = [Cursor(message.sequence, message.id) for message in messages]
        ids = [compose([(tag, cursor), *others], self._pinned) for cursor in cursors]
        feed.tell(cursors[-1])
        self._sent = ids[-1]
        return ids

    def new_id(self, forwarded: Sequence[Feed], written_at: float) -> str | None:
        """Return the id of the stream as it is now, to be written; `None` if that was written already."""
        id = compose(self._cursors(forwarded, written_at), self._pinned)
        if id == self._sent:
            return None
        self._sent = id
        return id

    def _cursors(self, forwarded: Sequence[Feed], written_at: float) -> list[tuple[str, Cursor]]:
        return [(feed.tag, feed.reached(written_at)) for feed in (*forwarded, *self._parked)]
