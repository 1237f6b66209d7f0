"""What the supervisor of several workers counts; any worker exports it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import final


@final
class RestartReason(Enum):
    """Why a worker had to be restarted."""

    DRAINED = "drained"
    """It has ended by itself: somebody has sent it SIGTERM, or drained it from the console."""

    FAILED = "failed"
    """It has exited with an error."""

    CANNOT_RUN = "cannot_run"
    """It could not run at all: the log has refused it, for example."""

    CRASHED = "crashed"
    """A signal has ended it, such as SIGSEGV."""

    KILLED = "killed"
    """SIGKILL has ended it: the kernel, for lack of memory, or somebody has sent it, not the supervisor."""

    HUNG = "hung"
    """Its event loop was blocked for longer than `--worker-timeout`, and the supervisor has killed it."""

    NOT_STARTED = "not_started"
    """It has not accepted connections within `--start-timeout`, and the supervisor has killed it."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerCounts:
    """The workers of one supervisor.

    Attributes:
        wanted: how many there should be.
        serving: how many accept connections and have reached the log.
        restarts: how many had to be restarted, by the reason.
    """

    wanted: int
    serving: int
    restarts: Mapping[RestartReason, int]
