"""What an app does after its response: neither its client nor the next request waits for it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol

import pytest
import trio
from quart_trio import QuartTrio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse import Connection, Hub, Server
from trio_sse._app.background import OngoingCall, OngoingCalls
from trio_sse._app.call import AppCall
from trio_sse.asgi import event_stream
from trio_sse.quart import QuartSSE

from ..support.asgi_apps import GET, Receive, Send, answer, http_only, post
from ..support.client import Client
from ..support.leaks import LeakCheck, MakeServer
from ..support.serving import in_memory, on_sockets
from ..support.waiting import SECONDS, until


class Connect(Protocol):
    async def __call__(self) -> Client: ...


@asynccontextmanager
async def connecting(server: Server, kind: str) -> AsyncIterator[Connect]:
    """Serve on sockets, or over memory streams."""
    if kind == "sockets":
        async with on_sockets(server) as serving:
            yield serving.connect
    else:
        with trio.fail_after(SECONDS):
            async with in_memory(server) as memory:

                async def connect() -> Client:
                    return memory.connect()

                yield connect


KINDS = pytest.mark.parametrize("kind", ["sockets", "memory"])


class Work:
    """An app whose requests to /work go on after their responses, until `finish`."""

    def __init__(self) -> None:
        self.finish = trio.Event()
        self.begun = 0
        self.ended = 0

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        assert scope["type"] == "http", "no lifespan here"
        await answer(send, scope["path"].encode())
        if scope["path"] == "/work":
            self.begun += 1
            try:
                await self.finish.wait()
            finally:
                self.ended += 1


@KINDS
async def test_the_next_request_waits_for_no_call_that_goes_on(make_server: MakeServer, kind: str) -> None:
    app = Work()
    server = make_server(app=app)
    async with connecting(server, kind) as connect, await connect() as client:
        for _ in range(3):
            await client.get("/work")
            assert await client.whole() == b"/work"
        await client.get("/other")
        assert await client.whole() == b"/other"
        assert (app.begun, app.ended, server.statistics().background_calls) == (3, 0, 3)
        app.finish.set()
        await until(lambda: app.ended == 3)
        assert server.statistics().background_calls == 0
        await client.get("/again")
        assert await client.whole() == b"/again"


async def test_a_client_that_leaves_as_the_response_completes_is_no_failure(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call is cancelled, and closes the connection that another task is about to take, or has taken."""
    ended = 0

    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        nonlocal ended
        await answer(send, b"done")
        try:
            await trio.sleep_forever()
        finally:
            ended += 1

    def continue_connection(call: AppCall) -> None:
        original(call)
        assert call._cycle.call is not None
        call._cycle.call.cancel()

    original = AppCall.continue_connection
    monkeypatch.setattr(AppCall, "continue_connection", continue_connection)
    async with on_sockets(make_server(app=http_only(app))) as serving:
        for number in range(1, 9):  # which of the two tasks runs first is random
            async with await serving.connect() as client:
                await client.get("/")
                assert await client.whole() == b"done"
                await until(lambda: ended == number)  # noqa: B023  # it is called within the loop's turn
    assert [record.message for record in caplog.records if "failed" in record.message] == []


@KINDS
async def test_a_call_goes_on_when_its_client_leaves_after_the_response(
    make_server: MakeServer, kind: str
) -> None:
    app = Work()
    server = make_server(app=app)
    async with connecting(server, kind) as connect:
        async with await connect() as client:
            await client.get("/work")
            assert await client.whole() == b"/work"
        async with await connect() as other:
            await other.get("/")
        assert (app.begun, app.ended) == (1, 0)
        app.finish.set()
        await until(lambda: app.ended == 1 and server.statistics().background_calls == 0)


@KINDS
async def test_receive_ends_with_the_response(make_server: MakeServer, kind: str) -> None:
    """Litestar's streams wait in `receive` until the client has disconnected, while another task sends."""
    received: list[str] = []

    @http_only
    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        async def send_response() -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(3):
                await send({"type": "http.response.body", "body": b".", "more_body": True})
            await send({"type": "http.response.body", "body": b"!"})

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_response)
            while (await receive())["type"] != "http.disconnect":
                pass
            received.append("http.disconnect")

    server = make_server(app=app)
    async with connecting(server, kind) as connect, await connect() as client:
        for _ in range(2):
            await client.send(post(b"body"))
            await client.head()
            assert await client.whole() == b"...!"
    assert received == ["http.disconnect"] * 2


