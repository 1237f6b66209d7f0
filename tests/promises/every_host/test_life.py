"""When streams on every host begin, and how soon a client that leaves is noticed."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from trio_sse import EndReason

from ...support import hosts
from ...support.client import Client
from ...support.hosts import FAST, PATIENT, Host, Run, until_subscribed
from ...support.http2_client import Http2Connection
from ...support.waiting import until
from .observing import NEVER

pytestmark = pytest.mark.integration

Leave = Callable[[Any], Awaitable[None]]

# What a host may take to notice that its client has left; and how often a busy machine may be slower. No
# keepalive notices it meanwhile.
SOON = 1.0
ATTEMPTS = 10


async def test_an_idle_stream_is_kept_alive(run: Run, clock: MockClock) -> None:
    async with run(**PATIENT) as host, host.opened("/quiet") as stream:
        clock.rate = FAST
        received = b""
        while received.count(b":") < 3:
            data = await stream.read()
            assert data, "the stream is over"
            received += data
        assert received == b":\n" * received.count(b":")


async def test_its_longest_life_is_cut_and_not_ended(run: Run, clock: MockClock) -> None:
    async with run(**PATIENT, max_duration=60) as host:
        began_at = trio.current_time()
        async with host.opened("/live") as stream:
            clock.rate = FAST
            await stream.rest()
        assert host.is_cut_or_ended(stream)
        assert 0.8 * 60 <= trio.current_time() - began_at < 60 + 20 * FAST
        assert await host.life.wait_ends(1) == [EndReason.MAX_DURATION]


async def test_a_stream_outlives_a_minute(run: Run, clock: MockClock) -> None:
    async with run(**PATIENT) as host, host.opened("/slow") as stream:
        clock.rate = FAST
        began_at = trio.current_time()
        assert [event.data for event in await stream.rest()] == ["0", "1", "2", "3"]
        assert trio.current_time() - began_at > 65
        assert stream.is_ended


async def test_an_upload_may_take_longer_than_a_keepalive(run: Run, clock: MockClock) -> None:
    async with run(**PATIENT, keepalive=5) as host, await host.connect() as connection:
        pieces = [b"one ", b"two ", b"three ", b"four"]
        size = sum(map(len, pieces))
        if isinstance(connection, Client):
            await connection.send(
                f"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: {size}\r\n\r\n".encode()
            )
            send, send_last, stream = connection.send, connection.send, connection
        else:
            stream = await connection.request("POST", "/echo", f"Content-Length: {size}", is_whole=False)
            send = partial(connection.send_body, stream.number)
            send_last = partial(send, is_last=True)
        for piece in pieces[:-1]:
            await send(piece)
            await trio.testing.wait_all_tasks_blocked(0.01)
            clock.jump(6)
            await trio.testing.wait_all_tasks_blocked(0.01)
        await send_last(pieces[-1])
        await stream.wait_head()
        assert await stream.whole() == b"data: one two three four\n\n"


async def leave(stream: Any) -> None:
    await stream.leave()


async def half_close(stream: Any) -> None:
    await stream.stream.send_eof()


@pytest.mark.parametrize("how", [leave, hosts.leave_by_reset])
@pytest.mark.parametrize("path", ["/live", "/quiet"])
async def test_a_client_that_leaves_is_noticed(run: Run, path: str, how: Leave) -> None:
    async with run(keepalive=NEVER) as host:
        assert await seconds_to_notice(host, path, how) < SOON
        await until(lambda: host.hub.statistics().subscriptions == 0)


async def test_a_half_closed_connection_is_noticed(run_http1: Run) -> None:
    async with run_http1(keepalive=NEVER) as host:
        assert await seconds_to_notice(host, "/live", half_close) < SOON


async def seconds_to_notice(host: Host, path: str, how: Leave) -> float:
    """Have idle clients leave until one is noticed soon; return how long that took."""
    seconds = math.inf
    for attempt in range(1, ATTEMPTS + 1):
        async with host.opened(path) as stream:
            await host.life.wait_opened(attempt)
            left_at = trio.current_time()
            await how(stream)
            # The hook that this waits for is called when the handler and all its tasks have ended.
            assert await host.life.wait_ends(attempt) == [EndReason.CLIENT_DISCONNECTED] * attempt
            seconds = trio.current_time() - left_at
        if seconds < SOON:
            break
    return seconds


async def test_a_connection_that_was_kept_writes_to_nobody_else(run: Run) -> None:
    async with run() as host:
        async with host.opened("/quiet") as stream:
            await hosts.leave_by_reset(stream)
            await host.life.wait_ends(1)
        kept = host.life.last
        assert kept is not None
        async with AsyncExitStack() as stack:
            others = [await stack.enter_async_context(host.opened("/live")) for _ in range(5)]
            await until_subscribed(host, 5)  # one of them has the descriptor of the one that has left
            for use in (kept.start, partial(kept.send, "foreign"), partial(kept.subscribe, "live")):
                with pytest.raises(trio.ClosedResourceError):
                    await use()
            await host.hub.publish("live", "own")
            assert [(await other.event()).data for other in others] == ["own"] * 5


async def test_a_connection_that_is_closed_ends_its_streams(run: Run) -> None:
    count = 1
    async with run() as host:
        async with await host.connect() as connection:
            await connection.get("/live")
            if isinstance(connection, Http2Connection):
                count = 10
                for _ in range(count - 1):
                    await connection.get("/live")
            await until_subscribed(host, count)
        assert await host.life.wait_ends(count) == [EndReason.CLIENT_DISCONNECTED] * count
        await until(lambda: host.hub.statistics().subscriptions == 0)


async def test_a_client_that_has_sent_a_second_request_is_noticed_when_it_leaves(run_http1: Run) -> None:
    async with run_http1(keepalive=NEVER) as host, host.opened("/live") as stream:
        await until_subscribed(host)
        await stream.send(b"GET /three HTTP/1.1\r\nHost: test\r\n\r\n")
        if host.promises("a stream continues if its client sends a second request on the connection"):
            await host.hub.publish("live", "still there")
            assert (await stream.event()).data == "still there"
            await stream.leave()
        assert await host.life.wait_ends(1) == [EndReason.CLIENT_DISCONNECTED]
        assert host.life.opened == 1


async def test_a_client_that_has_sent_two_requests_at_once_is_noticed_when_it_leaves(run_http1: Run) -> None:
    # A server that is not ours does not read until the stream is over, so there keepalives notice it.
    is_ours = run_http1.args[0] not in hosts.ON_HYPERCORN  # type: ignore[attr-defined]  # a partial
    async with run_http1(keepalive=NEVER if is_ours else 0.2) as host, await host.connect() as client:
        await client.send(
            b"GET /quiet HTTP/1.1\r\nHost: test\r\n\r\nGET /three HTTP/1.1\r\nHost: test\r\n\r\n"
        )
        await client.head()
        await client.leave()
        assert await host.life.wait_ends(1) == [EndReason.CLIENT_DISCONNECTED]
        assert host.life.opened == 1


async def test_a_client_that_leaves_before_the_head_is_noticed(run: Run) -> None:
    async with run(keepalive=NEVER) as host, host.asked("/silent") as stream:
        await host.life.is_silent.wait()
        await leave(stream)
        assert await host.life.wait_ends(1) == [EndReason.CLIENT_DISCONNECTED]


@pytest.mark.parametrize("path", ["/returns", "/three", "/silent"])
async def test_clients_that_leave_before_the_head_leave_nothing(run: Run, path: str) -> None:
    async with run(keepalive=0.05) as host:
        for steps in range(20):
            async with host.asked(path) as stream:
                for _ in range(steps):
                    await trio.lowlevel.checkpoint()
                await leave(stream)
        await until(lambda: host.statistics().open_streams == 0)


async def test_a_silent_handler_s_client_receives_the_head_and_keepalives(run: Run) -> None:
    async with run(keepalive=0.2) as host, host.opened("/silent") as stream:
        assert stream.response.status == 200
        received = b""
        while received.count(b":") < 2:
            received += await stream.read()
        assert set(received) == set(b":\n")


async def test_events_arrive_one_by_one_as_they_are_sent(run: Run) -> None:
    async with run(keepalive=NEVER) as host, host.opened("/stepwise") as stream:
        for number in range(5):
            assert (await stream.event()).data == f"{number}"
            host.life.steps.release()
        assert await stream.rest() == []
        assert stream.is_ended


async def test_two_tasks_may_send_first_at_once(run: Run) -> None:
    async with run() as host:
        for _ in range(5):
            async with host.opened("/both") as stream:
                assert stream.response.status == 200
                assert sorted(str(event.data) for event in await stream.rest()) == ["one", "two"]
                assert stream.is_ended


async def test_a_body_that_nobody_reads_does_not_harm_the_stream(run: Run) -> None:
    async with run() as host, await host.connect() as connection:
        body = b"x" * 10_000
        if isinstance(connection, Client):
            head = f"POST /three HTTP/1.1\r\nHost: test\r\nContent-Length: {len(body)}\r\n\r\n"
            await connection.send(head.encode() + body)
            await connection.head()
            stream: Any = connection
        else:
            stream = await connection.request("POST", "/three", body=body)
        assert len(await stream.rest()) == 3
        assert stream.is_ended


async def test_what_follows_a_request_that_is_refused_late_is_no_request(run_http1: Run) -> None:
    body = b"GET /three HTTP/1.1\r\nHost: test\r\n\r\n"
    async with run_http1() as host, await host.connect() as client:
        await client.send(b"GET /refuses_late HTTP/1.1\r\nHost: test\r\n\r\n")
        await host.life.is_silent.wait()
        head = f"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: {len(body)}\r\n\r\n"
        await client.send(head.encode())
        await trio.sleep(0.05)  # a server that only watches its client has discarded it by now
        host.life.steps.release()
        assert (await client.head()).status == 403
        with contextlib.suppress(trio.BrokenResourceError):
            await client.send(body)
        with trio.move_on_after(0.2):
            await client.closed()
        assert "/three" not in host.life.paths


@pytest.mark.parametrize("path", ["/three", "/quiet"])
async def test_a_stream_begins_while_its_request_s_body_arrives(run: Run, path: str) -> None:
    async with run() as host, host.opened("/live") as other:
        await until_subscribed(host)
        waits = 0
        for _ in range(10):
            async with host.uploading(path) as stream:
                with trio.move_on_after(0.1) as waiting:
                    assert (await stream.wait_head()).status == 200
                    if path == "/three":
                        assert len(await stream.rest()) == 3
                        assert stream.is_ended
            waits += waiting.cancelled_caught
            if waits == 3:
                break  # a framework reads the whole body first, which never comes
        await until(lambda: host.statistics().open_streams == 1)
        await host.hub.publish("live", "the others live on")
        assert (await other.event()).data == "the others live on"


def copying(copied: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return middleware that passes a copy of the scope on."""

    def middleware(app: Any) -> Any:
        async def call(scope: Any, receive: Any, send: Any) -> None:
            await app(copied(scope) if scope["type"] == "http" else scope, receive, send)

        return call

    return middleware


