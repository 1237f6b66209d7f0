"""What kind of stream a stream is, for statistics. There are few kinds, however many streams there are."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple, final

from .._http.request import Request
from .._transport.base import Transport
from .._wire.message import Framing
from .unconnected import UnconnectedTransport


@final
class StreamKind(NamedTuple):
    """What some open streams have in common.

    Attributes:
        route: the path of their route, such as `/rooms/{room}`; of an `event_stream`, the handler's name
            where the framework does not say the path. `None` if nothing is known.
        transport: `sse`, `poll`, `websocket` or `head`.
        http_version: `1.0`, `1.1` or `2`.
        is_secure: whether the client uses TLS, as far as that is known.
    """

    route: str | None
    transport: str
    http_version: str
    is_secure: bool


@lru_cache(maxsize=4096)
def shared_kind(route: str | None, transport: str, http_version: str, is_secure: bool) -> StreamKind:
    """Return a kind; all streams of a kind share one object."""
    return StreamKind(route, transport, http_version, is_secure)


def kind_of(request: Request, transport: Transport) -> StreamKind:
    """Return the kind of a stream that answers a request, as far as these show it."""
    if transport.framing is Framing.WEBSOCKET:
        name = "websocket"
    elif isinstance(transport, UnconnectedTransport):
        name = "head" if request.method == "HEAD" else "poll"
    else:
        name = "sse"
    return shared_kind(None, name, request.http_version, transport.is_secure)


def in_route(kind: StreamKind, route: str | None, *, is_secure: bool) -> StreamKind:
    """Return the kind of a stream whose host knows its route, and whether its client uses TLS."""
    return shared_kind(route, kind.transport, kind.http_version, is_secure)
