"""What a node knows of a run that it holds, in the store that it shares with others."""

from __future__ import annotations

import math
from typing import final

from .._shared_log.run_session import NewRun


@final
class Holding:
    """A run's place in the store.

    Attributes:
        new: the run as it was created.
        attempt: which attempt this node has at it.
        number: of the newest changes that are stored.
        checkpoint: the newest one that is stored.
        is_lost: the node does not hold the run any more, as far as is known.
        is_doubtful: the store may have lost the run, or some of its changes.
        watched_until: until when others show it, as far as is known; in Trio's time.
    """

    __slots__ = ("attempt", "checkpoint", "is_doubtful", "is_lost", "new", "number", "watched_until")

    def __init__(self, new: NewRun, attempt: int = 1, number: int = 0, checkpoint: str | None = None) -> None:
        self.new = new
        self.attempt = attempt
        self.number = number
        self.checkpoint = checkpoint
        self.is_lost = False
        self.is_doubtful = False
        self.watched_until = -math.inf

    @property
    def is_resumable(self) -> bool:
        """Whether another node can go on with it."""
        return self.new.function is not None