def copy_each(scope: Any) -> Any:
    """Copy each object of a scope, and each of its extensions."""
    copied = {name: copy.copy(value) for name, value in scope.items()}
    extensions = scope.get("extensions") or {}
    return {**copied, "extensions": {name: copy.copy(value) for name, value in extensions.items()}}


@pytest.mark.parametrize("copied", [dict, copy.copy, copy.deepcopy, copy_each])
async def test_middleware_may_copy_the_scope(run: Run, copied: Callable[[Any], Any]) -> None:
    async with run(middleware=copying(copied), drain_timeout=20) as host:
        async with host.opened("/fails_after") as stream:
            assert [event.data for event in await stream.rest()] == ["one"]
            assert host.is_cut_or_ended(stream)
        async with host.opened("/live") as stream:
            async with host.opened("/live") as other:
                await until_subscribed(host, 2)
                await host.hub.publish("live", "hello")
                assert (await stream.event()).data == "hello"
                await other.leave()
                await host.life.wait_ends(2)
                assert host.life.ends == [EndReason.HANDLER_ERROR, EndReason.CLIENT_DISCONNECTED]
            await host.shut_down()  # for which hypercorn would wait until an idle connection is closed
            await stream.rest()
            assert stream.retry is not None
        assert host.life.ends[2:] == [EndReason.SERVER_SHUTDOWN]
