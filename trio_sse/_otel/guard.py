"""The boundary to the SDK: its samplers, processors and propagators are the application's, and may fail."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from .._groups import split_failure
from .._logger import get_logger
from .._logging.repeats import RepeatLimit

logger = get_logger("trio_sse.tracing")

_repeats = RepeatLimit(most=1, seconds=60.0)


@contextmanager
def guarded(what: str) -> Iterator[None]:
    """Log what the code in the context raises, once a minute; raise only what must pass."""
    try:
        yield
    except BaseException as failure:
        passing, contained = split_failure(failure)
        if contained is not None:
            left_out = _repeats.admit(what, monotonic())
            if left_out is not None:
                logger.error("%s failed, %d times since the last line", what, left_out, exc_info=contained)
        if passing is not None:
            raise passing from None
