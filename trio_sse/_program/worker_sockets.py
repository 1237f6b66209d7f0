"""The listening sockets of workers: each place has its own on the same addresses, by SO_REUSEPORT."""

from __future__ import annotations

import socket
from collections.abc import Sequence


def bind_places(addresses: Sequence[tuple[str | None, int]], places: int) -> list[list[socket.socket]]:
    """Bind each address once for each place; where any port will do, all places have the same.

    Raises:
        OSError: an address can't be listened on.
    """
    bound: list[list[socket.socket]] = [[] for _ in range(places)]
    try:
        for host, port in addresses:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            for family, kind, protocol, _, address in dict.fromkeys(found):
                # Another program's may be there, beside which SO_REUSEPORT would let us be.
                with _socket(family, kind, protocol) as first:
                    first.bind(address)
                    address = first.getsockname()  # the port, if any would do
                for place in bound:
                    listening = _socket(family, kind, protocol)
                    place.append(listening)
                    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                    listening.bind(address)
                    listening.listen(socket.SOMAXCONN)
    except BaseException:
        for place in bound:
            for listening in place:
                listening.close()
        raise
    return bound


def _socket(family: int, kind: int, protocol: int) -> socket.socket:
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return made
