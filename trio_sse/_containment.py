"""The hub's error boundary: what the code of one subscriber or application raises ends nothing else.

Only Trio's cancellation and `KeyboardInterrupt` pass; everything else is logged, also if it is not an
`Exception`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from ._groups import split_failure
from ._logger import get_logger

logger = get_logger("trio_sse.hub")


class CanBeCutOff(Protocol):
    """A subscriber whose delivery has failed."""

    def cut_off(self) -> None:
        """End it, since the next event cannot be delivered."""


@contextmanager
def contained(what: str) -> Iterator[None]:
    """Log what the code in the context raises, as an error with this text; raise only what must pass."""
    try:
        yield
    except BaseException as failure:
        contain(failure, what)


def contain(failure: BaseException, what: str) -> None:
    """Log what was raised, as an error with this text; raise only what must pass."""
    passing, rest = split_failure(failure)
    if rest is not None:
        logger.error(what, exc_info=rest)
    if passing is not None:
        raise passing


def cut_off_alone(subscriber: CanBeCutOff, failure: BaseException) -> None:
    """Cut off a subscriber whose delivery has raised this; call it where the exception is handled."""
    contain(failure, f"delivery failed, ending {subscriber!r}")
    with contained("cutting off a subscriber failed"):
        subscriber.cut_off()
