"""What Linux tells in /proc and /sys, of which any file may be missing."""

from __future__ import annotations

from pathlib import Path
from typing import final


@final
class Proc:
    """Reads the files below a root that holds `proc` and `sys`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def text(self, path: str) -> str | None:
        """Give a file's text; `None` if there is none."""
        try:
            return (self._root / path).read_text().strip()
        except OSError:
            return None

    def numbers(self, path: str) -> list[int]:
        """Give the numbers of a file, of which "max" is none."""
        words = (self.text(path) or "").split()
        return [int(word) for word in words if word.isdigit()]

    def number(self, path: str) -> int | None:
        """Give a file's first number."""
        return next(iter(self.numbers(path)), None)

    def named(self, path: str, name: str) -> int | None:
        """Give the number of the line that begins with a name, as in /proc/meminfo and memory.stat."""
        for line in (self.text(path) or "").splitlines():
            words = line.split()
            if len(words) > 1 and words[0] == name:
                return int(words[1])
        return None
