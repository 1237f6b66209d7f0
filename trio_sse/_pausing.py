"""Long computations that can be done in one piece, or in pieces between which other tasks run."""

from __future__ import annotations

from collections.abc import Generator
from time import thread_time
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
    return (await timed_in_pieces(steps))[0]


async def timed_in_pieces(steps: Pausing[T]) -> tuple[T, float]:
    """Do the same; return its result, and the CPU time that it took, without that of other tasks."""
    seconds = 0.0
    await trio.lowlevel.checkpoint()
    while True:
        began_at = thread_time()
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result, seconds + thread_time() - began_at
        seconds += thread_time() - began_at
        await trio.lowlevel.checkpoint()
