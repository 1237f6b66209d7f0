"""Exception groups."""

from __future__ import annotations

from typing import TypeVar

E = TypeVar("E", bound=BaseException)


def leaf_exceptions(group: BaseExceptionGroup[E]) -> list[E]:
    """Return the exceptions in a group that are not groups themselves, in order."""
    leaves: list[E] = []
    for error in group.exceptions:
        leaves += leaf_exceptions(error) if isinstance(error, BaseExceptionGroup) else [error]
    return leaves
