"""Values that are drawn from bytes: the same ones from the same bytes, and some from too few."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar, final

T = TypeVar("T")

# Short inputs are sent byte by byte, and long ones in pieces of several sizes.
_SHORT = 200
_SIZES = (1, 2, 3, 7, 1, 64, 5)


@final
class Source:
    """Draws values from bytes; when they are used up, each number is 0 and each text is empty."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0

    def __bool__(self) -> bool:
        """Whether there is more."""
        return self._place < len(self._data)

    def number(self, below: int) -> int:
        """Return a number from 0, of one byte."""
        return next(iter(self.take(1)), 0) % below

    def choice(self, values: Sequence[T]) -> T:
        """Return one of the values."""
        return values[self.number(len(values))]

    def take(self, size: int) -> bytes:
        """Return as many bytes, or those that are left."""
        self._place += size
        return self._data[self._place - size : self._place]

    def piece(self) -> bytes:
        """Return some bytes; the first one says how many."""
        return self.take(self.number(256))

    def text(self) -> str:
        """Return a text; lone surrogates are possible."""
        return self.piece().decode("utf-8", "surrogateescape")

    def rest(self) -> bytes:
        """Return what is left."""
        return self.take(len(self._data))


def pieces(data: bytes) -> Iterator[bytes]:
    """Yield bytes in pieces, as a slow network brings them."""
    if len(data) <= _SHORT:
        for number in range(len(data)):
            yield data[number : number + 1]
        return
    start = number = 0
    while start < len(data):
        size = _SIZES[number % len(_SIZES)]
        yield data[start : start + size]
        start, number = start + size, number + 1
