"""Where feeds get their events from: the interface between a feed and the registry of its hub."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, NamedTuple, Protocol

from .._log.memory import Page
from .._shared_log.history import Fetch
from .._wire.cursor import Cursor
from .._wire.message import Message
from .throttle import Throttle

if TYPE_CHECKING:
    from .feed import Feed


class ReplayFrom(NamedTuple):
    """A feed starts by reading the log in memory from a position, which has this id.

    Attributes:
        lacking: topics that are not read: snapshots of these states follow.
    """

    position: int
    id: str
    lacking: tuple[str, ...] = ()


class FetchFrom(NamedTuple):
    """A feed starts by reading a shared log itself from an id on, whose position may not be known.

    Attributes:
        lacking: as for `ReplayFrom`.
    """

    id: str
    position: int | None
    lacking: tuple[str, ...] = ()


class Fetched(NamedTuple):
    """What a feed reads of a shared log.

    Attributes:
        page: the messages, and where to read on.
        is_covered: whether the rest can be read from memory.
    """

    page: Page
    is_covered: bool


class StartWith(NamedTuple):
    """A feed starts live, with these messages: none, or a reset and snapshots."""

    messages: list[Message]


#: A feed starts live, with nothing.
START_NOW = StartWith([])


class WaitForLog(NamedTuple):
    """A feed cannot start yet; `Feed.start` will be called.

    Attributes:
        place: from where on it will start, if its reader has brought no id.
    """

    place: Cursor | None


class Source(Protocol):
    """What a feed needs of its hub; the registry implements it.

    No method has a checkpoint. A feed calls `join` first, `go_live` once at most, `read` and `take_fetched`
    only before it and `change_topics` only after it, and `leave` last.
    """

    def check_thread(self) -> None:
        """Raise `RuntimeError` if the hub runs in another thread than the caller's."""

    def join(self, feed: Feed) -> ReplayFrom | FetchFrom | StartWith | WaitForLog:
        """Register a feed, and return how it starts."""

    def read(self, position: int, id: str, topics: Collection[str]) -> Page | FetchFrom | StartWith:
        """Return a page of the log after a position, which has this id.

        If it is no longer in memory, return where to read a shared log itself, or what replaces the page.
        """

    def take_fetched(self, fetch: Fetch, topics: Collection[str]) -> Fetched | StartWith | None:
        """Return what a shared log has at the place of `fetch`, or `None` if it was not read yet."""

    def request_fetch(self, fetch: Fetch) -> None:
        """Let a shared log be read at the place of `fetch`, which is then woken; it may be asked again."""

    def cancel_fetch(self, fetch: Fetch) -> None:
        """Forget what was asked for."""

    def has_states(self, topics: Collection[str]) -> bool:
        """Whether some of the topics are states, of whose changes none may be left out."""

    def go_live(self, feed: Feed) -> Cursor:
        """Deliver to a feed from now on; return up to where it has received everything: the log's end."""

    def mark_of(self, topics: Collection[str]) -> str:
        """Return the mark of the states among these topics; empty if there are none, or one is not known."""

    def snapshots_of(self, topics: Collection[str], held: Collection[str]) -> list[Message]:
        """Return snapshots of the states among the topics, for a reader that has those of `held` already."""

    def cursor(
        self, topics: tuple[str, ...], throttle: Throttle | None, position: int, written_at: float
    ) -> Cursor | None:
        """Return the cursor of a live feed that keeps nothing for its reader; see `Progress.cursor`."""

    def change_topics(self, feed: Feed, topics: tuple[str, ...]) -> list[Message]:
        """Deliver other topics to a live feed from now on; return the snapshots of the new ones."""

    def check_topics_of(self, feed: Feed, topics: Collection[str]) -> None:
        """Raise `ValueError` if a feed must not have these topics."""

    def when_settled(self, act: Callable[[], None]) -> None:
        """Call `act` between two batches; see `HubEngine.when_settled`."""

    def leave(self, feed: Feed) -> None:
        """Forget a feed."""
