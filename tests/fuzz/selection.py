"""Which inputs are kept: few, and short, that reach together what all reach."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from contextlib import suppress
from types import CodeType, FrameType
from typing import Any

from .corpus import Target

#: How many inputs of one target are kept at most; those that reach most come first.
MOST = 120

Step = tuple[CodeType, int, int]


def select(target: Target, inputs: Iterable[bytes]) -> list[bytes]:
    """Return some of the inputs; the seeds are not among them, since they are tried anyway."""
    logging.disable(logging.CRITICAL)
    known: set[Step] = set()
    for data in target.seeds():
        known |= _steps(target, data)
    kept: list[bytes] = []
    for data in sorted(set(inputs), key=lambda data: (len(data), data)):
        steps = _steps(target, data)
        if not steps <= known:
            known |= steps
            kept.append(data)
    return kept[:MOST]


def _steps(target: Target, data: bytes) -> set[Step]:
    """Return the steps from line to line in the package while an input is checked."""
    steps: set[Step] = set()

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        code = frame.f_code
        if "/trio_sse/" not in code.co_filename:
            return None
        before = 0

        def trace_line(frame: FrameType, event: str, argument: object) -> Any:
            nonlocal before
            if event == "line":
                steps.add((code, before, frame.f_lineno))
                before = frame.f_lineno
            return trace_line

        return trace_line

    sys.settrace(trace)
    try:
        with suppress(Exception):  # what breaks is kept anyway
            target.check(data)
    finally:
        sys.settrace(None)
    return steps
