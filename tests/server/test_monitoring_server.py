"""Metrics and health checks of a server on an address of their own."""

from __future__ import annotations

import json

from trio_sse import Connection, Hub, Request, Response, Server
from trio_sse.metrics import monitoring_server

from ..support.serving import in_memory, on_sockets
from ..support.waiting import until


async def test_it_answers_also_while_the_server_starts_drains_and_is_full() -> None:
    server = Server(hub=Hub(topic_patterns=["news/*"]), max_connections=1, drain_timeout=1000)

    @server.route("/")
    async def stream(connection: Connection) -> None:
        await connection.send("x")
        await connection.subscribe("news/1")

    @server.endpoint("/post", methods=["POST"])
    async def post(request: Request) -> Response:
        return Response("x")

    async with in_memory(monitoring_server(server)) as monitor:

        async def ask(path: str) -> tuple[int, str]:
            async with monitor.connect() as client:
                head = await client.get(path)
                return head.status, (await client.sized_body(head)).decode()

        async def reasons() -> list[str]:
            found: list[str] = json.loads((await ask("/readyz"))[1]).get("reasons", [])
            return found

        assert await ask("/healthz") == (200, '{"status": "ok"}')
        assert await reasons() == ["not_serving", "hub_not_running"]
        async with on_sockets(server) as running, await running.connect() as client:
            await client.get("/")
            await client.event()
            assert (await ask("/readyz"))[0] == 200
            assert "trio_sse_streams_opened_total 1.0\n" in (await ask("/metrics"))[1]
            assert 'trio_sse_hub_pattern_subscriptions{pattern="news/*"} 1.0\n' in (await ask("/metrics"))[1]
            async with await running.connect() as posting:
                await posting.send(b"POST /post HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\n")
                running.nursery.start_soon(server.drain)
                await until(lambda: server.statistics().is_draining)
                assert await reasons() == ["draining"]
                assert "trio_sse_draining 1.0\n" in (await ask("/metrics"))[1]
                assert (await ask("/health"))[0] == 200
        assert (await ask("/other"))[0] == 404


async def test_the_metrics_are_at_the_servers_path() -> None:
    async with in_memory(monitoring_server(Server(metrics_path="/numbers"))) as monitor:
        async with monitor.connect() as client:
            assert (await client.get("/numbers")).status == 200
        async with monitor.connect() as client:
            assert (await client.get("/metrics")).status == 404
