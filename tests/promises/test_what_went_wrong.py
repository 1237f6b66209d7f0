"""Each symptom of the page "What went wrong?", with the numbers that it names."""

from __future__ import annotations

import json
import logging
import math
import os
import re
import signal
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse import Connection, Hub, Request, Response, Server
from trio_sse._process import watchdog
from trio_sse.metrics import monitoring_server
from trio_sse.redis import RedisLog

from ..server.test_descriptor_reserve import flooding, low_limit
from ..support.leaks import MakeHub, MakeServer
from ..support.list_log import ListLog
from ..support.logs import PATIENT
from ..support.metrics import metric
from ..support.observed_streams import forwarding, observe
from ..support.redis_server import redis_server
from ..support.requirements import needs
from ..support.serving import in_memory, on_sockets
from ..support.waiting import until, until_blocking
from ..support.workers import status_of, workers

PAGE = Path(__file__).parents[2] / "docs" / "troubleshooting.md"


def test_each_symptom_of_the_page_is_reproduced() -> None:
    headings = re.findall(r"^### (.*)$", PAGE.read_text(), re.MULTILINE)
    names = {f"test_{heading.lower().replace(' ', '_')}" for heading in headings}
    assert len(headings) == len(names)
    assert names == {name for name in globals() if name.startswith("test_")} - {
        "test_each_symptom_of_the_page_is_reproduced"
    }


def lines(caplog: pytest.LogCaptureFixture, logger: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == logger]


@pytest.fixture(autouse=True)
def all_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "trio_sse")


# Streams end and clients reconnect


