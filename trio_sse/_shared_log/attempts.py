"""How often the same entries were tried to be appended, and when one of them is given up.

One entry may be such that the log never takes it, or that the connection ends whenever it is sent: it is too
large, for example. The entries behind it must not wait for ever. So after an append has failed, although the
log takes entries, these are appended one by one, until the culprit is found and given up.
"""

from __future__ import annotations

import math
from typing import final

import trio

_MOST_ENTRIES = 1 << 16  # at once; the inbox returns no more anyway

# A failure may be an outage at a bad moment, so a single entry is tried this often, less if that takes long.
_FEWEST_TRIES = 2
_MOST_TRIES = 4


@final
class AppendAttempts:
    """The attempts to append the oldest entries.

    Args:
        patience: seconds after which an entry is given up earlier.

    Attributes:
        size: how many entries to append at once.
        is_failed: the last attempt was not completed.
    """

    def __init__(self, patience: float) -> None:
        self.size = _MOST_ENTRIES
        self.is_failed = False
        self._patience = patience
        self._tries = 0
        self._suspects = 0
        self._began_at = math.inf

    def begin(self) -> None:
        """Record that entries are being appended."""
        self.is_failed = True
        self._began_at = min(self._began_at, trio.current_time())

    def succeed(self, count: int) -> None:
        """Record that this many were."""
        self.skip()
        self._suspects = max(0, self._suspects - count)
        if not self._suspects:
            self.size = _MOST_ENTRIES

    def skip(self) -> None:
        """Begin anew with other entries."""
        self.is_failed = False
        self._tries = 0
        self._began_at = math.inf

    def narrow(self, count: int) -> bool:
        """Append one by one what failed together; return whether a single entry is to be given up.

        Call this if an append of `count` entries has failed, although the log takes entries.
        """
        if count > 1:
            self.size = 1
            self._suspects = count
            self.skip()
            return False
        self._tries += 1
        is_late = trio.current_time() - self._began_at >= self._patience
        return self._tries >= (_FEWEST_TRIES if is_late else _MOST_TRIES)
