"""What nodes show of themselves to the consoles of others: small notices, each checked as foreign input."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from .._wire.topic import harmful_character

#: The largest notice, in bytes.
MAX_NOTICE_SIZE = 4096

#: The numbers in a notice.
NODE_NUMBERS = (
    *("open_streams", "opened", "events_sent", "bytes_sent", "refused", "longest_turn", "memory"),
    *("descriptors", "is_draining", "lagging", "pending_bytes", "processes"),
)

_LONGEST_NAME = 64
_MOST_PROBLEMS = 16
_ID = re.compile(r"[0-9a-f]{16}")
_PROBLEM = re.compile(r"[a-z_]{1,32}")
_LARGEST = 1e18

NodeRow = dict[str, Any]


def encode_notice(name: str, at: float, numbers: Mapping[str, float | None], problems: list[str]) -> bytes:
    """Return the notice of a node: its name, when it was made, in seconds since 1970, and what it counts."""
    values = [numbers.get(number) for number in NODE_NUMBERS]
    return json.dumps([name[:_LONGEST_NAME], at, values, problems], separators=(",", ":")).encode()


def parse_notice(id: str, notice: bytes) -> NodeRow | None:
    """Return a node's row, or `None` if this is not a notice of a node."""
    if len(notice) > MAX_NOTICE_SIZE or not _ID.fullmatch(id):
        return None
    try:
        found = json.loads(notice)
    except (ValueError, RecursionError):
        return None
    match found:
        case [str(name), int() | float() as at, [*values], [*problems]] if (
            0 < len(name) <= _LONGEST_NAME
            and harmful_character(name) is None
            and _is_number(at)
            and len(values) >= len(NODE_NUMBERS)
            and all(value is None or _is_number(value) for value in values)
            and len(problems) <= _MOST_PROBLEMS
            and all(isinstance(problem, str) and _PROBLEM.fullmatch(problem) for problem in problems)
        ):
            numbers = dict(zip(NODE_NUMBERS, values, strict=False))
            return {"id": id, "name": name, "at": at, "problems": problems, **numbers}
    return None


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and -_LARGEST < value < _LARGEST  # type: ignore[arg-type,operator]  # as checked