@KINDS
async def test_receive_of_an_unread_body_ends_with_the_response(make_server: MakeServer, kind: str) -> None:
    received: list[Any] = []

    @http_only
    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        async def receive_all() -> None:
            while True:
                message = await receive()
                received.append(message.get("body", message["type"]))
                if message["type"] == "http.disconnect":
                    return

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive_all)
            await wait_all_tasks_blocked()
            await answer(send, b"early")

    server = make_server(app=app)
    async with connecting(server, kind) as connect, await connect() as client:
        await client.send(post(b"some", length=100))
        assert (await client.head()).get("connection") == "close"
        assert await client.whole() == b"early"
    assert received == [b"some", "http.disconnect"]


@KINDS
async def test_what_a_call_still_sends_does_not_reach_the_next_response(
    make_server: MakeServer, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    failed = trio.Event()

    @http_only
    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["path"] == "/second":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"sec", "more_body": True})
            second_began.set()
            await failed.wait()
            await send({"type": "http.response.body", "body": b"ond"})
            return
        await answer(send, b"first")
        try:
            await second_began.wait()
            assert (await receive())["type"] == "http.disconnect"
            await send({"type": "http.response.body", "body": b"more"})
        finally:
            failed.set()

    second_began = trio.Event()
    caplog.set_level(logging.ERROR, "trio_sse.app")
    server = make_server(app=app)
    async with connecting(server, kind) as connect, await connect() as client:
        await client.send(GET + GET.replace(b"/ ", b"/second ", 1))  # in one segment
        await client.head()
        assert await client.whole() == b"first"
        await client.head()
        assert await client.whole() == b"second"
        await until(lambda: server.statistics().background_calls == 0)
    (record,) = caplog.records
    assert "the app failed for path=/" in record.message
    assert record.exc_info is not None
    assert "cannot follow" in str(record.exc_info[1])


@KINDS
async def test_a_body_that_ends_with_the_connection_does_not_wait_for_the_call(
    make_server: MakeServer, kind: str
) -> None:
    app = Work()
    async with connecting(make_server(app=app), kind) as connect, await connect() as client:
        await client.send(b"GET /work HTTP/1.0\r\n\r\n")
        await client.head()
        assert await client.closed() == b"/work"
        assert app.ended == 0


async def test_calls_that_go_on_are_bounded(make_server: MakeServer) -> None:
    """At the bound, the next request waits for the call, as every other request for the one before it."""
    app = Work()
    server = make_server(app=app, max_connections=2)
    async with connecting(server, "memory") as connect, await connect() as client:
        for path in ("/work", "/work"):
            await client.get(path)
            assert await client.whole() == b"/work"
        await client.send(GET)
        with trio.move_on_after(0.1) as waiting:
            await client.head()
        assert waiting.cancelled_caught
        assert (app.begun, server.statistics().background_calls) == (2, 1)
        app.finish.set()
        assert (await client.head()).status == 200


@pytest.mark.parametrize("is_quick", [True, False])
async def test_a_drain_lets_calls_end_and_then_cancels_them(make_server: MakeServer, is_quick: bool) -> None:
    app = Work()
    server = make_server(app=app, drain_timeout=SECONDS if is_quick else 0.05)
    async with on_sockets(server) as serving, await serving.connect() as client:
        await client.get("/work")
        assert await client.whole() == b"/work"
        await until(lambda: server.statistics().background_calls == 1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.drain)
            assert await client.closed() == b""  # the client does not wait for the call
            if is_quick:
                app.finish.set()
    assert app.ended == 1


