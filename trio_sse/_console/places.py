"""A bound on how many use something at the same time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

from .._http.exceptions import TemporaryRefusal


@final
class Places:
    """Places to be taken.

    Attributes:
        taken: how many are taken.
    """

    def __init__(self, most: int, what: str) -> None:
        self.taken = 0
        self._most = most
        self._what = what

    @contextmanager
    def take(self) -> Iterator[None]:
        """Take a place for a while.

        Raises:
            TemporaryRefusal: all are taken.
        """
        if self.taken >= self._most:
            raise TemporaryRefusal(503, f"at most {self._most} {self._what} at the same time")
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1
