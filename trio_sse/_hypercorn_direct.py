"""Writing to hypercorn's sockets without its help, for event streams over plain HTTP/1.1.

One `send` of ASGI through hypercorn 0.18 costs three rounds of the event loop and a pass through h11 (some
200 us, where the socket's own `send` takes 10), and it is shielded from cancellation, so a reader that takes
nothing can't be cut off. While a response's body is under way, nobody but its app writes to an HTTP/1.1
connection. So a stream may write the chunks itself, as long as the app's call lasts; head and end are left to
hypercorn, whose state stays right.

Hypercorn has no interface for that. The socket is found through the objects that `send` is bound to. If any
of them isn't what it is in the versions known here, nothing is found, and the stream goes through `send`:
slower, and nothing else. `tests/test_hypercorn.py` fails if an installed version has changed.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from typing import Any, final

import trio

from ._asgi_transport import Disconnected
from ._asgi_types import Send
from ._message import Framing
from ._transport import SocketTransport

_RESET_SECONDS = 1.0


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


def find_reset(send: Send) -> Callable[[], Any] | None:
    """Give what resets the HTTP/2 stream that hypercorn's `send` writes to, if it is one.

    Without it a response over HTTP/2 can't be cut: hypercorn would leave its stream open for ever.
    """
    stream = _bound_to(send, "http_stream", "HTTPStream")
    protocol: Any = _bound_to(stream, "h2", "H2Protocol")
    if protocol is None:
        return None
    stream_id: int = stream.stream_id

    async def reset() -> None:
        from h2.errors import ErrorCodes
        from h2.exceptions import ProtocolError
        from hypercorn.events import RawData

        buffer = protocol.stream_buffers.get(stream_id)
        if buffer is None:
            return
        with trio.move_on_after(_RESET_SECONDS):
            await buffer.drain()  # what was sent last, and what it asks of the client
        try:
            protocol.connection.reset_stream(stream_id, error_code=ErrorCodes.CANCEL)
        except ProtocolError:
            return  # the client was faster
        await protocol.send(RawData(data=protocol.connection.data_to_send()))
        # Let hypercorn's sender see that the stream is over, and forget it.
        protocol.priority.unblock(stream_id)
        await protocol.has_data.set()

    return reset


def _bound_to(holder: object, module: str, name: str) -> Any:
    """Give what the `send` of `holder`, or `holder` itself, is bound to, if that is of hypercorn's class."""
    method = getattr(holder, "send", holder)
    owner = getattr(method, "__self__", None)
    path = f"hypercorn.protocol.{module}" if module else "hypercorn.trio.tcp_server"
    known = getattr(sys.modules.get(path), name, None)
    return owner if known is not None and isinstance(owner, known) else None
