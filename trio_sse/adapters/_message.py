"""What the protocols of user interfaces have alike: a message of parts that grow, and what comes between."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from .._runs.items import RunEmitted, RunItem, RunOutcome, RunState, RunText
from .._runs.protocol import MAIN_TEXT
from ._numbers import LeftOut
from ._protocol import Payload, ToolCall, Translation, facts_of, json_object, json_or_text


class Part(NamedTuple):
    """A part that grows.

    Attributes:
        name: the run's text in it. What the model thinks takes turns with the main text.
        number: how many parts of this name came before.
    """

    kind: Literal["text", "reasoning"]
    name: str
    number: int

    @property
    def is_further(self) -> bool:
        """Whether it has another text than the main one."""
        return self.name != MAIN_TEXT


class MessageTranslation(Translation, ABC):
    """One run as a message; a protocol says what its parts are.

    Each text has a part that grows, until a tool is called. Texts grow at the same time, and what is thought
    ends with the next piece of the main text.
    """

    shows_further_texts = True

    def __init__(self) -> None:
        self._open: dict[str, Part] = {}  # by name
        self._numbers = Counter[str]()

    def translate(self, item: RunItem | LeftOut) -> Iterator[Payload]:
        """Yield the events that an item becomes."""
        match item:
            case RunText(text=text, name=name):
                yield from self._grow("text", name, text)
            case RunState():
                yield from self.state(item.data)
            case RunEmitted():
                yield from self._emitted(item)
            case RunOutcome():
                yield from self._close_all()
                yield from self.end(item)

    def _emitted(self, item: RunEmitted) -> Iterator[Payload]:
        if (facts := facts_of(item)) is not None:
            yield from self.begin(facts)
        elif item.event == "reasoning":
            yield from self._grow("reasoning", MAIN_TEXT, item.data)
        elif item.event == "tool_call":
            yield from self._close_all()
            yield from self.call(ToolCall.of(item))
        elif item.event == "tool_result":
            yield from self._close_all()
            yield self.result(json_object(item.data))
        else:
            yield self.other(item.event or "message", json_or_text(item.data))

    def _grow(self, kind: Literal["text", "reasoning"], name: str, text: str) -> Iterator[Payload]:
        part = self._open.get(name)
        if part is None or part.kind != kind:
            yield from self._close(name)
            part = self._open[name] = Part(kind, name, self.next_number(name))
            yield from (payload._replace(text=name) for payload in self.opened(part))
        yield self.grown(part, text)._replace(text=name)

    def _close(self, name: str) -> Iterator[Payload]:
        if (part := self._open.pop(name, None)) is not None:
            yield from (payload._replace(text=name) for payload in self.closed(part))

    def _close_all(self) -> Iterator[Payload]:
        for name in list(self._open):
            yield from self._close(name)

    def next_number(self, name: str = MAIN_TEXT) -> int:
        """Return the number of the next part of this name."""
        self._numbers[name] += 1
        return self._numbers[name] - 1

    # What a protocol says

    @abstractmethod
    def begin(self, facts: Mapping[str, Any]) -> Iterator[Payload]:
        """Yield what comes first; `facts` is what the adapter has stored of the request."""

    @abstractmethod
    def opened(self, part: Part) -> Iterator[Payload]:
        """Yield the beginning of a part."""

    @abstractmethod
    def grown(self, part: Part, text: str) -> Payload:
        """Return a piece of a part."""

    @abstractmethod
    def closed(self, part: Part) -> Iterator[Payload]:
        """Yield the end of a part."""

    @abstractmethod
    def call(self, call: ToolCall) -> Iterator[Payload]:
        """Yield the call of a tool."""

    @abstractmethod
    def result(self, result: Mapping[str, Any]) -> Payload:
        """Return what a tool has returned."""

    @abstractmethod
    def other(self, event: str, value: object) -> Payload:
        """Return an event of the application's own."""

    @abstractmethod
    def state(self, state: str) -> Iterator[Payload]:
        """Yield a state of the run, which is JSON; it has no number, since not every client receives each."""

    @abstractmethod
    def end(self, outcome: RunOutcome) -> Iterator[Payload]:
        """Yield how the run has ended; no part grows any more."""
