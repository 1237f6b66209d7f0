"""A bound on lines that a stranger can cause: so many in a while, and then one that counts the others."""

from __future__ import annotations

from typing import final

#: So many lines of one kind are logged in so many seconds.
MOST_LINES = 50
SECONDS = 10.0


@final
class RepeatLimit:
    """Counts the lines of each kind.

    Args:
        most: how many lines of one kind are acceptable in `seconds`.
    """

    def __init__(self, most: int = MOST_LINES, seconds: float = SECONDS) -> None:
        self._most = most
        self._seconds = seconds
        self._kinds: dict[str, _Kind] = {}

    def admit(self, kind: str, now: float) -> int | None:
        """Count a line; return how many were left out before it, or `None` if it is to be left out.

        Args:
            kind: what lines have in common, such as their text without what differs. There are few kinds.
            now: the time, in seconds of any clock.
        """
        found = self._kinds.get(kind)
        if found is None:
            found = self._kinds[kind] = _Kind(now)
        left_out = 0
        if now >= found.began + self._seconds:
            left_out, found.left_out = found.left_out, 0
            found.began, found.lines = now, 0
        if found.lines >= self._most:
            found.left_out += 1
            return None
        found.lines += 1
        return left_out


@final
class _Kind:
    __slots__ = ("began", "left_out", "lines")

    def __init__(self, began: float) -> None:
        self.began = began
        self.lines = 0
        self.left_out = 0
