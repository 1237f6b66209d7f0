"""Checks of options: bounds and durations."""

from __future__ import annotations

import math


def check_bounds(least: int, **bounds: int) -> None:
    """Refuse bounds that are not a whole number from `least` up to what every store can count.

    Raises:
        TypeError: a bound is not an `int`.
        ValueError: a bound is too small or too large.
    """
    for name, bound in bounds.items():
        if isinstance(bound, bool) or not isinstance(bound, int):
            raise TypeError(f"{name} must be an int, not {type(bound).__name__}")
        if bound < least:
            raise ValueError(f"{name} must be at least {least}, not {bound}")
        if bound >= 2**63:
            raise ValueError(f"{name} must be below 2**63, not {bound}")


def check_seconds(**options: float) -> None:
    """Refuse options that are not a positive number of seconds.

    Raises:
        TypeError: an option is not a number.
        ValueError: an option is not above 0.
    """
    for name, value in options.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"{name} must be a number of seconds, not {type(value).__name__}")
        if math.isnan(value) or value <= 0:
            raise ValueError(f"{name} must be more than 0 seconds (math.inf for none), not {value}")
