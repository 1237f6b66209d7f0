"""The ids of a shared log's entries: two whole numbers joined by a hyphen, ordered as a pair."""

from __future__ import annotations

import re

_ID = re.compile(r"(0|[1-9][0-9]{0,19})-(0|[1-9][0-9]{0,19})", re.ASCII)


def is_id(entry_id: str) -> bool:
    """Whether it is the id of an entry."""
    return _ID.fullmatch(entry_id) is not None


def parse_id(entry_id: str) -> tuple[int, int] | None:
    """Return an id's two numbers, or `None` if it is not the id of an entry."""
    match = _ID.fullmatch(entry_id)
    return (int(match[1]), int(match[2])) if match else None


def id_before(entry_id: str) -> str:
    """Return the greatest id below an entry's."""
    first, _, second = entry_id.partition("-")
    if int(second):
        return f"{first}-{int(second) - 1}"
    return f"{int(first) - 1}-{2**64 - 1}"
