"""What nodes tell one another of runs: through the hub's log, without their content.

A signal only saves time. Whatever it says is in the store, too, where each node looks now and then.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, Protocol, final

import trio

from .._containment import contained
from .._hub.signals import Signals
from .._shared_log.protocol import EventRefused, LogUnavailable
from .._wire.json_text import compact_json

NAME = "runs"

# Two signals of a node are so many seconds apart, at least, and name so many runs at most. Those that only
# say what other nodes read soon anyway are rarer: the log forgets an event for each signal.
_INTERVAL = 0.01
_ROUTINE_INTERVAL = 0.25
_MOST_NAMED = 5000


class SignalReader(Protocol):
    """What reads the signals of other nodes."""

    def on_changed(self, ids: Iterable[str]) -> None:
        """Runs have changed."""

    def on_watched(self, ids: Iterable[str]) -> None:
        """Runs are shown by other nodes."""

    def on_cancelled(self, reasons: Mapping[str, str]) -> None:
        """Runs are to be cancelled."""

    def on_released(self) -> None:
        """Runs wait to be resumed."""


@final
class RunSignals:
    """Sends what this node has to say, all of it together; it is sent again by nobody if it is lost."""

    def __init__(self, signals: Signals) -> None:
        self._signals = signals
        self._changed: dict[str, None] = {}
        self._watched: dict[str, None] = {}
        self._cancelled: dict[str, str] = {}
        self._has_released = False
        self._must_send = trio.lowlevel.ParkingLot()

    def changed(self, ids: Iterable[str]) -> None:
        """Say that runs have changed."""
        self._changed.update(dict.fromkeys(ids))
        self._must_send.unpark_all()

    def watched(self, id: str) -> None:
        """Say that a run is shown here."""
        self._watched[id] = None
        self._must_send.unpark_all()

    def cancelled(self, id: str, reason: str) -> None:
        """Say that a run is to be cancelled."""
        self._cancelled[id] = reason
        self._must_send.unpark_all()

    def released(self) -> None:
        """Say that runs wait to be resumed."""
        self._has_released = True
        self._must_send.unpark_all()

    async def run(self) -> None:
        """Send signals until cancelled."""
        sent_at = -math.inf
        while True:
            while not (self._changed or self._watched or self._is_urgent):
                await self._must_send.park()
            with trio.move_on_at(sent_at + _ROUTINE_INTERVAL):
                while sent_at > -math.inf and not self._is_urgent:
                    await self._must_send.park()
            text = self._take()
            sent_at = trio.current_time()
            # If it is not stored, the nodes look into the store.
            with suppress(LogUnavailable, EventRefused, trio.ClosedResourceError):
                await self._signals.send(NAME, text)
            await trio.sleep(_INTERVAL)

    @property
    def _is_urgent(self) -> bool:
        return bool(self._cancelled) or self._has_released

    def _take(self) -> str:
        changed = list(self._changed)[:_MOST_NAMED]
        for id in changed:
            del self._changed[id]
        said: dict[str, Any] = {"changed": changed, "watched": list(self._watched)[:_MOST_NAMED]}
        said |= {"cancelled": self._cancelled, "released": self._has_released}
        self._watched, self._cancelled, self._has_released = {}, {}, False
        return compact_json({name: value for name, value in said.items() if value})


def read_signal(text: str, reader: SignalReader) -> None:
    """Pass on what a signal says. There is no checkpoint in it."""
    with contained("a signal of runs in the shared log cannot be read"):
        said = json.loads(text)
        reader.on_changed(said.get("changed", ()))
        reader.on_watched(said.get("watched", ()))
        reader.on_cancelled(said.get("cancelled", {}))
        if said.get("released"):
            reader.on_released()
