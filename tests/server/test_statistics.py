"""A server's statistics: what they count, and that a snapshot can pause."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.lowlevel
from trio.testing import wait_all_tasks_blocked

from trio_sse import Connection, HTTPException, Hub, Overflow, ServerStatistics, StreamKind
from trio_sse._process import resources
from trio_sse._process.loop_monitor import LoopMonitor
from trio_sse.asgi import event_stream
from trio_sse.websocket import WebSocketConnection

from ..support.asgi_apps import http_only
from ..support.certificates import make_contexts
from ..support.http2_client import Http2Connection
from ..support.leaks import MakeHub, MakeServer
from ..support.serving import in_memory, on_sockets
from ..support.waiting import SECONDS, until
from ..support.websocket_client import HANDSHAKE


async def test_streams_are_counted_by_route_transport_and_status(make_server: MakeServer) -> None:
    server = make_server()

    @server.route("/rooms/{room}")
    async def room(connection: Connection, room: str) -> None:
        if room == "secret":
            raise HTTPException(403)
        await connection.subscribe("room")

    @server.websocket("/socket")
    async def socket(connection: WebSocketConnection) -> None:
        await connection.subscribe("room")

    async with on_sockets(server) as serving:
        clients = [await serving.connect() for _ in range(4)]
        await clients[0].get("/rooms/a")
        await clients[1].get("/rooms/b")
        await clients[2].get("/socket", *HANDSHAKE)
        await clients[3].send(b"GET /rooms/c HTTP/1.1\r\nHost: h\r\nAccept: application/json\r\n\r\n")
        await until(lambda: server.statistics().open_streams == 4)
        for path in ("/rooms/secret", "/nowhere", "/nowhere"):
            async with await serving.connect() as other:
                await other.get(path)
        now = await server.collect_statistics()
        assert now.streams == {
            StreamKind("/rooms/{room}", "sse", "1.1", False): 2,
            StreamKind("/rooms/{room}", "poll", "1.1", False): 1,
            StreamKind("/socket", "websocket", "1.1", False): 1,
        }
        assert now.refused_by_status == {403: 1, 404: 2}
        assert now.refused == 3
        assert now.ages.count == 4
        assert 0 < now.oldest < SECONDS
        assert now.durations.count == 1  # the refused one
        for client in clients:
            await client.leave()
        await until(lambda: not server.statistics().open_streams)
    after = server.statistics()
    assert after.streams == {}
    assert after.durations.count == 5
    assert after.loop_turns.count > 0
    assert after.process.resident_bytes


async def test_tls_and_http2_are_told_apart(make_server: MakeServer) -> None:
    server, contexts = make_server(), make_contexts()

    @server.route("/live")
    async def live(connection: Connection) -> None:
        await connection.subscribe("live")

    over_tls = on_sockets(server, server_tls=contexts.server, client_tls=contexts.client)
    async with over_tls as serving, await serving.connect() as client, trio.open_nursery() as nursery:
        await client.get("/live")
        stream = await trio.open_tcp_stream(*serving.address)
        async with await Http2Connection.open(stream, contexts.client, nursery) as connection:
            await connection.get("/live")
            await connection.request("GET", "/live", "accept: application/json")
            await until(lambda: server.statistics().open_streams == 3)
            assert server.statistics().streams == {
                StreamKind("/live", "sse", "1.1", True): 1,
                StreamKind("/live", "sse", "2", True): 1,
                StreamKind("/live", "poll", "2", True): 1,
            }


@pytest.mark.parametrize(
    ("further", "route"),
    [
        ({}, "prices"),
        ({"path_template": "/prices/{symbol:str}"}, "/prices/{symbol:str}"),  # of Litestar
        ({"route": SimpleNamespace(path="/prices/{symbol}")}, "/prices/{symbol}"),  # of FastAPI's own routes
    ],
)
@pytest.mark.parametrize("accept", ["*/*", "application/json"])
async def test_an_apps_streams_have_its_route_or_their_handlers_name(
    make_server: MakeServer, make_hub: MakeHub, further: dict[str, Any], route: str, accept: str
) -> None:
    hub: Hub = make_hub()

    async def prices(connection: Connection) -> None:
        await connection.subscribe("prices")

    prices.__qualname__ = "prices"
    endpoint = event_stream(prices, hub=hub)

    @http_only
    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await endpoint({**scope, **further}, receive, send)

    server = make_server(app=app, hub=hub)
    async with on_sockets(server) as serving, await serving.connect() as client:
        await client.send(f"GET / HTTP/1.1\r\nHost: h\r\nAccept: {accept}\r\n\r\n".encode())
        await until(lambda: server.statistics().streams)
        (kind,) = server.statistics().streams
        assert kind == StreamKind(route, "sse" if accept == "*/*" else "poll", "1.1", False)


async def test_statistics_can_be_read_in_another_thread(make_server: MakeServer) -> None:
    server = make_server()

    @server.route("/")
    async def stream(connection: Connection) -> None:
        await connection.subscribe("room")

    async with in_memory(server) as serving, serving.connect() as client:
        await client.get("/")
        now = await trio.to_thread.run_sync(server.statistics)
        assert (now.open_streams, now.ages.count, now.oldest) == (1, 0, 0.0)


@pytest.mark.slow
async def test_a_snapshot_of_many_streams_pauses(
    make_server: MakeServer, make_hub: MakeHub, nursery: trio.Nursery
) -> None:
    hub: Hub = make_hub()
    await nursery.start(hub.run)
    async with trio.open_nursery() as readers:
        for number in range(2500):
            await readers.start(_read, hub, f"topic/{number % 100}")
        steps = 0

        async def count() -> None:
            nonlocal steps
            while True:
                steps += 1
                await trio.lowlevel.checkpoint()

        readers.start_soon(count)
        hub.publish_nowait("topic/0", "x")
        snapshot = await hub.collect_statistics()
        assert steps >= 3  # others ran between the thousands
        assert snapshot.subscriptions == 2500
        readers.cancel_scope.cancel()


async def _read(hub: Hub, topic: str, *, task_status: trio.TaskStatus[None]) -> None:
    async with hub.subscribe(topic):
        task_status.started()
        await trio.sleep_forever()


async def test_batches_and_readers_that_lag_are_counted(make_hub: MakeHub, nursery: trio.Nursery) -> None:
    hub: Hub = make_hub()
    await nursery.start(hub.run)
    async with hub.subscribe("a", overflow=Overflow.DROP_OLDEST, queue=2):
        for _ in range(5):
            hub.publish_nowait("a", "x")
        await wait_all_tasks_blocked()
        now = hub.statistics()
        assert (now.lagging, now.longest_queue, now.dropped) == (1, 2, 3)
        assert now.batches.sum == 5
        assert now.fan_outs.count == now.batches.count
    assert hub.statistics().dropped == 3
    assert hub.statistics().lagging == 0


async def test_one_event_at_a_time_is_followed(
    make_hub: MakeHub, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("trio_sse._hub.latency.perf_counter", lambda: now)
    monkeypatch.setattr("trio_sse._hub.pump.perf_counter", lambda: now)
    hub: Hub = make_hub()
    await nursery.start(hub.run)

    async def publish(key: str | None = None, *, after: float) -> int:
        """Publish an event; return how many were followed."""
        nonlocal now
        now += after
        await hub.publish("a", "x", idempotency_key=key)
        await wait_all_tasks_blocked()
        return hub.statistics().latencies.count

    assert await publish("k", after=0) == 1
    assert await publish(after=0.001) == 1  # a moment later, none is
    assert await publish(after=1) == 1  # from the next one on
    assert await publish("k", after=0) == 1  # it is followed, and never gets a place
    assert await publish(after=1) == 1
    assert await publish(after=100) == 1  # it is given up
    assert await publish(after=0) == 1
    assert await publish(after=0) == 2


def test_the_loop_monitor_knows_the_longest_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("trio_sse._process.loop_monitor.perf_counter", lambda: now)
    monitor = LoopMonitor()

    def turn(seconds: float, pause: float = 0.0) -> None:
        nonlocal now
        now += seconds
        monitor.add(seconds, now)
        now += pause

    turn(0.25)
    turn(0.0005, pause=10)
    assert monitor.longest == 0.25
    assert (monitor.turns.snapshot().count, monitor.turns.counts[0]) == (2, 1)
    turn(0.1, pause=20)
    assert monitor.longest == 0.25  # of the period before
    turn(0.1, pause=30)
    assert monitor.longest == pytest.approx(0.1)
    now += 90
    assert monitor.longest == 0.0


@pytest.mark.parametrize("what", ["_resident_bytes", "_descriptors"])
def test_a_system_without_proc_says_what_it_can(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known: Callable[[], Any] = getattr(resources, what)
    assert known() > 0

    def refuse(*arguments: object) -> None:
        raise OSError

    monkeypatch.setattr(Path, "read_bytes", refuse)
    monkeypatch.setattr(os, "stat", refuse)
    assert known() is None


def test_statistics_are_public() -> None:
    assert ServerStatistics.__module__ == StreamKind.__module__ == "trio_sse"