async def test_clients_are_cut_as_slow_consumers(
    make_server: MakeServer, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(connection: Connection) -> None:
        await connection.subscribe("t", queue=5)

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
    async def failing(connection: Connection) -> None:
        await connection.send("x")
        raise KeyError("the cause")

    server = make_server()
    observe(server, failing)
    async with in_memory(server) as serving, serving.connect() as client:
        await client.get("/")
        await client.rest()
        await until(lambda: metric(server, "streams_ended_total", reason="handler_error") == 1)
    (record,) = [record for record in caplog.records if record.name == "trio_sse.stream"]
    assert "id=1" in record.getMessage()
    assert record.exc_info is not None
    assert "the cause" in str(record.exc_info[1])


async def test_clients_receive_resets(make_server: MakeServer, make_hub: MakeHub) -> None:
    server = make_server(hub=make_hub(history=5))
    observe(server, forwarding)
    async with in_memory(server) as serving, serving.connect() as client:
        cursor = server.hub.last_event_id
        for number in range(10):
            await server.hub.publish("t", number)
        await until(lambda: metric(server, "hub_log_evicted_events_total") == 5)
        await client.get("/", f"Last-Event-ID: {cursor}")
        assert (await client.event()).event == "reset"
        assert metric(server, "hub_resets_total") == 1


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


# Clients cannot connect


async def test_clients_are_answered_with_503(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    server = make_server(max_connections=1)
    observe(server, forwarding)
    async with on_sockets(server) as serving, await serving.connect() as first:
        await first.get("/")
        async with await serving.connect() as second:
            assert (await second.get("/", "Accept: text/plain")).status == 503
        assert metric(server, "requests_refused_total", status="503") == 1
        assert server.statistics().open_streams == 1
    assert any("503" in line for line in lines(caplog, "trio_sse.server"))


@pytest.mark.integration
async def test_connections_are_closed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()
    observe(server)
    with low_limit(monkeypatch):
        async with on_sockets(server) as serving, on_sockets(monitoring_server(server)) as monitor:
            with flooding(*serving.address):
                await until(lambda: metric(server, "clients_turned_away_total") > 0)
                async with await monitor.connect() as client:
                    assert (await client.get("/metrics")).status == 200
                assert metric(server, "open_fds") > 0.5 * metric(server, "max_fds")


async def test_clients_are_answered_with_421(make_server: MakeServer) -> None:
    server = make_server(allowed_hosts=["example.org"])
    observe(server)
    async with in_memory(server) as serving, serving.connect() as client:
        assert (await client.get("/")).status == 421
        assert metric(server, "requests_refused_total", status="421") == 1


async def test_pages_of_another_origin_cannot_connect(make_server: MakeServer) -> None:
    server = make_server(cors_origins=["https://app.example.org"])
    observe(server, forwarding)
    async with in_memory(server) as serving:
        for origin, allowed in (("other", None), ("app", "https://app.example.org")):
            async with serving.connect() as client:
                head = await client.get("/", f"Origin: https://{origin}.example.org")
                assert head.get("Access-Control-Allow-Origin") == allowed
        await until(lambda: metric(server, "streams_ended_total", reason="client_disconnected") == 2)


async def test_the_server_is_not_ready(make_server: MakeServer, make_hub: MakeHub) -> None:
    log = ListLog()
    log.is_away = True
    server = make_server(hub=make_hub(log=log))

    @server.route("/job", methods=["POST"])
    async def job(connection: Connection) -> None:
        await connection.start()
        await trio.sleep_forever()

    async with on_sockets(server) as serving, await serving.connect() as client:
        head = await client.get("/readyz")
        assert (head.status, json.loads(await client.sized_body(head))["reasons"]) == (
            503,
            ["log_not_loaded"],
        )
        assert metric(server, "hub_log_problem", problem="log_not_loaded") == 1
        log.is_away = False
        await until(lambda: not server.problems())
        head = await client.get("/readyz")
        assert head.status == 200
        await client.sized_body(head)
        await client.get("/job", "Content-Length: 0", method="POST")
        serving.nursery.start_soon(server.drain)
        await until(lambda: metric(server, "draining") == 1)
        assert "draining" in server.problems()


# Events do not arrive, or arrive late


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


async def test_events_arrive_late_for_everybody(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = 0.0
    monkeypatch.setattr(watchdog, "perf_counter", lambda: seconds)
    monkeypatch.setattr("trio_sse._process.loop_monitor.perf_counter", lambda: seconds)
    server = make_server(slow_step=0.5)

    @server.endpoint("/report")
    async def compute_report(request: Request) -> Response:
        nonlocal seconds
        seconds += 3
        return Response("")

    async with in_memory(server) as serving, serving.connect() as client:
        assert (await client.get("/report")).status == 200
        await until(
            lambda: any("blocked the event loop" in line for line in lines(caplog, "trio_sse.process"))
        )
        await until(lambda: metric(server, "longest_loop_turn_seconds") >= 3)
    (warning,) = [line for line in lines(caplog, "trio_sse.process") if "blocked" in line]
    assert "3.0" in warning


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


# The process grows, or ends


async def test_memory_grows(make_server: MakeServer, autojump_clock: MockClock) -> None:
    server = make_server(write_timeout=math.inf, max_pending_bytes=10_000_000)

    @server.endpoint("/large")
    async def large(request: Request) -> Response:
        return Response("x" * 3_000_000)

    observe(server, forwarding)
    async with in_memory(server) as serving:
        async with serving.connect_lockstep() as reader, serving.connect_lockstep() as stream:
            await reader.get("/large")
            await stream.get("/")
            for _ in range(3):
                await server.hub.publish("t", "y" * 1000)
                await wait_all_tasks_blocked()
            assert metric(server, "pending_bytes") >= 2_900_000
            assert metric(server, "hub_queued_bytes") >= 1000
            assert metric(server, "hub_log_bytes") >= 3000
        await until(lambda: metric(server, "pending_bytes") == 0)
        await until(lambda: metric(server, "hub_queued_bytes") == 0)


@pytest.mark.integration
def test_a_worker_ends_again_and_again(tmp_path: Path) -> None:
    with workers(tmp_path) as (program, url, status):
        assert url
        for count in (1, 2):
            victim = status_of(status)["workers"][0]["pid"]
            os.kill(victim, signal.SIGKILL)
            program.stderr.expect(rf"pid {victim}, ended after \d+ s: SIGKILL; restarting it in [\d.]+ s")
            until_blocking(lambda count=count: status_of(status)["restarts"] == count)  # type: ignore[misc]
            until_blocking(
                lambda victim=victim: victim not in {w["pid"] for w in status_of(status)["workers"]}  # type: ignore[misc]
            )
