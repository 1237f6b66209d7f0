"""The write side of one HTTP/2 connection, which its streams share.

What the streams send in one round of the event loop goes out together: one write, and one TLS record where
it fits. While the peer's socket takes nothing, the streams keep what they have, as `pending` of their own.
So a connection holds no more than `FLUSH_SIZE` bytes of DATA, however many streams lag.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Protocol, final

import trio

from .._http2.error_code import ConnectionFault, ErrorCode
from .._http2.protocol import Http2Protocol
from .._http2.stream import Http2Stream
from .base import Transport
from .losses import PendingCut, WriteTimedOut
from .pending_bytes import PendingBytes, PendingSend

#: With so many bytes in the output, the round is not waited for.
FLUSH_SIZE = 64 * 1024

# How long a reset waits after the last DATA of its stream. Clients drop what they have received and not read
# when they learn of a reset: curl what came with it, Chromium what came in the millisecond before. So they
# would miss the time to reconnect that a drain sends.
_RESET_SECONDS = 0.05

# What may wait besides DATA while the peer takes nothing: answers to its PINGs and SETTINGS, and heads.
_MOST_WAITING = 512 * 1024

_numbers = count(1)


class WaitingStream(Protocol):
    """A stream that waits until it may send.

    Attributes:
        wanted: how many bytes it could send now, if the connection's window were open.
    """

    @property
    def wanted(self) -> int: ...

    def flush_nowait(self, now: float) -> None:
        """Send what it may send now."""

    def on_writable(self) -> None:
        """Called when it may."""


@final
class Http2Writer:
    """Writes what a connection's protocol has to send.

    Args:
        schedule: has `flush` called in the event loop's next round.
        start_flushing: starts a task that runs `flush_blocked`.
        start_resetting: starts a task that runs `send_resets`.

    Attributes:
        has_timed_out: the peer has accepted nothing for the write timeout.
        is_cut: too many bytes wait for slow peers, and this one is too slow.
        is_blocked: the transport has not taken all of the last write, so streams must not add DATA.
        is_scheduled: `flush` will be called.
        number: that of the connection in this process, from 1.
        peer: the client's address, for people to read; all streams share the string.
        waiting: the streams that wait until they may send, the longest first.
    """

    __slots__ = (
        "_resets",
        "_schedule",
        "_start_flushing",
        "_start_resetting",
        "_unblocked",
        "_write_timeout",
        "has_timed_out",
        "is_blocked",
        "is_cut",
        "is_scheduled",
        "number",
        "peer",
        "protocol",
        "transport",
        "waiting",
    )

    def __init__(
        self,
        transport: Transport,
        schedule: Callable[[Http2Writer], None],
        start_flushing: Callable[[], None],
        start_resetting: Callable[[], None],
        *,
        write_timeout: float,
    ) -> None:
        self.transport = transport
        self.protocol: Http2Protocol  # set by the code that makes both
        self.has_timed_out = False
        self.is_cut = False
        self.is_blocked = False
        self.is_scheduled = False
        self.number = next(_numbers)
        self.peer = transport.peer
        self.waiting: dict[WaitingStream, None] = {}
        self._schedule = schedule
        self._unblocked = trio.lowlevel.ParkingLot()
        self._start_flushing = start_flushing
        self._start_resetting = start_resetting
        self._resets: list[bytes] | None = None  # frames that wait; `None` while no task sends them
        self._write_timeout = write_timeout

    def schedule(self) -> None:
        """Have the output flushed in the next round."""
        if self.is_blocked:
            self._check_waiting()
        elif not self.is_scheduled:
            self.is_scheduled = True
            self._schedule(self)

    def _check_waiting(self) -> None:
        """End the connection of a peer that takes nothing, and asks for more and more."""
        protocol = self.protocol
        if protocol.output_size > _MOST_WAITING and not protocol.is_failed:
            protocol.fail(ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many answers wait"))

    def flush(self, now: float) -> None:
        """Write the output, as far as the transport takes it."""
        self.is_scheduled = False
        protocol = self.protocol
        if self.is_blocked:
            self._check_waiting()
            return
        if protocol.output and not self.transport.send_nowait(protocol.take_output(), 0, now):
            self.is_blocked = True
            self._start_flushing()

    async def flush_blocked(self, counts: PendingBytes) -> None:
        """Wait until the transport has taken all of the last write, then let the streams go on.

        Raises:
            trio.BrokenResourceError: the peer has disconnected, takes nothing for too long, or too many bytes
                wait for peers that read slowly.
        """
        try:
            await self._flush_blocked(counts)
        finally:
            self._unblocked.unpark_all()
        self.wake()

    async def _flush_blocked(self, counts: PendingBytes) -> None:
        transport = self.transport
        while transport.pending is not None:
            with PendingSend(counts, transport, transport.pending) as send:
                while transport.pending is not None:
                    with trio.move_on_after(self._write_timeout) as timeout:
                        await transport.flush_some()
                    if timeout.cancelled_caught:
                        self.has_timed_out = True
                        raise self.loss()
            if send.is_cut:
                self.is_cut = True
                raise self.loss()
            if self.protocol.output:
                transport.send_nowait(self.protocol.take_output(), 0, trio.current_time())
        self.is_blocked = False

    def loss(self) -> trio.BrokenResourceError:
        """Return what is raised by a stream whose connection has ended, or which the peer has reset."""
        if self.has_timed_out:
            return WriteTimedOut("the peer accepts no bytes")
        return PendingCut() if self.is_cut else trio.BrokenResourceError("the peer has reset the stream")

    def reset(self, stream: Http2Stream, code: ErrorCode, written_at: float) -> None:
        """End a stream that is open; tell the peer once it has had a moment to read what was written last."""
        frame = self.protocol.withdraw(stream, code)
        if trio.current_time() >= written_at + _RESET_SECONDS:
            self.protocol.add_output(frame)
        elif self._resets is not None:
            self._resets.append(frame)
        else:
            self._resets = [frame]
            self._start_resetting()

    async def send_resets(self) -> None:
        """Send the resets that wait. If this is cancelled, they are sent at once."""
        resets: list[bytes] = []
        try:
            while self._resets:
                resets, self._resets = self._resets, []
                await trio.sleep(_RESET_SECONDS)
                self.protocol.add_output(*resets)
                resets = []
        finally:
            self._resets = [*resets, *(self._resets or ())]
            self.send_resets_now()

    def send_resets_now(self) -> None:
        """Send the resets that wait, as the connection is about to be closed."""
        self.protocol.add_output(*(self._resets or ()))
        self._resets = None

    async def wait_unblocked(self) -> None:
        """Wait until the transport has taken everything, or never will."""
        await self._unblocked.park()

    def wake(self) -> None:
        """Let streams that wait send, as many as the window is for.

        If all of them were woken each time, a peer could open the window by one byte, and again, and have
        hundreds of tasks look for it. The one that has waited longest sends here: tasks run in any order, and
        another one could take the whole window each time.
        """
        if self.is_blocked:
            return  # `flush_blocked` wakes them
        left = self.protocol.window
        is_first = True
        for waiting in list(self.waiting):
            if left <= 0:
                return
            wanted = waiting.wanted
            if wanted > 0:
                left -= wanted
                if is_first:
                    waiting.flush_nowait(trio.current_time())
                    is_first = False
                waiting.on_writable()
