"""A node's lease, on which all its runs depend: while it is renewed, nobody takes them over."""

from __future__ import annotations

import math
import secrets
from typing import final

import trio

from .._process.suspension import seconds_suspended

# What is left of a lease when its node stops what another one may begin: for clocks, and for the end of that.
_MARGIN = 0.25


@final
class NodeLease:
    """What a node knows of its lease.

    Attributes:
        holder: the node's name, which is another one whenever its hub is run.
        seconds: for how long it is held each time.
    """

    def __init__(self, seconds: float) -> None:
        self.holder = secrets.token_hex(8)
        self.seconds = seconds
        self._until = -math.inf
        self._lapse = (-math.inf, -math.inf)  # the last time in which it was not certain

    def now(self) -> float:
        """Return the time of a clock that goes on while the machine sleeps."""
        return trio.current_time() + seconds_suspended()

    @property
    def was_held(self) -> bool:
        """Whether the node has held it."""
        return self._until > -math.inf

    @property
    def until(self) -> float:
        """Until when it is certain, by the clock of `now`."""
        return self._until

    @property
    def is_certain(self) -> bool:
        """Whether nobody can have taken over this node's runs."""
        return self.now() < self._until

    def shows_loss(self, ttl: float) -> bool:
        """Whether a run of this node that is not in the store was lost by the store.

        Otherwise others may have taken it over while the lease was not certain, and it may have ended and its
        time to live, `ttl`, be over since.
        """
        now = self.now()
        if now >= self._until:
            return now < self._until + ttl
        began, ended = self._lapse
        return now < began + ttl or now > ended + 2 * self.seconds

    def renewed(self, asked_at: float) -> None:
        """Note that it was renewed, by a call that was made at this time."""
        if self.was_held and asked_at >= self._until:
            self._lapse = (self._until, asked_at)
        self._until = max(self._until, asked_at + self.seconds * (1 - _MARGIN))
