"""Where in the application's code a thread or a task is."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import FrameType

_LIBRARIES = {*sys.stdlib_module_names, "trio", "outcome"} - {"__main__"}


def place_in(frame: FrameType | None) -> str:
    """Return the file and line where a thread is, from its innermost frame."""
    frames = []
    while frame is not None:
        frames.append((frame, frame.f_lineno))
        frame = frame.f_back
    return place_of(frames)


def place_of(frames: Sequence[tuple[FrameType, int]]) -> str:
    """Return the file and line of the innermost frame outside Trio and the standard library."""
    for frame, line in frames:
        package = frame.f_globals.get("__name__", "").partition(".")[0]
        if package not in _LIBRARIES:
            return f" ({frame.f_code.co_filename}, line {line})"
    return ""
