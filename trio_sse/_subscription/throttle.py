"""How often a subscription is written to."""

from __future__ import annotations

from typing import NamedTuple


class Throttle(NamedTuple):
    """How often a subscription is written to.

    Attributes:
        seconds: at most once in this time.
        keeps_all: no event is left out; otherwise only the newest of each topic and key is sent.
        most_events, most_bytes: what may wait; it is sent early then.
    """

    seconds: float
    keeps_all: bool
    most_events: int
    most_bytes: int
