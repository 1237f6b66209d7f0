"""Patterns of topics, such as `prices/*`."""

from __future__ import annotations

import re

from .topic import MAX_TOPIC_LENGTH, harmful_character


def compile_topic_pattern(pattern: object, what: str) -> re.Pattern[str]:
    """Return what matches the topics of a pattern, by `fullmatch`.

    In it, `*` stands for any characters, also none; all others stand for themselves.

    Args:
        what: what the pattern is, for errors.

    Raises:
        TypeError, ValueError: it is not a pattern that some topic matches.
    """
    if not isinstance(pattern, str):
        raise TypeError(f"{what} must be a str, not {type(pattern).__name__}")
    if not 0 < len(pattern) <= MAX_TOPIC_LENGTH or harmful_character(pattern) is not None:
        raise ValueError(
            f"{what} has 1 to {MAX_TOPIC_LENGTH} characters, without control characters, "
            f"as topics do: {pattern!r} matches none"
        )
    return re.compile(".*".join(re.escape(part) for part in re.split(r"\*+", pattern)), re.DOTALL)
