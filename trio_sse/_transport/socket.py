"""A plain socket as a `Transport`, written to without waiting."""

from __future__ import annotations

import array
import contextlib
import fcntl
import socket
import ssl
import struct
import termios
from typing import Protocol, Self

import trio

from .._wire.message import Framing
from .base import (
    RECEIVE_SIZE,
    AppendableTransport,
    DisconnectListener,
    Endpoint,
    HandleState,
    RequestOrigin,
    describe_endpoint,
    endpoint_host,
    not_free,
    not_owned,
    read_to_end,
)
from .pace import Progress
from .socket_address import OriginOfRequest, ProxiedAddress, as_endpoint

# Looking up a member of an enumeration takes longer than a global, and each stream does so a dozen times.
_OWNED, _MOVED, _CLOSED = HandleState

# What a handle has instead of a socket once it owns none. It was never opened, so all it does is to raise
# `OSError`. That is how `send_nowait` refuses without its own check.
NO_SOCKET = socket.socket.__new__(socket.socket)


class Watcher(Protocol):
    """Notices disconnects of many sockets; see `DisconnectWatcher`."""

    def add(self, transport: SocketTransport, listener: DisconnectListener) -> None:
        """Start to watch, instead of for the former listener."""

    def add_soon(self, transport: SocketTransport, listener: DisconnectListener) -> None:
        """Start to watch a moment later, unless the transport is removed before."""

    def remove(self, transport: SocketTransport) -> None:
        """Stop watching, if this transport is watched."""


