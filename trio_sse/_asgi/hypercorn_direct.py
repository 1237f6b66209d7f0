"""Writing directly to hypercorn's sockets, for event streams over plain HTTP/1.1.

One ASGI `send` through hypercorn 0.18 costs three rounds of the event loop and a pass through h11: about 200
us, while the socket's own `send` takes 10. It is also shielded from cancellation, so a client that reads
nothing can't be disconnected. While a response's body is being sent, only its app writes to an HTTP/1.1
connection. So a stream can write the chunks itself for as long as the app's call lasts. Hypercorn still sends
the head and the end, so its state stays correct.

Hypercorn has no interface for this. The socket is found through the objects that `send` is bound to. If any
of them is not what it is in the known versions, nothing is found, and the stream uses `send`, which is only
slower. `tests/asgi/test_hypercorn.py` fails if an installed version has changed.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, final

import h11
import trio

from .._transport.socket import SocketTransport
from .._wire.message import Framing
from .transport import Disconnected
from .types import Message, Send


@final
class HypercornTransport(SocketTransport):
    """The socket of one of hypercorn's connections, borrowed while a response's body is being sent."""

    __slots__ = ("_disconnected",)

    def __init__(
        self,
        borrowed: trio.socket.SocketType,
        address: object,
        disconnected: Disconnected,
        *,
        is_chunked: bool,
    ) -> None:
        descriptor = borrowed.fileno()
        own = socket.socket(borrowed.family, borrowed.type, borrowed.proto, fileno=descriptor)
        super().__init__(own, address)
        self.framing = Framing.CHUNKED_BY_HOST if is_chunked else Framing.PLAIN
        self._disconnected = disconnected

    async def discard_some(self) -> bool:
        await self._disconnected()
        return False

    async def linger(self) -> None:
        """Do nothing: hypercorn closes the connection."""

    def release(self) -> None:
        """Return the socket to hypercorn; nothing more is written."""
        self._is_broken = True
        self.socket.detach()

    async def aclose(self, *, abort: bool = False) -> None:
        """Return the socket to hypercorn, which closes the connection."""
        self.release()


def find_socket(send: Send) -> trio.socket.SocketType | None:
    """Return the socket of the plain HTTP/1.1 connection that `send` writes to, if it is hypercorn's."""
    server = _bound_to(
        _bound_to(_bound_to(send, "http_stream", "HTTPStream"), "h11", "H11Protocol"), "", "TCPServer"
    )
    stream = getattr(server, "stream", None)
    return stream.socket if isinstance(stream, trio.SocketStream) else None


def find_http2(send: Send) -> Any:
    """Return the protocol object of the HTTP/2 connection that `send` writes to, if it is hypercorn's."""
    return _bound_to(_bound_to(send, "http_stream", "HTTPStream"), "h2", "H2Protocol")


def with_backpressure(send: Send) -> Send:
    """Return a `send` that waits, on HTTP/2, until its data has been sent.

    Hypercorn's own returns when it finds room in its buffer for the stream, and it finds some too early:
    while the client's window for the stream is closed, each round of its sender admits one more piece,
    without a bound. And when the app ends the body, hypercorn would wait for the rest of it without a
    deadline.
    """
    stream = _bound_to(send, "http_stream", "HTTPStream")
    protocol = find_http2(send)
    if protocol is None:
        return send

    async def send_and_drain(message: Message) -> None:
        await send(message)
        buffer = protocol.stream_buffers.get(stream.stream_id)
        if buffer is not None and buffer.buffer:
            await buffer.drain()

    return send_and_drain


def mark_closed(send: Send) -> None:
    """Mark the stream of an HTTP/2 connection as closed, as hypercorn does unless it loses the stream."""
    stream = _bound_to(send, "http_stream", "HTTPStream")
    if stream is not None:
        stream.closed = True


def find_truncate(send: Send) -> Callable[[], Awaitable[None]] | None:
    """Return a function that truncates the response that `send` writes, if it is hypercorn's.

    Without it, if the response is incomplete, the stream of an HTTP/2 connection stays open, and hypercorn
    keeps the task of an HTTP/1.1 connection for ever if the client has sent another request meanwhile.
    """
    stream = _bound_to(send, "http_stream", "HTTPStream")
    if (protocol := _bound_to(stream, "h11", "H11Protocol")) is not None:
        return partial(_close_connection, protocol)
    if (protocol := _bound_to(stream, "h2", "H2Protocol")) is not None:
        return partial(_reset_stream, protocol, stream.stream_id)
    return None


class _Unread:
    """Replaces the h11 connection of a client from which nothing more is read.

    Hypercorn has such a replacement, too, for WebSockets.
    """

    our_state = their_state = None  # none in which hypercorn would start another cycle
    they_are_waiting_for_100_continue = False
    trailing_data = (b"", False)

    def receive_data(self, data: bytes) -> None:
        """Ignore it."""

    def next_event(self) -> type[h11.NEED_DATA]:
        return h11.NEED_DATA

    def send(self, event: object) -> bytes:
        return b""


async def _close_connection(protocol: Any) -> None:
    """Make hypercorn close an HTTP/1.1 connection as soon as the app returns."""
    protocol.connection = _Unread()
    await trio.lowlevel.checkpoint()


async def _reset_stream(protocol: Any, stream_id: int) -> None:
    """Reset one stream of an HTTP/2 connection."""
    from h2.errors import ErrorCodes
    from h2.exceptions import ProtocolError
    from hypercorn.events import RawData

    if stream_id not in protocol.stream_buffers:
        return
    try:
        protocol.connection.reset_stream(stream_id, error_code=ErrorCodes.CANCEL)
    except ProtocolError:
        return  # the client has reset it already
    await protocol.send(RawData(data=protocol.connection.data_to_send()))
    # Wake hypercorn's sender, which sees that the stream is over and drops it.
    protocol.priority.unblock(stream_id)
    await protocol.has_data.set()


def _bound_to(holder: object, module: str, name: str) -> Any:
    """Return the object that `holder` or its `send` is bound to, if it is of the named class of hypercorn."""
    method = getattr(holder, "send", holder)
    owner = getattr(method, "__self__", None)
    path = f"hypercorn.protocol.{module}" if module else "hypercorn.trio.tcp_server"
    known = getattr(sys.modules.get(path), name, None)
    return owner if known is not None and isinstance(owner, known) else None
