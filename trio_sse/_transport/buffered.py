"""A transport that cannot send without waiting: `send_nowait` only buffers, and a task flushes."""

from __future__ import annotations

import copy
import ssl
import sys
from typing import ClassVar, Self

import trio

from .._wire.message import Framing
from .base import (
    DisconnectListener,
    Endpoint,
    HandleState,
    RequestOrigin,
    describe_endpoint,
    not_free,
    not_owned,
)
from .pace import Progress


class BufferedTransport:
    """Everything of a `Transport` that does not depend on what carries the bytes; the rest is a subclass's.

    A subclass has `_write`, which sends the pending bytes, `_receive`, which reads, and `_close`. `_release`
    drops what only the owner may have.
    """

    __slots__ = (
        "_interruption",
        "_is_broken",
        "_peer",
        "_waiting",
        "bytes_sent",
        "events_sent",
        "framing",
        "origin",
        "pending",
        "state",
        "written_at",
    )

    #: Of a longer payload, so many bytes are written at a time: the peer is known to have taken those.
    most_at_once: ClassVar[int] = sys.maxsize

    def __init__(self, peer: str) -> None:
        self.state = HandleState.OWNED
        self.framing = Framing.PLAIN
        self.pending: bytes | memoryview | None = None
        self.written_at = 0.0
        self.bytes_sent = 0
        self.events_sent = 0
        self.origin: RequestOrigin | None = None
        self._peer = peer
        self._interruption: trio.CancelScope | None = None  # of the task that may be interrupted
        self._is_broken = False
        self._waiting = 0  # tasks that wait in it

    @property
    def is_direct(self) -> bool:
        return False

    @property
    def is_watchable(self) -> bool:
        return False

    @property
    def speaker(self) -> str | None:
        return self._peer

    @property
    def is_secure(self) -> bool:
        return self.origin is not None and bool(self.origin.is_secure)

    @property
    def connection_number(self) -> int:
        return 0

    @property
    def tls_session(self) -> ssl.SSLObject | None:
        return None

    @property
    def endpoints(self) -> tuple[Endpoint | None, Endpoint | None]:
        return (None, None) if self.origin is None else (self.origin.client, self.origin.server)

    @property
    def peer_host(self) -> str:
        client, _ = self.endpoints
        return self._peer if client is None else client[0]

    @property
    def peer(self) -> str:
        client, _ = self.endpoints
        return self._peer if client is None else describe_endpoint(client)

    # The owner

    def hand_over(self) -> Self:
        if self._waiting or self.state is not HandleState.OWNED:
            raise not_free(self.state)
        new = copy.copy(self)
        self.state = HandleState.MOVED
        self.pending = None
        self._release()
        return new

    def watch(self, listener: DisconnectListener) -> None:
        """Do nothing: a task has to read."""

    def watch_soon(self, listener: DisconnectListener) -> None:
        """Do nothing, as `watch` does."""

    def unwatch(self) -> None:
        """Do nothing: nobody watches."""

    def _release(self) -> None:
        """Drop what only the owner may have."""

    # Writing

    def send_nowait(self, payload: bytes, events: int, now: float) -> bool:
        self.events_sent += events
        self.bytes_sent += len(payload)
        self.pending = payload
        return False

    def begin_send(self, payload: bytes, events: int, now: float) -> bool:
        return self.send_nowait(payload, events, now)

    def flush_nowait(self, now: float) -> None:
        """Do nothing: sending has to wait."""

    async def flush_some(self) -> None:
        if self.state is not HandleState.OWNED:
            raise not_owned(self.state)
        if self.pending is None:
            return
        if self._is_broken:
            raise trio.BrokenResourceError("an earlier write was cancelled or failed, or writing has ended")
        piece, rest = self.pending, None
        if len(piece) > self.most_at_once:
            view = memoryview(piece)
            piece, rest = view[: self.most_at_once], view[self.most_at_once :]
        self._is_broken = True  # if the write is cancelled, nobody knows how much of it was sent
        self._waiting += 1
        try:
            await self._write(piece)
        finally:
            self._waiting -= 1
        self._is_broken = False
        self.pending = rest
        self.written_at = trio.current_time()

    async def _write(self, payload: bytes | memoryview) -> None:
        """Send all of `payload`.

        Raises:
            trio.BrokenResourceError: the peer has disconnected.
        """
        raise NotImplementedError

    def progress(self) -> Progress:
        return Progress(self.written_at, self.bytes_sent - len(self.pending or b""))

    def end_response(self) -> None:
        """Do nothing: the bytes say it."""

    # Reading

    def receive_nowait(self) -> bytes | None:
        if self.state is not HandleState.OWNED:
            raise not_owned(self.state)
        return None

    async def receive_some(self) -> bytes:
        if self.state is not HandleState.OWNED:
            raise not_owned(self.state)
        self._waiting += 1
        try:
            return await self._receive()
        finally:
            self._waiting -= 1

    async def receive_unless_interrupted(self) -> bytes | None:
        with trio.CancelScope() as self._interruption:
            return await self.receive_some()
        return None

    def interrupt(self) -> None:
        if self._interruption is not None:
            self._interruption.cancel()

    async def _receive(self) -> bytes:
        """Wait for bytes from the peer; raises what `receive_some` does of a connection that it owns."""
        raise NotImplementedError

    # The end

    async def aclose(self, *, abort: bool = False) -> None:
        if self.state is HandleState.OWNED:
            self.state = HandleState.CLOSED
            try:
                await self._close(abort=abort)
            finally:
                self._release()

    async def _close(self, *, abort: bool) -> None:
        """Close what carries the bytes."""
