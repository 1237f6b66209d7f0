"""Writing to hypercorn's sockets without its help, for event streams over plain HTTP/1.1.

One `send` of ASGI through hypercorn 0.18 costs three rounds of the event loop and a pass through h11 (some
200 us, where the socket's own `send` takes 10), and it is shielded from cancellation, so a reader that takes
nothing can't be cut off. While a response's body is under way, nobody but its app writes to an HTTP/1.1
connection. So a stream may write the chunks itself, as long as the app's call lasts; head and end are left to
hypercorn, whose state stays right.

Hypercorn has no interface for that. The socket is found through the objects that `send` is bound to. If any
of them isn't what it is in the versions known here, nothing is found, and the stream goes through `send`:
slower, and nothing else. `tests/asgi/test_hypercorn.py` fails if an installed version has changed.
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
    """The socket of one of hypercorn's connections, borrowed while a response's body is under way."""

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
        """Do nothing: it is hypercorn's to end the connection."""

    def release(self) -> None:
        """Give the socket back; nothing more is written."""
        self._is_broken = True
        self.socket.detach()

    async def aclose(self, *, abort: bool = False) -> None:
        """Give the socket back; the connection is hypercorn's to close."""
        self.release()


def find_socket(send: Send) -> trio.socket.SocketType | None:
    """Give the socket of the plain HTTP/1.1 connection that hypercorn's `send` writes to, if it is one."""
    server = _bound_to(
        _bound_to(_bound_to(send, "http_stream", "HTTPStream"), "h11", "H11Protocol"), "", "TCPServer"
    )
    stream = getattr(server, "stream", None)
    return stream.socket if isinstance(stream, trio.SocketStream) else None


def find_http2(send: Send) -> Any:
    """Give the protocol of the HTTP/2 connection that hypercorn's `send` writes to, if it is one."""
    return _bound_to(_bound_to(send, "http_stream", "HTTPStream"), "h2", "H2Protocol")


def held_up(send: Send) -> Send:
    """Give a `send` that waits, on HTTP/2, until what it was given has gone out.

    Hypercorn's own returns when its buffer for the stream has room, and believes so too soon: while the
    client has shut the stream's window, each turn of its sender lets one more piece in, and there is no
    bound. And what is left of the body when the app ends it would be waited for without a deadline.
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


def forget(send: Send) -> None:
    """Let hypercorn take the stream of an HTTP/2 connection for closed, as it would if it had not lost it."""
    stream = _bound_to(send, "http_stream", "HTTPStream")
    if stream is not None:
        stream.closed = True


def find_cut(send: Send) -> Callable[[], Awaitable[None]] | None:
    """Give what cuts the response that hypercorn's `send` writes, if it is one of hypercorn's.

    Left to itself, hypercorn keeps the task of an HTTP/1.1 connection for ever if its client has sent another
    request meanwhile and the response isn't ended, and the stream of an HTTP/2 connection stays open.
    """
    stream = _bound_to(send, "http_stream", "HTTPStream")
    if (protocol := _bound_to(stream, "h11", "H11Protocol")) is not None:
        return partial(_close_connection, protocol)
    if (protocol := _bound_to(stream, "h2", "H2Protocol")) is not None:
        return partial(_reset_stream, protocol, stream.stream_id)
    return None


class _Unread:
    """Stands for the h11 connection of a client that is not listened to any more.

    Hypercorn has such a stand-in, too, for WebSockets.
    """

    our_state = their_state = None  # of no cycle that could begin anew
    they_are_waiting_for_100_continue = False
    trailing_data = (b"", False)

    def receive_data(self, data: bytes) -> None:
        """Ignore it."""

    def next_event(self) -> type[h11.NEED_DATA]:
        return h11.NEED_DATA

    def send(self, event: object) -> bytes:
        return b""


async def _close_connection(protocol: Any) -> None:
    """Have hypercorn close an HTTP/1.1 connection as soon as the app returns."""
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
        return  # the client was faster
    await protocol.send(RawData(data=protocol.connection.data_to_send()))
    # Let hypercorn's sender see that the stream is over, and forget it.
    protocol.priority.unblock(stream_id)
    await protocol.has_data.set()


def _bound_to(holder: object, module: str, name: str) -> Any:
    """Give what the `send` of `holder`, or `holder` itself, is bound to, if that is of hypercorn's class."""
    method = getattr(holder, "send", holder)
    owner = getattr(method, "__self__", None)
    path = f"hypercorn.protocol.{module}" if module else "hypercorn.trio.tcp_server"
    known = getattr(sys.modules.get(path), name, None)
    return owner if known is not None and isinstance(owner, known) else None
