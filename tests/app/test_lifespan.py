"""The life of an app: its lifespan, and its end with the server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

import trio_sse.hypercorn
from trio_sse import Connection, Server

from ..support.asgi_apps import GET, Receive, Send, answer, http_only, ignore, post
from ..support.client import Client
from ..support.hypercorn_config import make_config
from ..support.leaks import LeakCheck, MakeServer
from ..support.serving import in_memory, on_sockets
from ..support.waiting import SECONDS

# Cancellation and drain


@pytest.mark.parametrize("phase", ["before", "body", "response"])
async def test_a_cancelled_server_leaves_no_app_running(serve: Any, phase: str) -> None:
    @http_only
    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if phase == "body":
            await receive()
            await receive()
        elif phase == "response":
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
        await trio.sleep_forever()

    async with serve(app) as serving, serving.connect() as client:
        await client.send(post(b"abc", length=1000))
        await wait_all_tasks_blocked()


async def test_a_drain_waits_for_apps_and_then_cancels_them(serve: Any, autojump_clock: MockClock) -> None:
    ended: list[str] = []

    @http_only
    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        try:
            await trio.sleep(float(scope["path"][1:]))
            await answer(send, b"done")
            ended.append("done")
        except trio.Cancelled:
            ended.append("cancelled")
            raise

    async with serve(app, drain_timeout=10) as serving, serving.connect() as quick, serving.connect() as slow:
        await quick.send(GET.replace(b"/ ", b"/5 "))
        await slow.send(GET.replace(b"/ ", b"/50 "))
        await wait_all_tasks_blocked()
        began_at = trio.current_time()
        await serving._server.drain()
        assert trio.current_time() - began_at < 11
        head = await quick.head()
        assert (head.status, head.get("Connection")) == (200, "close")
    assert ended == ["done", "cancelled"]


# Lifespans


class Lifespan:
    """An app that records its lifespan."""

    def __init__(self, startup: str = "complete", shutdown: str = "complete") -> None:
        self.noted: list[str] = []
        self._answers = {"startup": startup, "shutdown": shutdown}

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self.noted.append("request")
            await answer(send, b"up")
            return
        while True:
            phase = (await receive())["type"].removeprefix("lifespan.")
            self.noted.append(phase)
            answered = self._answers[phase]
            if answered == "raises":
                raise ValueError(phase)
            if answered == "never":
                await trio.sleep_forever()
            await send({"type": f"lifespan.{phase}.{answered}", "message": "because"})
            if phase == "shutdown":
                return


async def test_an_app_is_started_before_its_first_request_and_shut_down_after_the_last(
    make_server: MakeServer,
) -> None:
    app = Lifespan()
    async with on_sockets(make_server(app=app)) as serving:
        assert app.noted == ["startup"]
        async with await serving.connect() as client:
            await client.get("/")
    assert app.noted == ["startup", "request", "shutdown"]


@pytest.mark.parametrize(("startup", "message"), [("failed", "because"), ("never", "within 60 s")])
async def test_an_app_that_can_not_start_is_not_served(
    make_server: MakeServer, autojump_clock: MockClock, startup: str, message: str
) -> None:
    server = make_server(app=Lifespan(startup))
    with pytest.raises(RuntimeError, match=message):
        await server.serve("127.0.0.1", 0)


async def test_an_app_without_a_lifespan_is_served(make_server: MakeServer) -> None:
    async with on_sockets(make_server(app=ignore)) as serving, await serving.connect() as client:
        assert (await client.get("/")).status == 200


@pytest.mark.parametrize("shutdown", ["failed", "raises", "never"])
async def test_a_shutdown_that_fails_does_not_keep_the_server(
    make_server: MakeServer, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, shutdown: str
) -> None:
    async with (
        in_memory(make_server(app=Lifespan(shutdown=shutdown))) as serving,
        serving.connect() as client,
    ):
        await client.get("/")
        began_at = trio.current_time()
    assert trio.current_time() - began_at <= 10
    level = "WARNING" if shutdown == "never" else "ERROR"
    assert [record.levelname for record in caplog.records if record.name == "trio_sse.app"] == [level]


@pytest.mark.parametrize("server", ["ours", "hypercorn"])
@pytest.mark.parametrize("when", ["startup", "shutdown"])
@pytest.mark.parametrize("what", ["a generator in a nursery", "a cancel scope"])
@pytest.mark.usefixtures("quick_shutdown")
async def test_what_a_lifespan_leaves_open_ends_nothing_else(
    no_leak: LeakCheck, caplog: pytest.LogCaptureFixture, server: str, when: str, what: str
) -> None:
    async def numbers() -> AsyncIterator[int]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            yield 1

    async def leave() -> None:
        if what == "a cancel scope":
            trio.CancelScope().__enter__()
        else:
            async for _ in numbers():
                break

    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        assert scope["type"] == "lifespan"
        for phase in ("startup", "shutdown"):
            await receive()
            if phase == when:
                await leave()
            await send({"type": f"lifespan.{phase}.complete"})

    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:
            if server == "ours":
                own = no_leak.watch(Server(app))
                await nursery.start(own.serve_in_memory)
                await own.drain()
            else:
                stops = trio.Event()
                serve = partial(trio_sse.hypercorn.serve, shutdown_trigger=stops.wait)
                await nursery.start(serve, app, make_config())
                stops.set()
    assert "the app's lifespan failed" in caplog.text or "was left inside a nursery" in caplog.text


async def test_a_second_call_shares_the_app_while_it_is_up(make_server: MakeServer) -> None:
    app = Lifespan()
    server = make_server(app=app)
    async with on_sockets(server) as second_until_after_the_first, trio.open_nursery() as nursery:
        addresses = await nursery.start(server.serve, "127.0.0.1", 0)
        async with Client(await trio.open_tcp_stream(*addresses[0])) as client:
            assert (await client.get("/")).status == 200
        nursery.cancel_scope.cancel()
        assert second_until_after_the_first
    assert app.noted == ["startup", "request", "shutdown"]


async def test_the_app_shuts_down_with_the_first_call(make_server: MakeServer) -> None:
    server = make_server(app=Lifespan())
    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as outer:
            first = trio.CancelScope()

            async def serve_first(*, task_status: trio.TaskStatus[Any]) -> None:
                with first:
                    await server.serve("127.0.0.1", 0, task_status=task_status)

            await outer.start(serve_first)
            addresses = await outer.start(server.serve, "127.0.0.1", 0)
            first.cancel()
            await wait_all_tasks_blocked()
            async with Client(await trio.open_tcp_stream(*addresses[0])) as client:
                assert (await client.get("/")).status == 503
            outer.cancel_scope.cancel()


async def test_what_several_tasks_send_arrives_in_order(serve: Any) -> None:
    @http_only
    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        async with trio.open_nursery() as nursery:
            for piece in (b"a", b"b", b"c"):
                nursery.start_soon(send, {"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    for _ in range(10):
        async with serve(app) as memory, memory.connect() as client:
            assert (await client.get("/")).status == 200
            assert sorted(await client.whole()) == sorted(b"abc")


async def test_a_drain_while_the_app_starts_ends_the_server(no_leak: LeakCheck) -> None:
    begun = trio.Event()

    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        assert scope["type"] == "lifespan"
        await receive()
        begun.set()
        await trio.sleep_forever()

    server = no_leak.watch(Server(app))
    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.serve, "127.0.0.1", 0)
            await begun.wait()
            await server.drain()


# A lifespan that ends too early


@pytest.mark.parametrize("how", ["raises", "returns", "is no Exception"])
async def test_an_app_whose_lifespan_ends_is_served_no_longer(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    fails = trio.Event()

    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            fails.set()
            await wait_all_tasks_blocked()
            await answer(send, b"the last one")
            return
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await fails.wait()
        if how == "raises":
            raise ValueError("the database has gone")
        if how == "is no Exception":
            raise SystemExit(3)

    server = make_server(app=app)

    @server.route("/live")
    async def live(connection: Connection) -> None:
        await connection.subscribe("live")

    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:

            async def serve(*, task_status: trio.TaskStatus[Any]) -> None:
                with pytest.raises(RuntimeError, match="lifespan has ended"):
                    await server.serve("127.0.0.1", 0, task_status=task_status)

            (address,) = await nursery.start(serve)
            async with Client(await trio.open_tcp_stream(*address)) as stream:
                await stream.send(b"GET /live HTTP/1.1\r\nHost: test\r\n\r\n")
                await wait_all_tasks_blocked()
                async with Client(await trio.open_tcp_stream(*address)) as client:
                    head = await client.get("/")
                    assert await client.sized_body(head) == b"the last one"
                assert (await stream.head()).status == 200
                await stream.rest()
                assert stream.is_cut
    assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 1


@pytest.mark.parametrize("kind", ["startup.complete", "startup.failed", "shutdown.complete"])
async def test_a_lifespan_cannot_start_twice_or_end_unasked(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    late = trio.Event()

    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await late.wait()
        await send({"type": f"lifespan.{kind}"})
        await receive()

    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:

            async def serve(*, task_status: trio.TaskStatus[Any]) -> None:
                with pytest.raises(RuntimeError, match="lifespan has ended"):
                    await make_server(app=app).serve_in_memory(task_status=task_status)

            await nursery.start(serve)
            late.set()
    assert f"the app sends 'lifespan.{kind}'" in caplog.text


async def test_a_request_to_an_app_whose_lifespan_has_ended_is_answered_503(
    make_server: MakeServer, autojump_clock: MockClock
) -> None:
    fails = trio.Event()
    slow = trio.Event()

    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            slow.set()
            await trio.sleep(5)
            await answer(send)
            return
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await fails.wait()

    server = make_server(app=app)
    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:

            async def serve(*, task_status: trio.TaskStatus[Any]) -> None:
                with pytest.raises(RuntimeError, match="lifespan has ended"):
                    await server.serve_in_memory(task_status=task_status)

            connect = await nursery.start(serve)
            first, second = (memory_stream_pair() for _ in range(2))
            for pair in (first, second):
                connect(pair[1], "test")
            async with Client(first[0]) as under_way, Client(second[0]) as late:
                await under_way.send(GET)
                await slow.wait()
                fails.set()
                await wait_all_tasks_blocked()
                await late.send(GET)
                assert (await late.head()).status == 503
                assert (await under_way.head()).status == 200
