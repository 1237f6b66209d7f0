"""Requests that proxies pass on: who has sent them, and what they are for."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from trio_sse import Connection, Request, Response, Server
from trio_sse.websocket import WebSocketConnection

from ..support.asgi_apps import Receive, Send, answer, http_only
from ..support.cases import each_case
from ..support.certificates import Contexts
from ..support.client import Client
from ..support.hostile import logged
from ..support.leaks import MakeServer
from ..support.linking_apps import make_quart, make_starlette
from ..support.serving import on_sockets
from ..support.waiting import until

PROXY = "10.0.0.1:999"
CLIENT = "203.0.113.7"
FROM_CLIENT = f"X-Forwarded-For: {CLIENT}"
UPGRADE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
)


@asynccontextmanager
async def connected(server: Server, peer: str = PROXY) -> AsyncIterator[Client]:
    """Serve one connection over memory, from a peer."""
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        await nursery.start(server.hub.run)
        nursery.start_soon(partial(server.serve_stream, theirs, peer=peer))
        async with Client(ours) as client:
            yield client
        nursery.cancel_scope.cancel()


async def ask(server: Server, *lines: str, peer: str = PROXY, target: str = "/") -> str:
    """Return the body of a response."""
    async with connected(server, peer) as client:
        head = await client.get(target, *lines)
        assert head.status == 200
        return (await client.whole()).decode()


def endpoints(server: Server) -> Server:
    """Add an endpoint that tells its request's peer and host, and a stream that does."""

    @server.endpoint("/")
    async def tell(request: Request) -> Response:
        return Response(f"{request.peer} {' '.join(request.headers.get_all('host'))}")

    @server.route("/stream")
    async def stream(connection: Connection) -> None:
        await connection.send(f"{connection.peer} {connection.request.peer}")
        await connection.subscribe("live")

    return server


