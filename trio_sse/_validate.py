"""Bounds that options set."""

from __future__ import annotations


def check_bounds(least: int, **bounds: int) -> None:
    """Refuse bounds that are no whole number of at least `least`, or more than any store can count."""
    for name, bound in bounds.items():
        if isinstance(bound, bool) or not isinstance(bound, int):
            raise TypeError(f"{name} must be an int, not {type(bound).__name__}")
        if bound < least:
            raise ValueError(f"{name} must be at least {least}, not {bound}")
        if bound >= 2**63:
            raise ValueError(f"{name} must be below 2**63, not {bound}")
