"""One client of the load tool. Like an `EventSource`, it reconnects with `Last-Event-ID`."""

from __future__ import annotations

import time
from typing import final

import trio

from ..._backoff import delay
from .dialer import LoadDialer
from .reader import LoadReader
from .response import LoadError, LoadStream
from .totals import Totals

_RECEIVE_SIZE = 64 * 1024
_DEFAULT_RETRY_SECONDS = 3.0
_LONGEST_RETRY_SECONDS = 30.0


@final
class LoadClient:
    """Holds a stream open, and counts what happens to it.

    Without a reader it reads by itself.
    """

    def __init__(self, number: int, dialer: LoadDialer, reader: LoadReader | None, totals: Totals) -> None:
        self._number = number
        self._dialer = dialer
        self._reader = reader
        self._totals = totals
        self._has_streamed = False

    async def run(self) -> None:
        """Follow the stream until another attempt would not help."""
        last_event_id, retry, failures = "", _DEFAULT_RETRY_SECONDS, 0
        while True:
            stream = LoadStream(last_event_id)
            asked_seconds = 0.0
            try:
                await self._follow(stream)
                stream.end()
            except LoadError as error:
                self._totals.failures[str(error)] += 1
                if error.is_final:
                    self._totals.gave_up += 1
                    return
                asked_seconds = error.retry_after
            except (OSError, trio.BrokenResourceError, trio.TooSlowError) as error:
                cause = error.__cause__ or error
                self._totals.failures[getattr(cause, "strerror", None) or str(cause) or "timed out"] += 1
            failures = 0 if stream.has_head else failures + 1
            last_event_id = stream.decoder.last_event_id
            if stream.decoder.retry is not None:
                retry = stream.decoder.retry / 1000
            seconds = delay(failures, retry, _LONGEST_RETRY_SECONDS) if failures else retry
            await trio.sleep(max(asked_seconds, seconds))

    async def _follow(self, stream: LoadStream) -> None:
        began_at = time.perf_counter()

        def receive(data: bytes) -> bool:
            return self._receive(stream, data, began_at)

        bare, connected = await self._dialer.dial(self._number)
        try:
            await connected.send_all(self._dialer.target.request(stream.decoder.last_event_id))
            if self._reader is not None:
                await self._reader.follow(bare, receive)
                return
            while data := await connected.receive_some(_RECEIVE_SIZE):
                if receive(bytes(data)):
                    return
        finally:
            self._totals.connected -= stream.has_head
            await trio.aclose_forcefully(connected)

    def _receive(self, stream: LoadStream, data: bytes, began_at: float) -> bool:
        """Count what was received; return whether the stream has ended."""
        self._totals.bytes += len(data)
        had_head = stream.has_head
        events = stream.feed(data)
        if stream.has_head and not had_head:
            milliseconds = (time.perf_counter() - began_at) * 1000
            self._totals.note_open(milliseconds, is_reconnect=self._has_streamed)
            self._has_streamed = True
        self._totals.note_events(events)
        return stream.is_ended
