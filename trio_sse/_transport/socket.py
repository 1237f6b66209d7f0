"""What a connection writes to and reads from: a plain socket, or any Trio stream.

The write side has one rule. `send_nowait` takes the whole payload, always: what doesn't go out at once is
kept as `pending`, and while there is something pending nothing else may be sent. A task then calls
`flush_some` until nothing is pending. As the leftover belongs to the transport, bytes never get lost or
out of order when the write side passes between the hub's pump and the connection's task.

After `flush_some` was cancelled or has failed, the transport is only fit to be closed.
"""

from __future__ import annotations

import array
import fcntl
import socket
import struct
import termios
from typing import Protocol, final

import trio

from .._wire.message import Framing

_RECEIVE_SIZE = 16 * 1024

# A reply to a request that was not read to its end is lost if the socket is closed while bytes of the
# request are unread: the kernel then sends RST. So they are read, for a while (RFC 9112, 9.6).
_LINGER_SECONDS = 1.0
_LINGER_BYTES = 256 * 1024


Endpoint = tuple[str, int | None]


class Transport(Protocol):
    """One peer, whatever carries the bytes.

    Attributes:
        framing: how the body under way is framed.
        pending: what has been taken but has not gone out; `None` if nothing.
        written_at: when bytes last went out, in Trio's time.
        bytes_sent, events_sent: what has been taken to be sent since the connection began.
        is_direct: whether `send_nowait` can send. Otherwise it only takes.
    """

    framing: Framing
    pending: bytes | memoryview | None
    written_at: float
    bytes_sent: int
    events_sent: int

    @property
    def is_direct(self) -> bool: ...

    @property
    def peer_host(self) -> str:
        """The peer's address, without its port."""

    @property
    def is_secure(self) -> bool:
        """Whether it is under TLS, as far as that can be told."""

    @property
    def endpoints(self) -> tuple[Endpoint | None, Endpoint | None]:
        """The peer's host and port, and ours; `None` where there are none."""

    @property
    def peer(self) -> str:
        """The peer's address for people to read."""

    def send_nowait(self, payload: bytes, events: int, now: float) -> bool:
        """Take `payload`, with `events` events in it; return whether all of it has gone out.

        Nothing may be pending. It never raises: on a broken transport everything stays pending.
        """

    def flush_nowait(self, now: float) -> None:
        """Send what can be sent now of what is pending, if anything is; not while a task flushes."""

    async def flush_some(self) -> None:
        """Wait until something that is pending could be sent, and send it.

        Raises:
            trio.BrokenResourceError: the peer is gone.
        """

    def receive_nowait(self) -> bytes | None:
        """Give bytes that have come from the peer, as `receive_some` does; `None` if it has to wait."""

    async def receive_some(self) -> bytes:
        """Wait for bytes from the peer; none mean that it has ended its side.

        Raises:
            trio.BrokenResourceError: the peer is gone.
        """

    async def discard_some(self) -> bool:
        """Receive bytes only to throw them away; return whether there were any, as `receive_some` does."""

    def unread_bytes(self) -> int:
        """How many bytes have come that nobody looked at, as far as that can be told.

        After some were discarded, no request that follows can be trusted to be one.
        """

    async def linger(self) -> None:
        """End our side and read what the peer still sends, for a short while, so that it gets our reply."""

    async def aclose(self, *, abort: bool = False) -> None:
        """Close it; with `abort`, throw away what the peer has not taken. May be called when cancelled."""


