"""Saying, once, that an app needs asyncio, which no server on Trio has.

Such an app fails with errors that do not say so. asyncio finds no event loop, and its locks, events and
queues fail with an attribute of `None`; Trio cannot wait for what it was given.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import final

from .._groups import leaf_exceptions
from .._logger import get_logger

logger = get_logger("trio_sse.app")

_SIGNS = (
    (RuntimeError, "no running event loop"),
    (RuntimeError, "no current event loop"),
    (AttributeError, "'NoneType' object has no attribute 'create_future'"),
    (TypeError, "trio.run received unrecognized yield message"),
)

# How far to look for the reason of an exception: a chain may be a circle.
_MOST_CAUSES = 20


@final
class AsyncioAdvice:
    """Looks at the failures of one app."""

    def __init__(self) -> None:
        self._was_given = False

    def note(self, failure: BaseException) -> None:
        """Say that the app needs asyncio, if this failure shows it and it was not said before."""
        if not self._was_given and any(map(_is_sign, _causes(failure))):
            self._was_given = True
            logger.error(
                "the app needs asyncio, but this server runs it on Trio: "
                "run it on a server for asyncio, such as uvicorn, or let it use AnyIO or Trio"
            )


def _is_sign(error: BaseException) -> bool:
    return any(isinstance(error, kind) and text in str(error) for kind, text in _SIGNS)


def _causes(failure: BaseException) -> Iterator[BaseException]:
    """Yield what a failure consists of and was raised because of."""
    leaves = leaf_exceptions(failure) if isinstance(failure, BaseExceptionGroup) else [failure]
    for leaf in leaves:
        cause: BaseException | None = leaf
        for _ in range(_MOST_CAUSES):
            if cause is None:
                break
            yield cause
            cause = cause.__cause__ or cause.__context__
