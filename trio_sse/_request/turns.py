"""Tasks that take turns: a lock for what is hardly ever contended."""

from __future__ import annotations

from typing import final

import trio


@final
class Turns:
    """Lets tasks do something one after the other, in the order in which they come.

    A request needs two of these, and a `trio.Lock` takes three times as long and a checkpoint, also where
    nobody waits.

        if turns.is_taken:
            await turns.wait()
        turns.is_taken = True
        try:
            ...
        finally:
            turns.end()

    Attributes:
        is_taken: a task has its turn.
    """

    # Of the class, so that making one sets nothing.
    is_taken = False
    _waiting: trio.lowlevel.ParkingLot | None = None

    async def wait(self) -> None:
        """Wait until it is this task's turn. If this is cancelled, it has not been."""
        if self._waiting is None:
            self._waiting = trio.lowlevel.ParkingLot()
        await self._waiting.park()

    def end(self) -> None:
        """End this task's turn. If another one waits, it is that one's: it stays taken."""
        if self._waiting:
            self._waiting.unpark()
        else:
            self.is_taken = False
