"""The hosts of `tests/promises/every_host/`, with the same handlers on each, and how they differ."""

from __future__ import annotations

import json
import logging
import math
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import trio
from hypercorn.config import Config
from quart import after_this_request, request, websocket
from quart_trio import QuartTrio
from starlette.applications import Starlette
from starlette.routing import Route
from trio.testing import lockstep_stream_pair, memory_stream_pair

import trio_sse.hypercorn
from trio_sse import Connection, EndReason, HTTPException, Hub, Overflow, Response, Server, ServerStatistics
from trio_sse.asgi import EventStream, event_stream
from trio_sse.quart import QuartSSE, StreamStatistics

from .certificates import Certificate
from .client import Client
from .http2_client import Http2Connection, Http2Stream
from .leaks import LeakCheck
from .waiting import SECONDS, until

#: The hosts: routes of our server, apps on our server, the same over streams that are no sockets and over
#: HTTP/2, and apps on `trio_sse.hypercorn`.
NAMES = (
    "native",
    "quart",
    "starlette",
    "fastapi",
    "litestar",
    "native in memory",
    "quart in memory",
    "starlette in memory",
    "native over http2",
    "quart over http2",
    "starlette over http2",
    "fastapi over http2 without tls",
    "litestar over http2",
    "quart on hypercorn",
    "quart on hypercorn over http2",
    "starlette on hypercorn",
    "starlette on hypercorn over http2",
)
ON_HYPERCORN = tuple(name for name in NAMES if "on hypercorn" in name)
OVER_HTTP2 = tuple(name for name in NAMES if "over http2" in name)
OVER_HTTP1 = tuple(name for name in NAMES if name not in OVER_HTTP2)
OUR_HTTP2 = tuple(name for name in OVER_HTTP2 if name not in ON_HYPERCORN)
HYPERCORNS_HTTP1 = tuple(name for name in ON_HYPERCORN if name not in OVER_HTTP2)
HYPERCORNS_HTTP2 = tuple(name for name in ON_HYPERCORN if name in OVER_HTTP2)
IN_MEMORY = tuple(name for name in NAMES if "in memory" in name)
OF_QUART = tuple(name for name in NAMES if name.startswith("quart"))

#: What a host does not promise, by the row of the table in `docs/hosts.md` that says so.
DIFFERENCES = {
    "the client can tell a cut from a complete body": HYPERCORNS_HTTP2,
    "a connection carries one stream after the other": HYPERCORNS_HTTP1,
    "a stream continues if its client sends a second request on the connection": HYPERCORNS_HTTP1,
    "a handler waits for a client that does not read": HYPERCORNS_HTTP2,
    "a client that lags is cut as a slow consumer": HYPERCORNS_HTTP2,
}


def column(name: str) -> int:
    """Return the column of a host in the table of `docs/hosts.md`."""
    kinds = (OUR_HTTP2, HYPERCORNS_HTTP1, HYPERCORNS_HTTP2)
    own = 0 if name.startswith("native") else 1
    return next((number for number, names in enumerate(kinds, 2) if name in names), own)


def promises(name: str, row: str) -> bool:
    """Whether a host promises what this row of the table says."""
    return name not in DIFFERENCES[row]


Handler = Callable[..., Awaitable[Response | None]]
Dial = Callable[[int | None], Awaitable[trio.abc.Stream]]
Run = Callable[..., "AbstractAsyncContextManager[Host]"]

# Two of one name, and another.
COOKIES = [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("X-Why", "because")]

# Bytes that a request announces, of which half are sent, if its response leaves time for that.
UPLOAD = 16_000

# Seconds of a clock that pass in one; and bounds that a busy machine keeps even so.
FAST = 200.0
PATIENT = {"seconds": math.inf, "write_timeout": 1000.0}


