"""`Server(app)`: an ASGI app for requests that no route takes."""

from __future__ import annotations

from typing import Any

import pytest
import starlette.requests
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse import Connection, Request, Response, Server

from ..support.asgi_apps import GET, Receive, Send, answer, ask, echo, http_only, ignore, post
from ..support.certificates import Contexts
from ..support.leaks import LeakCheck, MakeServer
from ..support.serving import in_memory, on_sockets

# Requests


async def test_receive_does_not_end_while_the_response_is_being_sent(
    serve: Any, autojump_clock: MockClock
) -> None:
    """Quart receives in another task, and cancels what it sends when the client has disconnected."""
    log: list[str] = []

    @http_only
    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        async def receive_all() -> None:
            while True:
                log.append((await receive())["type"])
                await wait_all_tasks_blocked()  # the response is being sent

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive_all)
            await answer(send, b"whole")
            log.append("sent")
            nursery.cancel_scope.cancel()

    async with serve(app) as serving, serving.connect_lockstep() as client:
        for method in ("HEAD", "GET"):
            await client.send(f"{method} / HTTP/1.1\r\nHost: test\r\n\r\n".encode())
            await trio.sleep(1)
            assert (await client.head()).status == 200
        assert await client.whole() == b"whole"

    assert log == ["http.request", "sent", "http.disconnect"] * 2


async def test_the_scope_describes_the_request(serve: Any, autojump_clock: MockClock) -> None:
    scopes: list[dict[str, Any]] = []

    async def note(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scopes.append(scope)
            await answer(send)
        else:
            scope["state"]["made"] = 1
            while True:
                kind = (await receive())["type"]
                await send({"type": f"{kind}.complete"})
                if kind == "lifespan.shutdown":
                    return

    async with serve(note) as serving:
        await ask(serving, b"GET /gr%C3%BC%C3%9Fe/a%2Fb?q=%31&r HTTP/1.1\r\nHost: test\r\nX-One: 1\r\n\r\n")
    (scope,) = scopes
    assert {name: scope[name] for name in ("method", "path", "raw_path", "query_string", "root_path")} == {
        "method": "GET",
        "path": "/grüße/a/b",
        "raw_path": b"/gr%C3%BC%C3%9Fe/a%2Fb",
        "query_string": b"q=%31&r",
        "root_path": "",
    }
    assert (scope["http_version"], scope["scheme"], scope["asgi"]["version"]) == ("1.1", "http", "3.0")
    assert scope["headers"] == [(b"host", b"test"), (b"x-one", b"1")]
    assert (scope["client"], scope["server"], scope["state"]) == (None, None, {"made": 1})


async def test_the_scope_has_addresses_and_tls(make_server: MakeServer, contexts: Contexts) -> None:
    seen: list[Any] = []

    @http_only
    async def note(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        seen.append((scope["scheme"], scope["client"][0], scope["server"]))
        await answer(send)

    server = make_server(app=note)
    async with (
        on_sockets(server, server_tls=contexts.server, client_tls=contexts.client) as serving,
        await serving.connect() as client,
    ):
        await client.get("/")
        assert seen == [("https", "127.0.0.1", serving.address)]


async def test_routes_take_precedence(serve: Any, no_leak: LeakCheck) -> None:
    server = no_leak.watch(Server(echo))

    @server.route("/stream")
    async def stream(connection: Connection) -> None:
        await connection.send("native")

    @server.endpoint("/endpoint")
    async def endpoint(request: Request) -> Response:
        return Response("native")

    async with in_memory(server) as serving, serving.connect() as client:
        head = await client.get("/endpoint")
        assert await client.whole() == b"native"
        head = await client.get("/other")
        assert (head.get("x-path"), await client.whole()) == ("/other", b"")
        await client.send(post(b"abc").replace(b"POST /", b"POST /stream"))
        assert (await client.head()).get("x-path") == "/stream"  # no route takes POST
        client.is_ended = False
        client.body = b""
        assert await client.whole() == b"abc"
        client.is_ended = False
        await client.get("/stream")
        assert [event.data for event in await client.rest()] == ["native"]


async def test_health_belongs_to_the_app_unless_it_is_enabled(serve: Any, autojump_clock: MockClock) -> None:
    request = b"GET /health HTTP/1.1\r\nHost: test\r\n\r\n"
    async with serve(ignore) as serving:
        assert (await ask(serving, request))[1] == b"ignored"
    async with serve(ignore, health_path="/health") as serving:
        assert (await ask(serving, request))[1] == b'{"status": "ok"}'


def test_an_app_must_be_callable() -> None:
    with pytest.raises(TypeError, match="must be an ASGI app"):
        Server("app")  # type: ignore[arg-type]  # that is the mistake


# Disconnects


async def test_an_app_that_waits_receives_the_disconnect(make_server: MakeServer) -> None:
    waits, disconnected = trio.Event(), trio.Event()

    @http_only
    async def wait(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        assert (await receive()) == {"type": "http.request", "body": b"", "more_body": False}
        waits.set()
        assert (await receive())["type"] == "http.disconnect"
        assert (await receive())["type"] == "http.disconnect"
        disconnected.set()

    async with on_sockets(make_server(app=wait)) as serving:
        async with await serving.connect() as client:
            await client.send(GET)
            await waits.wait()
            await wait_all_tasks_blocked()
        await disconnected.wait()


async def test_starlettes_is_disconnected_works(make_server: MakeServer) -> None:
    polls, disconnected = trio.Event(), trio.Event()

    @http_only
    async def poll(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        request = starlette.requests.Request(scope, receive)
        await request.body()
        assert not await request.is_disconnected()
        polls.set()
        while not await request.is_disconnected():  # noqa: ASYNC110  # what is tested
            await trio.sleep(0.01)
        disconnected.set()

    async with on_sockets(make_server(app=poll)) as serving:
        async with await serving.connect() as client:
            await client.send(GET)
            await polls.wait()
        await disconnected.wait()


async def test_in_memory_the_next_request_is_buffered_while_the_app_waits(serve: Any) -> None:
    release = trio.Event()

    @http_only
    async def wait(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                while (await receive())["type"] != "http.disconnect":
                    pass

            nursery.start_soon(watch)
            await release.wait()
            await answer(send, scope["path"].encode())
            nursery.cancel_scope.cancel()

    async with serve(wait) as serving, serving.connect() as client:
        await client.send(GET.replace(b"/ ", b"/one ") + GET.replace(b"/ ", b"/two "))
        await wait_all_tasks_blocked()
        release.set()
        for path in (b"/one", b"/two"):
            assert await client.sized_body(await client.head()) == path


async def test_a_client_that_reads_nothing_times_out(serve: Any, autojump_clock: MockClock) -> None:
    failed: list[OSError] = []

    @http_only
    async def flood(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        try:
            while True:
                await send({"type": "http.response.body", "body": b"x" * 1000, "more_body": True})
        except OSError as error:
            failed.append(error)
            raise

    async with serve(flood, write_timeout=7) as serving, serving.connect_lockstep() as client:
        await client.send(GET)
        await trio.sleep(10)
        assert len(failed) == 1
