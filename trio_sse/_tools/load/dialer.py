"""Connecting to the target of the load tool, from one or many source addresses, with or without TLS."""

from __future__ import annotations

import socket
import ssl
import sys
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any, final

import trio

from .target import LoadTarget

_CONNECT_SECONDS = 30.0
_PROBE_SECONDS = 3.0
_SOURCES = 64  # addresses on the loopback network
_BIND_ADDRESS_NO_PORT = getattr(
    socket, "IP_BIND_ADDRESS_NO_PORT", 24
)  # as on Linux; Python 3.11 has no name for it


@final
class LoadDialer:
    """Connects to the host of a target."""

    def __init__(
        self, target: LoadTarget, sources: Sequence[str], *, verify: bool, is_http2: bool = False
    ) -> None:
        """Connect from each of `sources` in turn; by default from many if the target is on this machine.

        With HTTP/2 and TLS, the server must choose the protocol `h2`; the caller checks that.

        Raises:
            ValueError: a source is not an IP address.
        """
        for source in sources:
            try:
                ip_address(source)
            except ValueError:
                raise ValueError(
                    f"--source must be an address like 127.0.0.2 or ::1, not {source!r}"
                ) from None
        self.target = target
        self._sources = sources
        self._address: tuple[Any, ...] = ()
        self._family = socket.AF_INET
        self._tls: ssl.SSLContext | None = None
        if target.is_secure:
            self._tls = ssl.create_default_context()
            if not verify:
                self._tls.check_hostname = False
                self._tls.verify_mode = ssl.CERT_NONE
            if is_http2:
                self._tls.set_alpn_protocols(["h2"])

    async def resolve(self) -> None:
        """Look up the host's address. Call this first.

        Raises:
            OSError: the host has no address.
        """
        found = await trio.socket.getaddrinfo(self.target.host, self.target.port, type=socket.SOCK_STREAM)
        chosen: tuple[int, Any] = (found[0][0], found[0][4])
        if len(found) > 1:  # servers on localhost, for example, often listen on only one of its addresses
            chosen = await _first_that_answers(found) or chosen
        self._family, self._address = socket.AddressFamily(chosen[0]), chosen[1]
        # One address has ports for some 28,000 connections to one server. On Linux, the loopback has others.
        is_local = str(self._address[0]).startswith("127.")
        if not self._sources and is_local and sys.platform == "linux":
            self._sources = [f"127.0.0.{2 + number}" for number in range(_SOURCES)]

    async def dial(self, number: int) -> tuple[socket.socket, trio.abc.Stream]:
        """Make the connection with that number; return its socket, and the Trio stream over it.

        Raises:
            OSError: the connection fails.
            trio.BrokenResourceError: the TLS handshake fails.
            trio.TooSlowError: it takes more than 30 seconds.
        """
        bare = socket.socket(self._family, socket.SOCK_STREAM)
        with trio.fail_after(_CONNECT_SECONDS):
            return bare, await self._connect(number, trio.socket.from_stdlib_socket(bare))

    async def _connect(self, number: int, plain: trio.socket.SocketType) -> trio.abc.Stream:
        try:
            if self._sources:
                if sys.platform == "linux":
                    plain.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
                await plain.bind((self._sources[number % len(self._sources)], 0))
            await plain.connect(self._address)
        except BaseException:
            plain.close()
            raise
        stream = trio.SocketStream(plain)
        if self._tls is None:
            return stream
        secured = trio.SSLStream(stream, self._tls, server_hostname=self.target.host)
        try:
            await secured.do_handshake()
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return secured


async def _first_that_answers(found: Sequence[tuple[Any, ...]]) -> tuple[int, Any] | None:
    for family, _, _, _, address in found:
        with trio.socket.socket(family, socket.SOCK_STREAM) as probe, trio.move_on_after(_PROBE_SECONDS):
            try:
                await probe.connect(address)
            except OSError:
                continue
            return family, address
    return None


def failure_of(error: Exception) -> str:
    """Return the text of an error by which a connection fails."""
    cause = error.__cause__ or error
    return getattr(cause, "strerror", None) or str(cause) or "timed out"
