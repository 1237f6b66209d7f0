"""One client of the load tool. Like an `EventSource`, it reconnects with `Last-Event-ID`."""

from __future__ import annotations

from typing import final

import trio

from ..._backoff import delay
from .attempt import LoadAttempt
from .carrier import Carrier
from .dialer import failure_of
from .response import LoadError
from .totals import Totals

_DEFAULT_RETRY_SECONDS = 3.0
_LONGEST_RETRY_SECONDS = 30.0


@final
class LoadClient:
    """Holds a stream open, and counts what happens to it."""

    def __init__(self, number: int, carrier: Carrier, totals: Totals) -> None:
        self._number = number
        self._carrier = carrier
        self._totals = totals
        self._has_streamed = False

    async def run(self) -> None:
        """Follow the stream until another attempt would not help."""
        last_event_id, retry, failures = "", _DEFAULT_RETRY_SECONDS, 0
        while True:
            attempt = LoadAttempt(last_event_id, self._totals, is_reconnect=self._has_streamed)
            stream, asked_seconds = attempt.stream, 0.0
            try:
                await self._carrier.follow(self._number, attempt)
                stream.end()
            except LoadError as error:
                self._totals.failures[str(error)] += 1
                if error.is_final:
                    self._totals.gave_up += 1
                    return
                asked_seconds = error.retry_after
            except (OSError, trio.BrokenResourceError, trio.TooSlowError) as error:
                self._totals.failures[failure_of(error)] += 1
            finally:
                attempt.end()
            self._has_streamed |= stream.has_head
            failures = 0 if stream.has_head else failures + 1
            last_event_id = stream.decoder.last_event_id
            if stream.decoder.retry is not None:
                retry = stream.decoder.retry / 1000
            seconds = delay(failures, retry, _LONGEST_RETRY_SECONDS) if failures else retry
            await trio.sleep(max(asked_seconds, seconds))
