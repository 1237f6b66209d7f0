"""Apps that receive a request's body and send their response at once: they get all of it, in order."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import trio

from ..support import hosts
from ..support.certificates import Certificate
from ..support.client import Client
from ..support.hosts import Run
from ..support.leaks import LeakCheck

pytestmark = pytest.mark.integration

APPS = [name for name in hosts.NAMES if not name.startswith("native")]

PIECES = [b"%04d," % number for number in range(150)]

Way = Callable[["Call"], Awaitable[None]]


@pytest.fixture(params=APPS)
def run(request: pytest.FixtureRequest, no_leak: LeakCheck, certificate: Certificate) -> Run:
    """Run each host that has an app."""
    return partial(hosts.running, request.param, no_leak, certificate)


class Call:
    """One call of the app, and what it has received."""

    def __init__(self, receive: Any, send: Any) -> None:
        self.received = b""
        self.is_over = False
        self.random = random.Random(1)
        self._receive = receive
        self._send = send

    async def take(self) -> None:
        """Receive a part of the body."""
        message = await self._receive()
        assert message["type"] == "http.request"
        self.received += message.get("body", b"")
        self.is_over = not message.get("more_body", False)

    async def put(self, body: bytes = b"x", *, more: bool = True) -> None:
        """Send a part of the response."""
        await self._send({"type": "http.response.body", "body": body, "more_body": more})

    async def pause(self) -> None:
        """Let other tasks run, for some steps."""
        for _ in range(self.random.randrange(8)):
            await trio.lowlevel.checkpoint()


async def in_turns(call: Call) -> None:
    while not call.is_over:
        await call.put()
        await call.pause()
        await call.take()


async def at_the_end(call: Call) -> None:
    for _ in range(40):
        await call.put()
        await call.pause()
    while not call.is_over:
        await call.take()


async def in_two_tasks(call: Call) -> None:
    async def take_all() -> None:
        while not call.is_over:
            await call.take()
            await call.pause()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take_all)
        while not call.is_over:
            await call.put()
            await call.pause()


async def with_cancellations(call: Call) -> None:
    async def cancel_soon(scope: trio.CancelScope) -> None:
        await call.pause()
        scope.cancel()

    while not call.is_over:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel_soon, nursery.cancel_scope)
            await call.take()
        await call.put()


@pytest.mark.parametrize("way", [in_turns, at_the_end, in_two_tasks, with_cancellations])
async def test_an_app_that_receives_and_sends_gets_all_in_order(run: Run, way: Way) -> None:
    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        call = Call(receive, send)
        await way(call)
        await call.put(b"|" + call.received, more=False)

    async with (
        run(middleware=hosts.answering("/duplex", answer)) as host,
        await host.connect() as connection,
        trio.open_nursery() as nursery,
    ):
        if isinstance(connection, Client):
            head = b"POST /duplex HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
            await connection.send(head)
            stream: Any = connection
        else:
            stream = await connection.request("POST", "/duplex", is_whole=False)

        async def upload() -> None:
            for number, piece in enumerate(PIECES):
                if isinstance(connection, Client):
                    await connection.send(b"%x\r\n%s\r\n" % (len(piece), piece))
                else:
                    await connection.send_body(stream.number, piece)
                if number % 10 == 0:
                    await trio.sleep(0.002)
            if isinstance(connection, Client):
                await connection.send(b"0\r\n\r\n")
            else:
                await connection.send_body(stream.number, b"", is_last=True)

        nursery.start_soon(upload)
        if isinstance(connection, Client):
            await connection.head()
        _, _, received = (await stream.whole()).rpartition(b"|")
    assert received == b"".join(PIECES)