@pytest.mark.parametrize("returns", [True, False])
async def test_one_call_to_serve_looks_after_the_app_s_calls_of_all(
    autojump_clock: MockClock, returns: bool
) -> None:
    calls = OngoingCalls()
    continued: list[OngoingCall] = []

    class Whole:
        """A call whose response was complete when it began; it may return while it is looked after."""

        looks = 0

        def on_overdue(self) -> bool:
            self.looks += 1
            if self.looks == 1:
                calls.recent.add(self, self)
            elif returns:
                nursery.start_soon(self.end)
            return self.looks > 1

        async def end(self) -> None:
            await trio.lowlevel.checkpoint()
            calls.recent.discard(self)

        def continue_connection(self) -> None:
            continued.append(self)

    async with trio.open_nursery() as nursery:
        scopes = [trio.CancelScope() for _ in range(3)]

        async def serve(scope: trio.CancelScope) -> None:
            with scope:
                await calls.run()

        for scope in scopes:
            nursery.start_soon(serve, scope)
        many = [Whole() for _ in range(10)]
        for number, call in enumerate(many):
            await trio.sleep(number * 0.0005)
            calls.recent.add(call, call)
            if number in (3, 6):
                scopes[number // 3 - 1].cancel()  # the next one goes on
        await trio.sleep(1)
        assert continued == ([] if returns else many)
        assert not len(calls.recent)
        nursery.cancel_scope.cancel()


async def test_a_call_that_returns_soon_costs_no_task(make_server: MakeServer) -> None:
    """Middleware has tasks of its own, which end in some steps after the response."""

    @http_only
    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await answer(send, b"whole")
        for _ in range(5):
            await trio.lowlevel.checkpoint()

    class Spawned(trio.abc.Instrument):
        def __init__(self) -> None:
            self.names: list[str] = []

        def task_spawned(self, task: trio.lowlevel.Task) -> None:
            self.names.append(task.name)

    async with connecting(make_server(app=app), "sockets") as connect, await connect() as client:
        await client.get("/")
        await client.whole()
        spawned = Spawned()
        trio.lowlevel.add_instrument(spawned)
        for _ in range(5):
            await client.get("/")
            assert await client.whole() == b"whole"
        trio.lowlevel.remove_instrument(spawned)
    assert spawned.names == []


@pytest.mark.parametrize("framework", ["asgi", "quart"])
async def test_a_call_may_go_on_beside_and_after_its_stream(
    make_server: MakeServer, no_leak: LeakCheck, framework: str
) -> None:
    """Of the two, the stream of Quart's is written in a task of its own, beside the call."""
    finish = trio.Event()
    end_stream = trio.Event()

    async def two_events(connection: Connection) -> None:
        await connection.send("1")
        await end_stream.wait()
        await connection.send("2")

    endpoint: Any
    if framework == "asgi":
        hub = no_leak.watch_hub(Hub())
        endpoint = event_stream(two_events, hub=hub)
    else:
        endpoint = QuartTrio(__name__)
        sse = QuartSSE(endpoint)
        sse.route("/")(two_events)
        hub = no_leak.watch_hub(sse.hub)

    @http_only
    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await endpoint(scope, receive, send)
        assert (await receive())["type"] == "http.disconnect"
        await finish.wait()

    server = make_server(app=app, hub=hub)
    async with connecting(server, "sockets") as connect, await connect() as client:
        await client.get("/")
        assert (await client.event()).data == "1"
        if framework == "quart":
            await until(lambda: server.statistics().background_calls == 1)
        end_stream.set()
        assert [event.data for event in await client.rest()] == ["2"]
        await until(lambda: server.statistics().background_calls == 1)
        await client.get("/")  # on the same connection
        assert (await client.event()).data == "1"
        finish.set()
        await until(lambda: server.statistics().background_calls == 0)


@KINDS
@pytest.mark.parametrize("goes_on", [True, False])
async def test_a_small_body_that_a_streamed_answer_leaves_unread_is_read_off(
    make_server: MakeServer, monkeypatch: pytest.MonkeyPatch, kind: str, goes_on: bool
) -> None:
    """Such is a refusal that passes Starlette's `BaseHTTPMiddleware`. The call may go on, too."""
    finish = trio.Event()

    @http_only
    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 401, "headers": []})
        await send({"type": "http.response.body", "body": b"no", "more_body": True})
        await send({"type": "http.response.body"})
        if goes_on:
            await finish.wait()

    async with connecting(make_server(app=app), kind) as connect:
        async with await connect() as client:
            for _ in range(3):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(client.send, post(bytes(100_000)))
                    head = await client.head()
                    assert (head.status, head.get("connection")) == (401, None)
                    assert await client.whole() == b"no"
        monkeypatch.setattr("trio_sse._request.body.LINGER_SILENCE_SECONDS", 0.2)
        async with await connect() as client, trio.open_nursery() as nursery:
            nursery.start_soon(client.send, post(bytes(400_000), length=1_000_000))
            assert (await client.head()).status == 401
            assert await client.whole() == b"no"
            assert await client.closed() == b""  # its end comes before all of the body has been sent
        finish.set()
