"""`max_connections` bounds the calls of an app, and the streams that take their places."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from quart_trio import QuartTrio

from trio_sse import Connection, Hub
from trio_sse.asgi import event_stream
from trio_sse.quart import QuartSSE

from ..support.asgi_apps import GET, App, Receive, Send, answer, http_only
from ..support.leaks import LeakCheck, MakeServer
from ..support.serving import on_sockets
from ..support.waiting import until


def make_app(kind: str, end: trio.Event, no_leak: LeakCheck) -> tuple[App, Hub]:
    """Return an app that works on its responses until `end`, and its hub."""

    @http_only
    async def calls(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await end.wait()
        if kind == "failing call":
            raise ValueError
        await answer(send, b"answer")

    async def stream(connection: Connection) -> None:
        if "silent" not in connection.request.query:
            await connection.send("event")
        await end.wait()

    if kind == "inline stream":
        hub = no_leak.watch_hub(Hub())
        inline: Any = event_stream(stream, hub=hub)
        return http_only(inline), hub
    if kind == "detached stream":
        app: Any = QuartTrio(__name__)
        sse = QuartSSE(app)
        sse.route("/")(stream)
        return http_only(app), no_leak.watch_hub(sse.hub)
    return calls, no_leak.watch_hub(Hub())


@pytest.mark.parametrize("kind", ["call", "failing call", "inline stream", "detached stream"])
async def test_a_request_above_the_bound_is_refused(
    make_server: MakeServer, no_leak: LeakCheck, kind: str
) -> None:
    end = trio.Event()
    app, hub = make_app(kind, end, no_leak)
    server = make_server(app=app, hub=hub, max_connections=1)
    async with on_sockets(server) as serving:
        async with await serving.connect() as first, await serving.connect() as second:
            await first.send(GET)
            await until(lambda: not server._admission.is_empty)
            if "stream" in kind:
                assert (await first.head()).status == 200
            head = await second.get("/")
            assert (head.status, head.get("Connection")) == (503, "close")
            assert head.get("Retry-After")
            end.set()
            await until(lambda: server._admission.is_empty)
        async with await serving.connect() as third:
            assert (await third.get("/")).status == (500 if "failing" in kind else 200)
            await until(lambda: server._admission.is_empty)


@pytest.mark.parametrize("kind", ["inline stream", "detached stream"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_polls_count_for_their_clients_address(
    make_server: MakeServer, no_leak: LeakCheck, kind: str, method: str
) -> None:
    app, hub = make_app(kind, trio.Event(), no_leak)
    server = make_server(app=app, hub=hub, max_connections_per_host=1)
    accept = "Accept: application/json"
    async with on_sockets(server) as serving:
        async with await serving.connect() as first:
            await first.send(b"GET /?silent HTTP/1.1\r\nHost: test\r\n%b\r\n\r\n" % accept.encode())
            await until(lambda: server.statistics().open_streams == 1)
            async with await serving.connect() as second:
                assert (await second.get("/", accept, method=method)).status == 429
        await until(lambda: server.statistics().open_streams == 0)
        async with await serving.connect() as third:
            assert (await third.get("/?wait=0", accept, method=method)).status == 200
        await until(lambda: server._admission.is_empty)
