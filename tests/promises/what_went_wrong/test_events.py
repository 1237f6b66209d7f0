"""Events do not arrive, or arrive late: each symptom of this part of the page, and its cure."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from trio_sse import Connection, Hub, Request, Response, Server
from trio_sse._process import watchdog
from trio_sse.redis import RedisLog

from ...support.leaks import MakeHub, MakeServer
from ...support.list_log import ListLog
from ...support.logs import PATIENT, lines
from ...support.metrics import metric
from ...support.observed_streams import forwarding, observe
from ...support.redis_server import redis_server
from ...support.requirements import needs
from ...support.serving import in_memory, on_sockets
from ...support.waiting import SECONDS, until


async def test_nothing_arrives(make_server: MakeServer) -> None:
    server = make_server(hub=Hub(topic_patterns=["prices/*", "price/*"]))

    @server.route("/")
    async def handler(connection: Connection) -> None:
        await connection.subscribe("price/a")

    async with in_memory(server) as serving, serving.connect() as client:
        await client.get("/")
        await server.hub.publish("prices/a", 1)
        await until(lambda: metric(server, "hub_published_events_total") == 1)
        assert metric(server, "hub_deliveries_total") == 0
        assert metric(server, "hub_pattern_subscriptions", pattern="price/*") == 1
        assert metric(server, "hub_pattern_subscriptions", pattern="prices/*") == 0
        assert metric(server, "hub_pattern_published_events_total", pattern="prices/*") == 1
        await server.hub.publish("price/a", "under the same name")
        assert (await client.event()).data == "under the same name"
        assert metric(server, "hub_deliveries_total") == 1


async def test_events_arrive_late_for_everybody(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = 0.0
    monkeypatch.setattr(watchdog, "perf_counter", lambda: seconds)
    monkeypatch.setattr("trio_sse._process.loop_monitor.perf_counter", lambda: seconds)
    is_idle = threading.Event()

    def compute() -> None:
        nonlocal seconds
        seconds += 3

    def compute_while_the_loop_is_idle() -> None:
        assert is_idle.wait(SECONDS)
        compute()

    class NoteIdle(trio.abc.Instrument):
        def before_io_wait(self, timeout: float) -> None:
            is_idle.set()

    async def ask(path: str) -> Server:
        """Return a server that was asked for this path, and nothing else."""
        server = make_server(slow_step=0.5)

        @server.endpoint("/report")
        async def compute_report(request: Request) -> Response:
            compute()
            return Response("")

        @server.endpoint("/report-in-a-thread")
        async def compute_report_in_a_thread(request: Request) -> Response:
            is_idle.clear()
            await trio.to_thread.run_sync(compute_while_the_loop_is_idle)
            return Response("")

        async with in_memory(server) as serving, serving.connect() as client:
            note_idle = NoteIdle()
            trio.lowlevel.add_instrument(note_idle)  # after the watchdog's
            assert (await client.get(path)).status == 200
            trio.lowlevel.remove_instrument(note_idle)
        return server

    assert metric(await ask("/report"), "longest_loop_turn_seconds") >= 3
    (warning,) = [line for line in lines(caplog, "trio_sse.process") if "blocked" in line]
    assert "3.0" in warning
    assert "trio.to_thread.run_sync" in warning
    caplog.clear()
    assert metric(await ask("/report-in-a-thread"), "longest_loop_turn_seconds") == 0
    assert lines(caplog, "trio_sse.process") == []


async def test_publishers_wait(make_server: MakeServer, make_hub: MakeHub, autojump_clock: MockClock) -> None:
    log = ListLog()
    server = make_server(hub=make_hub(log=log, inbox=4))
    async with in_memory(server) as serving:
        log.is_away = True
        log.publish("t", "cuts the session")
        await until(server.problems)
        for _ in range(8):
            serving.nursery.start_soon(server.hub.publish, "t", "x")
        await until(lambda: metric(server, "hub_inbox_events") >= 4)
        log.is_away = False
        await until(lambda: metric(server, "hub_inbox_events") == 0)


@needs("redis-server")
@pytest.mark.integration
async def test_other_nodes_receive_nothing(
    make_server: MakeServer, make_hub: MakeHub, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with redis_server(tmp_path) as redis:
        await redis.start()
        server = make_server(hub=make_hub(log=RedisLog(redis.url, **PATIENT)))
        observe(server, forwarding)
        async with on_sockets(server) as serving, await serving.connect() as client:
            await client.get("/")
            redis.kill()
            await until(lambda: metric(server, "hub_log_problem", problem="log_unavailable") == 1)
            assert metric(server, "hub_log_outages_total") == 1
            assert "log_unavailable" in server.problems()
            await until(lambda: lines(caplog, "trio_sse.log") != [])
            assert server.statistics().open_streams == 1
            redis.launch()
            await until(lambda: not server.problems())
            await server.hub.publish("t", "back")
            while (await client.event()).data != "back":
                pass  # Redis was killed with its data: a reset comes first
