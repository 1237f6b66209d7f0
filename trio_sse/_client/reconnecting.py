"""How long a client waits before it connects again."""

from __future__ import annotations

import random
from typing import final

from .._backoff import delay

#: What browsers wait, as long as the server has not said anything else.
DEFAULT_SECONDS = 3.0

#: Whatever a server says, a client does not connect more often: `retry: 0` must not make it a flood.
FLOOR_SECONDS = 0.5

# A server may ask for patience, but not for more than this.
_LONGEST_ASKED_SECONDS = 3600.0

# A stream that ends sooner than this, without an event, counts as a failed attempt.
_SHORT_SECONDS = 5.0


@final
class ReconnectPolicy:
    """Decides how long to wait before each attempt.

    Attributes:
        failures: attempts that have failed, in a row.

    Args:
        first: seconds before an attempt, unless the server says otherwise by `retry`.
        longest: the most that the wait becomes as attempts fail.
    """

    def __init__(self, first: float = DEFAULT_SECONDS, longest: float = 60.0) -> None:
        self.failures = 0
        self._seconds = first
        self._longest = longest

    def set_retry(self, milliseconds: int | None) -> None:
        """Take over a stream's last `retry`, if it had one."""
        if milliseconds is not None:
            self._seconds = milliseconds / 1000

    def note_failure(self) -> None:
        """Note an attempt that was not answered by a stream."""
        self.failures += 1

    def note_end(self, seconds: float, *, has_events: bool) -> None:
        """Note a stream that has ended after so many seconds."""
        if has_events or seconds >= _SHORT_SECONDS:
            self.failures = 0
        else:
            self.failures += 1

    def next_delay(self, asked: float = 0.0) -> float:
        """Return how many seconds to wait now; at least what the server has asked for by `Retry-After`.

        What is asked for gets up to 25 % more, so that clients that were refused together do not all come
        together again.
        """
        seconds = max(FLOOR_SECONDS, min(self._seconds, _LONGEST_ASKED_SECONDS))
        if self.failures:
            seconds = max(FLOOR_SECONDS, delay(self.failures, seconds, max(self._longest, seconds)))
        if asked > 0:
            seconds = max(seconds, min(asked, _LONGEST_ASKED_SECONDS) * random.uniform(1, 1.25))
        return seconds
