"""A state over a shared log, as one hub has it. Each change is an entry, which all hubs read in one order.

The invariant: **whether an entry changes the state depends on the entries before it alone.** An entry names
the version that it follows, and a version is the entry that made it. If another one came first, the entry
changes nothing, on any hub, and the hub that has appended it tries again. So two hubs that change a state at
once lose neither change.

A hub that starts, or has lost continuity, does not know the newest version. The state is not loaded then:
what the hub reads of it is kept aside until a search of the log (`find_states`) has found it.

A log that was emptied has the initial value of the first hub that starts then. The other hubs hold what the
state was before. One of them puts that back, with what was changed since: its entry follows the newest
version as every change does, so only the first one counts. Once anything but changes of members has followed
an initial value, nothing is put back any more.
"""

from __future__ import annotations

import math
from typing import final

import trio

from .._logger import get_logger
from .._shared_log.protocol import Entry, LogEnd
from .._shared_log.state_scan import FoundState, StateEntry, is_snapshot
from .._wire.message import Message
from .._wire.state_change import ChangeKind, StateChange
from .topic import PatchFormat, StateTopic, apply_event

logger = get_logger("trio_sse.hub")

# What is read of a state before it is loaded. If there is more, the search begins anew.
_MOST_ASIDE = 10_000

_SEARCH_AGAIN_SECONDS = 5.0


