"""The search for the values of states in a shared log, from its end backward.

A state's entries are changes that follow one another, and now and then a snapshot. Each names the version
that it follows, so of two hubs that change one version at once, the one whose entry comes first in the log
wins, and every hub sees that. A search must come to the same result without having read what came first. It
therefore starts from a snapshot of which it is certain: one that applies to any version, or one before which
it has read every entry that the snapshot's hub had not read yet. If it took another one, this hub would have
a state of its own from then on, and changes that it confirms would be lost to all others.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NamedTuple, Protocol, final

import trio

from .._wire.message import Message
from .._wire.state_change import ChangeKind, StateChange
from .checks import check_end, check_upto
from .entry_id import id_before
from .protocol import Entry, LogEnd, LogSession
from .record import decode_record, may_change

# This many changes are made again where there is a choice: clients that resume between them need no snapshot.
_ENOUGH = 500

# A state's snapshot is repeated before so many entries have followed it, unless a node keeps more events.
_MOST_ENTRIES = 20_000

# Of so many snapshots, the right one is looked for if none is certain.
_MOST_UNSURE = 50

_PAGE_ENTRIES = 256
_PAGE_BYTES = 1024 * 1024


_CHANGING = (ChangeKind.CHANGE, ChangeKind.SET, ChangeKind.REPEAT, ChangeKind.INITIAL)


class StateEntry(NamedTuple):
    """An entry of a state's topic."""

    entry: Entry
    message: Message


class FoundState(NamedTuple):
    """What a search has found of a state.

    Attributes:
        entries: the state's snapshot and what follows it, oldest first; none if no snapshot is certain.
        is_new: the log has all its entries, and none is a snapshot of the state.
        guess: as `entries`, from a snapshot that may have come too late. It is for when no hub knows better.
    """

    entries: list[StateEntry]
    is_new: bool
    guess: list[StateEntry] = []  # noqa: RUF012  # never changed


class LogStates(Protocol):
    """What a follower needs of the hub's states.

    Attributes:
        losses: how often all states were unloaded. What a search has found from before that is out of date.
    """

    losses: int

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
        self._unsure: list[tuple[int, int]] = []  # snapshots: their indexes, and what their hubs had read
        self._certain: list[int] = []  # the indexes of others

    @property
    def has_snapshot(self) -> bool:
        """Whether a snapshot is certain, so that the search may end."""
        return bool(self._certain)

    @property
    def has_enough(self) -> bool:
        """Whether more entries would not be worth their reading."""
        return self.has_snapshot and len(self._newest_first) >= _ENOUGH

    def note(self, item: StateEntry) -> None:
        """Add an entry that is older than those before."""
        self._newest_first.append(item)
        if is_snapshot(item.message) and not _follows_another_epoch(item):
            index, seen = len(self._newest_first) - 1, _seen_number(item)
            if seen is None:
                self._certain.append(index)
            else:
                self._unsure.append((index, seen))

    def reach(self, number: int) -> None:
        """Record that all entries from this number on were noted."""
        for index, seen in [(index, seen) for index, seen in self._unsure if number <= seen + 1]:
            self._unsure.remove((index, seen))
            if self._came_first(index, seen):
                self._certain.append(index)

    def _came_first(self, index: int, seen: int) -> bool:
        """Whether nothing changed the state between what a snapshot's hub had read and the snapshot."""
        version = _change_of(self._newest_first[index]).base
        for item in self._newest_first[index + 1 :]:
            if item.entry.number <= seen:
                break
            if _change_of(item).base in (None, version):
                return False
        return True

    def _followers(self, index: int) -> int:
        """Return how many entries follow a snapshot, one after the other: none do if it came too late."""
        version, count = _version(self._newest_first[index]), 0
        for item in self._newest_first[:index][::-1]:
            if _change_of(item).base in (None, version):
                version, count = _version(item), count + 1
        return count

    def result(self, *, is_whole: bool) -> FoundState:
        """Return the oldest certain snapshot and what follows it, or guess.

        Args:
            is_whole: all entries of the log were read, and it has dropped none.
        """
        if self._certain:
            return FoundState(self._newest_first[max(self._certain) :: -1], is_new=False)
        newest = self._unsure[:_MOST_UNSURE]
        unsure = [index for index, seen in newest if self._came_first(index, seen)]
        if unsure:
            guess = max(unsure, key=self._followers)
            return FoundState([], is_new=False, guess=self._newest_first[guess::-1])
        # Changes without a snapshot were appended by hubs that had not noticed yet that it was lost.
        return FoundState([], is_new=is_whole)


def _follows_another_epoch(item: StateEntry) -> bool:
    """Whether its hub had not noticed that the log was emptied. Such an entry changes nothing, on any hub."""
    epoch = (_change_of(item).base or "").partition(".")[0]
    return epoch not in ("", item.entry.epoch)


def _version(item: StateEntry) -> str:
    return f"{item.entry.epoch}.{item.entry.number}"


def is_snapshot(message: Message) -> bool:
    """Whether a message of a state has the whole state."""
    return message.unplaced_event.event == "snapshot"


def _change_of(item: StateEntry) -> StateChange:
    change = item.message.change
    assert change is not None
    return change


def _seen_number(item: StateEntry) -> int | None:
    """Return the number of the last entry that a snapshot's hub had read; `None` if it does not matter.

    A hub may have begun the state anew because no other hub has answered in time. That is not certain.
    """
    change, epoch = _change_of(item), item.entry.epoch
    if change.base is None:
        return None
    if not change.base:
        return 0
    numbers = [_number_in(version, epoch) for version in (change.base, change.seen)]
    return max([number for number in numbers if number < item.entry.number], default=0)


def _number_in(version: str, epoch: str) -> int:
    """Return the number of a version; 0 if it is of another epoch."""
    of, _, number = version.partition(".")
    return int(number) if of == epoch and number.isascii() and number.isdigit() and len(number) < 20 else 0


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
    losses = states.losses
    end = check_end(await session.tail())
    upto, reached, limit = end.last, end.number + 1, _PAGE_ENTRIES // 4
    while not all(
        search.has_enough or (search.has_snapshot and end.number - reached >= look_back)
        for search in searches.values()
    ) and end.number - reached < max(look_back, _MOST_ENTRIES):
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
    if losses != states.losses:
        return
    for name, search in searches.items():
        states.load(name, search.result(is_whole=reached == 1), end)


def _note(searches: dict[str, _Search], entry: Entry, skipped: Callable[[Entry, str], None]) -> None:
    try:
        message = decode_record(entry.record)
    except Exception as error:  # whatever another program has put there
        skipped(entry, str(error))
        return
    search = searches.get(message.topic)
    change = message.change
    if search is not None and change is not None and change.kind in _CHANGING:
        search.note(StateEntry(entry, message))
