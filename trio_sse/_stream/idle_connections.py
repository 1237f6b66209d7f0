"""Waiting for the next request or message of a connection, within a time, without a cancel scope for each.

A cancel scope with a deadline costs more than all else that such a wait needs. But all of a server's
connections may be idle for the same time, so the one that waits the longest is always the first whose time is
over: one task looks after all of them.
"""

from __future__ import annotations

from typing import NoReturn, final

import trio

from .._transport.base import Transport


@final
class IdleConnections:
    """The connections of one call to serve that wait for their next request, or their next message."""

    def __init__(self) -> None:
        self._deadlines: dict[Transport, float] = {}  # the earliest first
        self._has_some = trio.lowlevel.ParkingLot()

    async def receive(self, transport: Transport, seconds: float) -> bytes | None:
        """Wait for bytes, as `Transport.receive_some` does; return `None` when the time is over.

        Args:
            seconds: how long to wait, which is the same in each call.
        """
        self._deadlines[transport] = trio.current_time() + seconds
        if self._has_some:
            self._has_some.unpark_all()
        try:
            return await transport.receive_unless_interrupted()
        finally:
            self._deadlines.pop(transport, None)

    def interrupt_all(self) -> None:
        """Let each wait end now, as if its time was over."""
        for transport in list(self._deadlines):
            transport.interrupt()

    async def run(self) -> NoReturn:
        """End the waits whose time is over, until cancelled."""
        while True:
            while self._deadlines:
                transport, deadline = next(iter(self._deadlines.items()))
                if deadline <= trio.current_time():
                    del self._deadlines[transport]
                    transport.interrupt()
                else:
                    await trio.sleep_until(deadline)
            await self._has_some.park()
