"""Which of a hub's own entries the log has acknowledged, and the hub has not read back yet.

The log has a publisher's entries in the order of their numbers. So if an entry is read while earlier ones,
which were acknowledged, were not, the log has lost them. The same is true if a read that began after they
were acknowledged has reached the log's end.
"""

from __future__ import annotations

from collections import deque
from typing import final


@final
class AcknowledgedNumbers:
    """The numbers of entries that were acknowledged and not read yet, as ranges in ascending order."""

    def __init__(self) -> None:
        self._ranges: deque[list[int]] = deque()
        self._read = 0  # the greatest number that was read, or that nobody waits for

    @property
    def newest(self) -> int:
        """The greatest number that was acknowledged and not read; 0 if there is none."""
        return self._ranges[-1][1] if self._ranges else 0

    def add(self, number: int) -> None:
        """Note that an entry was acknowledged. Its number is greater than those before."""
        if number <= self._read:
            return  # it was read before the acknowledgement arrived
        if self._ranges and self._ranges[-1][1] == number - 1:
            self._ranges[-1][1] = number
        else:
            self._ranges.append([number, number])

    def read(self, number: int) -> bool:
        """Note that an entry was read. Return whether the log has lost earlier ones."""
        is_missing = self.is_missing(number - 1)
        self.forget(number)
        return is_missing

    def is_missing(self, upto: int) -> bool:
        """Whether an entry up to this number was not read."""
        return bool(self._ranges) and self._ranges[0][0] <= upto

    def forget(self, upto: int) -> None:
        """Expect no entry up to this number."""
        self._read = max(self._read, upto)
        while self._ranges and self._ranges[0][0] <= upto:
            if self._ranges[0][1] > upto:
                self._ranges[0][0] = upto + 1
                break
            self._ranges.popleft()
