"""When a connection is taken for dead because nothing has arrived.

A network that has forgotten a connection says nothing, so only time shows it. Servers of event streams write
keepalives: comments that clients do not see, but whose bytes arrive. The WHATWG standard advises one about
every 15 seconds, and `trio_sse` does that.
"""

from __future__ import annotations

import math
from typing import final

_MOST_DOUBLINGS = 4


@final
class IdleLimit:
    """How long a client waits for any byte.

    A server without keepalives on a quiet topic would look dead again and again. So each time when a new
    connection shows that the server is there, and then nothing arrives on it either, the limit doubles.

    Args:
        seconds: the limit to begin with; `math.inf` for none.
    """

    def __init__(self, seconds: float) -> None:
        self._first = seconds
        self._doublings = 0
        self._has_lived = False  # something has arrived after the response's first bytes

    @property
    def seconds(self) -> float:
        """How many seconds may pass without a byte."""
        return math.inf if self._first == math.inf else self._first * 2.0**self._doublings

    def note_bytes(self) -> None:
        """Note that something has arrived."""
        self._has_lived = True

    def note_open(self) -> None:
        """Note that a response has begun."""
        self._has_lived = False

    def note_silence(self) -> None:
        """Note that the limit has passed on a connection whose response had begun."""
        if self._has_lived:
            self._doublings = 0
        else:
            self._doublings = min(self._doublings + 1, _MOST_DOUBLINGS)
