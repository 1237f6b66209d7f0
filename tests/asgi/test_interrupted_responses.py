"""Plain responses of an app, whose clients leave at any moment or are strict: on our server and hypercorn."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import pytest
import trio

import trio_sse.hypercorn
from trio_sse import Server

from ..support.client import Client
from ..support.hosts import dial_socket
from ..support.http2_client import Http2Connection
from ..support.hypercorn_config import make_config
from ..support.leaks import LeakCheck
from ..support.waiting import SECONDS, until

HOSTS = [("our server", "1.1"), ("our server", "2"), ("hypercorn", "1.1"), ("hypercorn", "2")]

# More than the buffers of a connection and a window of HTTP/2.
LARGE = bytes(4_000_000)


class App:
    """An app that waits before its response, or inside it, until the test has done something."""

    def __init__(self) -> None:
        self.waiting = 0
        self.ended = 0
        self.go_on = trio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise RuntimeError(scope["type"])
        _, kind, when = scope["path"].split("/")
        try:
            await self._answer(kind, when, send)
        finally:
            self.ended += 1

    async def _answer(self, kind: str, when: str, send: Any) -> None:
        if when == "before":
            await self._wait()
        if kind == "nothing":
            return
        status = int(kind) if kind.isdigit() else 200
        fields = [(b"content-length", b"%d" % (2 * len(LARGE)))] if kind.isdigit() or kind == "sized" else []
        await send({"type": "http.response.start", "status": status, "headers": fields})
        if kind.isdigit():
            await send({"type": "http.response.body", "body": b""})
            return
        if when == "inside":
            await send({"type": "http.response.body", "body": LARGE[:1], "more_body": True})
            await self._wait()
        await send({"type": "http.response.body", "body": LARGE[1:], "more_body": True})
        if kind != "part":
            await send({"type": "http.response.body", "body": LARGE})

    async def _wait(self) -> None:
        """Wait as code does that cannot be cancelled, such as a thread."""
        self.waiting += 1
        with trio.CancelScope(shield=True):
            await self.go_on.wait()


@asynccontextmanager
async def serving(
    host: str, http_version: str, app: App, no_leak: LeakCheck
) -> AsyncIterator[tuple[Any, trio.Nursery]]:
    """Serve an app; yield a function that connects, and the nursery of the connections."""
    async with trio.open_nursery() as nursery:
        if host == "hypercorn":
            serve = partial(trio_sse.hypercorn.serve, app, make_config(), write_timeout=SECONDS)
            (url,) = await nursery.start(serve)
            address = ("127.0.0.1", int(url.rpartition(":")[2]))
        else:
            server = no_leak.watch(Server(app, http2_cleartext=True))
            address = (await nursery.start(partial(server.serve, "127.0.0.1", 0)))[0]

        async def connect() -> Any:
            stream = await dial_socket(address, None)
            if http_version == "1.1":
                return Client(stream)
            return await Http2Connection.open(stream, None, nursery)

        yield connect, nursery
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("host", "http_version"), HOSTS)
async def test_a_client_that_leaves_a_response_is_no_error(
    no_leak: LeakCheck, caplog: pytest.LogCaptureFixture, host: str, http_version: str
) -> None:
    app = App()
    paths = [f"/{kind}/{when}" for kind in ("sized", "chunked", "part") for when in ("before", "inside")]
    paths += ["/nothing/before", "/204/before", "/304/before"]
    with trio.fail_after(SECONDS):
        async with serving(host, http_version, app, no_leak) as (connect, nursery):
            clients = [await connect() for _ in paths]
            for client, path in zip(clients, paths, strict=True):
                nursery.start_soon(ask, client, path)
            await until(lambda: app.waiting == len(paths))
            for client in clients:
                await client.abort()
            app.go_on.set()
            await until(lambda: app.ended == len(paths))
            async with await connect() as client:
                assert await status_of(client, "/304/now") == 304
    own = "returned without a response"  # of the app that sends nothing, if its client's leaving was not seen
    wrong = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert [text for text in wrong if own not in text] == []


@pytest.mark.parametrize(("host", "http_version"), HOSTS)
async def test_a_status_without_a_body_leaves_the_connection_to_the_next_request(
    no_leak: LeakCheck, host: str, http_version: str
) -> None:
    """A strict client closes a connection of HTTP/2 whose response is shorter than its Content-Length."""
    with trio.fail_after(SECONDS):
        async with serving(host, http_version, App(), no_leak) as (connect, _), await connect() as client:
            for status in (204, 304, 204):
                assert await status_of(client, f"/{status}/now") == status


async def ask(client: Any, path: str) -> None:
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError, AssertionError):
        await client.get(path)  # whose head may never come


async def status_of(client: Any, path: str) -> int:
    """Ask, and see that the response is ended properly; return its status."""
    if isinstance(client, Client):
        return (await client.get(path)).status
    stream = await client.request("GET", path)
    status: int = (await stream.wait_head()).status
    assert await stream.whole() == b""
    assert stream.is_ended
    return status
