"""Shutdowns on every host, and other ends of streams; and that nothing is left."""

from __future__ import annotations

import contextlib
import math
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import trio

from trio_sse import EndReason, Hub

from ...support import hosts
from ...support.client import Client
from ...support.hosts import Host, Run, until_subscribed
from ...support.http2_client import Http2Connection
from ...support.leaks import living_tasks, open_descriptors
from ...support.waiting import SECONDS, until
from .observing import NEVER

pytestmark = pytest.mark.integration

# One host of each kind, which has hundreds of connections come and go; some show the same of the others.
MANY = ("native", "quart", "native over http2", "starlette on hypercorn", "starlette on hypercorn over http2")


async def test_a_shutdown_has_every_client_reconnect(run: Run) -> None:
    # A comment that its client has not read yet is in the way of the reconnection time.
    async with run(drain_timeout=30, keepalive=NEVER) as host, AsyncExitStack() as stack:
        streams: list[Any] = []
        while len(streams) < 50:
            connection = await stack.enter_async_context(await host.connect())
            if isinstance(connection, Client):
                await connection.get("/live")
                streams.append(connection)
            else:
                opened = [await connection.request("GET", "/live") for _ in range(25)]
                streams += opened
        await until_subscribed(host, 50)
        for stream in streams:
            await stream.read()  # the cursor
        began_at = trio.current_time()
        await host.shut_down()
        assert trio.current_time() - began_at < 30
        for stream in streams:
            await stream.rest()
            assert host.is_cut_or_ended(stream)
            assert stream.retry is not None
            assert 1000 <= stream.retry <= 5000
        assert host.life.ends == [EndReason.SERVER_SHUTDOWN] * 50


@pytest.mark.parametrize("run", hosts.ON_HYPERCORN, indirect=True)
async def test_a_shutdown_in_the_middle_of_a_write_has_the_client_reconnect(run: Run) -> None:
    async def publish_all_the_time(hub: Hub) -> None:
        with contextlib.suppress(trio.ClosedResourceError):  # the hub has ended
            while True:
                await hub.publish("live", "event")

    async with run(drain_timeout=20) as host, host.opened("/live") as idle, host.opened("/live") as busy:
        await until_subscribed(host, 2)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(publish_all_the_time, host.hub)
            await busy.event()
            await host.shut_down()
            nursery.cancel_scope.cancel()
        for stream in (idle, busy):
            await stream.rest()
            assert stream.retry is not None


@pytest.mark.parametrize(
    "run",
    [
        "native over http2",
        "quart in memory",
        "quart over http2",
        "quart on hypercorn",
        "starlette over http2",
    ],
    indirect=True,
)
async def test_a_shutdown_ends_a_stream_that_begins_in_the_same_moment(run: Run) -> None:
    for steps in range(8):
        async with run(drain_timeout=1000, keepalive=NEVER) as host, host.asked("/live"):
            for _ in range(steps):  # the drain may find the request anywhere on its way to the handler
                await trio.lowlevel.checkpoint()
            await host.shut_down()


async def test_a_shutdown_lets_a_stream_finish_that_answers_a_post(run: Run) -> None:
    async with run(drain_timeout=20) as host, await host.connect() as connection:
        if isinstance(connection, Client):
            await connection.send(b"POST /stepwise HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\n{}")
            await connection.head()
            stream: Any = connection
        else:
            stream = await connection.request("POST", "/stepwise", body=b"{}")
        assert (await stream.event()).data == "0"
        host.nursery.start_soon(host.shut_down)
        await trio.sleep(0.1)
        for _ in range(5):
            host.life.steps.release()
        assert [event.data for event in await stream.rest()] == ["1", "2", "3", "4"]
        assert stream.is_ended
        assert await host.life.wait_ends(1) == [EndReason.FINISHED]


@pytest.mark.parametrize("is_event_source", [True, False])
async def test_a_shutdown_answers_a_stream_that_has_not_begun(run: Run, is_event_source: bool) -> None:
    lines = ("Accept: text/event-stream", "Cache-Control: no-cache") if is_event_source else ()
    async with run(drain_timeout=20, keepalive=NEVER) as host, host.asked("/silent", *lines) as stream:
        await host.life.is_silent.wait()
        host.nursery.start_soon(host.shut_down)
        await check_temporary_refusal(stream, is_event_source)
        assert await host.life.wait_ends(1) == [EndReason.SERVER_SHUTDOWN]


@pytest.mark.parametrize("is_event_source", [True, False])
async def test_a_stream_that_is_cut_before_it_began_is_answered(run: Run, is_event_source: bool) -> None:
    lines = ("Accept: text/event-stream", "Cache-Control: no-cache") if is_event_source else ()
    for path, duration, reason in (
        ("/silent", 0.05, EndReason.MAX_DURATION),
        ("/closes_first", NEVER, EndReason.RECONNECT),
    ):
        async with run(max_duration=duration, keepalive=NEVER) as host:
            async with host.asked(path, *lines) as stream:
                await check_temporary_refusal(stream, is_event_source)
            assert await host.life.wait_ends(1) == [reason]