@dataclass
class Life:
    """What became of the streams, in order."""

    ends: list[EndReason] = field(default_factory=list)
    opened: int = 0
    last: Connection | None = None  # that was entered
    paths: list[str] = field(default_factory=list)  # of those that were entered
    changed: trio.lowlevel.ParkingLot = field(default_factory=trio.lowlevel.ParkingLot)
    is_silent: trio.Event = field(default_factory=trio.Event)
    steps: trio.Semaphore = field(default_factory=lambda: trio.Semaphore(0))
    place: str = ""  # where the code of `/raises` and `/generated` raises an exception
    make_error: Callable[[], BaseException] = RuntimeError

    def visit(self, place: str) -> None:
        """Raise the exception if this is the place."""
        if place == self.place:
            raise self.make_error()

    async def step(self) -> None:
        """Wait, in a handler, until the test lets it go on."""
        await self.steps.acquire()

    def note_end(self, connection: Connection) -> None:
        assert connection.end_reason is not None
        self.ends.append(connection.end_reason)
        self.changed.unpark_all()

    def note_start(self, connection: Connection) -> None:
        self.opened += 1
        self.last = connection
        self.paths.append(connection.request.path)
        self.changed.unpark_all()

    async def wait_ends(self, count: int) -> list[EndReason]:
        """Wait until this many streams have ended."""
        while len(self.ends) < count:
            await self.changed.park()
        return self.ends

    async def wait_opened(self, count: int) -> None:
        """Wait until this many handlers have been entered."""
        while self.opened < count:
            await self.changed.park()


def handlers(hub: Hub, life: Life) -> Mapping[str, Handler]:
    """Return the handlers by path; they answer GET and POST."""

    async def live(connection: Connection) -> None:
        await connection.subscribe("live")

    async def iterated(connection: Connection) -> None:
        await connection.start()
        async with hub.subscribe("live", last_event_id=connection.last_event_id) as events:
            async for event in events:
                await connection.send(event)

    async def lagging(connection: Connection) -> None:
        await connection.subscribe("live", overflow=Overflow.DISCONNECT, queue=4)

    async def three(connection: Connection) -> None:
        for number in range(3):
            await connection.send({"n": number}, event="tick", id=f"{number}")

    async def flood(connection: Connection) -> None:
        while True:
            await connection.send("x" * 50_000)

    async def large(connection: Connection) -> None:
        for _ in range(2):  # more than a window of HTTP/2
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

    async def answers(connection: Connection) -> Response:
        connection.add_header("X-Of-A-Stream", "1")
        return Response('{"made":1}', status=201, content_type="application/json", headers=COOKIES)

    async def answers_by_raising(connection: Connection) -> None:
        async with trio.open_nursery():
            raise HTTPException(
                Response('{"error":1}', status=400, content_type="application/json", headers=COOKIES)
            )

    async def answers_late(connection: Connection) -> Response:
        await connection.send("one")
        return Response("too late")

    async def answers_nonsense(connection: Connection) -> Any:
        return object()

    async def refuses_in_json(connection: Connection) -> None:
        raise HTTPException(409, '{"error":2}', {"content-type": "application/problem+json"})

    async def adds_headers(connection: Connection) -> None:
        for name, value in (*COOKIES, ("Cache-Control", "private, no-cache"), ("Vary", "Cookie")):
            connection.add_header(name, value)
        await connection.send("one", id="1")
        try:
            connection.add_header("X-Late", "1")
        except RuntimeError as error:
            await connection.send(str(error), id="2")

    async def refuses_late(connection: Connection) -> None:
        life.is_silent.set()
        await life.step()
        raise HTTPException(403, "not you")

    async def closes_first(connection: Connection) -> None:
        connection.close(reconnect=True)
        await trio.sleep_forever()

    async def upgrades(connection: Connection) -> None:
        raise HTTPException(426, "not here", {"Upgrade": "h2c"})

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

    async def silent(connection: Connection) -> None:
        life.is_silent.set()
        try:
            await trio.sleep_forever()
        finally:
            life.is_silent = trio.Event()

    async def both(connection: Connection) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.send, "one")
            nursery.start_soon(connection.send, "two")

    async def pair(connection: Connection) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.subscribe, "live")
            nursery.start_soon(partial(connection.subscribe, "paced", batch=0.2))

    async def stepwise(connection: Connection) -> None:
        for number in range(5):
            await connection.send(f"{number}")
            await life.step()

    async def raises(connection: Connection) -> None:
        life.visit("before the head")
        try:
            await connection.start()
            life.visit("after the head")
            await connection.send("one")
            life.visit("in mid-stream")
        finally:
            life.visit("in finally")

    async def panics_before(connection: Connection) -> None:
        raise Panic("secret")

    async def panics_after(connection: Connection) -> None:
        await connection.send("one")
        raise Panic("secret")

    return {name: function for name, function in locals().items() if name not in ("hub", "life")}