class SocketTransport:
    """A connected, non-blocking TCP or Unix socket of the standard library, which it owns."""

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
        # The hottest lines of all: every delivery to a reader that keeps up ends here.
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
        """Take `payload` to be sent after what is pending."""
        assert self.pending is not None
        self.events_sent += events
        self.bytes_sent += len(payload)
        self.pending = b"".join((self.pending, payload))

    def _keep(self, payload: bytes | memoryview, error: OSError) -> bool:
        self._is_broken = not isinstance(error, BlockingIOError)
        self.pending = payload
        return False

    def _send_pending(self, pending: bytes | memoryview, now: float) -> bool:
        """Send some of what is pending, or is about to be; return whether nothing is left."""
        try:
            sent = self.socket.send(pending)
        except OSError as error:
            return self._keep(pending, error)
        self.written_at = now
        self.pending = None if sent == len(pending) else memoryview(pending)[sent:]
        return self.pending is None

    def flush_nowait(self, now: float) -> None:
        """Send what can be sent now of what is pending, if anything is."""
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
            return self.socket.recv(_RECEIVE_SIZE)
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

    async def linger(self) -> None:
        with trio.move_on_after(_LINGER_SECONDS):
            try:
                self.socket.shutdown(socket.SHUT_WR)
                read = 0
                while read < _LINGER_BYTES and (data := await SocketTransport.receive_some(self)):
                    read += len(data)
            except (OSError, trio.BrokenResourceError):
                pass  # the peer is gone: nobody waits for the reply

    async def aclose(self, *, abort: bool = False) -> None:
        if self.socket.fileno() == -1:
            return
        self._is_broken = True  # for a task that is about to wait; notify_closing wakes those that do
        trio.lowlevel.notify_closing(self.socket)
        if abort:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


@final
class StreamTransport:
    """Any Trio stream, which it owns. It can't send without waiting, so what is sent is pending at first."""

    __slots__ = (
        "_discarded",
        "_is_broken",
        "_peer",
        "bytes_sent",
        "events_sent",
        "framing",
        "pending",
        "stream",
        "written_at",
    )

    def __init__(self, stream: trio.abc.Stream, peer: str) -> None:
        self.stream = stream
        self.framing = Framing.PLAIN
        self.pending: bytes | memoryview | None = None
        self.written_at = 0.0
        self.bytes_sent = 0
        self.events_sent = 0
        self._peer = peer
        self._is_broken = False
        self._discarded = 0

    @property
    def is_direct(self) -> bool:
        return False

    @property
    def is_secure(self) -> bool:
        return isinstance(self.stream, trio.SSLStream)

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
        """Do nothing: there is no sending without waiting."""

    async def flush_some(self) -> None:
        if self.pending is None:
            return
        if self._is_broken:
            raise trio.BrokenResourceError("an earlier write was cut off")
        self._is_broken = True  # unless it goes well: how much a cancelled write has sent can't be known
        try:
            await self.stream.send_all(self.pending)
        except (trio.ClosedResourceError, OSError) as error:
            raise trio.BrokenResourceError("the stream is closed") from error
        self._is_broken = False
        self.pending = None
        self.written_at = trio.current_time()

    def receive_nowait(self) -> bytes | None:
        return None

    async def receive_some(self) -> bytes:
        try:
            return bytes(await self.stream.receive_some(_RECEIVE_SIZE))
        except (trio.ClosedResourceError, OSError) as error:
            raise trio.BrokenResourceError("the stream is closed") from error

    async def discard_some(self) -> bool:
        count = len(await self.receive_some())
        self._discarded += count
        return count > 0

    def unread_bytes(self) -> int:
        return self._discarded

    async def linger(self) -> None:
        if not isinstance(self.stream, trio.abc.HalfCloseableStream):
            return
        with trio.move_on_after(_LINGER_SECONDS):
            try:
                await self.stream.send_eof()
                read = 0
                while read < _LINGER_BYTES and (data := await self.receive_some()):
                    read += len(data)
            except (trio.ClosedResourceError, trio.BrokenResourceError):
                pass  # the peer is gone: nobody waits for the reply

    async def aclose(self, *, abort: bool = False) -> None:
        if abort or self._is_broken:
            await trio.aclose_forcefully(self.stream)
            return
        with trio.move_on_after(_LINGER_SECONDS):
            await self.stream.aclose()


def _endpoint(address: object) -> Endpoint | None:
    if isinstance(address, tuple):
        host, port, *_ = address
        return host, port
    return (address, None) if isinstance(address, str) and address else None


async def send_all(transport: Transport, payload: bytes, *, write_timeout: float) -> None:
    """Send `payload`, waiting up to `write_timeout` seconds for each time that the peer takes some of it.

    Raises:
        trio.BrokenResourceError: the peer is gone, or took nothing for that time.
    """
    await trio.lowlevel.checkpoint()  # a peer that sends request after request must not keep the loop
    transport.send_nowait(payload, 0, trio.current_time())
    while transport.pending is not None:
        with trio.move_on_after(write_timeout) as scope:
            await transport.flush_some()
        if scope.cancelled_caught:
            raise trio.BrokenResourceError(f"the peer took no bytes for {write_timeout} s")
