"""The search for the values of states in a shared log, from its end backward.

A state's entries are changes that follow one another, and now and then a snapshot. Each names the version
that it follows, so of two hubs that change one version at once, the one whose entry comes first in the log
wins, and every hub sees that. A search must come to the same result without having read what came first. It
therefore starts from a snapshot of which it is certain: one that applies to any version, or one between which
and its version it has read every entry.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple, Protocol, final

import trio

from .._wire.message import Message
from .._wire.state_change import ChangeKind
from .checks import check_end, check_upto
from .entry_id import id_before
from .protocol import Entry, LogEnd, LogSession
from .record import decode_record, may_change

# This many changes are made again where there is a choice: clients that resume between them need no snapshot.
_ENOUGH = 500

_PAGE_ENTRIES = 256
_PAGE_BYTES = 1024 * 1024


class StateEntry(NamedTuple):
    """An entry of a state's topic."""

    entry: Entry
    message: Message


class FoundState(NamedTuple):
    """What a search has found of a state.

    Attributes:
        entries: the state's snapshot and what follows it, oldest first; none if there is no snapshot.
        is_new: the log has no entry of the state, or changes of a lost one only.
    """

    entries: list[StateEntry]
    is_new: bool


class LogStates(Protocol):
    """What a follower needs of the hub's states."""

    def unloaded(self) -> Collection[str]:
        """Return the states whose values must be found in the log."""

    async def wait_unloaded(self) -> None:
        """Wait until there are some."""

    def lose(self) -> None:
        """Unload all states: the log has lost continuity."""

    def load(self, name: str, found: FoundState, end: LogEnd) -> None:
        """Load a state, as of the log's end."""


@final
class _Search:
    """The search for one state."""

    def __init__(self) -> None:
        self._newest_first: list[StateEntry] = []
        self._certain_at: int | None = None  # with all entries from this number on, a snapshot is certain
        self._reached: int | None = None

    @property
    def has_snapshot(self) -> bool:
        """Whether a snapshot is certain, so that the search may end."""
        if self._certain_at is None or self._reached is None:
            return False
        return self._reached <= self._certain_at

    @property
    def has_enough(self) -> bool:
        """Whether more entries would not be worth their reading."""
        return self.has_snapshot and len(self._newest_first) >= _ENOUGH

    def note(self, item: StateEntry) -> None:
        """Add an entry that is older than those before."""
        self._newest_first.append(item)
        if self._certain_at is None and is_snapshot(item.message):
            base = _base_number(item)
            self._certain_at = item.entry.number if base is None else base + 1

    def reach(self, number: int) -> None:
        """Record that all entries from this number on were noted."""
        self._reached = number

    def result(self) -> FoundState:
        entries = self._newest_first[::-1]
        snapshots = [index for index, item in enumerate(entries) if is_snapshot(item.message)]
        if not snapshots:
            # Changes without a snapshot were appended by hubs that had not noticed yet that it was lost.
            return FoundState([], is_new=not entries or self._reached == 1)
        certain = [index for index in snapshots if self._is_certain(entries, index)]
        start = min(certain, default=snapshots[0])
        return FoundState(entries[start:], is_new=False)

    def _is_certain(self, entries: Sequence[StateEntry], index: int) -> bool:
        base = _base_number(entries[index])
        if base is None:
            return True
        if self._reached is None or self._reached > base + 1:
            return False
        version = entries[index].message.change
        assert version is not None
        between = [item for item in entries[:index] if item.entry.number > base]
        return all(
            item.message.change is not None and item.message.change.base not in (None, version.base)
            for item in between
        )


def is_snapshot(message: Message) -> bool:
    """Whether a message of a state has the whole state."""
    return message.unplaced_event.event == "snapshot"


def _base_number(item: StateEntry) -> int | None:
    """Return the number of the entry that a snapshot follows; `None` if it applies to any version."""
    change = item.message.change
    assert change is not None
    if change.base is None:
        return None
    epoch, _, number = change.base.partition(".")
    return int(number) if epoch == item.entry.epoch and number.isascii() and number.isdigit() else 0


async def find_states(
    session: LogSession, states: LogStates, *, look_back: int, skipped: Callable[[Entry, str], None]
) -> None:
    """Load the states that are not loaded from what the log has of them.

    Args:
        look_back: read this many entries even if the newest snapshots are newer: a client that resumes from
            an entry after the oldest snapshot that was read need not receive one.
        skipped: called with entries that are corrupt.
    """
    searches = {name: _Search() for name in states.unloaded()}
    if not searches:
        return
    end = check_end(await session.tail())
    upto, reached, limit = end.last, end.number + 1, _PAGE_ENTRIES // 4
    while not all(
        search.has_enough or (search.has_snapshot and end.number - reached >= look_back)
        for search in searches.values()
    ):
        await trio.lowlevel.checkpoint()  # whatever the session does
        entries = check_upto(await session.read_backward(upto, limit), upto)
        if not entries:
            break
        for entry in entries:
            if entry.epoch == end.epoch and entry.number < reached:
                reached = entry.number
                if may_change(entry.record, searches):
                    _note(searches, entry, skipped)
        for search in searches.values():
            search.reach(reached)
        mean = max(1, sum(len(entry.record) for entry in entries) // len(entries))
        limit = max(1, min(_PAGE_ENTRIES, _PAGE_BYTES // mean))
        upto = id_before(entries[-1].id)
    for name, search in searches.items():
        states.load(name, search.result(), end)


def _note(searches: dict[str, _Search], entry: Entry, skipped: Callable[[Entry, str], None]) -> None:
    try:
        message = decode_record(entry.record)
    except Exception as error:  # whatever another program has put there
        skipped(entry, str(error))
        return
    search = searches.get(message.topic)
    change = message.change
    if search is not None and change is not None and change.kind is not ChangeKind.PRESENCE:
        search.note(StateEntry(entry, message))
