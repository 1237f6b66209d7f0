"""What a server's paths lead to: an event stream, an endpoint, a WebSocket, or the app beside them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import final

from .._http.response import Response
from .._http.websocket_handshake import Handshake
from .._stream.connection import Connection
from .._stream.scope import ServeScope

StreamHandler = Callable[..., Awaitable[None]]
EndpointHandler = Callable[..., Awaitable[Response]]

#: Runs a WebSocket on a connection, with the subprotocol that was negotiated and the handler. It returns the
#: handler's exception if that is to answer the handshake, else `None`.
RunWebSocket = Callable[[ServeScope, Connection, str | None, StreamHandler], Awaitable[Exception | None]]


@final
@dataclass(frozen=True, slots=True)
class StreamRoute:
    """A path that answers with an event stream."""

    handler: StreamHandler


@final
@dataclass(frozen=True, slots=True)
class EndpointRoute:
    """A path that answers with a whole response."""

    handler: EndpointHandler


@final
@dataclass(frozen=True, slots=True)
class WebSocketRoute:
    """A path that is a WebSocket."""

    handler: StreamHandler
    handshake: Handshake
    run: RunWebSocket


@final
@dataclass(frozen=True, slots=True)
class AppRoute:
    """Every path that has no route, if the server has an app."""


Route = StreamRoute | EndpointRoute | WebSocketRoute
