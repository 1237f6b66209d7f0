"""Reading /proc and /sys, where any file may be missing."""

from __future__ import annotations

from pathlib import Path
from typing import final


@final
class Proc:
    """Reads files below a root folder that holds `proc` and `sys`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def text(self, path: str) -> str | None:
        """Return a file's text, or `None` if it cannot be read."""
        try:
            return (self._root / path).read_text().strip()
        except OSError:
            return None

    def numbers(self, path: str) -> list[int]:
        """Return the numbers in a file. "max" is not a number."""
        words = (self.text(path) or "").split()
        return [int(word) for word in words if word.isdigit()]

    def number(self, path: str) -> int | None:
        """Return a file's first number, if any."""
        return next(iter(self.numbers(path)), None)

    def named(self, path: str, name: str) -> int | None:
        """Return the number in the line that begins with a name, as in /proc/meminfo and memory.stat."""
        for line in (self.text(path) or "").splitlines():
            words = line.split()
            if len(words) > 1 and words[0] == name:
                return int(words[1])
        return None
