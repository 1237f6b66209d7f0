"""Checks of what applications pass to `Runs`."""

from __future__ import annotations

import re

from .errors import RunGone

_LONGEST_TEXT = 256
_SHORTEST_LEASE = 1.0
_LONGEST_LEASE = 600.0


# What `secrets.token_urlsafe` makes; in a store, other characters may have a meaning.
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def check_id(id: str) -> None:
    """Raise `RunGone` if no run has such an id; it may come from anybody."""
    if _ID.fullmatch(id) is None:
        raise RunGone


def check_text(name: str, value: object) -> None:
    """Refuse a key or an owner that is not a text of 1 to 256 characters, or `None`."""
    if value is None:
        return
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str or None, not {type(value).__name__}")
    if not 1 <= len(value) <= _LONGEST_TEXT:
        raise ValueError(f"{name} must have 1 to {_LONGEST_TEXT} characters, not {len(value)}")
    value.encode()  # raises a ValueError for half of a character


def check_lease(seconds: float) -> None:
    """Refuse a lease that cannot be renewed in time, or that lasts for ever."""
    if not _SHORTEST_LEASE <= seconds <= _LONGEST_LEASE:
        raise ValueError(f"lease must be {_SHORTEST_LEASE:g} to {_LONGEST_LEASE:g} seconds, not {seconds}")
