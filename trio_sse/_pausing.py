"""Long computations that can be done in one piece, or in pieces between which other tasks run."""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

import trio

T = TypeVar("T")

#: A computation that yields where other tasks may run, at least once a millisecond or so.
Pausing = Generator[None, None, T]


def in_one_piece(steps: Pausing[T]) -> T:
    """Do a computation without a pause, and return its result."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result


async def in_pieces(steps: Pausing[T]) -> T:
    """Do a computation, letting other tasks run in between, and return its result."""
    await trio.lowlevel.checkpoint()
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
        await trio.lowlevel.checkpoint()
