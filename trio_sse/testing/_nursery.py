"""A nursery for a test's helpers, which end with the test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def open_nursery() -> AsyncIterator[trio.Nursery]:
    """Open a nursery that is cancelled at the end of its block, and raises the block's exception unwrapped.

    So a test's report shows its failed assertion, and `pytest.raises` finds the error outside a group.
    """
    own: Exception | None = None
    try:
        async with trio.open_nursery() as nursery:
            try:
                yield nursery
            except Exception as error:
                own = error  # raised below, outside the nursery
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        if own is not None:
            raise BaseExceptionGroup(group.message, [own, *group.exceptions]) from None
        raise
    if own is not None:
        raise own
