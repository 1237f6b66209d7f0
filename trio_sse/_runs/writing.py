"""What a run's function adds, until it becomes a part of the run's content.

Pieces of one text that follow one another become one. So a model's tokens cost one change of the content, one
entry of a shared log and one write to each viewer for each flush, however many they are.
"""

from __future__ import annotations

from typing import NamedTuple, final

from .content import RunContent
from .status import RunEnd


class AppendText(NamedTuple):
    """A text grows by a piece, in UTF-8."""

    name: str
    piece: bytes


class EmitEvent(NamedTuple):
    """An event is added."""

    event: str | None
    data: str


class SetState(NamedTuple):
    """The state is replaced, by JSON."""

    state: str


class SetCheckpoint(NamedTuple):
    """Another node can resume the run from a value, which is JSON; it is no part of the content."""

    value: str


class Release(NamedTuple):
    """Another node is to resume the run now."""


#: What changes a run; `RunEnd` or `Release` is the last one.
Change = AppendText | EmitEvent | SetState | SetCheckpoint | RunEnd | Release


@final
class PendingChanges:
    """Changes that wait for the next flush.

    Attributes:
        size: their bytes, with those that are held.
        count: how many calls they come from.
    """

    __slots__ = ("_changes", "_held", "_held_count", "_held_size", "_name", "_pieces", "count", "size")

    def __init__(self) -> None:
        self.size = 0
        self.count = 0
        self._changes: list[Change] = []
        self._pieces: list[str] = []  # of one text, which come last
        self._name = ""
        self._held: list[Change] = []  # they are being stored
        self._held_size = self._held_count = 0

    def __bool__(self) -> bool:
        return bool(self._pieces or self._changes or self._held)

    def append(self, name: str, piece: str, size: int) -> None:
        """Add a piece of a text, of so many bytes."""
        if name != self._name:
            self._join()
            self._name = name
        self._pieces.append(piece)
        self.size += size
        self.count += 1

    def add(self, change: EmitEvent | SetState | SetCheckpoint | RunEnd | Release, size: int) -> None:
        """Add another change."""
        self._join()
        self._changes.append(change)
        self.size += size
        self.count += 1

    @property
    def held(self) -> list[Change]:
        """The changes that are being stored."""
        return self._held

    def hold(self) -> list[Change]:
        """Return the changes, in order, to store them; until they are taken, this returns the same ones."""
        if not self._held:
            self._join()
            self._held, self._changes = self._changes, []
            self._held_size, self._held_count = self.size, self.count
        return self._held

    def take_held(self) -> list[Change]:
        """Return the changes that were stored, and forget them."""
        held, self._held = self._held, []
        self.size -= self._held_size
        self.count -= self._held_count
        self._held_size = self._held_count = 0
        return held

    def take(self) -> list[Change]:
        """Return the changes, in order, and forget them."""
        self._join()
        changes, self._changes = self._changes, []
        self.size = self.count = 0
        return changes

    def _join(self) -> None:
        if self._pieces:
            piece = "".join(self._pieces).encode("utf-8", "surrogatepass")
            self._changes.append(AppendText(self._name, piece))
            self._pieces.clear()
        self._name = ""


def apply(content: RunContent, changes: list[Change]) -> None:
    """Make changes a part of a run's content, without a checkpoint."""
    for change in changes:
        match change:
            case AppendText(name, piece):
                content.append(name, piece)
            case EmitEvent(event, data):
                content.emit(event, data)
            case SetState(state):
                content.set_state(state)
            case RunEnd():
                content.finish(change)
            case SetCheckpoint() | Release():
                pass
