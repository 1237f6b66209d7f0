"""Clients cannot connect: each symptom of this part of the page, and its cure."""

from __future__ import annotations

import json
import resource

import pytest
import trio

from trio_sse import Connection, Server
from trio_sse.metrics import monitoring_server

from ...server.test_descriptor_reserve import flooding, low_limit
from ...support.leaks import MakeHub, MakeServer
from ...support.list_log import ListLog
from ...support.logs import lines
from ...support.metrics import metric
from ...support.observed_streams import forwarding, observe
from ...support.serving import OnSockets, in_memory, on_sockets
from ...support.waiting import until


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
    server.configure(max_connections=2)
    async with on_sockets(server) as serving, await serving.connect() as first:
        await first.get("/")
        async with await serving.connect() as second:
            assert (await second.get("/", "Accept: text/plain")).status == 200


@pytest.mark.integration
async def test_connections_are_closed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()
    observe(server)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with low_limit(monkeypatch):
        async with on_sockets(server) as serving, on_sockets(monitoring_server(server)) as monitor:
            with flooding(*serving.address):
                await until(lambda: metric(server, "clients_turned_away_total") > 0)
                async with await monitor.connect() as client:
                    assert (await client.get("/metrics")).status == 200
                assert metric(server, "open_fds") > 0.5 * metric(server, "max_fds")
                assert not await is_admitted(serving)
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)  # as `prlimit` does to a service that runs
                assert await is_admitted(serving)
                assert metric(server, "open_fds") < 0.5 * metric(server, "max_fds")


async def is_admitted(serving: OnSockets) -> bool:
    """Return whether a new client is answered."""
    async with await serving.connect() as client:
        try:
            await client.send(b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n")
            return b" 200 " in await client.stream.receive_some(100)
        except trio.BrokenResourceError:
            return False


async def test_clients_are_answered_with_421(make_server: MakeServer) -> None:
    server = make_server(allowed_hosts=["example.org"])
    observe(server)
    async with in_memory(server) as serving, serving.connect() as client:
        assert (await client.get("/")).status == 421
        assert metric(server, "requests_refused_total", status="421") == 1
    server.configure(allowed_hosts=["example.org", "test"])
    async with in_memory(server) as serving, serving.connect() as client:
        assert (await client.get("/healthz")).status == 200


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