async def check_temporary_refusal(stream: Any, is_event_source: bool) -> None:
    """Check that the client is asked to try again, in the way that it understands."""
    head = await stream.wait_head()
    assert (head.status, head.get("retry-after") is None) == (
        (200, True) if is_event_source else (503, False)
    )
    if is_event_source:
        assert (await stream.whole()).startswith(b"retry: ")


async def test_a_shutdown_resets_no_client_that_connects_meanwhile(run_listening: Run) -> None:
    answered = 0

    async def ask_until_refused(host: Host) -> None:
        nonlocal answered
        while True:
            try:
                connection = await host.connect()
            except ConnectionRefusedError:
                return
            async with connection as client:
                await client.send(b"GET /three HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
                while await client.stream.receive_some():  # which raises an exception after a reset
                    pass
            answered += 1

    async with run_listening() as host, trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(ask_until_refused, host)
        await until(lambda: answered > 20)
        await host.shut_down()


@pytest.mark.parametrize("run", ["native over http2", "starlette over http2"], indirect=True)
async def test_over_http2_a_client_that_connects_in_a_shutdown_knows_what_becomes_of_its_request(
    run: Run,
) -> None:
    answered = 0

    async def ask_until_refused(host: Host) -> None:
        nonlocal answered
        while True:
            try:
                connection = await host.connect()
            except ConnectionRefusedError:
                return
            async with connection:
                with contextlib.suppress(trio.BrokenResourceError):  # it has been closed after GOAWAY
                    stream = await connection.request("GET", "/three")
                    while not (stream.response or stream.is_over):
                        await connection.changed.park()
                    answered += stream.response is not None
                    if stream.response is not None:
                        continue
                while not connection.goaways:
                    await connection.changed.park()

    async with run() as host, trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(ask_until_refused, host)
        await until(lambda: answered > 20)
        await host.shut_down()


async def test_readers_that_never_read_can_not_hold_a_shutdown_up(run_bounded: Run) -> None:
    # The write timeout would end those that a busy machine has opened long before the others.
    options = {"drain_timeout": 1, "write_timeout": 2 * SECONDS, "seconds": 4 * SECONDS}
    async with run_bounded(**options) as host, AsyncExitStack() as stack:
        each = 10 if host.speaks_http2 else 1
        for _ in range(40 // each):
            client = await stack.enter_async_context(await host.connect(receive_buffer=4096))
            if isinstance(client, Client):
                await client.send(b"GET /flood HTTP/1.1\r\nHost: test\r\n\r\n")
                continue
            for _ in range(each):
                await client.request("GET", "/flood")
            client.reading.cancel()
        await host.life.wait_opened(40)
        began_at = trio.current_time()
        await host.shut_down()
        assert trio.current_time() - began_at < 1 + 20
        assert host.life.ends == [EndReason.SERVER_SHUTDOWN] * 40


async def test_a_host_that_is_cancelled_leaves_nothing(run: Run) -> None:
    async with run() as host, AsyncExitStack() as stack:
        for path in ("/live", "/quiet", "/flood", "/scoped"):
            await stack.enter_async_context(host.opened(path))
        host.nursery.cancel_scope.cancel()


async def test_many_connects_and_drops_leave_nothing(run: Run) -> None:
    async with run(seconds=math.inf) as host:
        async with host.opened("/live") as stream:
            await until_subscribed(host)
            await stream.leave()
        await host.life.wait_ends(1)
        await until(lambda: host.hub.statistics().subscriptions == 0)
        tasks, descriptors = len(living_tasks()), len(open_descriptors())
        count = 240 if host.name in MANY else 80
        per_connection = 40 if host.speaks_http2 else 1  # a handshake for each would be all that is tested
        limit = trio.CapacityLimiter(20)

        async def drop(number: int) -> None:
            async with limit, await host.connect() as connection:
                if isinstance(connection, Http2Connection):
                    streams = [await connection.request("GET", "/live") for _ in range(per_connection)]
                    if number % 2:
                        await streams[0].wait_head()
                        for stream in streams:
                            await stream.leave()
                else:
                    await connection.send(b"GET /live HTTP/1.1\r\nHost: test\r\n\r\n")
                    if number % 3 == 0:
                        await connection.head()

        async with trio.open_nursery() as nursery:
            for number in range(count // per_connection):
                nursery.start_soon(drop, number)
        await until(lambda: host.hub.statistics().subscriptions == 0)
        await until(lambda: len(living_tasks()) <= tasks)
        await until(lambda: len(open_descriptors()) <= descriptors)
        async with host.opened("/three") as stream:
            assert len(await stream.rest()) == 3


def test_the_table_of_the_documentation_says_how_hosts_differ() -> None:
    text = (Path(__file__).parents[3] / "docs" / "hosts.md").read_text()
    lines = text.partition("## What each can promise")[2].partition('\n"At once"')[0].splitlines()
    rows = {cells[1]: cells[2:7] for line in lines if len(cells := [c.strip() for c in line.split("|")]) > 7}
    columns = {name: hosts.column(name) for name in hosts.NAMES}
    for row in hosts.DIFFERENCES:
        said = {name: not rows[row][column].startswith("no") for name, column in columns.items()}
        assert said == {name: hosts.promises(name, row) for name in hosts.NAMES}, row
