"""How far the pump is: up to which position every subscriber has received what is its own.

While a batch is being delivered, the log is ahead of the subscribers that have not received it yet. A cursor
must not pass an event that was not written to its client. So it is the log's end between two batches, and
the end of the batch before while one is being delivered.
"""

from __future__ import annotations

from typing import final

from .._log.memory import MemoryLog
from .._wire.cursor import Cursor
from .._wire.message import Message


@final
class Progress:
    """Which batches all subscribers have received."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log
        self._is_delivering = False
        self._began_at = 0.0
        self._settled: Message | None = None  # the newest of the batches that were delivered
        self._end = Cursor(-1, "")  # the log's end when it was asked for last, shared by all readers
        self._end_epoch = ""

    def begin(self, now: float) -> None:
        """Record that the pump begins to place and deliver a batch."""
        self._is_delivering = True
        self._began_at = now

    def settle(self, newest: Message | None) -> None:
        """Record that the batch was delivered; `newest` is its last message."""
        self._is_delivering = False
        if newest is not None:
            self._settled = newest

    def restart(self) -> None:
        """Record that the log has lost continuity: earlier positions mean nothing any more."""
        self._settled = None
        self._end_epoch = ""

    @property
    def end(self) -> Cursor:
        """The log's end."""
        log = self._log
        if self._end.position != log.last or self._end_epoch is not log.epoch:
            self._end, self._end_epoch = Cursor(log.last, log.last_id), log.epoch
        return self._end

    def cursor(self, position: int, written_at: float) -> Cursor | None:
        """Return the cursor of a reader that has received everything that was delivered to it.

        Return `None` if it is not known now.

        Args:
            position: a position that it is known to have reached.
            written_at: when it was last written to.
        """
        last = self._log.last
        if not self._is_delivering or last == position:
            return self.end if last >= position else None
        settled = self._settled
        if settled is None or settled.sequence < position or written_at >= self._began_at:
            return None  # it may have received a part of the batch, and must not fall behind that
        return Cursor(settled.sequence, settled.id)
