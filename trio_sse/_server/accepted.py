"""How an accepted connection begins: with a PROXY header, the TLS handshake, or the preface of HTTP/2.

They decide who the client is, and which protocol the connection speaks. Until then, the connection is closed
here if anything goes wrong.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, final

import trio

from .._http2.preface import PREFACE
from .._logger import get_logger
from .._proxies.proxy_protocol import ProxyHeaderError
from .._request.request_reader import HEAD_SECONDS
from .._stream.draining import DRAIN_GRACE_SECONDS
from .._stream.scope import ServeScope
from .._transport.base import Transport, describe_endpoint
from .._transport.socket import close_socket
from .._transport.socket_address import as_endpoint
from .._transport.tls import TLSTransport
from .connection_handler import ConnectionHandler
from .proxy_header import receive_proxy_header
from .request_tasks import contain_failure

if TYPE_CHECKING:
    from .http2_connection import Http2Connections

logger = get_logger("trio_sse.server")

_HANDSHAKE_SECONDS = 10.0


@final
class AcceptedConnections:
    """Serves connections by the protocol that they speak.

    Args:
        make_http2: returns what serves those of HTTP/2; `None` if there are none. Its code takes some
            800 KiB, so it is loaded only where clients can choose HTTP/2.
        is_cleartext: whether a connection without TLS may be one of HTTP/2.

    Attributes:
        serve: serves a connection without TLS.
    """

    def __init__(
        self,
        handler: ConnectionHandler,
        make_http2: Callable[[], Http2Connections] | None,
        *,
        is_cleartext: bool,
    ) -> None:
        self.serve = self._serve_either if is_cleartext else handler.serve
        self._handler = handler
        self._make_http2 = make_http2
        self._http2: Http2Connections | None = None
        if is_cleartext:
            self.load_http2()

    def load_http2(self) -> None:
        """Load what serves HTTP/2. Do so before `serve_tls` is called."""
        if self._http2 is None and self._make_http2 is not None:
            self._http2 = self._make_http2()

    async def receive_proxy_header(
        self, connected: socket.socket, address: object, serving: ServeScope
    ) -> object | None:
        """Return the address that a proxy says, or `None` if the connection was closed instead."""
        try:
            return await receive_proxy_header(connected, address, serving)
        except ProxyHeaderError as error:
            logger.info_often("refused peer=%s: %s", describe_endpoint(as_endpoint(address)), error)
        except trio.BrokenResourceError as error:
            logger.debug("peer=%s has disconnected: %s", describe_endpoint(as_endpoint(address)), error)
        except BaseException:
            close_socket(connected)
            raise
        close_socket(connected)
        return None

    async def serve_tls(self, transport: TLSTransport, serving: ServeScope) -> None:
        """Do the TLS handshake, then serve the connection. Raises what `ConnectionHandler.serve` does."""
        if not await self._shake_hands(transport, serving):
            return
        session = transport.tls_session
        if self._http2 is not None and session is not None and session.selected_alpn_protocol() == "h2":
            await self._http2.serve(transport, serving)
        else:
            await self._handler.serve(transport, serving)

    async def _shake_hands(self, transport: TLSTransport, serving: ServeScope) -> bool:
        """Do the TLS handshake; return whether that succeeded. Otherwise the connection has been closed."""
        has_succeeded, aborts = False, True
        try:
            try:
                with trio.fail_after(_HANDSHAKE_SECONDS):
                    await transport.handshake()
                has_succeeded = True
            except trio.TooSlowError:
                logger.info_often("refused peer=%s: the TLS handshake took too long", transport.peer)
            except trio.BrokenResourceError as error:
                logger.info_often("refused peer=%s: %s", transport.peer, error)
                await serving.linger(transport)  # the client may have sent a request already (RFC 8446, 6.2)
                aborts = transport.pending is not None
            finally:
                if not has_succeeded:
                    await transport.aclose(abort=aborts)
        except BaseException as failure:  # of the application's own callbacks
            contain_failure(failure, transport)
        return has_succeeded

    async def _serve_either(self, transport: Transport, serving: ServeScope) -> None:
        """Serve a connection without TLS whose first bytes tell whether it is one of HTTP/2."""
        assert self._http2 is not None
        received: bytes | None = None
        try:
            try:
                received = await _receive_preface(transport, serving)
            except trio.BrokenResourceError as error:
                logger.debug("peer=%s has disconnected: %s", transport.peer, error)
            finally:
                if received is None:
                    await transport.aclose(abort=True)
        except BaseException as failure:
            contain_failure(failure, transport)
        if received is None:
            return
        if received.startswith(PREFACE):
            await self._http2.serve(transport, serving, received)
        else:
            await self._handler.serve(transport, serving, bytearray(received))


async def _receive_preface(transport: Transport, serving: ServeScope) -> bytes | None:
    """Receive as many bytes as tell whether a connection begins with the preface of HTTP/2.

    Return `None` if nothing has arrived in time. While the server drains, that is a short time.
    """
    received = b""
    deadline = trio.current_time() + HEAD_SECONDS
    is_hurried = False
    while len(received) < len(PREFACE) and PREFACE.startswith(received):
        if serving.is_draining and not is_hurried:
            is_hurried = True
            deadline = min(deadline, trio.current_time() + DRAIN_GRACE_SECONDS)
        data: bytes | None = None
        with trio.CancelScope(deadline=deadline) as scope:
            serving.waiting.add(scope)
            try:
                data = await transport.receive_some()
            finally:
                serving.waiting.discard(scope)
        if data is None and serving.is_draining and not is_hurried:
            continue
        if not data:
            return received or (None if data is None else b"")
        received += data
    return received