class SocketTransport(AppendableTransport):
    """A connected, non-blocking TCP or Unix socket of the standard library, which the transport owns.

    Args:
        address: the peer's, as the socket returns it; or what a proxy says instead.
        watcher: notices disconnects; `None` on platforms without `epoll`.
    """

    __slots__ = (
        "_address",
        "_discarded",
        "_is_broken",
        "_own_end",
        "_waiting",
        "_watcher",
        "bytes_sent",
        "events_sent",
        "framing",
        "pending",
        "socket",
        "state",
        "written_at",
    )

    def __init__(self, connected: socket.socket, address: object, watcher: Watcher | None = None) -> None:
        self.socket = connected
        self.state = _OWNED
        self.framing = Framing.PLAIN
        self.pending: bytes | memoryview | None = None
        self.written_at = 0.0
        self.bytes_sent = 0
        self.events_sent = 0
        self._address = address
        self._is_broken = False
        self._own_end: Endpoint | None = None  # of an app's connection, once it is known
        self._discarded = 0
        self._waiting = 0  # tasks that wait in it
        self._watcher = watcher

    @property
    def is_direct(self) -> bool:
        return True

    @property
    def is_watchable(self) -> bool:
        return self._watcher is not None

    @property
    def origin(self) -> RequestOrigin | None:
        return self._address.origin if isinstance(self._address, OriginOfRequest) else None

    @origin.setter
    def origin(self, origin: RequestOrigin | None) -> None:
        address = self._own_address
        self._address = address if origin is None else OriginOfRequest(address, origin)

    @property
    def _own_address(self) -> object:
        """The connection's address, whatever is said about the current request."""
        return self._address.address if isinstance(self._address, OriginOfRequest) else self._address

    @property
    def speaker(self) -> str | None:
        address = self._own_address
        return address.speaker if isinstance(address, ProxiedAddress) else endpoint_host(as_endpoint(address))

    @property
    def is_secure(self) -> bool:
        origin = self.origin
        return origin is not None and bool(origin.is_secure)

    @property
    def connection_number(self) -> int:
        return 0

    @property
    def tls_session(self) -> ssl.SSLObject | None:
        return None

    @property
    def endpoints(self) -> tuple[Endpoint | None, Endpoint | None]:
        address = self._address
        if isinstance(address, tuple) and self._own_end is not None:  # most of them
            return address[:2], self._own_end
        address, origin = self._own_address, self.origin
        server = None if origin is None else origin.server
        if server is None and isinstance(address, ProxiedAddress):
            server = address.server
        if server is None and self.state is _OWNED:
            if self._own_end is None:
                with contextlib.suppress(OSError):  # macOS refuses if the peer has reset it
                    self._own_end = as_endpoint(self.socket.getsockname())
            server = self._own_end
        return self._client, server

    @property
    def _client(self) -> Endpoint | None:
        address = self._address
        if isinstance(address, OriginOfRequest):
            if address.origin.client is not None:
                return address.origin.client
            address = address.address
        return address.client if isinstance(address, ProxiedAddress) else as_endpoint(address)

    @property
    def peer_host(self) -> str:
        if isinstance(self._address, tuple):
            host: str = self._address[0]
            return host
        return endpoint_host(self._client)

    @property
    def peer(self) -> str:
        if not isinstance(self._address, tuple):
            return describe_endpoint(self._client)
        host, port, *_ = self._address
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    # The owner

    def hand_over(self) -> Self:
        if self._waiting or self.state is not _OWNED:
            raise not_free(self.state)
        if self._watcher is not None:
            self._watcher.remove(self)
        new = object.__new__(type(self))
        self._move_to(new)
        self.state = _MOVED
        return new

    def _move_to(self, new: SocketTransport) -> None:
        """Pass to another handle all that makes this one the owner."""
        new.socket, self.socket = self.socket, NO_SOCKET
        new.pending, self.pending = self.pending, None
        new._is_broken, self._is_broken = self._is_broken, True
        new.state = _OWNED
        new.framing = self.framing
        new.written_at = self.written_at
        new.bytes_sent = self.bytes_sent
        new.events_sent = self.events_sent
        new._address = self._address
        new._own_end = self._own_end
        new._discarded = self._discarded
        new._waiting = 0
        new._watcher = self._watcher

    def watch(self, listener: DisconnectListener) -> None:
        if self._watcher is not None and self.state is _OWNED:
            self._watcher.add(self, listener)

    def watch_soon(self, listener: DisconnectListener) -> None:
        if self._watcher is not None and self.state is _OWNED:
            self._watcher.add_soon(self, listener)

    def unwatch(self) -> None:
        if self._watcher is not None and self.state is _OWNED:
            self._watcher.remove(self)

    # Writing

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

    begin_send = send_nowait

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
        if self.state is not _OWNED:
            raise not_owned(self.state)
        if self.pending is None:
            return
        if not self._is_broken:
            self._waiting += 1
            try:
                await trio.lowlevel.wait_writable(self.socket)
            finally:
                self._waiting -= 1
            self.flush_nowait(trio.current_time())
        if self._is_broken:
            raise trio.BrokenResourceError("the peer has closed the connection")

    def progress(self) -> Progress:
        return Progress(self.written_at, self.bytes_sent - len(self.pending or b""))

    def end_response(self) -> None:
        """Do nothing: the bytes say it."""

    # Reading

    def receive_nowait(self) -> bytes | None:
        try:
            return self.socket.recv(RECEIVE_SIZE)
        except BlockingIOError:
            return None
        except OSError as error:
            if self.state is not _OWNED:
                raise not_owned(self.state) from None
            raise trio.BrokenResourceError("the peer has reset the connection") from error

    async def receive_some(self) -> bytes:
        while (data := SocketTransport.receive_nowait(self)) is None:
            await self._wait_readable()
        return data

    async def _wait_readable(self) -> None:
        self._waiting += 1
        try:
            await trio.lowlevel.wait_readable(self.socket)
        finally:
            self._waiting -= 1

    async def receive_unless_interrupted(self) -> bytes | None:
        data = None
        while data is None:
            if not await self._wait_readable_unless_interrupted():
                return None
            data = self.receive_nowait()
        return data

    async def _wait_readable_unless_interrupted(self) -> bool:
        if self.state is not _OWNED:
            raise not_owned(self.state)
        self._waiting += 1
        try:
            await trio.lowlevel.wait_readable(self.socket)
        except trio.ClosedResourceError:
            if self.state is not _OWNED:
                raise not_owned(self.state) from None
            return False
        finally:
            self._waiting -= 1
        return True

    def interrupt(self) -> None:
        # The socket is not closed. But this is how Trio lets a task know, and it costs nothing in advance.
        trio.lowlevel.notify_closing(self.socket)

    async def discard_some(self) -> bool:
        count = len(await self.receive_some())
        self._discarded += count
        return count > 0

    def unread_bytes(self) -> int:
        if self.state is not _OWNED:
            return self._discarded
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

    # The end

    async def linger(self) -> None:
        if self.state is not _OWNED:
            raise not_owned(self.state)
        try:
            self.socket.shutdown(socket.SHUT_WR)
            await read_to_end(lambda: SocketTransport.receive_some(self))  # under TLS, without decrypting
        except (OSError, trio.BrokenResourceError):
            pass  # the peer has disconnected: nobody waits for the reply

    async def aclose(self, *, abort: bool = False) -> None:
        if self.state is not _OWNED:
            return
        self.unwatch()
        self.state = _CLOSED
        self._is_broken = True  # for a task that is about to wait; notify_closing wakes the others
        closing, self.socket = self.socket, NO_SOCKET
        if abort:
            with contextlib.suppress(OSError):  # macOS refuses if the peer has reset it
                closing.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        close_socket(closing)


def close_socket(closing: socket.socket) -> None:
    """Close a socket, and wake the tasks that wait for it."""
    trio.lowlevel.notify_closing(closing)
    closing.close()
