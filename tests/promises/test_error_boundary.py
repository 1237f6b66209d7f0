"""Whatever the code of one request raises, on whatever host, others' streams and the host go on."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import product
from typing import Any

import pytest
import trio

from trio_sse import EndReason

from ..support import hosts
from ..support.cancellations import foreign_cancellation
from ..support.certificates import Certificate
from ..support.client import Client
from ..support.host_handlers import Life
from ..support.hosts import Host, Run, until_subscribed
from ..support.leaks import LeakCheck
from ..support.raised import Panic, deep_group
from ..support.waiting import until

pytestmark = pytest.mark.integration

PLACES = ["before the head", "after the head", "in mid-stream", "in finally"]
OF_MIDDLEWARE = ["before the app", "at the head", "at a body", "after the app"]
LEFT = ["dropped", "kept", "by an exception"]
Errors = dict[str, Callable[[], BaseException]]
ERRORS: Errors = {
    "error": lambda: ValueError("why"),
    "group": lambda: BaseExceptionGroup("several", [ValueError("why"), Panic("why")]),
    "cancelled": asyncio.CancelledError,
    "generator": GeneratorExit,
    "exit": lambda: SystemExit(3),
    "panic": Panic,
    "error of a file": lambda: OSError(errno.ENOSPC, "No space left on device"),
    "cancellation of another task": foreign_cancellation,
}
OF_APPS = [name for name in hosts.NAMES if not name.startswith("native")]


@pytest.fixture
def run(request: pytest.FixtureRequest, no_leak: LeakCheck, certificate: Certificate) -> Run:
    return partial(hosts.running, request.param, no_leak, certificate)


@contextmanager
def named(place: str, error: str) -> Iterator[None]:
    """Name the case in what fails: all cases of a host run on one, as its start takes longest."""
    try:
        yield
    except BaseException as failure:
        failure.add_note(f"the case was: {error} {place}")
        raise


async def try_each(
    host: Host, life: Life, places: list[str], check: Callable[[str], Any], errors: Errors = ERRORS
) -> None:
    """Raise each error at each place, while another client's stream is open; it goes on after each."""
    async with host.opened("/live") as bystander:
        await until_subscribed(host)
        for place, error in product(places, errors):
            with named(place, error):
                life.place, life.make_error = place, errors[error]
                await check(place)
                await host.hub.publish("live", f"still here after {error} {place}")
                assert (await bystander.event()).data == f"still here after {error} {place}"


async def take_what_comes(host: Host, path: str) -> int | None:
    """Ask for a path, and wait for the end of what is answered; return the status."""
    lines = () if host.speaks_http2 else ("Connection: close",)
    async with host.asked(path, *lines) as stream:
        if isinstance(stream, Client):
            answer = await stream.closed()
            return int(answer.split()[1]) if answer else None
        await stream.wait_head()
        await stream.whole()
        return int(stream.response.status)


@pytest.mark.parametrize("run", hosts.NAMES, indirect=True)
async def test_a_handler(run: Run) -> None:
    async with run() as host:

        async def check(place: str) -> None:
            before = len(host.life.ends)
            assert await take_what_comes(host, "/raises") == (500 if place == "before the head" else 200)
            assert (await host.life.wait_ends(before + 1))[before:] == [EndReason.HANDLER_ERROR]

        # Trio cannot take the last one, which must not reach a nursery, from its repr.
        await try_each(host, host.life, PLACES, check, {**ERRORS, "deep group without a text": deep_group})


@pytest.mark.parametrize("run", hosts.OF_QUART, indirect=True)
async def test_a_generator_of_quart(run: Run) -> None:
    async with run() as host:

        async def check(place: str) -> None:
            status = await take_what_comes(host, "/generated")
            assert status in ((500,) if place == "before the head" else (200, 500, None))

        await try_each(host, host.life, PLACES, check)


