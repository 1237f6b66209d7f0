"""How many entries of a shared log to ask for at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from .protocol import Entry

_MOST_ENTRIES = 256


@final
class ReadLimit:
    """How many entries to ask a session for.

    One at first, so that a slow link delivers some in time, however large they are. The limit then doubles
    with each read, as long as entries are small.

    Args:
        page_bytes: how many bytes of entries to ask for, at most.
    """

    def __init__(self, page_bytes: int) -> None:
        self.entries = 1
        self._page_bytes = page_bytes

    def adapt(self, entries: Sequence[Entry]) -> None:
        """Adapt the limit to the entries of the last read."""
        if entries:
            mean = max(1, sum(len(entry.record) for entry in entries) // len(entries))
            self.entries = max(1, min(2 * self.entries, _MOST_ENTRIES, self._page_bytes // mean))
