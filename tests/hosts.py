"""The four hosts that the conformance suite runs on, with the same handlers on each."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import trio
from hypercorn.config import Config
from quart import after_this_request
from quart_trio import QuartTrio

import trio_sse.hypercorn
from trio_sse import Connection, EndReason, HTTPException, Hub, Overflow, Server
from trio_sse.quart import QuartSSE

from .client import Client
from .http2_client import Http2Connection

NAMES = ("native", "quart", "hypercorn", "http2")
OVER_HTTP1 = ("native", "quart", "hypercorn")

Handler = Callable[..., Awaitable[None]]


@dataclass
class Life:
    """What became of the streams, in order."""

    ends: list[EndReason] = field(default_factory=list)
    opened: int = 0
    changed: trio.lowlevel.ParkingLot = field(default_factory=trio.lowlevel.ParkingLot)

    def note_end(self, connection: Connection) -> None:
        assert connection.end_reason is not None
        self.ends.append(connection.end_reason)
        self.changed.unpark_all()

    def note_start(self, connection: Connection) -> None:
        self.opened += 1
        self.changed.unpark_all()

    async def wait_ends(self, count: int) -> list[EndReason]:
        """Wait until so many streams have ended."""
        while len(self.ends) < count:
            await self.changed.park()
        return self.ends

    async def wait_opened(self, count: int) -> None:
        """Wait until so many handlers have been entered."""
        while self.opened < count:
            await self.changed.park()


def handlers(hub: Hub) -> Mapping[str, Handler]:
    """Give the handlers by path; those of GET."""

    async def live(connection: Connection) -> None:
        await connection.subscribe("live")

    async def iterated(connection: Connection) -> None:
        await connection.start()
        async with hub.subscribe("live", last_event_id=connection.last_event_id) as events:
            async for event in events:
                await connection.send(event)

    async def latest(connection: Connection) -> None:
        await connection.subscribe("live", overflow=Overflow.DISCONNECT, queue=4)

    async def three(connection: Connection) -> None:
        for number in range(3):
            await connection.send({"n": number}, event="tick", id=f"{number}")

    async def flood(connection: Connection) -> None:
        while True:
            await connection.send("x" * 50_000)

    async def quiet(connection: Connection) -> None:
        await connection.start()
        await trio.sleep_forever()

    async def slow(connection: Connection) -> None:
        for number in range(4):
            await connection.send(f"{number}")
            await trio.sleep(20)

    async def fails_before(connection: Connection) -> None:
        raise ValueError("secret")

    async def fails_after(connection: Connection) -> None:
        await connection.send("one")
        raise ValueError("secret")

    async def fails_in_nursery(connection: Connection) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fails_after, connection)
            await trio.sleep_forever()

    async def refuses(connection: Connection) -> None:
        raise HTTPException(403, "not you", {"X-Why": "because"})

    async def no_topic(connection: Connection) -> None:
        await connection.subscribe("x" * 300)

    async def returns(connection: Connection) -> None:
        pass

    async def scoped(connection: Connection) -> None:
        async with trio.open_nursery() as nursery:
            with trio.move_on_after(60):
                await connection.send("in scopes")
            nursery.cancel_scope.cancel()
        await connection.send("out of them")

    return {name: function for name, function in locals().items() if name != "hub"}


async def echo(connection: Connection) -> None:
    """Send back what a POST has brought."""
    await connection.send(connection.request.body.decode())


@dataclass
class Host:
    """One server that runs."""

    name: str
    hub: Hub
    life: Life
    address: tuple[str, int]
    tls: ssl.SSLContext | None
    nursery: trio.Nursery
    shut_down: Callable[[], Awaitable[None]]
    ended: trio.Event

    async def connect(self, *, receive_buffer: int | None = None) -> Client | Http2Connection:
        """Open a connection, by which one stream at a time can be asked for over HTTP/1.1."""
        plain = trio.socket.socket()
        if receive_buffer is not None:
            plain.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, receive_buffer)
        await plain.connect(self.address)
        stream = trio.SocketStream(plain)
        if self.tls is None:
            return Client(stream)
        return await Http2Connection.open(stream, self.tls, self.nursery)

    @asynccontextmanager
    async def opened(self, path: str, *lines: str, **options: Any) -> AsyncIterator[Any]:
        """Ask for a path; give what reads the response, whose head has come."""
        async with await self.connect(**options) as connection:
            if isinstance(connection, Client):
                await connection.get(path, *lines)
                yield connection
            else:
                stream = await connection.request("GET", path, *lines)
                await stream.wait_head()
                yield stream


def make_quart(hub: Hub, life: Life, **options: Any) -> QuartTrio:
    """Make the app that has the handlers as routes."""
    app = QuartTrio(__name__)
    sse = QuartSSE(app, hub=hub, **options)
    sse.on_connect(life.note_start)
    sse.on_disconnect(life.note_end)
    for name, handler in handlers(hub).items():
        sse.route(f"/{name}", endpoint=name)(handler)

    @sse.route("/echo", methods=["POST"])
    async def echo(connection: Connection) -> None:
        from quart import request

        await connection.send(await request.get_data(as_text=True))

    @sse.route("/cookie")
    async def cookie(connection: Connection) -> None:
        @after_this_request
        async def add(response: Any) -> Any:
            response.set_cookie("a", "b")
            response.headers["X-Mine"] = "yes"
            return response

        await connection.send("with a cookie")

    @app.get("/plain")
    async def plain() -> str:
        return "plain"

    return app


@asynccontextmanager
async def running(
    name: str,
    watch: Callable[[Hub], Hub],
    certificate: tuple[Path, Path, ssl.SSLContext],
    *,
    drain_timeout: float = 2.0,
    write_timeout: float = 30.0,
    seconds: float = 30.0,
    history: int = 10_000,
    **options: Any,
) -> AsyncIterator[Host]:
    """Run a host by its name; at the end, it is cancelled unless it was shut down."""
    hub, life, ended = watch(Hub(history=history)), Life(), trio.Event()
    tls = certificate[2] if name == "http2" else None
    shutdown = trio.Event()
    server: Server | None = None
    serve: Callable[..., Awaitable[None]]
    if name in ("native", "quart"):
        bounds: dict[str, Any] = {"drain_timeout": drain_timeout, "write_timeout": write_timeout}
        if name == "native":
            server = Server(hub=hub, **bounds, **options)
            server.on_connect(life.note_start)
            server.on_disconnect(life.note_end)
            for path, handler in handlers(hub).items():
                server.route(f"/{path}")(handler)
            server.route("/echo", methods=["POST"])(echo)
        else:
            app = make_quart(hub, life, write_timeout=write_timeout, **options)
            server = Server(app, hub=hub, **bounds)
        serve = partial(server.serve, "127.0.0.1", 0)
        shut_down = server.drain
    else:
        app = make_quart(hub, life, write_timeout=write_timeout, drain_timeout=drain_timeout, **options)
        config = Config()
        config.bind = ["127.0.0.1:0"]
        config.errorlog = None
        if tls is not None:
            config.certfile, config.keyfile = (str(path) for path in certificate[:2])
        serve = partial(
            trio_sse.hypercorn.serve,
            app,
            config,
            shutdown_trigger=shutdown.wait,
            write_timeout=write_timeout,
            drain_timeout=drain_timeout,
        )

        async def shut_down() -> None:
            shutdown.set()
            await ended.wait()

    async def serve_to_the_end(*, task_status: trio.TaskStatus[Any]) -> None:
        try:
            await serve(task_status=task_status)
        finally:
            ended.set()

    with trio.fail_after(seconds):
        async with trio.open_nursery() as nursery:
            started = await nursery.start(serve_to_the_end)
            where = started[0]
            port = int(where.rpartition(":")[2]) if isinstance(where, str) else where[1]
            yield Host(name, hub, life, ("127.0.0.1", port), tls, nursery, shut_down, ended)
            nursery.cancel_scope.cancel()
