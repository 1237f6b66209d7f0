"""What is raised where a run cannot be started, joined or continued."""

from __future__ import annotations

import random
from typing import final

from .._http.exceptions import HTTPException


@final
class RunGone(HTTPException):
    """There is no run with this id: it has ended, and the time for which it is kept is over.

    As a refusal it is answered with 410, after which clients do not try again.
    """

    def __init__(self) -> None:
        super().__init__(410, "there is no such run, or no longer")


@final
class RunLimitReached(HTTPException):
    """A bound is reached: runs in all or of one owner, or viewers of a run.

    As a refusal it is answered with 503, or with 429 for the bound of one owner.
    """

    def __init__(self, detail: str, status: int = 503) -> None:
        super().__init__(status, detail, {"Retry-After": str(random.randint(1, 10))})


@final
class RunFailed(Exception):
    """Raise it in a run's function to end the run as failed, with a reason that its clients receive.

    What other exceptions say is logged, and not sent to clients.
    """


@final
class RunTooLarge(Exception):
    """A run has reached its bound of bytes; raised by the method that would have passed it."""


@final
class RunRestarted(Exception):
    """What was read of a run is void: the store was restored to an older state, and the run's node has died.

    Read the run again from the start. Streams do so by themselves, by an event `run`.
    """


@final
class RunEnded(Exception):
    """The run has ended, so nothing can be added to it."""
