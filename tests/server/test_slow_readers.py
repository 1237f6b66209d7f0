"""How much the server holds for clients that do not read their responses."""

from __future__ import annotations

import gc
import tracemalloc
from typing import Any

import pytest
import trio
import trio.testing

from trio_sse import Request, Response, Server

from ..support.asgi_apps import Receive, Send, answer, http_only
from ..support.certificates import Contexts
from ..support.leaks import MakeServer
from ..support.serving import on_sockets

PAGE = "page" * 200_000
PAGE_BYTES = PAGE.encode()
CLIENTS = 20


def serve_page(make_server: MakeServer, kind: str) -> Server:
    """Return a server that answers `/` with a large page."""

    @http_only
    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await answer(send, PAGE_BYTES)

    if kind == "app":
        return Server(app)
    server = make_server()

    @server.endpoint("/")
    async def page(request: Request) -> Response:
        return Response(PAGE_BYTES if kind == "bytes" else PAGE)

    return server


@pytest.mark.parametrize(
    ("kind", "is_secure"), [("bytes", False), ("text", False), ("app", False), ("bytes", True), ("app", True)]
)
async def test_a_page_is_not_held_for_each_client(
    make_server: MakeServer, contexts: Contexts, kind: str, is_secure: bool
) -> None:
    server_tls, client_tls = (contexts.server, contexts.client) if is_secure else (None, None)
    server = serve_page(make_server, kind)

    async with on_sockets(server, server_tls=server_tls, client_tls=client_tls) as serving:
        clients = [await serving.connect() for _ in range(CLIENTS)]
        for client in clients:
            await client.get("/", method="HEAD")
        gc.collect()
        tracemalloc.start()
        try:
            for client in clients:
                await client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
            await trio.sleep(0.2)
            await trio.testing.wait_all_tasks_blocked(0.05)
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        for client in clients:
            await client.abort()

    shared = len(PAGE) if kind == "text" else 0
    assert held < shared + CLIENTS * (96 if is_secure else 32) * 1024


@pytest.mark.parametrize("is_secure", [False, True])
async def test_a_page_arrives_whole(make_server: MakeServer, contexts: Contexts, is_secure: bool) -> None:
    server_tls, client_tls = (contexts.server, contexts.client) if is_secure else (None, None)

    async with (
        on_sockets(serve_page(make_server, "bytes"), server_tls=server_tls, client_tls=client_tls) as serving,
        await serving.connect() as client,
    ):
        for _ in range(2):
            assert await client.sized_body(await client.get("/")) == PAGE_BYTES
