"""What user code may raise that is easy to get wrong."""

from __future__ import annotations


class Panic(BaseException):
    """What foreign code raises that is no `Exception`."""


class Unprintable(Exception):
    """An exception that has no text."""

    def __str__(self) -> str:
        raise ZeroDivisionError

    __repr__ = __str__


def deep_group() -> Exception:
    """Return a group nested deeper than Python can show, or split, by recursion."""
    error: Exception = Unprintable()
    for _ in range(3_000):
        error = ExceptionGroup("of one", [error])
    return error
