"""What a run's state can be, and how runs are described to their users."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, final


@final
class RunStatus(Enum):
    """The states of a run; the value is what clients receive."""

    PENDING = "pending"
    """It waits to begin, or, if it is resumable, for another node after its own has died."""

    RUNNING = "running"
    """Its function runs."""

    FINISHED = "finished"
    """Its function has returned."""

    FAILED = "failed"
    """Its function has raised an exception, or took too long."""

    CANCELLED = "cancelled"
    """It was cancelled: by `cancel`, because nobody watched it, or because the server was shut down."""

    LOST = "lost"
    """Its node died."""

    @property
    def is_end(self) -> bool:
        """Whether a run in this state has ended."""
        return self not in (RunStatus.PENDING, RunStatus.RUNNING)


class RunEnd(NamedTuple):
    """How a run has ended.

    Attributes:
        status: one for which `is_end` is true.
        reason: why, for people to read; `None` if it has finished.
        result: what its function has returned, as JSON; `None` for nothing.
        at: when, in seconds since 1970.
    """

    status: RunStatus
    reason: str | None
    result: str | None
    at: float


@final
@dataclass(frozen=True, slots=True)
class RunInfo:
    """A run at one moment.

    Attributes:
        id: its id, which is as hard to guess as a password.
        owner: who has started it, as was passed to `Runs.start`.
        status: its state.
        reason: why it has ended; `None` if it has finished, or has not ended.
        created_at, ended_at: in seconds since 1970.
        viewers: how many streams show it on this node.
        size: the bytes of its texts, events and state; each event counts as 200 more.
    """

    id: str
    owner: str | None
    status: RunStatus
    reason: str | None
    created_at: float
    ended_at: float | None
    viewers: int
    size: int
