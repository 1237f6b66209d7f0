"""One attempt of a client of the load tool: a request, and what is received until its stream ends."""

from __future__ import annotations

import time
from typing import final

from .response import LoadStream
from .totals import Totals


@final
class LoadAttempt:
    """Counts what one stream receives.

    Attributes:
        stream: parses the response.
        has_events: whether it has received an event.
    """

    __slots__ = ("_began_at", "_is_open", "_is_reconnect", "_totals", "has_events", "stream")

    def __init__(self, last_event_id: str, totals: Totals, *, is_reconnect: bool) -> None:
        self.stream = LoadStream(last_event_id)
        self.has_events = False
        self._totals = totals
        self._is_reconnect = is_reconnect
        self._is_open = False
        self._began_at = time.perf_counter()

    def receive(self, data: bytes) -> bool:
        """Count what was received; return whether the stream has ended.

        Raises:
            LoadError: the response is not an event stream, or its framing is broken.
        """
        self._totals.bytes += len(data)
        events = self.stream.feed(data)
        self.has_events |= bool(events)
        self._note_open()
        self._totals.note_events(events)
        return self.stream.is_ended

    def receive_head(self, status: int, phrase: str, fields: dict[bytes, bytes]) -> None:
        """Note a response's head that was received as fields; interim responses are ignored.

        Raises:
            LoadError: the response is not an event stream.
        """
        self.stream.take_head(status, phrase, fields)
        self._note_open()

    def end(self) -> None:
        """Count the stream as no longer connected."""
        self._totals.connected -= self._is_open

    def _note_open(self) -> None:
        if self.stream.has_head and not self._is_open:
            self._is_open = True
            milliseconds = (time.perf_counter() - self._began_at) * 1000
            self._totals.note_open(milliseconds, is_reconnect=self._is_reconnect)
