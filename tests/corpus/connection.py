"""A connection in memory: the server's side reads what was written for it, in pieces of any size."""

from __future__ import annotations

import trio


class ScriptedStream(trio.abc.HalfCloseableStream):
    """What the server reads from and writes to.

    Args:
        piece: how many bytes it reads at once.
        first: how many it reads at once at the beginning, if that is more.

    Attributes:
        sent: what the server has sent.
        is_ended: whether the server sends no more.
        is_closed: whether it has closed the connection.
    """

    def __init__(self, piece: int, first: int = 0) -> None:
        self.sent = bytearray()
        self.is_ended = False
        self.is_closed = False
        self._piece = piece
        self._first = first
        self._unread = b""
        self._place = 0
        self._is_at_end = False
        self._changed = trio.lowlevel.ParkingLot()

    def write(self, data: bytes) -> None:
        """Let the server read more."""
        self._unread += data
        self._changed.unpark_all()

    def end(self) -> None:
        """Let the server read the end, after the rest."""
        self._is_at_end = True
        self._changed.unpark_all()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return the next piece, or wait for it."""
        await trio.lowlevel.checkpoint()
        while self._place == len(self._unread):
            if self._is_at_end:
                return b""
            await self._changed.park()
        size = max(self._piece, self._first - self._place)
        data = self._unread[self._place : self._place + min(size, max_bytes or size)]
        self._place += len(data)
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Take what the server sends."""
        assert not self.is_ended
        await trio.lowlevel.checkpoint()
        self.sent += data

    async def wait_send_all_might_not_block(self) -> None:
        """Return at once."""
        await trio.lowlevel.checkpoint()

    async def send_eof(self) -> None:
        """Note that the server sends no more."""
        self.is_ended = True
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """Note that the server has closed the connection."""
        self.is_ended = self.is_closed = True
        await trio.lowlevel.checkpoint()