@final
class StateReplica:
    """One state over a shared log.

    Attributes:
        topic: its topic.
        is_loaded: its newest version is known.
        has_value: it was loaded before, with a value that some hub has set.
        is_initial: it is the initial value of some hub, of which members may have been changed.
        is_asking: the log does not show it any more, so the other hubs are asked for it.
        questions: how often they were.
        version: the newest version: an entry's epoch and number. Empty before the first entry.
        hidden: the numbers of entries that changed nothing, and that the hub's window may have.
        changes: how many entries there were since the last snapshot.
        snapshot_number: the number of the entry with the last snapshot.
        snapshot_at: when that was read, in Trio's time.
        refused_at: when an entry was read that came too late, in Trio's time: several hubs change the state.
        outcomes: of the changes that this hub has made, by token: whether they changed the state.
    """

    def __init__(self, topic: StateTopic, *, is_loaded_late: bool) -> None:
        self.topic = topic
        self.is_loaded = False
        self.has_value = self.is_asking = False
        self.is_initial = True
        self.questions = 0
        self.version: str | None = ""
        self.hidden: set[int] = set()
        self.changes = 0
        self.snapshot_number = 0
        self.snapshot_at = 0.0
        self.refused_at = -math.inf
        self.outcomes: dict[str, bool | None] = {}
        self._place = ("", 0)  # the epoch and number of the newest entry that is part of the state
        self._held: str | None = None  # what it was, and would be, had the log not lost it
        self._held_epoch = ""
        self._was_answered = False
        self._guess: list[StateEntry] = []  # what to load if no other hub answers
        self._aside: list[StateEntry] = []
        self._has_lost_aside = False
        # Whether subscribers may have received entries of it before it was loaded.
        self._is_live = is_loaded_late
        self._searched_at = -_SEARCH_AGAIN_SECONDS

    def lose(self) -> None:
        """Unload it: the newest version is not known."""
        if self.is_loaded and self.has_value and self._held is None:
            self._held, self._held_epoch = self.topic.text, self._place[0]
        self._is_live = self._is_live or self.is_loaded
        self.is_loaded = self.is_asking = False
        self._aside.clear()
        self._has_lost_aside = False

    @property
    def lost(self) -> str | None:
        """The state to put back, which the log has lost; `None` if there is none."""
        return self._held if self.is_loaded and self.is_initial and self.version else None

    def is_unknown_to(self, change: StateChange) -> bool:
        """Whether another hub has begun the state anew, though it had read as far as the newest version."""
        if change.kind is not ChangeKind.INITIAL or change.base or self.is_initial:
            return False
        (seen_epoch, seen), (epoch, number) = _place_of(change.seen), _place_of(self.version or "")
        return seen_epoch == epoch != "" and seen >= number

    def load(self, found: FoundState, end: LogEnd, position: int) -> None:
        """Load it from what a search has found; `position` is the hub's in the log.

        It is not loaded if too much was read meanwhile, or if the other hubs must be asked for it.
        """
        if self._has_lost_aside:
            self._has_lost_aside = False
            return
        self._guess = found.guess
        self.is_asking = not found.entries and not found.is_new
        if self.is_asking:
            self.questions += 1
            return
        has_read = self._is_live or bool(self._aside)
        self.is_loaded = self._is_live = True
        self._searched_at = trio.current_time()
        self._place = (end.epoch, 0)
        self.hidden.clear()
        self.changes, self.snapshot_number = 0, 0
        self.version = "" if found.is_new else None
        self.is_initial = self._held is None
        if found.is_new and self._held is not None:
            self.topic.replace(self._held)
        for entry, message in found.entries:
            if not self._read(entry, message) and message.change is not None:
                self.hidden.add(entry.number)
        self._place = (end.epoch, max(end.number, self._place[1]))
        oldest = found.entries[0].entry.number if found.entries else position
        newest = found.entries[-1].entry.number if found.entries else 0
        # Who resumes from before it receives a snapshot, as not all that follows there is delivered.
        self.topic.since = max(position, newest) if has_read or newest > position else oldest
        aside, self._aside = self._aside, []
        for entry, message in aside:
            if not self._is_included(entry):
                self._read(entry, message)

    def give_up(self, position: int) -> None:
        """Load what the log may have, or else as it was, since no other hub has it."""
        epoch = self._aside[-1].entry.epoch if self._aside else self._place[0]
        self.load(FoundState(self._guess, is_new=not self._guess), LogEnd(epoch, 0, ""), position)

    def read(self, entry: Entry, message: Message) -> bool:
        """Read the next entry of the topic; return whether it changed the state."""
        if not self.is_loaded:
            if is_snapshot(message):
                self.is_asking = False  # another hub has answered, so it is searched for again
            if len(self._aside) >= _MOST_ASIDE:
                self._aside.clear()
                self._has_lost_aside = True
            self._aside.append(StateEntry(entry, message))
            return False
        if self._is_included(entry):
            return False
        return self._read(entry, message)

    def _is_included(self, entry: Entry) -> bool:
        return entry.epoch == self._place[0] and entry.number <= self._place[1]

    def _read(self, entry: Entry, message: Message) -> bool:
        change = message.change
        assert change is not None
        self._place = (entry.epoch, entry.number)
        is_valid = self._follows(change, message) and self._apply(message)
        if change.token in self.outcomes:
            self.outcomes[change.token] = is_valid
        if not is_valid:
            self.refused_at = trio.current_time()
            self._check_missed(entry, change)
            return False
        self.version = f"{entry.epoch}.{entry.number}"
        self._note_origin(entry, message, change)
        self.changes += 1
        if is_snapshot(message):
            self.changes, self.snapshot_number = 0, entry.number
            self.snapshot_at = trio.current_time()
        return True

    def _note_origin(self, entry: Entry, message: Message, change: StateChange) -> None:
        """Record whether the state is still an initial value; keep up what is to be put back."""
        is_whole = is_snapshot(message) or change.kind is ChangeKind.SET
        self.is_initial = change.kind is ChangeKind.INITIAL or (self.is_initial and not is_whole)
        self.has_value = self.has_value or change.kind is not ChangeKind.INITIAL
        is_emptied = self.is_initial and entry.epoch != self._held_epoch
        is_of_members = message.unplaced_event.event == PatchFormat.MERGE.value
        if self._held is not None and is_emptied and is_of_members:
            self._held = apply_event(self._held, message)
        elif not is_emptied or change.kind is not ChangeKind.INITIAL:
            self._held = None

    def _follows(self, change: StateChange, message: Message) -> bool:
        if change.base is None or self.version is None:
            return is_snapshot(message)
        return change.base == self.version

    def _apply(self, message: Message) -> bool:
        try:
            text = apply_event(self.topic.text, message)
        except Exception as error:  # the library's, or of what another program has put there
            logger.error("an entry of the state %r is ignored: %s", self.topic.name, error)
            return False
        self.topic.replace(text)
        return True

    def _check_missed(self, entry: Entry, change: StateChange) -> None:
        """Search anew if the entry follows a version that was not read: something was lost on the way."""
        epoch, number = _place_of(change.base or "")
        if epoch != entry.epoch:
            return
        _, known = _place_of(self.version or "")
        # Or this hub has begun the state anew, and another one, which has it, has answered too late.
        is_answer = change.kind is ChangeKind.REPEAT and self.is_initial and number < self.snapshot_number
        is_missed = known < number < entry.number
        is_soon = trio.current_time() <= self._searched_at + _SEARCH_AGAIN_SECONDS
        if (is_answer and not self._was_answered) or (is_missed and not is_soon):
            self._was_answered = self._was_answered or is_answer
            logger.warning("the state %r is searched for anew: an entry was missed", self.topic.name)
            self.lose()


def _place_of(version: str) -> tuple[str, int]:
    """Return the epoch and number of a version; no epoch if it is none."""
    epoch, _, number = version.partition(".")
    return (epoch, int(number)) if number.isascii() and number.isdigit() and len(number) < 20 else ("", 0)
