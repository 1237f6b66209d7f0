"""What a server's paths lead to: an event stream, an endpoint, a WebSocket, or the app beside them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import final

from .._http.response import Response
from .._http.routing import Router
from .._http.websocket_handshake import Handshake
from .._stream.lifecycle import Refused
from .._stream.live_stream import LiveStream
from .._stream.manager import StreamManager
from .._stream.scope import ServeScope
from .._websocket.connection import runner

StreamHandler = Callable[..., Awaitable[Response | None]]
EndpointHandler = Callable[..., Awaitable[Response]]

#: Runs a WebSocket, with the subprotocol that was negotiated and the handler. It returns `Refused` if the
#: handler's exception answers the handshake, else `None`.
RunWebSocket = Callable[
    [StreamManager, ServeScope, LiveStream, str | None, StreamHandler], Awaitable[Refused | None]
]


@final
@dataclass(frozen=True, slots=True)
class StreamRoute:
    """A path that answers with an event stream.

    Attributes:
        manager: what runs its streams, if not the server's own manager: no hook is called for them, and they
            are also opened when the server has no room for another stream.
    """

    handler: StreamHandler
    path: str
    manager: StreamManager | None = None


@final
@dataclass(frozen=True, slots=True)
class EndpointRoute:
    """A path that answers with a whole response.

    Attributes:
        is_exempt: it is also called when the server has no room for another request.
    """

    handler: EndpointHandler
    is_exempt: bool = False
    path: str = ""


@final
@dataclass(frozen=True, slots=True)
class WebSocketRoute:
    """A path that is a WebSocket."""

    handler: StreamHandler
    handshake: Handshake
    run: RunWebSocket
    path: str = ""


@final
@dataclass(frozen=True, slots=True)
class AppRoute:
    """The destination of every request that matches no route, if the server has an app."""


@final
@dataclass(frozen=True, slots=True)
class AppWebSocketRoute:
    """The destination of a WebSocket's handshake that matches no route, if the server has an app."""


Route = StreamRoute | EndpointRoute | WebSocketRoute


@final
class Routes:
    """The routes of one server. `Server` describes what the methods take and raise.

    Attributes:
        router: finds the route of a path and a method.
    """

    def __init__(self) -> None:
        self.router: Router[Route] = Router()

    def add_stream(self, path: str, methods: Iterable[str], handler: StreamHandler) -> None:
        """Add a path that answers with an event stream."""
        self.router.add(path, methods, StreamRoute(handler, path), handler)

    def add_endpoint(self, path: str, methods: Iterable[str], handler: EndpointHandler) -> None:
        """Add a path that answers with a whole response."""
        self.router.add(path, methods, EndpointRoute(handler, path=path), handler)

    def add_websocket(self, path: str, route: WebSocketRoute) -> None:
        """Add a path that is a WebSocket."""
        self.router.add(path, ("GET",), replace(route, path=path), route.handler)


def websocket_route(
    *, origins: Collection[str], subprotocols: Sequence[str], max_message_size: int
) -> Callable[[StreamHandler], WebSocketRoute]:
    """Check a WebSocket's options; return a function that makes the route of a handler.

    Raises:
        TypeError, ValueError: an option is not acceptable.
    """
    handshake = Handshake(origins=origins, subprotocols=subprotocols)
    return partial(WebSocketRoute, handshake=handshake, run=runner(max_message_size=max_message_size))
