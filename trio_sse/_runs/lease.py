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

    def now(self) -> float:
        """Return the time of a clock that goes on while the machine sleeps."""
        return trio.current_time() + seconds_suspended()

    @property
    def was_held(self) -> bool:
        """Whether the node has held it."""
        return self._until > -math.inf

    @property
    def is_certain(self) -> bool:
        """Whether nobody can have taken over this node's runs."""
        return self.now() < self._until

    def renewed(self, asked_at: float) -> None:
        """Note that it was renewed, by a call that was made at this time."""
        self._until = max(self._until, asked_at + self.seconds * (1 - _MARGIN))
