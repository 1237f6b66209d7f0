"""Checks of options: bounds, durations, flags, paths and functions."""

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


def check_flags(**flags: bool | None) -> None:
    """Refuse flags that are not `True` or `False`: the text "false" would count as true.

    Raises:
        TypeError: a flag is not a `bool`.
    """
    for name, flag in flags.items():
        if not isinstance(flag, bool):
            raise TypeError(f"{name} must be True or False, not {type(flag).__name__}")


def check_texts(**texts: str) -> None:
    """Refuse options that are not text.

    Raises:
        TypeError: an option is not a `str`.
    """
    for name, text in texts.items():
        if not isinstance(text, str):
            raise TypeError(f"{name} must be a str, not {type(text).__name__}")


def check_paths(**paths: str | None) -> None:
    """Refuse paths that no request can have; `None` is no path.

    Raises:
        TypeError: a path is not a `str`.
        ValueError: a path does not begin with a slash.
    """
    for name, path in paths.items():
        if path is not None:
            check_texts(**{name: path})
            if not path.startswith("/"):
                raise ValueError(f"{name} must begin with a slash: {path!r}")


def check_functions(**functions: object) -> None:
    """Refuse options that cannot be called.

    Raises:
        TypeError: an option cannot be called.
    """
    for name, function in functions.items():
        if not callable(function):
            raise TypeError(f"{name} must be a function, not {type(function).__name__}")
