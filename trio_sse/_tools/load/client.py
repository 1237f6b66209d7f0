"""One client of the load tool. Like an `EventSource`, it reconnects with `Last-Event-ID`."""

from __future__ import annotations

from typing import final

import trio

from ..._client.reconnecting import ReconnectPolicy
from .attempt import LoadAttempt
from .carrier import Carrier
from .dialer import failure_of
from .response import LoadError
from .totals import Totals

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
        last_event_id, policy = "", ReconnectPolicy(longest=_LONGEST_RETRY_SECONDS)
        while True:
            attempt = LoadAttempt(last_event_id, self._totals, is_reconnect=self._has_streamed)
            stream, asked_seconds, began_at = attempt.stream, 0.0, trio.current_time()
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
            if stream.has_head:
                policy.note_end(trio.current_time() - began_at, has_events=attempt.has_events)
            else:
                policy.note_failure()
            last_event_id = stream.decoder.last_event_id
            policy.set_retry(stream.decoder.retry)
            await trio.sleep(policy.next_delay(asked_seconds))
