"""Addresses on the command line, and the sockets that listen on them."""

from __future__ import annotations

import socket
from collections.abc import Sequence

import trio

from .errors import ProgramError


def parse_address(address: str) -> tuple[str | None, int]:
    """Parse `host:port`, `[host]:port`, `:port` (all addresses) or `host`.

    Raises:
        ProgramError: it is none of these.
    """
    host, colon, port = address.rpartition(":")
    if not colon or address.endswith("]"):
        host, port = address, "8000"
    is_port = port.isascii() and port.isdigit() and len(port) <= 5 and int(port) < 65536
    if not (address and is_port) or (":" in host and host[0] != "["):
        raise ProgramError(f"{address!r} is not like 127.0.0.1:8000, [::1]:8000 or :8000")
    return host.strip("[]") or None, int(port)


def describe_address(address: tuple[object, ...]) -> str:
    """Return a socket's address as it is written in a URL."""
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"


async def listen(addresses: Sequence[str]) -> list[trio.SocketListener]:
    """Listen on each address.

    Raises:
        ProgramError: an address is malformed or not available.
    """
    listeners: list[trio.SocketListener] = []
    for address in addresses:
        host, port = parse_address(address)
        try:
            listeners += await trio.open_tcp_listeners(port, host=host)
        except (OSError, UnicodeError) as error:
            for listener in listeners:
                listener.socket.close()
            raise _unavailable(address, error) from error
    return listeners


def bind_slots(addresses: Sequence[str], slots: int) -> list[list[socket.socket]]:
    """Bind each address once for each worker's slot, by SO_REUSEPORT.

    Port 0 takes any free port, and the same one in all slots.

    Raises:
        ProgramError: an address is malformed or not available.
    """
    parsed = [parse_address(address) for address in addresses]
    bound: list[list[socket.socket]] = [[] for _ in range(slots)]
    try:
        for host, port in parsed:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            for family, kind, protocol, _, address in dict.fromkeys(found):
                # SO_REUSEPORT would let us share a port with another program: without it, this fails.
                with _socket(family, kind, protocol) as first:
                    first.bind(address)
                    address = first.getsockname()  # with the port that the system chose for port 0
                for slot in bound:
                    listening = _socket(family, kind, protocol)
                    slot.append(listening)
                    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                    listening.bind(address)
                    listening.listen(socket.SOMAXCONN)
    except BaseException as error:
        for slot in bound:
            for listening in slot:
                listening.close()
        if isinstance(error, OSError | UnicodeError):
            raise _unavailable(", ".join(addresses), error) from error
        raise
    return bound


def _socket(family: int, kind: int, protocol: int) -> socket.socket:
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return made


def _unavailable(address: str, error: OSError | UnicodeError) -> ProgramError:
    """Return the error to raise; a `UnicodeError` is about a host that cannot be a name."""
    return ProgramError(f"cannot listen on {address}: {getattr(error, 'strerror', None) or error}")
