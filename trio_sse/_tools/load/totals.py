"""The statistics of a load run: counts and measured times."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..._wire.event import ServerSentEvent
from .distribution import Distribution

#: Fields of an event's JSON that say when it was sent, by default.
TIMESTAMP_FIELDS = ("t", "server_time", "time")

_EARLIEST, _LATEST = 1.0e12, 1.0e13  # milliseconds since 1970, in 2001 and in 2286


@dataclass
class Totals:
    """What has happened so far.

    Attributes:
        timestamp_fields: fields of an event's JSON that may say when it was sent.
        connected: streams that are open now.
        gave_up: streams for which another attempt would not help.
    """

    timestamp_fields: Sequence[str] = TIMESTAMP_FIELDS
    connected: int = 0
    most_connected: int = 0
    opened: int = 0
    reconnects: int = 0
    events: int = 0
    bytes: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    gave_up: int = 0
    latencies: Distribution = field(default_factory=Distribution)
    head_times: Distribution = field(default_factory=Distribution)

    def note_open(self, milliseconds: float, *, is_reconnect: bool) -> None:
        """Count a stream that has opened, this many milliseconds after it began to connect."""
        self.opened += 1
        self.reconnects += is_reconnect
        self.connected += 1
        self.most_connected = max(self.most_connected, self.connected)
        self.head_times.add(milliseconds)

    def note_events(self, events: Sequence[ServerSentEvent]) -> None:
        """Count events, and measure their latency."""
        self.events += len(events)
        for event in events:
            if (milliseconds := _latency(str(event.data), self.timestamp_fields)) is not None:
                self.latencies.add(milliseconds)


def _latency(data: str, names: Sequence[str]) -> float | None:
    """Return the milliseconds since an event was sent, if it says when."""
    if not data.startswith("{"):
        return None
    try:
        fields: dict[str, object] = json.loads(data)
    except (ValueError, RecursionError):
        return None
    found = (fields.get(name) for name in names)
    value = next((v for v in found if isinstance(v, int | float) and not isinstance(v, bool)), None)
    if value is None:
        return None
    for unit in (1, 1000):  # milliseconds or seconds; any other number is not a time
        if _EARLIEST <= value * unit <= _LATEST:
            return time.time() * 1000 - value * unit
    return None
