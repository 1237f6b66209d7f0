"""Noticing what takes longer than a moment, at next to no cost for all that does not.

Nearly all requests are answered within a moment, and for those nothing shall be started and no clock be
read. So what begins joins the young ones. Each moment, the young ones become the old ones, and the old ones
that are left are overdue: they have been there for one moment at least, and for two at most.
"""

from __future__ import annotations

from typing import Generic, TypeVar, final

import trio

Key = TypeVar("Key")
Value = TypeVar("Value")


@final
class Overdue(Generic[Key, Value]):
    """Things that are overdue after a moment, each with a value that is not `None`.

    Args:
        moment: in seconds.
    """

    def __init__(self, moment: float) -> None:
        self._moment = moment
        self._young: dict[Key, Value] = {}
        self._old: dict[Key, Value] = {}
        self._overdue: dict[Key, Value] = {}
        self._has_some = trio.lowlevel.ParkingLot()

    def __len__(self) -> int:
        return len(self._young) + len(self._old) + len(self._overdue)

    def add(self, key: Key, value: Value) -> None:
        """Add a thing, or add it anew."""
        if self._old:
            self._old.pop(key, None)
        self._young[key] = value
        if self._has_some:
            self._has_some.unpark_all()

    def discard(self, key: Key) -> bool:
        """Remove a thing; return whether it was there."""
        return (
            self._young.pop(key, None) is not None
            or self._old.pop(key, None) is not None
            or self._overdue.pop(key, None) is not None
        )

    async def wait(self) -> dict[Key, Value]:
        """Wait until some are overdue, and return those: a view, from which `discard` removes, too.

        They are forgotten with the next call.
        """
        self._overdue = {}
        while not self._overdue:
            if not (self._young or self._old):
                await self._has_some.park()
            await trio.sleep(self._moment)
            self._overdue, self._old, self._young = self._old, self._young, {}
        return self._overdue
