"""A response that ends before its request's body has come: what still comes is never taken for a request."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import trio
from quart_trio import QuartTrio
from trio.testing import wait_all_tasks_blocked

from trio_sse import Connection, HTTPException, Hub, Request, Response, Server
from trio_sse.asgi import event_stream
from trio_sse.quart import QuartSSE

from ..support.asgi_apps import Receive, Send, answer, http_only, ignore
from ..support.client import Client
from ..support.hostile import connected
from ..support.leaks import LeakCheck

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n"


class Target:
    """Servers that answer `/` in every way, and count the requests for `/smuggled`."""

    def __init__(self, no_leak: LeakCheck) -> None:
        self.smuggled = 0
        self._no_leak = no_leak

    def on(self, server: Server) -> Server:
        @server.endpoint("/smuggled")
        async def smuggled(request: Request) -> Response:
            self.smuggled += 1
            return Response("smuggled")

        return self._no_leak.watch(server)

    def app(self, app: Any) -> Server:
        return self.on(Server(app))

    async def stream(self, connection: Connection) -> None:
        await connection.send("one")

    async def nothing(self, connection: Connection) -> None:
        pass

    async def refused(self, connection: Connection) -> None:
        raise HTTPException(403)

    # Of each kind one

    def native_stream(self) -> Server:
        server = self.on(Server())
        server.route("/", methods=["POST"])(self.stream)
        return server

    def native_endpoint(self) -> Server:
        server = self.on(Server())

        @server.endpoint("/", methods=["POST"])
        async def endpoint(request: Request) -> Response:
            return Response("answered")

        return server

    def native_refusal(self) -> Server:
        return self.on(Server())

    def app_that_ignores_the_body(self) -> Server:
        return self.app(ignore)

    def app_that_answers_in_pieces(self) -> Server:
        @http_only
        async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200})
            for more in (True, False):
                await send({"type": "http.response.body", "body": b"piece", "more_body": more})

        return self.app(app)

    def app_that_reads_some_of_the_body(self) -> Server:
        @http_only
        async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            with trio.move_on_after(0.02):
                await receive()
            await answer(send, b"answered")

        return self.app(app)

    def app_that_fails(self) -> Server:
        @http_only
        async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            raise ValueError

        return self.app(app)

    def _quart(self, handler: Any) -> Server:
        app = QuartTrio(__name__)
        sse = QuartSSE(app, hub=self._no_leak.watch_hub(Hub()))
        sse.route("/", methods=["GET", "POST"])(handler)
        return self.on(Server(app, hub=sse.hub))

    def detached_stream(self) -> Server:
        return self._quart(self.stream)

    def detached_stream_that_sends_nothing(self) -> Server:
        return self._quart(self.nothing)

    def detached_refusal(self) -> Server:
        return self._quart(self.refused)

    def _inline(self, handler: Any) -> Server:
        endpoint: Any = event_stream(handler, methods=["GET", "POST"])

        @http_only
        async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            asked = False

            async def no_body() -> dict[str, Any]:
                nonlocal asked
                if asked:
                    await trio.sleep_forever()
                asked = True
                return {"type": "http.request", "body": b"", "more_body": False}

            await endpoint(scope, no_body, send)

        return self.app(app)

    def inline_stream(self) -> Server:
        return self._inline(self.stream)

    def inline_refusal(self) -> Server:
        return self._inline(self.refused)

    def inline_poll(self) -> Server:
        return self._inline(self.stream)


WAYS: list[Callable[[Target], Server]] = [
    Target.native_stream,
    Target.native_endpoint,
    Target.native_refusal,
    Target.app_that_ignores_the_body,
    Target.app_that_answers_in_pieces,
    Target.app_that_reads_some_of_the_body,
    Target.app_that_fails,
    Target.detached_stream,
    Target.detached_stream_that_sends_nothing,
    Target.detached_refusal,
    Target.inline_stream,
    Target.inline_refusal,
    Target.inline_poll,
]

LENGTH = b"Content-Length: %d\r\n" % len(SMUGGLED)
CHUNKED = b"Transfer-Encoding: chunked\r\n"


@pytest.mark.slow
@pytest.mark.parametrize("where", ["sockets", "memory"])
@pytest.mark.parametrize("method", [b"POST", b"GET"])
@pytest.mark.parametrize("framing", [LENGTH, CHUNKED])
async def test_a_body_that_is_late_is_not_a_request(
    no_leak: LeakCheck, framing: bytes, method: bytes, where: str
) -> None:
    async def answer_early(make: Callable[[Target], Server]) -> None:
        target = Target(no_leak)
        accept = b"application/json" if make is Target.inline_poll else b"*/*"
        head = method + b" /?wait=0 HTTP/1.1\r\nHost: test\r\nAccept: " + accept + b"\r\n" + framing + b"\r\n"
        async with connected(make(target), where) as client:
            await send_late(client, head)
        assert target.smuggled == 0, make

    async with trio.open_nursery() as nursery:
        for make in WAYS:
            nursery.start_soon(answer_early, make)


async def send_late(client: Client, head: bytes) -> None:
    """Send the head of a request, let it be answered, and send what would be its body."""
    await client.send(head)
    await wait_all_tasks_blocked(0.03)
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        await client.send(SMUGGLED)
    await wait_all_tasks_blocked(0.01)
