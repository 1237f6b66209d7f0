"""The hosts of `tests/promises/every_host/`, with the same handlers on each, and how they differ."""

from __future__ import annotations

import json
import logging
import math
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import trio
from trio.testing import lockstep_stream_pair, memory_stream_pair

import trio_sse.hypercorn
from trio_sse import Hub, Server, ServerStatistics
from trio_sse._asgi.types import ASGIApp
from trio_sse.asgi import EventStream
from trio_sse.otel import Tracing
from trio_sse.quart import QuartSSE, StreamStatistics

from .certificates import Certificate
from .client import Client
from .host_apps import make_app, make_event_streams, make_native, make_quart, statistics_of
from .host_handlers import Life
from .http2_client import Http2Connection, Http2Stream
from .hypercorn_config import make_config
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


Dial = Callable[[int | None], Awaitable[trio.abc.Stream]]
Run = Callable[..., "AbstractAsyncContextManager[Host]"]

# Bytes that a request announces, of which half are sent, if its response leaves time for that.
UPLOAD = 16_000

# Seconds of a clock that pass in one; and bounds that a busy machine keeps even so.
FAST = 200.0
PATIENT = {"seconds": math.inf, "write_timeout": 1000.0}


@dataclass
class Host:
    """One server that runs.

    Attributes:
        owners: what its streams belong to, which lists and ends them.
        server: our server, if it is one.
    """

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
    owners: Sequence[Server | QuartSSE | EventStream]
    server: Server | None

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
    async def asked(self, path: str, *lines: str, method: str = "GET") -> AsyncIterator[Any]:
        """Ask for a path, and do not wait for the response's head."""
        async with await self.connect() as connection:
            if isinstance(connection, Client):
                request = "\r\n".join([f"{method} {path} HTTP/1.1", "Host: test", *lines, "", ""])
                await connection.send(request.encode())
                yield connection
            else:
                yield await connection.request(method, path, *lines)

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
    async def opened(
        self, path: str, *lines: str, method: str = "GET", held: bool = False
    ) -> AsyncIterator[Any]:
        """Ask for a path; give what reads the response, whose head has come.

        If it is `held`, its body is taken only when the test reads, or has called `take_all`.
        """
        async with await self.connect(receive_buffer=4096 if held else None) as connection:
            if isinstance(connection, Client):
                await connection.get(path, *lines, method=method)
                yield connection
            else:
                stream = await connection.request(method, path, *lines, held=held)
                await stream.wait_head()
                yield stream


def answering(path: str, answer: ASGIApp) -> Callable[[ASGIApp], ASGIApp]:
    """Return middleware in which another app answers the requests of one path."""

    def middleware(app: ASGIApp) -> ASGIApp:
        async def call(scope: Any, receive: Any, send: Any) -> None:
            is_asked = scope["type"] == "http" and scope["path"] == path
            await (answer if is_asked else app)(scope, receive, send)

        return call

    return middleware


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
    tracing: Tracing | None = None,
    **options: Any,
) -> AsyncIterator[Host]:
    """Run a host by its name; at the end, it is cancelled unless it was shut down.

    Args:
        middleware: wraps the app, and Quart's own callable, too.
    """
    hub, life, ended = check.watch_hub(Hub(history=history, tracing=tracing)), Life(), trio.Event()
    bounds: dict[str, Any] = {"drain_timeout": drain_timeout, "write_timeout": write_timeout}
    has_tls = name in OVER_HTTP2 and "without tls" not in name
    tls = certificate.context if has_tls else None
    kind = name.partition(" ")[0]
    shutdown = trio.Event()
    serve: Callable[..., Awaitable[None]]
    statistics: Callable[[], ServerStatistics | StreamStatistics]
    app: Any = None
    server: Server | None = None
    owners: Sequence[Server | QuartSSE | EventStream]
    http2: dict[str, Any] = {"http2": has_tls, "http2_cleartext": not has_tls} if name in OUR_HTTP2 else {}
    if kind == "native":
        server = check.watch(make_native(hub, life, **bounds, **http2, **options))
        statistics, owners = server.statistics, [server]
    elif kind == "quart":
        app, sse = make_quart(hub, life, **bounds, **options)
        statistics, owners = sse.statistics, [sse]
        if middleware is not None:
            app.asgi_app = middleware(app.asgi_app)
    else:
        endpoints = make_event_streams(hub, life, write_timeout=write_timeout, **options)
        app, statistics = make_app(kind, endpoints, hub), statistics_of(endpoints)
        owners = list(endpoints.values())
    if app is not None and middleware is not None:
        app = middleware(app)
    if name not in ON_HYPERCORN:
        if server is None:
            server = check.watch(Server(app, hub=hub, **bounds, **http2))
        context = certificate.server_context() if has_tls else None
        listen = partial(server.serve, "127.0.0.1", 0, ssl_context=context)
        serve = server.serve_in_memory if name in IN_MEMORY else listen
        shut_down = server.drain
    else:
        config = make_config(errorlog=logging.getLogger("hypercorn.error"))
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
            yield Host(
                name, hub, life, statistics, dial, port, tls, nursery, shut_down, ended, owners, server
            )
            nursery.cancel_scope.cancel()
    assert statistics().open_streams == 0, "streams are left"
