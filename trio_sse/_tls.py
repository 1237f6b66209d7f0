"""A socket under TLS that can still be written to without waiting.

An `ssl.SSLSocket` that doesn't block encrypts and sends in one call, so a direct write is as simple as a
plain one. Trio's `SSLStream` can only be written to by a task that waits: one task switch for each delivery.

What OpenSSL has encrypted but couldn't send stays with it: it must be given the same bytes again, of which
there may be more by then (SSL_write(3)). That is how `pending` is sent, so nothing changes for those who
write.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import final

import trio

from ._transport import RECEIVE_SIZE, SocketTransport

# What OpenSSL waits for. It may be the other direction than that of the call.
_WAITS = (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError)


@final
class TLSTransport(SocketTransport):
    """A `SocketTransport` whose bytes are encrypted; `handshake` comes first."""

    __slots__ = ("_context",)

    def __init__(self, connected: socket.socket, address: object, context: ssl.SSLContext) -> None:
        super().__init__(connected, address)
        self._context = context

    @property
    def is_secure(self) -> bool:
        return True

    async def handshake(self) -> None:
        """Shake hands with the client.

        Raises:
            trio.BrokenResourceError: it doesn't come to pass; the transport is only fit to be closed.
        """
        try:
            secured = self._context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
            self.socket = secured
            while True:
                try:
                    secured.do_handshake()
                except ssl.SSLWantReadError:
                    await trio.lowlevel.wait_readable(secured)
                except ssl.SSLWantWriteError:
                    await trio.lowlevel.wait_writable(secured)
                else:
                    return
        except OSError as error:
            reason = error.reason if isinstance(error, ssl.SSLError) else error.strerror
            raise trio.BrokenResourceError(f"the TLS handshake failed: {reason}") from error

    def _keep(self, payload: bytes | memoryview, error: OSError) -> bool:
        self._is_broken = not isinstance(error, _WAITS)
        self.pending = payload
        return False

    def _keep_rest(self, rest: memoryview, now: float) -> bool:
        return self._send_pending(rest, now)  # a record holds 16 KiB, and `send` sends one

    def _send_pending(self, pending: bytes | memoryview, now: float) -> bool:
        """Send records until nothing is left, or the socket takes no more."""
        while not super()._send_pending(pending, now):
            assert self.pending is not None
            if len(self.pending) == len(pending):
                return False
            pending = self.pending
        return True

    def receive_nowait(self) -> bytes | None:
        try:
            return self.socket.recv(RECEIVE_SIZE)
        except _WAITS:
            return None
        except ssl.SSLError as error:
            raise trio.BrokenResourceError(f"TLS failed: {error.reason}") from error
        except OSError as error:
            raise trio.BrokenResourceError("the peer has reset the connection") from error

    async def linger(self) -> None:
        self._say_goodbye()
        await super().linger()

    async def aclose(self, *, abort: bool = False) -> None:
        if not abort:
            self._say_goodbye()
        await super().aclose(abort=abort)

    def _say_goodbye(self) -> None:
        """Tell the client that this is the end, which it can't tell from an attacker's cut otherwise."""
        if self.pending is None and not self._is_broken and self.socket.fileno() != -1:
            assert isinstance(self.socket, ssl.SSLSocket)
            with contextlib.suppress(OSError, ValueError):  # it isn't waited for, or was said before
                self.socket.unwrap()
