"""Coalescing: what a handler sends back to back (a model's tokens, an import's rows) goes out in few writes.

A write to a socket is a system call, which costs about ten times what the rest of an event does. So the
first event goes out at once. What the handler sends right after it is buffered, and goes out in one write
when the other tasks have run. Nothing waits for a timer, only for the event loop's next round.

Buffered events count as sent, like bytes in a kernel's buffer. They go out before anything else is written
to the stream, and before its end.
"""

from __future__ import annotations

from typing import Protocol, final

import trio

# The most that is buffered before the handler has to let other tasks run: about half a millisecond of its
# time, and 64 KiB of memory. Larger events gain nothing from coalescing.
_MOST_EVENTS = 64
_LARGEST_EVENT = 1024


class CoalescedWriter(Protocol):
    """What the coalescer needs of a stream."""

    def send_coalesced(self, payload: bytes, events: int, now: float) -> bool:
        """Send what was buffered; return whether a task has to wait to send the rest."""

    def flush_soon(self) -> None:
        """Start a task that sends the rest."""


class SharedWriter(Protocol):
    """What several streams write to, such as their connection."""

    def flush(self, now: float) -> None:
        """Send what they have written."""


# After so many writes, other tasks run.
_FLUSHES_PER_CHECKPOINT = 64


@final
class WriteCoalescer:
    """Buffers the events of streams that have written in this round of the event loop."""

    def __init__(self) -> None:
        self._pending: dict[CoalescedWriter, list[bytes]] = {}
        self._shared: list[SharedWriter] = []
        self._wake_up = trio.lowlevel.ParkingLot()

    def begin(self, writer: CoalescedWriter) -> None:
        """Buffer what this stream sends in the rest of the round; nothing may be buffered for it."""
        self._pending[writer] = []
        self._wake_up.unpark_all()

    def pending(self, writer: CoalescedWriter) -> list[bytes] | None:
        """Return what is buffered for a stream; `None` if its events are not coalesced now."""
        return self._pending.get(writer)

    def append(self, writer: CoalescedWriter, payload: bytes) -> bool:
        """Buffer one more event, if the stream's events are coalesced now; return whether it did."""
        payloads = self._pending.get(writer)
        if payloads is None or len(payloads) >= _MOST_EVENTS or len(payload) > _LARGEST_EVENT:
            return False
        payloads.append(payload)
        return True

    def flush(self, writer: CoalescedWriter) -> bool:
        """Send what is buffered for a stream, and buffer no more; return whether it was coalesced."""
        payloads = self._pending.pop(writer, None)
        if payloads:
            writer.send_coalesced(b"".join(payloads), len(payloads), trio.current_time())
        return payloads is not None

    def flush_later(self, writer: SharedWriter) -> None:
        """Have a writer flushed when the other tasks have run. It must not be waiting for that already."""
        if not self._shared:  # otherwise the task is awake
            self._wake_up.unpark_all()
        self._shared.append(writer)

    async def run(self) -> None:
        """Send what is buffered, once in each round, until cancelled."""
        while True:
            if not (self._pending or self._shared):
                await self._wake_up.park()
            pending, self._pending = self._pending, {}
            now = trio.current_time()
            for writer, payloads in pending.items():
                if payloads and writer.send_coalesced(b"".join(payloads), len(payloads), now):
                    writer.flush_soon()
            if self._shared:
                await self._flush_shared()  # with what was just written
            await trio.lowlevel.checkpoint()

    async def _flush_shared(self) -> None:
        shared, self._shared = self._shared, []
        now = trio.current_time()
        for number, writer in enumerate(shared, 1):
            writer.flush(now)
            if not number % _FLUSHES_PER_CHECKPOINT:
                await trio.lowlevel.checkpoint()
                now = trio.current_time()
