"""A transport that can't send without waiting: `send_nowait` only buffers, and a task flushes."""

from __future__ import annotations

import trio

from .._wire.message import Framing
from .base import Endpoint


class BufferedTransport:
    """Everything of a `Transport` that does not depend on what carries the bytes; the rest is a subclass's.

    A subclass has `_write`, which sends the pending bytes, and what concerns reading and closing. It sets
    `_is_broken` when nothing more may be written.
    """

    __slots__ = (
        "_is_broken",
        "_peer",
        "bytes_sent",
        "events_sent",
        "framing",
        "pending",
        "written_at",
    )

    def __init__(self, peer: str) -> None:
        self.framing = Framing.PLAIN
        self.pending: bytes | memoryview | None = None
        self.written_at = 0.0
        self.bytes_sent = 0
        self.events_sent = 0
        self._peer = peer
        self._is_broken = False

    @property
    def is_direct(self) -> bool:
        return False

    @property
    def is_secure(self) -> bool:
        return False

    @property
    def endpoints(self) -> tuple[Endpoint | None, Endpoint | None]:
        return None, None

    @property
    def peer_host(self) -> str:
        return self._peer

    @property
    def peer(self) -> str:
        return self._peer

    def send_nowait(self, payload: bytes, events: int, now: float) -> bool:
        self.events_sent += events
        self.bytes_sent += len(payload)
        self.pending = payload
        return False

    def flush_nowait(self, now: float) -> None:
        """Do nothing: sending has to wait."""

    async def flush_some(self) -> None:
        if self.pending is None:
            return
        if self._is_broken:
            raise trio.BrokenResourceError("an earlier write was cancelled or failed, or writing has ended")
        self._is_broken = True  # if the write is cancelled, nobody knows how much of it was sent
        await self._write(self.pending)
        self._is_broken = False
        self.pending = None
        self.written_at = trio.current_time()

    async def _write(self, payload: bytes | memoryview) -> None:
        """Send all of `payload`.

        Raises:
            trio.BrokenResourceError: the peer has disconnected.
        """
        raise NotImplementedError

    def receive_nowait(self) -> bytes | None:
        return None
