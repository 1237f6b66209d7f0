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


#: What changes a run's content; `RunEnd` is the last one.
Change = AppendText | EmitEvent | SetState | RunEnd


@final
class PendingChanges:
    """Changes that wait for the next flush.

    Attributes:
        size: their bytes.
        count: how many calls they come from.
    """

    def __init__(self) -> None:
        self.size = 0
        self.count = 0
        self._changes: list[Change] = []
        self._pieces: list[str] = []  # of one text, which come last
        self._name = ""

    def __bool__(self) -> bool:
        return bool(self._pieces or self._changes)

    def append(self, name: str, piece: str, size: int) -> None:
        """Add a piece of a text, of so many bytes."""
        if name != self._name:
            self._join()
            self._name = name
        self._pieces.append(piece)
        self.size += size
        self.count += 1

    def add(self, change: EmitEvent | SetState | RunEnd, size: int) -> None:
        """Add another change."""
        self._join()
        self._changes.append(change)
        self.size += size
        self.count += 1

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
