"""What an `EventSource` does, and how it reports that."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import final

#: What is reported when a stream has ended by itself.
STREAM_ENDED = "the stream has ended"


@final
class SourceStatus(Enum):
    """The states of an `EventSource`."""

    CONNECTING = "connecting"
    """A request is on its way."""

    OPEN = "open"
    """The response is an event stream."""

    WAITING = "waiting"
    """It waits before the next attempt."""

    CLOSED = "closed"
    """It was left, was refused, or the server has no more events."""


#: Called with the new status, and a line about why, for people to read.
OnStatus = Callable[[SourceStatus, str], None]
