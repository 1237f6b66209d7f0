"""Code that leaves async generators open while they are inside a nursery."""

from __future__ import annotations

from collections.abc import AsyncIterator

import trio


class LeftGenerators:
    """Makes generators that yield inside a nursery, where one must not.

    Attributes:
        opened, closed: how many of them have begun, and have been closed.
    """

    def __init__(self) -> None:
        self.opened = self.closed = 0

    async def numbers(self) -> AsyncIterator[int]:
        """Count inside a nursery."""
        self.opened += 1
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                for number in range(1_000):
                    yield number
        finally:
            self.closed += 1

    async def leave(self) -> None:
        """Leave one that nobody keeps."""
        async for _ in self.numbers():
            break
