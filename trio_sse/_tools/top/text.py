"""Numbers and foreign texts, for a terminal."""

from __future__ import annotations

import time
from collections.abc import Sequence

_BLOCKS = " ▁▂▃▄▅▆▇█"
_ASCII = " .:-=+*#%@"


def printable(text: str) -> str:
    """Return a text without what a terminal would execute."""
    return "".join(character if character.isprintable() else "·" for character in text)


def count(value: float | None) -> str:
    """Return a number, with its digits in groups."""
    return "-" if value is None else f"{value:,.0f}"


def size(value: float | None) -> str:
    """Return a number of bytes."""
    if value is None:
        return "-"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            return f"{value:.0f} {unit}" if unit == "B" or value >= 10 else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError("there is a last unit")


def percent(value: float | None) -> str:
    """Return a share of one."""
    return "-" if value is None else f"{100 * value:.0f} %"


def seconds(value: float | None) -> str:
    """Return a duration."""
    if value is None:
        return "-"
    if value < 1:
        return f"{1000 * value:.0f} ms"
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(int(value), 60)
    return f"{minutes}m {rest:02}s" if minutes < 60 else f"{minutes // 60}h {minutes % 60:02}m"


def clock(at: float) -> str:
    """Return the local time of a moment."""
    return time.strftime("%H:%M:%S", time.localtime(at))


def sparkline(values: Sequence[float | None], width: int, *, is_ascii: bool = False) -> str:
    """Return a line of blocks for the newest values; the highest value is as high as the line."""
    steps = _ASCII if is_ascii else _BLOCKS
    shown = [0.0 if value is None else value for value in values[-width:]]
    top = max(shown, default=0.0) or 1.0
    line = "".join(steps[round(value / top * (len(steps) - 1))] for value in shown)
    return line.rjust(width)
