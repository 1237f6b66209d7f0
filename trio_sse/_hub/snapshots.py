"""The states of a hub, as its readers receive them: which of them a reader has, and snapshots of the rest."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import final

from .._log.memory import MemoryLog
from .._state.shared_states import SharedStates
from .._state.topic import StateTopic
from .._wire.held_states import id_holding, mark_of, marks_of
from .._wire.message import Message


@final
class Snapshots:
    """The topics that are states, with what their readers have of them.

    Attributes:
        states: the topics that are states.
        shared: the same, if they are over a shared log.
        sent: snapshots that were delivered to a feed.
    """

    def __init__(self, log: MemoryLog) -> None:
        self.states: dict[str, StateTopic] = {}
        self.shared: SharedStates | None = None
        self.sent = 0
        self._log = log

    def among(self, topics: Collection[str]) -> list[str]:
        """Return those of the topics that are states."""
        return [topic for topic in topics if topic in self.states] if self.states else []

    def need_loading(self, topics: Collection[str]) -> bool:
        """Whether some of the topics are states that are not loaded yet."""
        return self.shared is not None and not all(map(self.shared.is_loaded, topics))

    def mark_of(self, topics: Collection[str]) -> str:
        """Return the mark of the states among the topics; empty if there are none, or one is not loaded."""
        states = self.among(topics)
        return "" if not states or self.need_loading(states) else mark_of(self._numbered(states))

    def lacking(self, mark: str, topics: Collection[str]) -> tuple[str, ...]:
        """Return the states among the topics that a reader with this mark may lack, in their order."""
        states = self._in_order(self.among(topics))
        marks = marks_of(self._numbered(states))
        return tuple(states[marks.index(mark) :] if mark in marks else states)

    def of(self, topics: Collection[str], held: Collection[str] = ()) -> list[Message]:
        """Return snapshots of the states among the topics, for a reader that has those of `held` already.

        Those that are not loaded follow later.
        """
        states = self._in_order([topic for topic in self.among(topics) if not self.need_loading([topic])])
        marks = marks_of(self._numbered(states), mark_of(self._numbered(self.among(held))))
        last, id = self._log.last, self._log.last_id
        self.sent += len(states)
        return [
            self.states[topic].snapshot(last, id_holding(id, mark))
            for topic, mark in zip(states, marks[1:], strict=True)
        ]

    def _in_order(self, states: Iterable[str]) -> list[str]:
        """Return states in the order of their snapshots.

        The larger ones come first, so that readers who have other small ones share them. But a reader that
        goes on after a while needs the same order again, so sizes that do not differ much do not count.
        """
        return sorted(states, key=lambda topic: (-(len(self.states[topic].text).bit_length() // 2), topic))

    def _numbered(self, states: Iterable[str]) -> Iterable[str]:
        """Return what names states in marks: one that is closed and declared again is another one.

        Over a shared log it goes on, and all hubs have to name it alike.
        """
        if self.shared is not None:
            return states
        return [f"{topic}\n{self.states[topic].number}" for topic in states]