class Panic(BaseException):
    """What a library raises that is no `Exception`."""


async def echo(connection: Connection) -> None:
    """Send back what a POST has brought."""
    await connection.send(connection.request.body.decode())


@dataclass
class Host:
    """One server that runs."""

    name: str
    hub: Hub
    life: Life
    statistics: Callable[[], ServerStatistics | StreamStatistics]
    dial: Dial
    port: int
    tls: ssl.SSLContext | None
    nursery: trio.Nursery
    shut_down: Callable[[], Awaitable[None]]
    ended: trio.Event

    async def connect(self, *, receive_buffer: int | None = None) -> Any:
        """Open a connection: a `Client`, which has one stream at a time, or an `Http2Connection`."""
        stream = await self.dial(receive_buffer)
        if not self.speaks_http2:
            return Client(stream)
        assert isinstance(stream, trio.SocketStream)
        return await Http2Connection.open(stream, self.tls, self.nursery)

    @property
    def speaks_http2(self) -> bool:
        """Whether its clients do."""
        return self.name in OVER_HTTP2

    def promises(self, row: str) -> bool:
        """Whether it promises what this row of the table of hosts says."""
        return promises(self.name, row)

    def is_cut_or_ended(self, stream: Any) -> bool:
        """Whether the stream was ended from outside in the way in which this host can."""
        if self.promises("the client can tell a cut from a complete body"):
            return bool(stream.is_cut and not stream.is_ended)
        return bool(stream.is_ended and not stream.is_cut)

    async def poll(self, path: str) -> dict[str, Any]:
        """Poll once; return the answer."""
        async with await self.connect() as connection:
            lines = ("Accept: application/json",)
            if isinstance(connection, Client):
                assert (await connection.get(path, *lines)).status == 200
                body = await connection.whole()
            else:
                stream = await connection.request("GET", path, *lines)
                assert (await stream.wait_head()).status == 200
                body = await stream.whole()
            answer: dict[str, Any] = json.loads(body)
            return answer

    @asynccontextmanager
    async def asked(self, path: str, *lines: str) -> AsyncIterator[Any]:
        """Ask for a path, and do not wait for the response's head."""
        async with await self.connect() as connection:
            if isinstance(connection, Client):
                request = "\r\n".join([f"GET {path} HTTP/1.1", "Host: test", *lines, "", ""])
                await connection.send(request.encode())
                yield connection
            else:
                yield await connection.request("GET", path, *lines)

    @asynccontextmanager
    async def uploading(self, path: str) -> AsyncIterator[Any]:
        """Post to a path, with a body that is still on its way when the block ends."""
        async with await self.connect() as connection, trio.open_nursery() as nursery:
            if isinstance(connection, Client):
                await connection.send(f"POST {path} HTTP/1.1\r\nHost: test\r\n".encode())
                await connection.send(f"Content-Length: {UPLOAD}\r\n\r\n".encode())
                stream: Any = connection
            else:
                stream = await connection.request("POST", path, is_whole=False)

            async def upload() -> None:
                for _ in range(UPLOAD // 20):
                    if isinstance(connection, Client):
                        await connection.send(b"x" * 10)
                    else:
                        await connection.send_body(stream.number, b"x" * 10)
                    await trio.lowlevel.checkpoint()

            nursery.start_soon(upload)
            yield stream
            nursery.cancel_scope.cancel()

    @asynccontextmanager
    async def opened(self, path: str, *lines: str, held: bool = False) -> AsyncIterator[Any]:
        """Ask for a path; give what reads the response, whose head has come.

        If it is `held`, its body is taken only when the test reads, or has called `take_all`.
        """
        async with await self.connect(receive_buffer=4096 if held else None) as connection:
            if isinstance(connection, Client):
                await connection.get(path, *lines)
                yield connection
            else:
                stream = await connection.request("GET", path, *lines, held=held)
                await stream.wait_head()
                yield stream


async def dial_socket(address: tuple[str, int], receive_buffer: int | None) -> trio.SocketStream:
    """Open a connection to a host that listens."""
    plain = trio.socket.socket()
    if receive_buffer is not None:
        plain.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, receive_buffer)
    try:
        await plain.connect(address)
    except OSError:
        plain.close()
        raise
    return trio.SocketStream(plain)


