"""What a socket's transport knows of its peer's address: the socket's own, or what proxies say instead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from .base import Endpoint, RequestOrigin


@final
@dataclass(frozen=True, slots=True)
class ProxiedAddress:
    """The address of a connection that a proxy passes on, in place of the proxy's own.

    Attributes:
        client: `None` for a client of a Unix socket.
        server: what the client has connected to, if that is known.
        speaker: see `Transport`.
    """

    client: Endpoint | None
    server: Endpoint | None
    speaker: str | None


@final
class OriginOfRequest:
    """What a handle has in place of an address while proxies say where a request comes from.

    Most connections have none, and need no room for it.
    """

    __slots__ = ("address", "origin")

    def __init__(self, address: object, origin: RequestOrigin) -> None:
        self.address = address
        self.origin = origin


def as_endpoint(address: object) -> Endpoint | None:
    """Return an address, as a socket returns it, as an endpoint; `None` for a Unix socket without a path."""
    if isinstance(address, tuple):
        host, port, *_ = address
        return host, port
    return (address, None) if isinstance(address, str) and address else None
