"""What a message does to the state that is its topic."""

from __future__ import annotations

from typing import Final, NamedTuple

CHANGE: Final = "change"
"""It changes the state, by a patch or a snapshot."""


class StateChange(NamedTuple):
    """The part of a message that only the states of hubs read.

    Attributes:
        kind: what it does.
    """

    kind: str = CHANGE
