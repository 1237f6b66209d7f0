"""A run's output as values, for programs that show it in a form of their own.

A reader is a viewer like a stream: it has a position and no queue (see `viewing`), and waits until the
content is ahead of it.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import trio

from .content import RunContent
from .errors import RunRestarted
from .position import START, Position, format_position, parse_position
from .protocol import MAIN_TEXT, RunEvent
from .status import RunEnd, RunStatus
from .viewing import Viewers


@final
@dataclass(frozen=True, slots=True)
class RunText:
    """A text of the run has grown.

    How a text is split into pieces depends on when they are read. Joined, they are always the same text.

    Attributes:
        text: the piece.
        name: which text.
        cursor: the position after it, for `RunView.events`.
    """

    text: str
    name: str
    cursor: str


@final
@dataclass(frozen=True, slots=True)
class RunEmitted:
    """The run has emitted an event.

    Attributes:
        event: its type; `None` for the default one.
        data: its data, as it is sent.
        cursor: the position after it.
    """

    event: str | None
    data: str
    cursor: str

    def json(self) -> Any:
        """Return the data as the JSON value that it is; raises a `ValueError` if it is none."""
        return json.loads(self.data)


@final
@dataclass(frozen=True, slots=True)
class RunState:
    """The run's state was replaced. Who reads slowly receives only the newest one.

    Attributes:
        data: the state as JSON.
        cursor: the position after it.
    """

    data: str
    cursor: str

    def json(self) -> Any:
        """Return the state."""
        return json.loads(self.data)


@final
@dataclass(frozen=True, slots=True)
class RunOutcome:
    """How the run has ended; this is the last item.

    Attributes:
        status: `FINISHED`, `FAILED`, `CANCELLED` or `LOST`.
        reason: why, for people to read; `None` if it has finished.
        result: what its function has returned, as JSON; `None` for nothing.
        cursor: the position after it.
    """

    status: RunStatus
    reason: str | None
    result: str | None
    cursor: str


#: What `RunView.events` yields.
RunItem = RunText | RunEmitted | RunState | RunOutcome


@final
class RunReader:
    """The items of one run, as an asynchronous iterator; created by `RunView.events`.

    If `__anext__` is cancelled, no item is lost.
    """

    def __init__(self, content: RunContent, viewers: Viewers, after: Position | None) -> None:
        self._content = content
        self._viewers = viewers
        self._position = after  # `None` until something was read, if texts come first
        self._ready: deque[RunItem] = deque()
        self._beginnings = viewers.beginnings

    def __aiter__(self) -> RunReader:
        return self

    async def __anext__(self) -> RunItem:
        await trio.lowlevel.checkpoint()
        while not self._ready:
            if self._beginnings != self._viewers.beginnings:
                raise RunRestarted("what was read of the run was lost: read it again from the start")
            if events := self._read():
                self._ready.extend(filter(None, map(self._item, events)))
            elif self._content.end is not None:
                raise StopAsyncIteration
            else:
                await self._viewers.wait_delivered()
        return self._ready.popleft()

    def read_now(self) -> list[RunItem]:
        """Return the items that are there already."""
        self._ready.extend(filter(None, map(self._item, self._read())))
        items = list(self._ready)
        self._ready.clear()
        return items

    def _read(self) -> Sequence[RunEvent]:
        content, position = self._content, self._position
        self._position = content.head
        return content.whole() if position is None else content.since(position)

    def _item(self, event: RunEvent) -> RunItem | None:
        cursor = format_position(self._content.id, event.position)
        match event.event:
            case "run":
                return None
            case "text" | "append":
                fields = json.loads(event.data)
                return RunText(fields["text"], fields.get("name", MAIN_TEXT), cursor)
            case "state":
                return RunState(event.data, cursor)
            case "end":
                end = self._content.end
                assert end is not None
                return _outcome(end, cursor)
            case other:
                return RunEmitted(other, event.data, cursor)


def start_of(content: RunContent, after: str | None, *, is_in_order: bool) -> Position | None:
    """Return the position where a reader begins; raises `ValueError` if a cursor is not one of the run."""
    if after is None:
        return START if is_in_order else None
    position = parse_position(content.id, after)
    if position is None or not content.has(position):
        raise ValueError("the cursor is not one of this run")
    return position


def _outcome(end: RunEnd, cursor: str) -> RunOutcome:
    return RunOutcome(end.status, end.reason, end.result, cursor)
