"""What a scenario is, and what its client can do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, final

import trio
from quart_trio import QuartTrio

from trio_sse import Server
from trio_sse.quart import QuartSSE

from ..support.client import Client
from ..support.http2_client import Http2Connection
from ..support.waiting import until
from ..support.websocket_client import WebSocket
from .logs import LOGS
from .world import World

Handlers = Callable[[World], Mapping[str, Callable[..., Awaitable[Any]]]]


class Serving(Protocol):
    """What is visited."""

    world: World
    ended: trio.Event

    async def connect(self) -> Client: ...
    async def connect_raw(self) -> trio.abc.Stream: ...
    def note_client(self) -> None: ...


@final
class Visitor:
    """A scenario's client, during one visit.

    Attributes:
        serving: what is visited.
        world: the case's.
        hub: the case's hub.
    """

    def __init__(self, serving: Serving) -> None:
        self.serving = serving
        self.world = serving.world
        self.hub = serving.world.hub

    async def connect(self) -> Client:
        """Open a connection."""
        return await self.serving.connect()

    async def connect_http2(self, nursery: trio.Nursery) -> Http2Connection:
        """Open a connection of HTTP/2, which carries several streams."""
        return await Http2Connection.open(await self.serving.connect_raw(), None, nursery)

    @asynccontextmanager
    async def open(
        self, path: str, *lines: str, method: str = "GET", body: bytes = b"", status: int = 200
    ) -> AsyncIterator[Client]:
        """Send a request, and read the response's head; at the end, disconnect."""
        async with await self.serving.connect() as client:
            await self.ask(client, path, *lines, method=method, body=body, status=status)
            yield client

    async def ask(
        self,
        client: Client,
        path: str,
        *lines: str,
        method: str = "GET",
        body: bytes = b"",
        status: int = 200,
    ) -> None:
        """Send a request on a connection, and read the response's head."""
        fields = [*lines, f"Content-Length: {len(body)}"] if body else lines
        request = "\r\n".join([f"{method} {path} HTTP/1.1", "Host: test", *fields, "", ""])
        await client.send(request.encode() + body)
        head = await client.head()
        assert head.status == status, head

    @asynccontextmanager
    async def websocket(self, path: str, *lines: str) -> AsyncIterator[WebSocket]:
        """Open a WebSocket."""
        async with WebSocket(await self.serving.connect()) as websocket:
            head = await websocket.open(path, *lines)
            assert head.status == 101, head
            yield websocket

    async def publish(self, *data: str, topic: str = "live", **options: Any) -> None:
        """Publish events."""
        for text in data:
            await self.hub.publish(topic, text, **options)

    async def subscribed(self, count: int = 1) -> None:
        """Wait until there are this many subscriptions."""
        await until(lambda: self.hub.statistics().subscriptions >= count or not self.hub.is_running)

    async def settled(self) -> None:
        """Wait until the streams of a visit before have ended."""
        await until(lambda: not self.hub.statistics().subscriptions or not self.hub.is_running)


@dataclass(frozen=True)
class Scenario:
    """What a server runs, and what a client does.

    Attributes:
        name: names it, in one or two words.
        visit: what the client does; it must end by itself, and may be run again.
        streams: returns handlers of event streams by the names of their paths, for every kind of host.
        extend: adds what only a `Server` has.
        extend_quart: adds what only an app of Quart has.
        app: returns an ASGI app, which only a `Server` serves.
        middleware: wraps the app of a framework.
        options: of the streams of every host.
        server: options of the `Server`.
        hub: options of the hub.
        hosts: the kinds of hosts that it is for.
        logs: the logs.
        is_virtual: it needs a clock that jumps, so it runs only in memory.
        is_http1, is_http2: it is for this version of HTTP only.
        has_client: its client is this package's, and is interrupted, too.
        proxy_protocol: connections begin with a header of a proxy.
        transports: those that it is for.
    """

    name: str
    visit: Callable[[Visitor], Awaitable[None]]
    streams: Handlers = lambda world: {}
    extend: Callable[[World, Server], None] | None = None
    extend_quart: Callable[[World, QuartTrio, QuartSSE], None] | None = None
    app: Callable[[World], Any] | None = None
    middleware: Callable[[World, Any], Any] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    server: Mapping[str, Any] = field(default_factory=dict)
    hub: Mapping[str, Any] = field(default_factory=dict)
    hosts: Collection[str] = ("native", "quart", "starlette", "fastapi", "litestar")
    logs: Collection[str] = LOGS
    transports: Collection[str] = ("memory", "sockets", "tls", "hypercorn")
    is_virtual: bool = False
    is_http1: bool = False
    is_http2: bool = False
    has_client: bool = False
    proxy_protocol: bool = False


NATIVE = ("native",)
IN_MEMORY = ("memory",)

#: The logs of a scenario whose code does not use the hub, so that no other log could make a difference.
NO_LOG = ("memory",)
SCENARIOS: dict[str, Scenario] = {}


def scenario(**options: Any) -> Callable[[Callable[[Visitor], Awaitable[None]]], Scenario]:
    """Decorate the visit of a scenario, whose name is the function's."""

    def decorate(visit: Callable[[Visitor], Awaitable[None]]) -> Scenario:
        name = visit.__name__.replace("_", " ")
        SCENARIOS[name] = made = Scenario(name, visit, **options)
        return made

    return decorate