async def dial_memory(
    connect: Callable[[trio.abc.Stream, str], None], receive_buffer: int | None
) -> trio.abc.Stream:
    """Open a connection in memory; if its client reads slowly, each write waits until all of it was read."""
    ours, theirs = memory_stream_pair() if receive_buffer is None else lockstep_stream_pair()
    connect(theirs, "memory")
    return ours


async def until_subscribed(host: Host, count: int = 1) -> None:
    """Wait until there are this many live subscriptions."""
    await until(lambda: host.hub.statistics().subscriptions >= count and host.hub.statistics().topics > 0)


async def take_all(stream: Any) -> None:
    """Let all come of a stream that was held."""
    if isinstance(stream, Http2Stream):
        await stream.release()


async def leave_by_reset(stream: Any) -> None:
    """Close a stream's connection by RST."""
    await (stream.connection if isinstance(stream, Http2Stream) else stream).abort()


def make_native(hub: Hub, life: Life, **options: Any) -> Server:
    """Make the server that has the handlers as routes."""
    server = Server(hub=hub, **options)
    server.on_connect(life.note_start)
    server.on_disconnect(life.note_end)
    for name, handler in handlers(hub, life).items():
        server.route(f"/{name}", methods=["GET", "POST"])(handler)
    server.route("/echo", methods=["POST"])(echo)
    return server


def make_quart(hub: Hub, life: Life, **options: Any) -> tuple[QuartTrio, QuartSSE]:
    """Make the app that has the handlers as routes."""
    app = QuartTrio(__name__)
    sse = QuartSSE(app, hub=hub, **options)
    sse.on_connect(life.note_start)
    sse.on_disconnect(life.note_end)
    for name, handler in handlers(hub, life).items():
        sse.route(f"/{name}", endpoint=name, methods=["GET", "POST"])(handler)

    @sse.route("/echo", methods=["POST"])
    async def echo(connection: Connection) -> None:
        await connection.send(await request.get_data(as_text=True))

    @sse.route("/cookie")
    async def cookie(connection: Connection) -> None:
        @after_this_request
        async def add(response: Any) -> Any:
            response.set_cookie("a", "b")
            response.headers["X-Mine"] = "yes"
            return response

        await connection.send("with a cookie")

    @app.get("/generated")
    async def generated() -> Any:
        async def generate() -> AsyncIterator[bytes]:
            life.visit("after the head")
            try:
                yield b"one"
                life.visit("in mid-stream")
            finally:
                life.visit("in finally")

        life.visit("before the head")
        return generate(), {"Content-Type": "text/plain"}

    @app.websocket("/socket")
    async def socket() -> None:
        life.visit("before the head")
        try:
            await websocket.accept()
            life.visit("after the head")
            await websocket.send("one")
            life.visit("in mid-stream")
        finally:
            life.visit("in finally")

    @app.get("/plain")
    async def plain() -> str:
        return "plain"

    return app, sse


def make_event_streams(hub: Hub, life: Life, **options: Any) -> dict[str, EventStream]:
    """Return an endpoint for each handler, by its path's name."""
    methods = ["GET", "POST"]
    endpoints = {
        name: event_stream(handler, hub=hub, methods=methods, **options)
        for name, handler in handlers(hub, life).items()
    }
    endpoints["echo"] = event_stream(echo, hub=hub, methods=["POST"], **options)
    for endpoint in endpoints.values():
        endpoint.on_connect(life.note_start)
        endpoint.on_disconnect(life.note_end)
    return endpoints


def make_app(framework: str, endpoints: Mapping[str, EventStream], hub: Hub) -> Any:
    """Return an app with the endpoints, which runs the hub."""

    @asynccontextmanager
    async def lifespan(app: object) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            if not hub.is_running:
                await nursery.start(hub.run)
            yield
            nursery.cancel_scope.cancel()

    if framework == "litestar":
        from litestar import Litestar, asgi  # slow to import

        routes = [
            asgi(f"/{name}", copy_scope=False)(call_endpoint(endpoint))
            for name, endpoint in endpoints.items()
        ]
        return Litestar(route_handlers=routes, logging_config=None, lifespan=[lifespan])
    if framework == "fastapi":
        from fastapi import FastAPI  # slow to import

        app: Starlette = FastAPI(lifespan=lifespan)
    else:
        app = Starlette(lifespan=lifespan)
    for name, endpoint in endpoints.items():
        app.router.routes.append(Route(f"/{name}", endpoint))  # of all methods: the endpoint has its own
    return app


