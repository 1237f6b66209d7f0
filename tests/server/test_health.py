"""The health checks: what they answer while a server starts, works, loses its log, and drains."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
import trio

from trio_sse import Hub, LogSession, LogUnavailable, Request, Response, Server
from trio_sse._hub import sequencer
from trio_sse._shared_log import sessions, writable
from trio_sse.sqlite import SQLiteLog

from ..support.asgi_apps import Receive, Send, answer, http_only
from ..support.console import BEARER, TOKEN, next_snapshot, send
from ..support.leaks import MakeHub, MakeServer
from ..support.list_log import ListLog
from ..support.metrics import metric
from ..support.observed_streams import forwarding, observe
from ..support.serving import OnSockets, on_sockets
from ..support.waiting import SECONDS, until

PATHS = ("/health", "/healthz", "/readyz")


async def ask(running: OnSockets, path: str) -> tuple[int, Any]:
    """Return the status and the JSON of an answer."""
    async with await running.connect() as client:
        head = await client.get(path)
        body = await client.sized_body(head)
        return head.status, json.loads(body) if body[:1] == b"{" else body


@http_only
async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    await answer(send, b"the app's", 200)


async def test_a_server_that_works_is_ready(make_server: MakeServer) -> None:
    server = make_server(allowed_hosts=["example.org"])
    assert server.problems() == ["not_serving", "hub_not_running"]
    async with on_sockets(server) as running:
        for path in PATHS:
            assert await ask(running, path) == (200, {"status": "ok"})
        assert server.problems() == []


async def test_an_app_has_the_paths_unless_they_are_set(make_server: MakeServer) -> None:
    async with on_sockets(make_server(app=app)) as running:
        for path in PATHS:
            assert await ask(running, path) == (200, b"the app's")
    server = make_server(app=app, liveness_path="/live", readiness_path="/ready")
    async with on_sockets(server) as running:
        assert await ask(running, "/live") == (200, {"status": "ok"})
        assert await ask(running, "/ready") == (200, {"status": "ok"})
        assert await ask(running, "/readyz") == (200, b"the app's")


async def test_a_route_replaces_a_check(make_server: MakeServer) -> None:
    server = make_server(allowed_hosts=["example.org"])

    @server.endpoint("/readyz")
    async def ready(request: Request) -> Response:
        return Response("mine")

    async with on_sockets(server) as running:
        status, _ = await ask(running, "/readyz")
        assert status == 421
        assert await ask(running, "/healthz") == (200, {"status": "ok"})


@pytest.mark.parametrize("path", ["/a%2Fb", "/%61%2fb", "/a/b/%2e"])
async def test_only_a_check_itself_is_for_any_host(make_server: MakeServer, path: str) -> None:
    server = make_server(app=app, allowed_hosts=["example.org"], liveness_path="/a/b")

    @server.endpoint("/{name}")
    async def endpoint(request: Request, name: str) -> Response:
        return Response(name)

    async with on_sockets(server) as running:
        assert await ask(running, "/a/b") == (200, {"status": "ok"})
        status, _ = await ask(running, path)
        assert status == 421


async def test_readiness_says_what_is_wrong_with_a_shared_log(
    make_server: MakeServer,
    make_hub: MakeHub,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "trio_sse.log")
    log = ListLog()
    log.is_away = True
    hub: Hub = make_hub(log=log)
    server: Server = make_server(hub=hub)
    async with on_sockets(server) as running:
        assert await ask(running, "/readyz") == unavailable("log_not_loaded")
        assert await ask(running, "/health") == (
            503,
            {"status": "unavailable", "reason": "log_not_loaded"},
        )
        log.is_away = False
        await until(lambda: not server.problems())
        assert await ask(running, "/readyz") == (200, {"status": "ok"})
        log.is_away = True
        log.publish("t", "cuts the session")
        await until(server.problems)
        assert await ask(running, "/readyz") == unavailable("log_unavailable")
        assert await ask(running, "/health") == (200, {"status": "ok"})  # it was loaded once
        assert await ask(running, "/healthz") == (200, {"status": "ok"})
        assert server.statistics().refused_by_status == {}  # nobody was refused
        assert hub.statistics().log_outages == 1
        log.is_away = False
        await until(lambda: not server.problems())
        monkeypatch.setattr(sequencer, "_LAGGING_SECONDS", -1.0)
        assert await ask(running, "/readyz") == unavailable("log_lagging")
    lines = [record.getMessage() for record in caplog.records if record.name == "trio_sse.log"]
    assert [line.startswith("the shared log is available again") for line in lines].count(True) == 1


async def test_a_log_that_fails_right_after_it_was_loaded_is_unavailable(
    make_server: MakeServer, make_hub: MakeHub
) -> None:
    class FailsOnce(ListLog):
        connections = 0

        @asynccontextmanager
        async def connect(self) -> AsyncIterator[LogSession]:
            self.is_away = self.is_away or self.connections == 1
            self.connections += 1
            async with super().connect() as session:
                yield session

    log = FailsOnce()
    hub: Hub = make_hub(log=log)
    server: Server = make_server(hub=hub)
    async with on_sockets(server):
        await until(server.problems)
        assert server.problems() == ["log_unavailable"]
        assert hub.statistics().log_outages == 1
        log.is_away = False
        await until(lambda: not server.problems())
        assert hub.statistics().log_outages == 1


@pytest.mark.parametrize("lock_timeout", [0.01, SECONDS], ids=["its session fails", "it is late"])
async def test_readiness_says_that_a_shared_log_takes_no_events(
    make_server: MakeServer,
    make_hub: MakeHub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lock_timeout: float,
) -> None:
    monkeypatch.setattr(sessions, "_LONGEST_WAIT", 0.05)
    monkeypatch.setattr(writable, "_CHECK_AFTER", 0.01)
    path = tmp_path / "log.db"
    hub: Hub = make_hub(log=SQLiteLog(path, timeout=lock_timeout, publish_timeout=0.1))
    server: Server = make_server(hub=hub)
    async with on_sockets(server) as running:
        with trio.fail_after(SECONDS):
            async with hub.subscribe("t") as events:
                hub.publish_nowait("t", "it is followed")
                await anext(events)
        await until(lambda: not server.problems())
        with closing(sqlite3.connect(path, timeout=SECONDS, isolation_level=None)) as other:
            other.execute("begin immediate")
            assert await ask(running, "/readyz") == (200, {"status": "ok"})  # nothing was published
            with pytest.raises(LogUnavailable):
                await hub.publish("t", "x")
            assert await ask(running, "/readyz") == unavailable("log_not_writable")
            assert metric(server, "hub_log_problem", problem="log_not_writable") == 1
            assert hub.statistics().log_outages == 0
        await until(lambda: not server.problems())  # though nothing more is published
        assert metric(server, "hub_log_problem", problem="log_not_writable") == 0


async def test_a_server_that_stops_is_not_ready(make_server: MakeServer) -> None:
    server = make_server()
    async with on_sockets(server) as running:
        async with await running.connect() as client:
            head = await client.get("/readyz")
            assert head.status == 200
            await client.sized_body(head)
            server.stop_accepting()
            head = await client.get("/readyz")
            assert json.loads(await client.sized_body(head))["reasons"] == ["draining"]
        await server.drain()
        await until(lambda: "not_serving" in server.problems())


async def test_a_full_server_is_ready_and_says_that_it_is_full(make_server: MakeServer) -> None:
    server = make_server(max_connections=1, console=True, console_token=TOKEN)
    observe(server, forwarding)
    async with on_sockets(server) as running, await running.connect() as client:
        assert server.warnings() == []
        await client.get("/")
        assert server.warnings() == ["full"]
        assert server.problems() == []
        assert await ask(running, "/readyz") == (200, {"status": "ok", "warnings": ["full"]})
        assert await ask(running, "/healthz") == (200, {"status": "ok"})
        assert metric(server, "max_connections") == 1
        async with await running.connect() as viewer:
            await send(viewer, "/stream", BEARER)
            assert (await next_snapshot(viewer))["problems"] == ["full"]
        await client.stream.aclose()
        await until(lambda: not server.warnings())
        assert await ask(running, "/readyz") == (200, {"status": "ok"})


async def test_an_app_that_is_down_is_a_problem(make_server: MakeServer) -> None:
    goes_on = trio.Event()

    async def with_lifespan(
        scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        assert scope["type"] == "lifespan"
        await receive()
        await goes_on.wait()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    server = make_server(app=with_lifespan, readiness_path="/readyz")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve, "127.0.0.1", 0)
        await trio.testing.wait_all_tasks_blocked()
        assert "not_serving" in server.problems()
        goes_on.set()
        await until(lambda: not server.problems())
        await server.drain()
        nursery.cancel_scope.cancel()


def unavailable(*reasons: str) -> tuple[int, object]:
    return 503, {"status": "unavailable", "reasons": list(reasons)}
