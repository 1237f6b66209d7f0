"""Cancellations that are not the test's."""

from __future__ import annotations

import threading

import trio


def foreign_cancellation() -> trio.Cancelled:
    """Return the exception that cancelled a task elsewhere, as code that shares results passes it on."""
    caught: list[trio.Cancelled] = []

    async def be_cancelled() -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.lowlevel.checkpoint()
            except trio.Cancelled as error:
                caught.append(error)
                raise

    thread = threading.Thread(target=trio.run, args=(be_cancelled,))
    thread.start()
    thread.join()
    return caught[0].with_traceback(None)
