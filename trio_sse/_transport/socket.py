"""A plain socket as a `Transport`, written to without waiting."""

from __future__ import annotations

import array
import fcntl
import socket
import struct
import termios

import trio

from .._wire.message import Framing
from .base import RECEIVE_SIZE, Endpoint, read_to_end


class SocketTransport:
    """A connected, non-blocking TCP or Unix socket of the standard library, which the transport owns."""

    __slots__ = (
        "_address",
        "_discarded",
        "_is_broken",
        "bytes_sent",
        "events_sent",
        "framing",
        "pending",
        "socket",
        "written_at",
    )

    def __init__(self, connected: socket.socket, address: object) -> None:
        self.socket = connected
        self.framing = Framing.PLAIN
        self.pending: bytes | memoryview | None = None
        self.written_at = 0.0
        self.bytes_sent = 0
        self.events_sent = 0
        self._address = address
        self._is_broken = False
        self._discarded = 0

    @property
    def is_direct(self) -> bool:
        return True

    @property
    def is_secure(self) -> bool:
        return False

    @property
    def endpoints(self) -> tuple[Endpoint | None, Endpoint | None]:
        return _endpoint(self._address), _endpoint(self.socket.getsockname())

    @property
    def peer_host(self) -> str:
        return self._address[0] if isinstance(self._address, tuple) else "unix"

    @property
    def peer(self) -> str:
        if not isinstance(self._address, tuple):
            return "unix"
        host, port, *_ = self._address
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def send_nowait(self, payload: bytes, events: int, now: float) -> bool:
        # The hottest lines of the package: every delivery to a client that keeps up ends here.
        self.events_sent += events
        self.bytes_sent += len(payload)
        try:
            sent = self.socket.send(payload)
        except OSError as error:
            return self._keep(payload, error)
        self.written_at = now
        if sent == len(payload):
            return True
        self.pending = memoryview(payload)[sent:]
        return False

    def append_pending(self, payload: bytes, events: int) -> None:
        """Append `payload` to what is pending."""
        assert self.pending is not None
        self.events_sent += events
        self.bytes_sent += len(payload)
        self.pending = b"".join((self.pending, payload))

    def _keep(self, payload: bytes | memoryview, error: OSError) -> bool:
        self._is_broken = not isinstance(error, BlockingIOError)
        self.pending = payload
        return False

    def _send_pending(self, pending: bytes | memoryview, now: float) -> bool:
        """Send some of `pending` and keep the rest; return whether nothing is left."""
        try:
            sent = self.socket.send(pending)
        except OSError as error:
            return self._keep(pending, error)
        self.written_at = now
        self.pending = None if sent == len(pending) else memoryview(pending)[sent:]
        return self.pending is None

    def flush_nowait(self, now: float) -> None:
        if self.pending is not None and not self._is_broken:
            self._send_pending(self.pending, now)

    async def flush_some(self) -> None:
        if self.pending is None:
            return
        if not self._is_broken:
            await trio.lowlevel.wait_writable(self.socket)
            self.flush_nowait(trio.current_time())
        if self._is_broken:
            raise trio.BrokenResourceError("the peer has closed the connection")

    def receive_nowait(self) -> bytes | None:
        try:
            return self.socket.recv(RECEIVE_SIZE)
        except BlockingIOError:
            return None
        except OSError as error:
            raise trio.BrokenResourceError("the peer has reset the connection") from error

    async def receive_some(self) -> bytes:
        while (data := SocketTransport.receive_nowait(self)) is None:
            await trio.lowlevel.wait_readable(self.socket)
        return data

    async def discard_some(self) -> bool:
        count = len(await self.receive_some())
        self._discarded += count
        return count > 0

    def unread_bytes(self) -> int:
        count = array.array("i", [0])
        try:
            fcntl.ioctl(self.socket, termios.FIONREAD, count)
        except OSError:
            return self._discarded
        return self._discarded + count[0]

    def poll_input(self) -> bool:
        """Look at what has arrived, which stays unread; return whether the peer has ended its side in it.

        A closed socket is noticed without this.
        """
        return False

    async def linger(self) -> None:
        try:
            self.socket.shutdown(socket.SHUT_WR)
            await read_to_end(lambda: SocketTransport.receive_some(self))  # under TLS, without decrypting
        except (OSError, trio.BrokenResourceError):
            pass  # the peer has disconnected: nobody waits for the reply

    async def aclose(self, *, abort: bool = False) -> None:
        if self.socket.fileno() == -1:
            return
        self._is_broken = True  # for a task that is about to wait; notify_closing wakes the others
        trio.lowlevel.notify_closing(self.socket)
        if abort:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


def _endpoint(address: object) -> Endpoint | None:
    if isinstance(address, tuple):
        host, port, *_ = address
        return host, port
    return (address, None) if isinstance(address, str) and address else None