def call_endpoint(endpoint: EventStream) -> Any:
    """Return an ASGI handler, as Litestar takes it, that calls an endpoint."""

    async def call(scope: Any, receive: Any, send: Any) -> None:
        await endpoint(scope, receive, send)

    return call


def statistics_of(endpoints: Mapping[str, EventStream]) -> Callable[[], StreamStatistics]:
    """Return a function that returns the statistics of all endpoints."""

    def statistics() -> StreamStatistics:
        each = [endpoint._manager.statistics() for endpoint in endpoints.values()]
        return StreamStatistics(
            open_streams=sum(one.open_streams for one in each),
            opened=sum(one.opened for one in each),
            ended=dict(sum((Counter(one.ended) for one in each), Counter[EndReason]())),
            events_sent=sum(one.events_sent for one in each),
            bytes_sent=sum(one.bytes_sent for one in each),
            hub=each[0].hub,
        )

    return statistics


@asynccontextmanager
async def running(
    name: str,
    check: LeakCheck,
    certificate: Certificate,
    *,
    drain_timeout: float = 30.0,
    write_timeout: float = 30.0,
    seconds: float = SECONDS,
    history: int = 10_000,
    middleware: Callable[[Any], Any] | None = None,
    **options: Any,
) -> AsyncIterator[Host]:
    """Run a host by its name; at the end, it is cancelled unless it was shut down.

    Args:
        middleware: wraps the app, and Quart's own callable, too.
    """
    hub, life, ended = check.watch_hub(Hub(history=history)), Life(), trio.Event()
    bounds: dict[str, Any] = {"drain_timeout": drain_timeout, "write_timeout": write_timeout}
    has_tls = name in OVER_HTTP2 and "without tls" not in name
    tls = certificate.context if has_tls else None
    kind = name.partition(" ")[0]
    shutdown = trio.Event()
    serve: Callable[..., Awaitable[None]]
    statistics: Callable[[], ServerStatistics | StreamStatistics]
    app: Any = None
    http2: dict[str, Any] = {"http2": has_tls, "http2_cleartext": not has_tls} if name in OUR_HTTP2 else {}
    if kind == "native":
        server = check.watch(make_native(hub, life, **bounds, **http2, **options))
        statistics = server.statistics
    elif kind == "quart":
        app, sse = make_quart(hub, life, **bounds, **options)
        statistics = sse.statistics
        if middleware is not None:
            app.asgi_app = middleware(app.asgi_app)
    else:
        endpoints = make_event_streams(hub, life, write_timeout=write_timeout, **options)
        app, statistics = make_app(kind, endpoints, hub), statistics_of(endpoints)
    if app is not None and middleware is not None:
        app = middleware(app)
    if name not in ON_HYPERCORN:
        if app is not None:
            server = check.watch(Server(app, hub=hub, **bounds, **http2))
        context = certificate.server_context() if has_tls else None
        listen = partial(server.serve, "127.0.0.1", 0, ssl_context=context)
        serve = server.serve_in_memory if name in IN_MEMORY else listen
        shut_down = server.drain
    else:
        config = Config()
        config.bind, config.errorlog = ["127.0.0.1:0"], logging.getLogger("hypercorn.error")
        config.keep_alive_timeout = SECONDS  # of a connection whose client is slow to ask
        if tls is not None:
            config.certfile, config.keyfile = str(certificate.chain), str(certificate.key)
        serve = partial(trio_sse.hypercorn.serve, app, config, shutdown_trigger=shutdown.wait, **bounds)

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
            where = await nursery.start(serve_to_the_end)
            port = 0
            if name in IN_MEMORY:
                dial: Dial = partial(dial_memory, where)
            else:
                (first,) = where
                port = int(first.rpartition(":")[2]) if isinstance(first, str) else first[1]
                dial = partial(dial_socket, ("127.0.0.1", port))
            yield Host(name, hub, life, statistics, dial, port, tls, nursery, shut_down, ended)
            nursery.cancel_scope.cancel()
    assert statistics().open_streams == 0, "streams are left"