@pytest.mark.parametrize("run", OF_APPS, indirect=True)
async def test_middleware(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    life = Life()  # of the middleware alone

    def failing(app: Any) -> Any:
        async def call(scope: Any, receive: Any, send: Any) -> None:
            def visit(here: str) -> None:
                if scope["type"] == "http" and scope["path"] == "/three":
                    life.visit(here)

            async def send_on(message: Any) -> None:
                visit("at the head" if message["type"] == "http.response.start" else "at a body")
                await send(message)

            visit("before the app")
            await app(scope, receive, send_on)
            visit("after the app")

        return call

    async with run(middleware=failing) as host:

        async def check(place: str) -> None:
            caplog.clear()
            status = await take_what_comes(host, "/three")
            assert status in ((500,) if place in ("before the app", "at the head") else (200, 500, None))
            if life.make_error is not foreign_cancellation:  # Quart's nurseries take it for their own
                await until(lambda: any(record.levelname == "ERROR" for record in caplog.records))

        await try_each(host, life, OF_MIDDLEWARE, check)


@pytest.mark.parametrize("run", hosts.NAMES, indirect=True)
async def test_a_handler_that_leaves_a_generator_inside_a_nursery(run: Run) -> None:
    async with run() as host, host.opened("/live") as bystander:
        await until_subscribed(host)
        for number, place in enumerate(LEFT, 1):
            host.life.place = place
            async with host.opened("/leaves_a_nursery_open") as stream:
                assert [event.data for event in await stream.rest()] == ["0", "1"]
            reason = EndReason.HANDLER_ERROR if place == "by an exception" else EndReason.FINISHED
            assert (await host.life.wait_ends(number))[-1] is reason
            assert host.life.left.closed == number
            await host.hub.publish("live", f"still here, left {place}")
            assert (await bystander.event()).data == f"still here, left {place}"


@pytest.mark.parametrize("run", OF_APPS, indirect=True)
async def test_an_app_that_leaves_a_generator_inside_a_nursery(run: Run) -> None:
    life = Life()  # of the middleware alone

    def leaving(app: Any) -> Any:
        async def call(scope: Any, receive: Any, send: Any) -> None:
            async def send_part(text: str) -> None:
                await send({"type": "http.response.body", "body": text.encode(), "more_body": True})

            if scope["type"] != "http" or scope["path"] != "/three":
                await app(scope, receive, send)
                return
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await life.leave_a_nursery_open(send_part)
            await send({"type": "http.response.body", "body": b"2"})

        return call

    async with run(middleware=leaving) as host, host.opened("/live") as bystander:
        await until_subscribed(host)
        for number, place in enumerate(LEFT, 1):
            life.place = place
            status = await take_what_comes(host, "/three")
            assert status in ((200, 500) if place == "by an exception" else (200,))
            await until(lambda: life.left.closed == number)  # noqa: B023
            await host.hub.publish("live", f"still here, left {place}")
            assert (await bystander.event()).data == f"still here, left {place}"


@pytest.mark.parametrize("run", OF_APPS, indirect=True)
async def test_middleware_that_fails_while_it_sends(run: Run) -> None:
    steps = 0

    def failing(app: Any) -> Any:
        async def call(scope: Any, receive: Any, send: Any) -> None:
            async def send_all() -> None:
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": b"one", "more_body": True})
                await send({"type": "http.response.body", "body": b"two"})

            if scope["type"] != "http" or scope["path"] != "/three":
                await app(scope, receive, send)
                return
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send_all)
                for _ in range(steps):
                    await trio.lowlevel.checkpoint()
                raise ValueError("why")

        return call

    async with run(middleware=failing) as host, host.opened("/live") as bystander:
        await until_subscribed(host)
        for number in range(40):  # so that each of its sends is cancelled at each moment
            steps = number // 2
            await take_what_comes(host, "/three")
        await host.hub.publish("live", "still here")
        assert (await bystander.event()).data == "still here"
