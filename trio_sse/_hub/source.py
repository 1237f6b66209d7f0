"""Where feeds get their events from: the interface between a feed and the registry of its hub."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, NamedTuple, Protocol

from .._log.memory import Page
from .._wire.cursor import Cursor
from .._wire.message import Message

if TYPE_CHECKING:
    from .feed import Feed


class ReplayFrom(NamedTuple):
    """A feed starts by reading the log from a position."""

    position: int


class StartWith(NamedTuple):
    """A feed starts live, with these messages: none, or a reset and snapshots."""

    messages: list[Message]


class WaitForLog(NamedTuple):
    """A feed cannot start yet; `Feed.start` will be called."""


class Source(Protocol):
    """What a feed needs of its hub; the registry implements it.

    No method has a checkpoint. A feed calls `join` first, `go_live` once at most, `read` only before it and
    `change_topics` only after it, and `leave` last.
    """

    def check_thread(self) -> None:
        """Raise `RuntimeError` if the hub runs in another thread than the caller's."""

    def join(self, feed: Feed) -> ReplayFrom | StartWith | WaitForLog:
        """Register a feed, and return how it starts."""

    def read(self, position: int, topics: Collection[str]) -> Page | StartWith:
        """Return a page of the log after `position`, or what replaces a page that the log has dropped."""

    def has_states(self, topics: Collection[str]) -> bool:
        """Whether some of the topics are states, of whose changes none may be left out."""

    def go_live(self, feed: Feed) -> Cursor:
        """Deliver to a feed from now on; return up to where it has received everything: the log's end."""

    def cursor(self, feed: Feed, position: int, written_at: float) -> Cursor | None:
        """Return the cursor of a live feed that keeps nothing for its reader; see `Progress.cursor`."""

    def change_topics(self, feed: Feed, topics: tuple[str, ...]) -> list[Message]:
        """Deliver other topics to a live feed from now on; return the snapshots of the new ones."""

    def leave(self, feed: Feed) -> None:
        """Forget a feed."""
