"""Reading runs that any program may have stored: one that cannot be read must not hide the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from .._logger import get_logger

logger = get_logger("trio_sse.runs")

T = TypeVar("T")


def run_or_none(id: str, read: Callable[..., T], *arguments: object) -> T | None:
    """Return what is read of a run; log it and return `None` if no node can have stored it."""
    try:
        return read(*arguments)
    except (TypeError, ValueError) as error:
        logger.error("the run %s in the store cannot be read: %s", id[:8], error)
        return None
