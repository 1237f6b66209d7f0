"""What all tasks that serve requests have in common: a boundary for errors, and a name."""

from __future__ import annotations

from collections.abc import Callable

import trio

from .._groups import split_failure
from .._logger import get_logger
from .._transport.base import Transport

logger = get_logger("trio_sse.server")


def contain_failure(failure: BaseException, transport: Transport) -> None:
    """Log what went wrong with a connection; raise only what must pass; see `split_failure`."""
    passing, contained = split_failure(failure)
    if contained is not None:
        logger.error("serving peer=%s failed", transport.peer, exc_info=contained)
    if passing is not None:
        raise passing from None


def name_task(handler: Callable[..., object]) -> None:
    """Name the task after its handler, for the watchdog and for tools that list tasks.

    The name stays until the next request, as the watchdog looks after a step: by then the handler may have
    returned.
    """
    trio.lowlevel.current_task().name = getattr(handler, "__qualname__", repr(handler))
