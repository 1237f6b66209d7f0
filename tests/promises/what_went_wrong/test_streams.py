"""Streams end and clients reconnect: each symptom of this part of the page, and its cure."""

from __future__ import annotations

import math
import re
import traceback
from functools import partial

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse import Connection, Overflow, Server

from ...support.leaks import MakeHub, MakeServer
from ...support.logs import lines
from ...support.metrics import metric
from ...support.observed_streams import forwarding, observe
from ...support.serving import in_memory
from ...support.waiting import until


async def test_clients_are_cut_as_slow_consumers(
    make_server: MakeServer, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    overflow = Overflow.DISCONNECT

    async def handler(connection: Connection) -> None:
        await connection.subscribe("t", queue=5, overflow=overflow)

    server = make_server()
    observe(server, handler)
    async with in_memory(server) as serving, serving.connect_lockstep() as client:
        await client.get("/")
        for number in range(4):
            await server.hub.publish("t", number)
            await wait_all_tasks_blocked()
        assert metric(server, "hub_lagging_subscriptions") == 1
        assert metric(server, "hub_longest_queue_events") >= 3
        assert server.problems() == []
        for number in range(6):
            await server.hub.publish("t", number)
            await wait_all_tasks_blocked()
        await client.rest()
        await until(lambda: metric(server, "streams_ended_total", reason="slow_consumer") == 1)
        assert metric(server, "hub_lagging_subscriptions") == 0
    assert "reason=slow_consumer" in lines(caplog, "trio_sse.access")[-1]
    overflow = Overflow.LATEST
    async with in_memory(server) as serving, serving.connect_lockstep() as client:
        await client.get("/")
        for number in range(20):
            await server.hub.publish("t", number)
            await wait_all_tasks_blocked()
        assert metric(server, "hub_lagging_subscriptions") == 1
        while (await client.event()).data != "19":
            pass
        assert metric(server, "streams_ended_total", reason="slow_consumer") == 1  # as before


async def test_clients_that_read_nothing_are_cut(
    make_server: MakeServer, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    server = make_server(write_timeout=30)
    observe(server, forwarding)
    async with in_memory(server) as serving, serving.connect_lockstep() as client:
        await client.get("/")
        await server.hub.publish("t", "x")
        await trio.sleep(60)
        assert metric(server, "streams_ended_total", reason="write_timeout") == 1
    assert re.search(r"reason=write_timeout duration=30\.", lines(caplog, "trio_sse.access")[-1])


async def test_streams_end_after_about_an_hour(make_server: MakeServer, autojump_clock: MockClock) -> None:
    server = make_server()
    observe(server)
    async with in_memory(server) as serving, serving.connect() as client:
        await client.get("/")
        await client.rest()
        assert 0.8 * 3600 <= trio.current_time() <= 3601
        assert metric(server, "streams_ended_total", reason="max_duration") == 1
        assert metric(server, "stream_duration_seconds_sum") >= 0.8 * 3600
    server.configure(max_duration=math.inf, keepalive=1800)
    async with in_memory(server) as serving, serving.connect() as client:
        await client.get("/")
        with trio.move_on_after(5 * 3600):
            await client.rest()
        assert server.statistics().open_streams == 1


async def test_streams_of_quiet_topics_are_cut_by_a_proxy(
    make_server: MakeServer, autojump_clock: MockClock
) -> None:
    async def proxy(keepalive: float) -> Server:
        """Cut the connection when nothing has arrived for a minute; return the server."""
        server = make_server(keepalive=keepalive)
        observe(server, forwarding)
        async with in_memory(server) as serving, serving.connect() as client:
            await client.get("/")
            with trio.move_on_after(600):
                while True:
                    with trio.move_on_after(60) as silence:
                        await client.stream.receive_some(1000)
                    if silence.cancelled_caught:
                        break
            await client.stream.aclose()
            await until(lambda: metric(server, "streams_ended_total", reason="client_disconnected") == 1)
            return server

    assert 60 <= metric(await proxy(90), "stream_duration_seconds_sum") < 62
    assert metric(await proxy(25), "stream_duration_seconds_sum") >= 600


async def test_streams_end_with_handler_error(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    prices = {"EURUSD": 1.08}

    async def failing(connection: Connection) -> None:
        await connection.send("x")
        await connection.send(prices["USDJPY"])

    server = make_server()
    observe(server, failing)

    async def ask() -> None:
        async with in_memory(server) as serving, serving.connect() as client:
            await client.get("/")
            await client.rest()

    await ask()
    assert metric(server, "streams_ended_total", reason="handler_error") == 1
    (record,) = [record for record in caplog.records if record.name == "trio_sse.stream"]
    assert "id=1" in record.getMessage()
    assert record.exc_info is not None
    last = traceback.extract_tb(record.exc_info[2])[-1]
    assert (last.name, "USDJPY" in (last.line or "")) == ("failing", True)
    prices["USDJPY"] = 150.2
    await ask()
    assert metric(server, "streams_ended_total", reason="handler_error") == 1
    assert metric(server, "streams_ended_total", reason="finished") == 1


def has_published(server: Server, count: int) -> bool:
    return metric(server, "hub_published_events_total") == count


async def test_clients_receive_resets(make_server: MakeServer, make_hub: MakeHub) -> None:
    for history, resets in ((5, 1), (20, 0)):
        server = make_server(hub=make_hub(history=history))
        observe(server, forwarding)
        async with in_memory(server) as serving, serving.connect() as client:
            cursor = server.hub.last_event_id
            for number in range(10):
                await server.hub.publish("t", number)
            await until(partial(has_published, server, 10))
            assert metric(server, "hub_log_evicted_events_total") == 5 * resets
            await client.get("/", f"Last-Event-ID: {cursor}")
            assert ((await client.event()).event == "reset") == bool(resets)
            assert metric(server, "hub_resets_total") == resets


async def test_a_user_who_has_logged_out_still_receives_events(make_server: MakeServer) -> None:
    async def handler(connection: Connection) -> None:
        connection.identity = "ada"
        await connection.subscribe("t")

    server = make_server()
    observe(server, handler)
    async with in_memory(server) as serving, serving.connect() as client:
        await client.get("/")
        await server.hub.publish("t", "x")
        assert [info.identity for info in server.connections()] == ["ada"]
        assert metric(server, "streams_ended_total", reason="revoked") == 0
        await server.hub.revoke("ada")
        await client.rest()
        await until(lambda: metric(server, "streams_ended_total", reason="revoked") == 1)
