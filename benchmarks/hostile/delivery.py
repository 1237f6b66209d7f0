"""What clients have received of numbered events: in time, late, missing or repeated."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import final


@final
@dataclass(slots=True)
class Delivery:
    """What one client has received.

    Events are numbered without gaps, and have the time at which they were due. Times are in nanoseconds.

    Attributes:
        within: how long an event may take.
        last: the number of the newest event; `None` before the first.
        received, in_time, repeated: counts of events. A repeated one is not received again.
        longest: the longest time that one took.
        missing: numbers that were skipped.
        resets: how often the client was told that events may be missing.
    """

    within: int
    last: int | None = None
    received: int = 0
    in_time: int = 0
    repeated: int = 0
    longest: int = 0
    missing: list[int] = field(default_factory=list)
    resets: int = 0

    def take(self, number: int, due_at: int, now: int) -> None:
        """Count an event that has been received."""
        if self.last is not None:
            if number <= self.last:
                self.repeated += 1
                return
            self.missing.extend(range(self.last + 1, number))
        self.last = number
        self.received += 1
        self.in_time += now - due_at <= self.within
        self.longest = max(self.longest, now - due_at)

    def reset(self) -> None:
        """Begin anew: what was missed until the next event was announced, so it is not lost silently."""
        self.last = None
        self.resets += 1

    def lost(self, upto: int | None, refused: Collection[int]) -> int:
        """Return how many events are missing, up to the last one that was published.

        Events whose publisher was told that they may not be stored are not lost. If `upto` is `None`, the
        client has left before.
        """
        tail = range(0) if upto is None or self.last is None else range(self.last + 1, upto + 1)
        return sum(number not in refused for number in (*self.missing, *tail))


@final
@dataclass(slots=True)
class Deliveries:
    """The sum over many clients. `longest` is in nanoseconds."""

    expected: int = 0
    in_time: int = 0
    lost: int = 0
    repeated: int = 0
    resets: int = 0
    longest: int = 0

    def add(self, delivery: Delivery, upto: int | None, refused: Collection[int]) -> None:
        """Add what one client has received."""
        lost = delivery.lost(upto, refused)
        self.expected += delivery.received + lost
        self.in_time += delivery.in_time
        self.lost += lost
        self.repeated += delivery.repeated
        self.resets += delivery.resets
        self.longest = max(self.longest, delivery.longest)
