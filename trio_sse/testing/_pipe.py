"""A connection in memory with a bound, as a socket has: a writer waits until the reader has made room.

Invariant: at most `capacity` bytes of each direction are in memory.
"""

from __future__ import annotations

from typing import final

import trio

#: Bytes of each direction, as `Server(send_buffer=)` asks of a socket.
CAPACITY = 64 * 1024


@final
class _Direction:
    """What one side has written and the other has not read."""

    def __init__(self, capacity: int) -> None:
        self.data = bytearray()
        self.is_ended = False  # by its writer
        self.is_unread = False  # its reader has left
        self.changed = trio.lowlevel.ParkingLot()
        self._capacity = capacity

    @property
    def room(self) -> int:
        return self._capacity - len(self.data)

    def end(self) -> None:
        self.is_ended = True
        self.changed.unpark_all()

    def leave(self) -> None:
        self.is_unread = True
        self.data.clear()
        self.changed.unpark_all()


@final
class PipeEnd(trio.abc.HalfCloseableStream):
    """One end of a connection in memory.

    A cancelled `send_all` has written a part; a cancelled `receive_some` has read nothing.
    """

    def __init__(self, incoming: _Direction, outgoing: _Direction) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._is_closed = False
        self._fault: Exception | None = None
        self._is_short = False  # the next write sends a part before it fails

    @property
    def is_closed(self) -> bool:
        """Whether this end was closed, or the connection reset from here."""
        return self._is_closed

    def fail(self, error: Exception, *, is_short: bool = False) -> None:
        """Let every operation of this end fail from now on, also those that wait.

        Args:
            is_short: the next write sends half of its bytes, as far as there is room, and then fails.
        """
        self._fault, self._is_short = error, is_short
        self._incoming.changed.unpark_all()
        self._outgoing.changed.unpark_all()

    def reset(self) -> None:
        """Break the connection: both ends fail, and what has not been read is lost."""
        for direction in (self._incoming, self._outgoing):
            direction.leave()
        self._outgoing.end()
        self._is_closed = True

    def _check(self) -> None:
        if self._fault is not None:
            raise self._fault
        if self._is_closed:
            raise trio.ClosedResourceError("this end of the connection is closed")

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Write all of `data`, as the reader makes room for it."""
        await trio.lowlevel.checkpoint()
        rest = memoryview(data).cast("B")
        if self._is_short:
            self._is_short = False
            self._write(rest[: len(rest) // 2])
        while True:
            await self.wait_send_all_might_not_block()
            if self._outgoing.is_ended and rest:
                raise trio.ClosedResourceError("this end has sent its end")
            rest = rest[self._write(rest) :]
            if not rest:
                return

    def _write(self, data: memoryview) -> int:
        """Write as much as there is room for; return how many bytes that were."""
        taken = b"" if self._outgoing.is_unread or self._outgoing.is_ended else data[: self._outgoing.room]
        self._outgoing.data += taken
        self._outgoing.changed.unpark_all()
        return len(taken)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until there is room."""
        self._check()
        while not self._outgoing.is_unread and self._outgoing.room <= 0:
            await self._outgoing.changed.park()
            self._check()
        if self._outgoing.is_unread:
            raise trio.BrokenResourceError("the peer has closed the connection")

    async def send_eof(self) -> None:
        """End this direction; the other one goes on."""
        await trio.lowlevel.checkpoint()
        self._check()
        self._outgoing.end()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return what has arrived, at most `max_bytes`; nothing at the end."""
        await trio.lowlevel.checkpoint()
        self._check()
        incoming = self._incoming
        while not incoming.data and not incoming.is_ended and not incoming.is_unread:
            await incoming.changed.park()
            self._check()
        if incoming.is_unread:
            raise trio.BrokenResourceError("the peer has reset the connection")
        received = bytes(incoming.data[:max_bytes])
        del incoming.data[: len(received)]
        incoming.changed.unpark_all()
        return received

    def close(self) -> None:
        """Close this end: the peer can read what was written, and nothing that it writes is read."""
        if not self._is_closed:
            self._is_closed = True
            self._outgoing.end()
            self._incoming.leave()

    async def aclose(self) -> None:
        """Close this end, at once; then give other tasks a turn."""
        self.close()
        await trio.lowlevel.checkpoint()


def open_pipe(capacity: int = CAPACITY) -> tuple[PipeEnd, PipeEnd]:
    """Return the two ends of a connection in memory.

    Args:
        capacity: bytes of each direction that are written and not read.
    """
    one, other = _Direction(capacity), _Direction(capacity)
    return PipeEnd(one, other), PipeEnd(other, one)
