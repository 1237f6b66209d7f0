"""What `trio-sse top` shows, and what each key does. No I/O."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, final

from .commands import Command, Post, Quit, Watch

#: The tables, in the order of their keys.
TABS = ("streams", "topics", "ends", "kinds", "workers", "nodes")

# The server is silent after so many seconds without a snapshot, or so many intervals of snapshots.
_LEAST_SILENCE = 5.0
_MOST_INTERVALS = 3

_SPAN = 300.0
_MOST_EVENTS = 200
_PAGE = 10


@final
@dataclass(slots=True)
class Prompt:
    """A question in the last line.

    Attributes:
        question: what is asked.
        then: is called with the answer; what it returns is done next.
        text: what has been typed.
    """

    question: str
    then: Callable[[str], Command | Prompt | None]
    text: str = ""


@final
@dataclass(slots=True)
class Model:
    """The state of the screen.

    Attributes:
        snapshot: the newest one; `None` before the first.
        samples: the points of the last minutes, oldest first.
        tab: which table is shown.
        selected: the place of the selected row in it.
        topic: the topic that is watched.
        events: its events, newest first.
        prompt: what is asked now.
        status: how the connection is.
        message: what has been done last.
        is_paused: newer snapshots are not shown.
        shows_help: the keys are shown instead of a table.
        clock: returns the time, in seconds.
        heard_at: when the newest snapshot came.
        interval: how many seconds pass between snapshots.
    """

    snapshot: dict[str, Any] | None = None
    samples: list[dict[str, Any]] = field(default_factory=list)
    tab: str = TABS[0]
    selected: int = 0
    topic: str | None = None
    events: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=_MOST_EVENTS))
    prompt: Prompt | None = None
    status: str = "connecting"
    message: str = ""
    is_paused: bool = False
    shows_help: bool = False
    clock: Callable[[], float] = time.monotonic
    heard_at: float | None = None
    interval: float = 1.0

    # What arrives

    def receive(self, kind: str, data: dict[str, Any]) -> None:
        """Take an event of the console's stream."""
        self.status = "live"
        if kind == "snapshot":
            self.heard_at, self.interval = self.clock(), data["interval"]
        if kind == "history":
            self.samples = list(data["samples"])
        elif kind == "snapshot" and not self.is_paused:
            self.snapshot = data
            if (sample := data["sample"]) is not None:
                kept = [s for s in self.samples if sample["at"] - _SPAN < s["at"] < sample["at"]]
                self.samples = [*kept, sample]
            self._clamp()

    def receive_watched(self, kind: str, data: dict[str, Any]) -> None:
        """Take an event of the stream of a watched topic."""
        if kind == "watching":
            self.topic = data["topic"]
            self.events.clear()
        else:
            self.events.appendleft({"kind": kind, **data})

    @property
    def silence(self) -> float | None:
        """For how many seconds the server has not answered; `None` if it does."""
        if self.heard_at is None:
            return None
        passed = self.clock() - self.heard_at
        return passed if passed > max(_LEAST_SILENCE, _MOST_INTERVALS * self.interval) else None

    # Rows

    @property
    def rows(self) -> Sequence[dict[str, Any]]:
        """The rows of the table that is shown."""
        return () if self.snapshot is None else self.snapshot.get(self.tab, ())

    @property
    def row(self) -> dict[str, Any] | None:
        """The selected row."""
        return self.rows[self.selected] if self.selected < len(self.rows) else None

    def _clamp(self) -> None:
        self.selected = max(0, min(self.selected, len(self.rows) - 1))

    # Keys

    def press(self, key: str) -> Command | None:
        """Do what a key does; return what it wants to be done outside."""
        if self.prompt is not None:
            return self._press_in_prompt(self.prompt, key)
        self.message = ""
        if key == "?" or self.shows_help:
            self.shows_help = not self.shows_help
            return None
        moves = {"up": -1, "k": -1, "down": 1, "j": 1, "page up": -_PAGE, "page down": _PAGE}
        if key in moves:
            self.selected += moves[key]
            self._clamp()
        elif key in ("tab", "right", "back tab", "left"):
            step = 1 if key in ("tab", "right") else -1
            self._show(TABS[(TABS.index(self.tab) + step) % len(TABS)])
        elif key.isdecimal() and 1 <= int(key) <= len(TABS):
            self._show(TABS[int(key) - 1])
        elif key == " ":
            self.is_paused = not self.is_paused
        elif key in ("q", "Q"):
            return Quit()
        elif key == "escape":
            self.topic = None
            return Watch(None)
        else:
            return self._begin_action(key)
        return None

    def _show(self, tab: str) -> None:
        self.tab = tab
        self.selected = 0

    def _begin_action(self, key: str) -> Command | None:
        topic = self._likely_topic()
        match key:
            case "e":
                self.prompt = self._ask_end()
            case "enter" if self.tab == "topics" and self.row is not None:
                return Watch(self.row["name"])
            case "w":
                self.prompt = Prompt("Watch topic: ", lambda text: Watch(text) if text else None, topic)
            case "p":
                self.prompt = Prompt("Publish to topic: ", _ask_data, topic)
            case "d":
                self.prompt = self._ask_drain()
            case _:
                pass
        return None

    def _likely_topic(self) -> str:
        """Return the topic that an action is probably about."""
        if self.tab == "topics" and self.row is not None:
            return str(self.row["name"])
        return self.topic or ""

    def _ask_end(self) -> Prompt | None:
        if self.tab != "streams" or self.row is None:
            self.message = "Select a connection first: 1, then the arrow keys."
            return None
        id, pid = self.row["id"], self.row["pid"]

        def end(answer: str) -> Command | None:
            if answer.lower() != "y":
                return None
            return Post("end", {"id": id, "pid": pid}, f"Stream {id} was ended.")

        return Prompt(f"End stream {id}, {self.row['path']} of {self.row['peer']}? [y/N] ", end)

    def _ask_drain(self) -> Prompt:
        """Ask whether to drain the selected worker or node, or else the server."""
        what, body = "this server", {"confirm": "drain"}
        if self.tab == "workers" and self.row is not None:
            what, body = f"worker {self.row['pid']}", {**body, "pid": self.row["pid"]}
        elif self.tab == "nodes" and self.row is not None:
            what, body = f"node {self.row['name']}", {**body, "node": self.row["id"]}

        def drain(answer: str) -> Command | None:
            if answer == "drain":
                return Post("drain", body, f"{what.capitalize()} drains.".replace("This", "The"))
            self.message = "Not drained."
            return None

        return Prompt(f'Type "drain" to drain {what}: ', drain)

    def _press_in_prompt(self, prompt: Prompt, key: str) -> Command | None:
        if key == "escape":
            self.prompt = None
        elif key == "backspace":
            prompt.text = prompt.text[:-1]
        elif key == "enter":
            self.prompt = None
            following = prompt.then(prompt.text)
            if not isinstance(following, Prompt):
                return following
            self.prompt = following
        elif len(key) == 1:
            prompt.text += key
        return None


def _ask_data(topic: str) -> Prompt | None:
    if not topic:
        return None

    def publish(data: str) -> Command:
        return Post("publish", {"topic": topic, "data": data}, f"Published to {topic}.")

    return Prompt(f"Data for {topic}: ", publish)
