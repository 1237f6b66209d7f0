"""Joining what a handler sends in one go: the tokens of a model, the rows of an import.

Each write to a socket costs a call into the kernel, some ten times what an event costs otherwise. So after a
handler has sent an event, which goes out at once, what it sends right after that is gathered, and goes out in
one write when the other tasks have had their turn. Nobody waits for a timer: it is the event loop's next
round.

What is gathered has been accepted, as what a kernel's buffer has. It is sent before anything else is written
to the connection, and before its end.
"""

from __future__ import annotations

from typing import Protocol, final

import trio

# So much is gathered at most before the handler has to let others run: some half a millisecond of its time,
# and 64 KiB of memory. A larger event gains nothing by it.
_MOST_EVENTS = 64
_LARGEST_EVENT = 1024


class CoalescedWriter(Protocol):
    """A connection, to the coalescer."""

    def send_coalesced(self, payload: bytes, events: int, now: float) -> bool:
        """Send what was gathered; return whether somebody has to wait to send the rest."""

    def flush_soon(self) -> None:
        """Have the rest sent by a task of its own."""


@final
class WriteCoalescer:
    """Gathers the events of connections that have written in this round of the event loop."""

    def __init__(self) -> None:
        self._waiting: dict[CoalescedWriter, list[bytes]] = {}
        self._wake_up = trio.lowlevel.ParkingLot()

    def begin(self, connection: CoalescedWriter) -> None:
        """Gather what the connection sends in the rest of this round."""
        self._waiting[connection] = []
        self._wake_up.unpark_all()

    def pending(self, connection: CoalescedWriter) -> list[bytes] | None:
        """Give what is gathered of a connection; `None` if nothing is to be."""
        return self._waiting.get(connection)

    def append(self, connection: CoalescedWriter, payload: bytes) -> bool:
        """Gather one more event, if that is to be done; return whether it was."""
        gathered = self._waiting.get(connection)
        if gathered is None or len(gathered) >= _MOST_EVENTS or len(payload) > _LARGEST_EVENT:
            return False
        gathered.append(payload)
        return True

    def flush(self, connection: CoalescedWriter) -> bool:
        """Send what is gathered of a connection, and gather no more; return whether it was open."""
        gathered = self._waiting.pop(connection, None)
        if gathered:
            connection.send_coalesced(b"".join(gathered), len(gathered), trio.current_time())
        return gathered is not None

    async def run(self) -> None:
        """Send what is gathered, round by round, until cancelled."""
        while True:
            if not self._waiting:
                await self._wake_up.park()
            gathered, self._waiting = self._waiting, {}
            now = trio.current_time()
            for connection, payloads in gathered.items():
                if payloads and connection.send_coalesced(b"".join(payloads), len(payloads), now):
                    connection.flush_soon()
            await trio.lowlevel.checkpoint()
