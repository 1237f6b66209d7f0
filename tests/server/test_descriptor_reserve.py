"""Descriptors in reserve: clients that take all others do not cut a hub off from its log."""

from __future__ import annotations

import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from trio_sse import Connection, Hub, Log, Server
from trio_sse._process.descriptors import RESERVED, first_reserved
from trio_sse.metrics import monitoring_server
from trio_sse.redis import RedisLog
from trio_sse.sqlite import SQLiteLog

from ..support.leaks import open_descriptors
from ..support.logs import PATIENT
from ..support.redis_server import redis_server
from ..support.requirements import needs
from ..support.serving import on_sockets
from ..support.waiting import until

# Opens connections, again when they are closed, until its input ends.
FLOOD = """
import socket, sys, threading, time
threading.Thread(target=lambda: (sys.stdin.read(), sys.exit()), daemon=True).start()
sockets = []
while threading.active_count() > 1:
    try:
        connected = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=1)
        connected.settimeout(0.01)
        connected.send(b"GET / HTTP/1.1\\r\\nHost: test\\r\\n\\r\\n")
        sockets.append(connected)
    except OSError:
        time.sleep(0.01)
    sockets = sockets[-500:]
"""


@contextmanager
def low_limit(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let this process have 200 descriptors more than it has."""
    monkeypatch.setattr("trio_sse._server.listeners.raise_descriptor_limit", lambda: None)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, open_descriptors())) + 200, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@contextmanager
def flooding(host: str, port: int) -> Iterator[None]:
    command = [sys.executable, "-c", FLOOD, host, str(port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as flood:
        try:
            yield
        finally:
            assert flood.stdin is not None
            flood.stdin.close()


async def publish_under_flood(server: Server, host: str, port: int) -> None:
    """Publish while another process takes all descriptors that clients can get."""
    before = server.statistics().turned_away
    with flooding(host, port):
        await until(lambda: server.statistics().turned_away > before + 20)
        async with server.hub.subscribe("t") as events:
            for number in range(3):
                await server.hub.publish("t", number)
                assert (await anext(events)).data == str(number)


def make_server(log: Log) -> Server:
    server = Server(hub=Hub(log=log))

    @server.route("/")
    async def live(connection: Connection) -> None:
        await connection.subscribe("live")

    return server


@pytest.mark.integration
async def test_a_flood_does_not_cut_the_hub_off_from_sqlite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    server = make_server(SQLiteLog(folder / "log.db", **PATIENT))
    with low_limit(monkeypatch):
        async with on_sockets(server) as serving:
            await publish_under_flood(server, *serving.address)
            async with server.hub.subscribe("t") as events:
                folder.rename(tmp_path / "old")
                folder.mkdir()
                assert (await anext(events)).event == "reset"  # the hub has opened the file anew
            await publish_under_flood(server, *serving.address)


@needs("redis-server")
@pytest.mark.integration
async def test_a_flood_does_not_cut_the_hub_off_from_redis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with redis_server(tmp_path) as redis:
        await redis.start()
        server = make_server(RedisLog(redis.url, **PATIENT))
        with low_limit(monkeypatch):
            async with on_sockets(server) as serving:
                for _ in range(2):
                    await publish_under_flood(server, *serving.address)
                    await redis.do("CLIENT KILL TYPE normal SKIPME yes")


@pytest.mark.integration
async def test_a_flood_does_not_hide_the_metrics_on_an_address_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = Server()
    with low_limit(monkeypatch):
        async with on_sockets(server) as serving, on_sockets(monitoring_server(server)) as monitor:
            with flooding(*serving.address):
                await until(lambda: server.statistics().turned_away > 20)
                async with await monitor.connect() as client:
                    text = (await client.sized_body(await client.get("/metrics"))).decode()
    found = re.search("^trio_sse_clients_turned_away_total ([0-9.]+)$", text, re.MULTILINE)
    assert found is not None
    assert float(found[1]) > 20


def test_the_reserve_is_a_part_of_a_low_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    found = resource.RLIM_INFINITY
    monkeypatch.setattr(resource, "getrlimit", lambda which: (found, found))
    assert first_reserved() == sys.maxsize
    found = 20_000
    assert first_reserved() == 20_000 - RESERVED
    found = 64
    assert first_reserved() == 56
    assert first_reserved(for_operators=True) == 60


async def test_the_limit_is_raised_only_when_half_of_it_is_used() -> None:
    """A process that a handler starts inherits the limit. This one has few clients, and keeps its own."""
    server = Server()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, open_descriptors()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (2 * highest + 100, limits[1]))
    try:
        async with on_sockets(server) as serving:
            for count in (1, 150):
                clients = [await trio.open_tcp_stream(*serving.address) for _ in range(count)]
                for client in clients:
                    await client.send_all(b"GET /health HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
                    assert (await client.receive_some()).startswith(b"HTTP/1.1 200")
                soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
                assert soft == (limits[1] if count > 1 else 2 * highest + 100)
                for client in clients:
                    await client.aclose()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert server.statistics().turned_away == 0
