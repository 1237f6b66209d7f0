"""Whatever the code of one request raises, on whatever host, others' streams and the host go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from trio_sse import EndReason

from ..support import hosts
from ..support.certificates import Certificate
from ..support.client import Client
from ..support.hosts import Host, Panic, Run, until_subscribed
from ..support.leaks import LeakCheck

pytestmark = pytest.mark.integration

PLACES = ["before the head", "after the head", "in mid-stream", "in finally"]
ERRORS: list[Callable[[], BaseException]] = [
    lambda: ValueError("why"),
    lambda: BaseExceptionGroup("several", [ValueError("why"), Panic("why")]),
    asyncio.CancelledError,
    GeneratorExit,
    lambda: SystemExit(3),
    Panic,
]
NAMES_OF_ERRORS = ["error", "group", "cancelled", "generator", "exit", "panic"]
OF_APPS = [name for name in hosts.NAMES if not name.startswith("native")]


@pytest.fixture
def run(request: pytest.FixtureRequest, no_leak: LeakCheck, certificate: Certificate) -> Run:
    return partial(hosts.running, request.param, no_leak, certificate)


@asynccontextmanager
async def bystander(host: Host) -> AsyncIterator[None]:
    """Open another client's stream; at the end, it still goes on."""
    async with host.opened("/live") as stream:
        await until_subscribed(host)
        yield
        await host.hub.publish("live", "still here")
        assert (await stream.event()).data == "still here"


async def take_what_comes(host: Host, path: str) -> int | None:
    """Ask for a path, and wait for the end of what is answered; return the status."""
    lines = () if host.tls is not None else ("Connection: close",)
    async with host.asked(path, *lines) as stream:
        if isinstance(stream, Client):
            answer = await stream.closed()
            return int(answer.split()[1]) if answer else None
        await stream.wait_head()
        await stream.whole()
        return int(stream.response.status)


@pytest.mark.parametrize("make_error", ERRORS, ids=NAMES_OF_ERRORS)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("run", hosts.NAMES, indirect=True)
async def test_a_handler(run: Run, place: str, make_error: Callable[[], BaseException]) -> None:
    async with run() as host, bystander(host):
        host.life.place, host.life.make_error = place, make_error
        assert await take_what_comes(host, "/raises") == (500 if place == "before the head" else 200)
        assert await host.life.wait_ends(1) == [EndReason.HANDLER_ERROR]


@pytest.mark.parametrize("make_error", ERRORS, ids=NAMES_OF_ERRORS)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("run", hosts.OF_QUART, indirect=True)
async def test_a_generator_of_quart(run: Run, place: str, make_error: Callable[[], BaseException]) -> None:
    async with run() as host, bystander(host):
        host.life.place, host.life.make_error = place, make_error
        status = await take_what_comes(host, "/generated")
        assert status in ((500,) if place == "before the head" else (200, 500, None))


@pytest.mark.parametrize("make_error", ERRORS, ids=NAMES_OF_ERRORS)
@pytest.mark.parametrize("place", ["before the app", "at the head", "at a body", "after the app"])
@pytest.mark.parametrize("run", OF_APPS, indirect=True)
async def test_middleware(run: Run, place: str, make_error: Callable[[], BaseException]) -> None:
    def failing(app: Any) -> Any:
        async def call(scope: Any, receive: Any, send: Any) -> None:
            def visit(here: str) -> None:
                if here == place and scope["type"] == "http" and scope["path"] == "/three":
                    raise make_error()

            async def send_on(message: Any) -> None:
                visit("at the head" if message["type"] == "http.response.start" else "at a body")
                await send(message)

            visit("before the app")
            await app(scope, receive, send_on)
            visit("after the app")

        return call

    async with run(middleware=failing) as host, bystander(host):
        status = await take_what_comes(host, "/three")
        assert status in ((500,) if place in ("before the app", "at the head") else (200, 500, None))
