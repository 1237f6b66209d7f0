"""Signals: those that end a server, and those that a supervisor waits for."""

from __future__ import annotations

import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager

import trio

from .._logger import get_logger

logger = get_logger("trio_sse.program")


async def drain_on_signal(
    signals: AsyncIterator[int],
    drain: Callable[[], Awaitable[None]],
    reload: Callable[[], None],
    nursery: trio.Nursery,
) -> None:
    """Drain in a nursery on SIGTERM or SIGINT, and cancel it if SIGINT follows. Reload on SIGHUP."""
    is_draining = False
    async for number in signals:
        name = signal.Signals(number).name
        if number == signal.SIGHUP:
            if not is_draining:
                reload()
            continue
        if is_draining:
            if number == signal.SIGINT:
                logger.warning("second %s: stopping at once", name)
                nursery.cancel_scope.cancel()
                return
            continue
        is_draining = True
        logger.info("%s: draining; send SIGINT to stop at once", name)
        nursery.start_soon(drain)


@contextmanager
def signals_to_socket(numbers: Collection[signal.Signals]) -> Iterator[socket.socket]:
    """Write these signals' numbers to a socket, a byte each, and do nothing else when they arrive."""
    reading, writing = socket.socketpair()
    for end in (reading, writing):
        end.setblocking(False)
    before = {number: signal.signal(number, lambda *_: None) for number in numbers}
    previous = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
    try:
        yield reading
    finally:
        signal.set_wakeup_fd(previous)
        for number, handler in before.items():
            signal.signal(number, handler)
        reading.close()
        writing.close()