@http_only
async def describe(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Answer with what the scope says."""
    names = ("client", "scheme", "server", "root_path", "path", "raw_path")
    hosts = [value.decode() for name, value in scope["headers"] if name == b"host"]
    await answer(send, (" ".join(str(scope[name]) for name in names) + f" {hosts}").encode())


# Who has sent a request


@pytest.mark.parametrize(
    ("trusted", "peer", "lines", "seen"),
    [
        (["10.0.0.1"], PROXY, [FROM_CLIENT], CLIENT),
        (["10.0.0.0/8"], PROXY, [f"{FROM_CLIENT}, 10.1.1.1"], CLIENT),
        (["10.0.0.0/8"], PROXY, ["X-Forwarded-For: [2001:db8::1]:80"], "[2001:db8::1]:80"),
        (["unix"], "unix", [FROM_CLIENT], CLIENT),
        (["10.0.0.1"], PROXY, ["X-Forwarded-For: unknown"], PROXY),
        (["10.0.0.1"], PROXY, [], PROXY),
        (["10.0.0.1"], "10.0.0.2:1", [FROM_CLIENT, f"Forwarded: for={CLIENT}"], "10.0.0.2:1"),
        (["10.0.0.1"], "unix", [FROM_CLIENT], "unix"),
        (["10.0.0.1"], "stream", [FROM_CLIENT], "stream"),
        ([], PROXY, [FROM_CLIENT], PROXY),
    ],
)
async def test_only_trusted_peers_say_who_the_client_is(
    make_server: MakeServer, trusted: list[str], peer: str, lines: list[str], seen: str
) -> None:
    server = endpoints(make_server(trusted_proxies=trusted))
    assert await ask(server, *lines, peer=peer) == f"{seen} test"


async def test_streams_and_logs_have_the_clients_address(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="trio_sse.access")
    server = endpoints(make_server(trusted_proxies=["10.0.0.1"]))
    async with connected(server) as client:
        await client.get("/stream", f"{FROM_CLIENT}:80")
        assert (await client.event()).data == f"{CLIENT}:80 {CLIENT}:80"
    assert [f"peer={CLIENT}:80 " in line for line in logged(caplog)] == [True, True]


async def test_each_request_of_a_connection_has_its_own_client(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="trio_sse.server")
    server = endpoints(make_server(trusted_proxies=["10.0.0.1"]))
    async with connected(server) as client:
        for lines, seen in (([FROM_CLIENT], CLIENT), ([], PROXY), (["Forwarded: for=1.1.1.1"], "1.1.1.1")):
            assert await client.sized_body(await client.get("/", *lines)) == f"{seen} test".encode()
        await client.send(b"no request\r\n\r\n")
        assert (await client.head()).status == 400
    assert [f"refused peer={PROXY} status=400" in line for line in logged(caplog)] == [True]


async def test_the_bound_of_connections_is_that_of_each_client(make_server: MakeServer) -> None:
    server = endpoints(make_server(trusted_proxies=["10.0.0.1"], max_connections_per_host=1))
    async with trio.open_nursery() as nursery:
        connect = await nursery.start(server.serve_in_memory)

        async def opened(client: str) -> tuple[Client, int]:
            ours, theirs = trio.testing.memory_stream_pair()
            connect(theirs, PROXY)
            return Client(ours), (await Client(ours).get("/stream", f"X-Forwarded-For: {client}")).status

        first, status = await opened("1.1.1.1:80")
        assert status == 200
        assert [(await opened(client))[1] for client in ("1.1.1.2", "1.1.1.1:81", "::ffff:1.1.1.1")] == [
            200,
            429,
            429,
        ]
        await first.leave()
        await until(lambda: server.statistics().open_streams == 1)
        assert (await opened("1.1.1.1"))[1] == 200
        nursery.cancel_scope.cancel()


# What a request is for


@pytest.mark.parametrize(
    ("lines", "seen"),
    [
        ([], "None http None  / b'/' ['test']"),
        ([FROM_CLIENT], "('203.0.113.7', 0) http None  / b'/' ['test']"),
        ([f"{FROM_CLIENT}:80"], "('203.0.113.7', 80) http None  / b'/' ['test']"),
        (["X-Forwarded-Proto: https"], "None https None  / b'/' ['test']"),
        (["X-Forwarded-Proto: https", "X-Forwarded-Host: example.org"],
         "None https ('example.org', 443)  / b'/' ['example.org']"),
        (["X-Forwarded-Host: example.org:8080"],
         "None http ('example.org', 8080)  / b'/' ['example.org:8080']"),
        (["X-Forwarded-Host: [::1]:80"], "None http ('::1', 80)  / b'/' ['[::1]']"),
        (["X-Forwarded-Host: example.org", "X-Forwarded-Port: 8080"],
         "None http ('example.org', 8080)  / b'/' ['example.org:8080']"),
        (["X-Forwarded-Port: 443", "X-Forwarded-Proto: https"], "None https ('test', 443)  / b'/' ['test']"),
        (["X-Forwarded-Port: 444", "X-Forwarded-Proto: https"],
         "None https ('test', 444)  / b'/' ['test:444']"),
        (["X-Forwarded-Prefix: /a%20b/"], "None http None /a b /a b/ b'/a%20b/' ['test']"),
        (["X-Forwarded-Prefix: //evil.example"], "None http None  / b'/' ['test']"),
        ([f"Forwarded: for={CLIENT};proto=https;host=example.org"],
         "('203.0.113.7', 0) https ('example.org', 443)  / b'/' ['example.org']"),
    ],
)  # fmt: skip
async def test_the_scope_says_what_the_client_has_asked_for(
    make_server: MakeServer, lines: list[str], seen: str
) -> None:
    server = make_server(app=describe, trusted_proxies=["10.0.0.1"])
    assert await ask(server, *lines) == seen
    assert await ask(server, *lines, peer="10.0.0.2") == "None http None  / b'/' ['test']"


async def test_tls_between_a_proxy_and_the_server_says_nothing_of_the_client(
    make_server: MakeServer, contexts: Contexts
) -> None:
    server = make_server(app=describe, trusted_proxies=["127.0.0.1"])
    seen = []
    async with on_sockets(server, server_tls=contexts.server, client_tls=contexts.client) as serving:
        for lines in (
            [FROM_CLIENT],
            [FROM_CLIENT, "X-Forwarded-Proto: http", "X-Forwarded-Host: example.org"],
        ):
            async with await serving.connect() as client:
                await client.get("/", *lines)
                seen.append((await client.whole()).decode())
        port = serving.address[1]
    assert seen == [
        f"('{CLIENT}', 0) https ('127.0.0.1', {port})  / b'/' ['test']",
        f"('{CLIENT}', 0) http ('example.org', 80)  / b'/' ['example.org']",
    ]


async def test_a_port_in_the_host_counts_more_than_one_by_itself(make_server: MakeServer) -> None:
    server = make_server(app=describe, trusted_proxies=["10.0.0.1"])
    async with connected(server) as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: test:8080\r\nX-Forwarded-Port: 81\r\n\r\n")
        await client.head()
        body = await client.whole()
    assert body == b"None http ('test', 8080)  / b'/' ['test:8080']"


async def test_a_request_without_a_host_has_no_server(make_server: MakeServer) -> None:
    server = make_server(app=describe, trusted_proxies=["10.0.0.1"])
    async with connected(server) as client:
        await client.send(b"GET / HTTP/1.0\r\nX-Forwarded-Port: 81\r\n\r\n")
        await client.head()
        assert await client.closed() == b"None http None  / b'/' []"


async def test_only_fields_that_are_named_count(make_server: MakeServer) -> None:
    server = make_server(
        app=describe, trusted_proxies=["10.0.0.1"], forwarded_headers=["X-Forwarded-For", "X-Forwarded-Proto"]
    )
    lines = (
        FROM_CLIENT,
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: evil.example",
        "X-Forwarded-Prefix: /x",
    )
    assert await ask(server, *lines) == "('203.0.113.7', 0) https None  / b'/' ['test']"


async def test_allowed_hosts_and_endpoints_have_the_host_of_the_client(make_server: MakeServer) -> None:
    server = endpoints(make_server(trusted_proxies=["10.0.0.1"], allowed_hosts=["example.org"]))
    assert await ask(server, "X-Forwarded-Host: Example.org") == f"{PROXY} example.org"
    async with connected(server) as client:
        assert (await client.get("/", "X-Forwarded-Host: evil.example")).status == 421
    async with connected(server, "10.0.0.2") as client:
        assert (await client.get("/", "X-Forwarded-Host: example.org")).status == 421


@pytest.mark.parametrize(("origin", "status"), [("https://example.org", 101), ("http://test", 403)])
async def test_the_origin_of_a_websocket_is_compared_with_the_host_of_the_client(
    make_server: MakeServer, origin: str, status: int
) -> None:
    server = make_server(trusted_proxies=["10.0.0.1"])

    @server.websocket("/socket")
    async def socket(connection: WebSocketConnection) -> None:
        peers.append(connection.peer)

    peers: list[str] = []
    async with connected(server) as client:
        head = await client.get(
            "/socket", *UPGRADE, f"Origin: {origin}", FROM_CLIENT, "X-Forwarded-Host: example.org"
        )
        assert head.status == status
        if status == 101:
            await until(lambda: peers)
    assert peers == ([CLIENT] if status == 101 else [])


async def test_the_websocket_of_an_app_has_the_scheme_and_the_client(make_server: MakeServer) -> None:
    scopes: list[dict[str, Any]] = []

    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        assert scope["type"] == "websocket"
        scopes.append(scope)
        await receive()
        await send({"type": "websocket.close"})

    lines = (*UPGRADE, FROM_CLIENT, "X-Forwarded-Proto: https", "X-Forwarded-Prefix: /app")
    async with connected(make_server(app=app, trusted_proxies=["10.0.0.1"])) as client:
        assert (await client.get("/socket", *lines)).status == 403
    (scope,) = scopes
    assert (scope["scheme"], scope["client"], scope["path"]) == ("wss", (CLIENT, 0), "/app/socket")


# Paths


async def test_a_root_path_is_put_in_front_of_what_the_proxy_has_left(make_server: MakeServer) -> None:
    server = make_server(app=describe, root_path="/caf%C3%A9/")
    seen = "None http None /café /café/x%/y b'/caf%C3%A9/x%25/y' ['test']"
    assert await ask(server, target="/x%25/y?z") == seen
    assert await ask(server, "X-Forwarded-Prefix: /other", target="/x%25/y?z") == seen


async def test_a_proxys_prefix_counts_more_than_the_root_path(make_server: MakeServer) -> None:
    server = make_server(app=describe, root_path="/app", trusted_proxies=["10.0.0.1"])
    assert (
        await ask(server, "X-Forwarded-Prefix: /other") == "None http None /other /other/ b'/other/' ['test']"
    )
    assert await ask(server, "X-Forwarded-Prefix: /") == "None http None  / b'/' ['test']"
    assert await ask(server) == "None http None /app /app/ b'/app/' ['test']"


@pytest.mark.parametrize("make_app", [make_starlette, make_quart])
async def test_frameworks_make_links_that_lead_to_the_proxy(
    make_server: MakeServer, make_app: Callable[[], Any]
) -> None:
    server = make_server(app=make_app(), trusted_proxies=["10.0.0.1"])
    lines = (
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: example.org:8443",
        "X-Forwarded-Prefix: /app",
        FROM_CLIENT,
    )
    links = json.loads(await ask(server, *lines, target="/link?a=b"))
    assert links[:2] == ["https://example.org:8443/app/sub/x", "https://example.org:8443/app/link?a=b"]
    assert links[2].startswith(CLIENT)


# Options


@each_case(
    ("options", "error"),
    [
        ({"trusted_proxies": "10.0.0.1"}, TypeError),
        ({"trusted_proxies": ["proxy"]}, ValueError),
        ({"forwarded_headers": ["X-Real-IP"]}, ValueError),
        ({"root_path": "app"}, ValueError),
        ({"root_path": "//x"}, ValueError),
    ],
)
def test_options_are_checked(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        Server(**options)
    with pytest.raises(error):
        Server().configure(**options)
