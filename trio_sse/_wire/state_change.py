"""What a message does to the state that is its topic."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple, final


@final
class ChangeKind(Enum):
    """What a message of a state does."""

    CHANGE = "change"
    """It changes the state, by a patch or a snapshot, and subscribers receive it."""

    SET = "set"
    """As a change, and it replaces the whole value."""

    REPEAT = "repeat"
    """It repeats the state, for the hubs that start later."""

    INITIAL = "initial"
    """It is what a hub begins the state with, since the log has none. A hub that knows better replaces it."""

    REQUEST = "request"
    """It asks the other hubs to repeat the state, since the log does not have it any more."""

    PRESENCE = "presence"
    """An entry that names the members of presence lists that are on one hub, for the other hubs."""

    REVOKE = "revoke"
    """It ends the streams of an identity, on all hubs."""

    NODES = "nodes"
    """It asks the other nodes for something."""

    SIGNAL = "signal"
    """An entry for the other hubs, which no subscriber receives."""


class StateChange(NamedTuple):
    """The part of a message that only the states of hubs read.

    Attributes:
        kind: what it does.
        base: the version of the state that it follows: the epoch and the number of the log's entry that made
            it, empty before the first one. If another version is the newest, nothing is changed. `None` if it
            applies to any version, which only a snapshot does.
        token: which hub made it, and as which one, so that the hub finds it again.
        seen: the newest entry of the log, of any topic, that the hub had read when it made this: its epoch
            and number. Up to it, nothing but `base` was the state's newest version.
    """

    kind: ChangeKind = ChangeKind.CHANGE
    base: str | None = None
    token: str = ""
    seen: str = ""

    @property
    def is_sent(self) -> bool:
        """Whether subscribers receive it, if their hub does not have the topic as a state."""
        return self.kind in (ChangeKind.CHANGE, ChangeKind.SET)
