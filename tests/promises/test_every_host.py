"""The promises of a stream, checked by one suite on every host: see `hosts.py`.

Time that has to pass is Trio's on a clock that runs faster, so that nobody waits for a minute; what crosses
sockets is real.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import math
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trio_sse import EndReason, Hub, ServerSentEvent

from ..support import hosts
from ..support.certificates import Certificate
from ..support.client import Client
from ..support.hosts import FAST, PATIENT, Host, Run, until_subscribed
from ..support.http2_client import Http2Connection
from ..support.leaks import LeakCheck, living_tasks, open_descriptors
from ..support.waiting import SECONDS, until

pytestmark = pytest.mark.integration

Leave = Callable[[Any], Awaitable[None]]

# What a host may take to notice that its client has left; and how often a busy machine may be slower. No
# keepalive notices it meanwhile.
SOON = 1.0
ATTEMPTS = 10
NEVER = 3600.0

# One host of each kind, which has thousands of connections come and go; hundreds show the same of the others.
MANY = ("native", "quart", "native over http2", "starlette on hypercorn", "starlette on hypercorn over http2")


@pytest.fixture(params=hosts.NAMES)
def run(request: pytest.FixtureRequest, no_leak: LeakCheck, certificate: Certificate) -> Run:
    """Run one host after the other."""
    return partial(hosts.running, request.param, no_leak, certificate)


@pytest.fixture(params=hosts.OVER_HTTP1)
def run_http1(request: pytest.FixtureRequest, no_leak: LeakCheck, certificate: Certificate) -> Run:
    """Run those hosts that speak HTTP/1.1."""
    return partial(hosts.running, request.param, no_leak, certificate)


@pytest.fixture(params=[name for name in hosts.OVER_HTTP1 if name not in hosts.IN_MEMORY])
def run_listening(request: pytest.FixtureRequest, no_leak: LeakCheck, certificate: Certificate) -> Run:
    """Run those of HTTP/1.1 that listen on sockets."""
    return partial(hosts.running, request.param, no_leak, certificate)


@pytest.fixture(params=hosts.OF_QUART)
def run_quart(request: pytest.FixtureRequest, no_leak: LeakCheck, certificate: Certificate) -> Run:
    """Run those hosts whose streams are in an app."""
    return partial(hosts.running, request.param, no_leak, certificate)


def numbers_in(events: list[ServerSentEvent]) -> list[int]:
    """Return the numbers that events carry."""
    return [int(str(event.data)) for event in events]


async def until_longer(published: list[int], count: int) -> None:
    """Wait until this many more have been published."""
    wanted = len(published) + count
    await until(lambda: len(published) >= wanted)


# Streaming


@pytest.mark.parametrize("path", ["/live", "/iterated"])
async def test_what_is_published_arrives_in_order(run: Run, path: str) -> None:
    async with run() as host, host.opened(path) as stream:
        assert stream.response.status == 200
        assert stream.response.get("content-type") == "text/event-stream"
        await until_subscribed(host)
        for number in range(100):
            await host.hub.publish("live", {"n": number}, event="tick")
        events = await stream.events(100)
        assert [event.json() for event in events] == [{"n": number} for number in range(100)]
        assert {event.event for event in events} == {"tick"}
        ids = [str(event.id).rpartition(".") for event in events]
        assert [(epoch, int(number) - int(ids[0][2])) for epoch, _, number in ids] == [
            (ids[0][0], number) for number in range(100)
        ]
        await host.hub.publish("live", "later")
        assert (await stream.event()).data == "later"


async def test_a_handler_that_returns_ends_the_body_properly(run: Run) -> None:
    async with run() as host, host.opened("/three") as stream:
        events = await stream.rest()
        assert [(event.id, event.event, event.json()) for event in events] == [
            (f"{number}", "tick", {"n": number}) for number in range(3)
        ]
        assert (stream.is_ended, stream.is_cut) == (True, False)
        assert await host.life.wait_ends(1) == [EndReason.FINISHED]


async def test_a_handler_that_sends_nothing_answers_with_an_empty_stream(run: Run) -> None:
    async with run() as host, host.opened("/returns") as stream:
        assert stream.response.status == 200
        assert await stream.rest() == []
        assert stream.is_ended


async def test_scopes_of_a_handler_may_span_the_stream_s_beginning(run: Run) -> None:
    async with run() as host, host.opened("/scoped") as stream:
        assert [event.data for event in await stream.rest()] == ["in scopes", "out of them"]
        assert stream.is_ended


async def test_a_stream_may_answer_a_post(run: Run) -> None:
    async with run() as host, await host.connect() as connection:
        if isinstance(connection, Client):
            head = "POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\n"
            await connection.send(head.encode() + b"hello")
            await connection.head()
            stream: Any = connection
        else:
            stream = await connection.request("POST", "/echo", body=b"hello")
        assert [event.data for event in await stream.rest()] == ["hello"]


async def answer_of(host: Host, path: str, *lines: str, method: str = "GET") -> tuple[Any, bytes]:
    """Return the head and the body of a response."""
    async with await host.connect() as connection:
        if isinstance(connection, Client):
            head = await connection.get(path, *lines, method=method)
            return head, b"" if method == "HEAD" else await connection.whole()
        stream = await connection.request(method, path, *lines)
        return await stream.wait_head(), await stream.whole()


def values_of(head: Any, name: str) -> list[str]:
    """Return the values of all fields of a name."""
    return [value for own, value in head.fields if own.lower() == name]


async def test_head_answers_what_get_would(run: Run) -> None:
    answers = {
        "/live": (200, "text/event-stream", EndReason.FINISHED),
        "/quiet": (200, "text/event-stream", EndReason.FINISHED),
        "/returns": (200, "text/event-stream", EndReason.FINISHED),
        "/adds_headers": (200, "text/event-stream", EndReason.FINISHED),
        "/answers": (201, "application/json", EndReason.ANSWERED),
        "/answers_by_raising": (400, "application/json", EndReason.REFUSED),
        "/refuses_in_json": (409, "application/problem+json", EndReason.REFUSED),
        "/no_topic": (400, "text/plain; charset=utf-8", EndReason.REFUSED),
    }
    async with run() as host:
        for path, (status, kind, reason) in answers.items():
            host.life.ends.clear()
            head, body = await answer_of(host, path, method="HEAD")
            assert await host.life.wait_ends(1) == [reason]
            assert (head.status, values_of(head, "content-type"), body) == (status, [kind], b"")
            assert host.hub.statistics().subscriptions == 0
            async with host.opened(path) as stream:
                got = stream.response
            assert got.status == head.status
            for name in ("content-type", "cache-control", "set-cookie", "vary", "x-why", "x-accel-buffering"):
                assert values_of(head, name) == values_of(got, name)
            await host.life.wait_ends(2)


async def test_head_of_a_silent_handler_is_answered_when_a_keepalive_is_due(run: Run) -> None:
    async with run(keepalive=0.01) as host:
        head, _ = await answer_of(host, "/silent", method="HEAD")
        assert (head.status, head.get("content-type")) == (200, "text/event-stream")
        assert await host.life.wait_ends(1) == [EndReason.FINISHED]


async def test_head_of_a_handler_that_fails_is_a_500(run: Run) -> None:
    async with run() as host:
        assert (await answer_of(host, "/fails_before", method="HEAD"))[0].status == 500
        assert (await answer_of(host, "/answers_nonsense", method="HEAD"))[0].status == 500
        assert await host.life.wait_ends(2) == [EndReason.HANDLER_ERROR] * 2


async def test_a_handler_may_answer_with_a_response(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    answers = [
        ("/answers", 201, b'{"made":1}', EndReason.ANSWERED),
        ("/answers_by_raising", 400, b'{"error":1}', EndReason.REFUSED),
    ]
    async with run() as host:
        for accept in ("text/event-stream", "application/json"):
            for path, status, body, reason in answers:
                host.life.ends.clear()
                head, got = await answer_of(host, path, f"Accept: {accept}")
                assert await host.life.wait_ends(1) == [reason]
                assert (head.status, got) == (status, body)
                assert values_of(head, "content-type") == ["application/json"]
                assert values_of(head, "set-cookie") == ["a=1", "b=2"]
                assert values_of(head, "x-why") == ["because"]
                assert not values_of(head, "x-of-a-stream")
        refused, got = await answer_of(host, "/refuses_in_json")
        assert (refused.status, got) == (409, b'{"error":2}')
        assert values_of(refused, "content-type") == ["application/problem+json"]
    assert not [record for record in caplog.records if record.exc_info]


async def test_a_response_after_the_first_event_cuts_the_stream(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async with run() as host, host.opened("/answers_late") as stream:
        assert [event.data for event in await stream.rest()] == ["one"]
        assert host.is_cut_or_ended(stream)
        assert await host.life.wait_ends(1) == [EndReason.HANDLER_ERROR]
    assert [record for record in caplog.records if record.exc_info]


async def test_a_stream_has_the_headers_that_were_added(run: Run) -> None:
    async with run() as host:
        async with host.opened("/adds_headers") as stream:
            head = stream.response
            assert [event.data for event in await stream.rest()] == [
                "one",
                "the response's head has been sent",
            ]
        polled, body = await answer_of(host, "/adds_headers", "Accept: application/json")
    assert b'"one"' in body
    assert head.status == polled.status == 200
    for each, caching in ((head, "private, no-cache"), (polled, "private, no-cache")):
        assert values_of(each, "set-cookie") == ["a=1", "b=2"]
        assert values_of(each, "x-why") == ["because"]
        assert values_of(each, "cache-control") == [caching]
        vary = {one.strip() for one in ",".join(values_of(each, "vary")).split(",")}
        assert {"Accept", "Cookie"} <= vary
        assert not values_of(each, "x-late")


async def test_headers_and_cookies_that_are_set_before_the_start_arrive(run_quart: Run) -> None:
    async with run_quart() as host, host.opened("/cookie") as stream:
        assert stream.response.get("x-mine") == "yes"
        assert stream.response.get("set-cookie") == "a=b; Path=/"
        assert [event.data for event in await stream.rest()] == ["with a cookie"]


async def test_one_connection_carries_one_stream_after_the_other(run: Run) -> None:
    async with run() as host, await host.connect() as connection:
        for _ in range(3 if host.promises("a connection carries one stream after the other") else 1):
            if isinstance(connection, Client):
                await connection.get("/three")
                stream: Any = connection
            else:
                stream = await connection.request("GET", "/three")
            assert len(await stream.rest()) == 3
            stream.is_ended = False


async def test_several_streams_are_served_at_once(run: Run) -> None:
    async with run() as host, AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(host.opened("/live")) for _ in range(20)]
        await until_subscribed(host, 20)
        await host.hub.publish("live", "all")
        assert [(await stream.event()).data for stream in streams] == ["all"] * 20


# Its life


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
        for _ in range(10):
            async with host.uploading(path) as stream:
                # A framework may read the whole body first, which never comes.
                with trio.move_on_after(0.1):
                    assert (await stream.wait_head()).status == 200
                    if path == "/three":
                        assert len(await stream.rest()) == 3
                        assert stream.is_ended
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


# Polling


async def test_a_poll_answers_with_what_is_published(run: Run) -> None:
    async with run() as host, trio.open_nursery() as nursery:
        answers: list[dict[str, Any]] = []

        async def poll() -> None:
            answers.append(await host.poll("/live?wait=20"))

        nursery.start_soon(poll)
        await until_subscribed(host)
        await host.hub.publish("live", "hello")
        await until(lambda: len(answers) == 1)
        assert [event["data"] for event in answers[0]["events"]] == ["hello"]


async def test_a_poll_is_answered_when_the_server_shuts_down(run: Run) -> None:
    async with run(drain_timeout=20) as host, trio.open_nursery() as nursery:
        answers: list[dict[str, Any]] = []

        async def poll() -> None:
            answers.append(await host.poll("/live?wait=25"))

        nursery.start_soon(poll)
        await until_subscribed(host)
        began_at = trio.current_time()
        await host.shut_down()
        assert trio.current_time() - began_at < 10
        await until(lambda: len(answers) == 1)
        assert answers[0]["events"] == []


async def test_a_poll_whose_client_leaves_is_counted_as_that(run: Run) -> None:
    async with run() as host, host.asked("/live?wait=25", "Accept: application/json") as stream:
        await until_subscribed(host)
        await leave(stream)
        assert await host.life.wait_ends(1) == [EndReason.CLIENT_DISCONNECTED]


# Coming back


@asynccontextmanager
async def publishing(host: Host, size: int = 0) -> AsyncIterator[list[int]]:
    """Publish 1, 2, 3 and so on, padded to `size`, with others' events between; give what was published."""
    published: list[int] = []

    async def publish() -> None:
        while True:
            number = len(published) + 1
            await host.hub.publish("live", f"{number}".ljust(size))
            published.append(number)
            await host.hub.publish("other", "not for it")
            if number % 10 == 0:
                await trio.sleep(0.002)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(publish)
        yield published
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("path", ["/live", "/iterated"])
async def test_a_client_that_reconnects_receives_what_it_missed_and_then_live_events(
    run: Run, path: str
) -> None:
    async with run() as host:
        last, numbers = host.hub.last_event_id, list[int]()
        async with publishing(host) as published:
            for _ in range(4):
                async with host.opened(path, f"Last-Event-ID: {last}") as stream:
                    events = await stream.events(200)
                    numbers += numbers_in(events)
                    last = events[-1].id
                await until_longer(published, 100)
        assert numbers == list(range(1, 801))


async def test_a_slow_consumer_is_cut_and_resumes_when_it_reconnects(run: Run) -> None:
    async with run() as host:
        if not host.promises("a client that lags is cut as a slow consumer"):
            return
        start = host.hub.last_event_id
        async with host.opened("/lagging", held=True) as stream:
            async with publishing(host, size=10_000) as published:
                assert await host.life.wait_ends(1) == [EndReason.SLOW_CONSUMER]
            await hosts.take_all(stream)
            numbers = numbers_in(await stream.rest())
            assert host.is_cut_or_ended(stream)
        async with host.opened("/live", f"Last-Event-ID: {stream.last_event_id or start}") as stream:
            while numbers != published:
                numbers += numbers_in([await stream.event()])
                assert numbers == published[: len(numbers)]


@pytest.mark.parametrize("reason", ["unknown", "expired"])
async def test_a_gap_is_a_reset(run: Run, reason: str) -> None:
    async with run(history=5) as host:
        old = host.hub.last_event_id
        for number in range(10):
            await host.hub.publish("live", f"{number}")
        last = old if reason == "expired" else "0badc0de.7"
        while host.hub.statistics().published < 10:
            await trio.lowlevel.checkpoint()
        async with host.opened("/live", f"Last-Event-ID: {last}") as stream:
            reset = await stream.event()
            assert (reset.event, reset.json()) == ("reset", {"reason": reason})
            await host.hub.publish("live", "after it")
            assert (await stream.event()).data == "after it"


# What goes wrong


async def test_a_handler_that_fails_before_the_stream_is_a_500(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async with run() as host, host.opened("/fails_before") as stream:
        assert stream.response.status == 500
        assert b"secret" not in await stream.whole()
        assert await host.life.wait_ends(1) == [EndReason.HANDLER_ERROR]

        def errors() -> list[str]:
            return [str(record.exc_info[1]) for record in caplog.records if record.exc_info]

        if not host.name.startswith("litestar"):  # which logs only if configured to
            await until(lambda: errors() != [])
            assert errors() == ["secret"]


@pytest.mark.parametrize("path", ["/fails_after", "/fails_in_nursery"])
async def test_a_handler_that_fails_in_the_stream_cuts_it(
    run: Run, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    async with run() as host, host.opened("/live") as other, host.opened(path) as stream:
        assert [event.data for event in await stream.rest()] == ["one"]
        assert host.is_cut_or_ended(stream)
        assert await host.life.wait_ends(1) == [EndReason.HANDLER_ERROR]
        assert len([record for record in caplog.records if record.exc_info]) == 1
        await until_subscribed(host)
        await host.hub.publish("live", "the others live on")
        assert (await other.event()).data == "the others live on"


@pytest.mark.parametrize("path", ["/panics_before", "/panics_after"])
async def test_what_is_no_exception_ends_its_own_stream_only(run: Run, path: str) -> None:
    async with run() as host, host.opened("/live") as other:
        await until_subscribed(host)
        async with host.opened(path) as stream:
            if path == "/panics_before":
                assert stream.response.status == 500
                await stream.whole()
            else:
                assert [event.data for event in await stream.rest()] == ["one"]
                assert host.is_cut_or_ended(stream)
        assert await host.life.wait_ends(1) == [EndReason.HANDLER_ERROR]
        await host.hub.publish("live", "the others live on")
        assert (await other.event()).data == "the others live on"


class FailingHandler(logging.Handler):
    """A handler of the application's, which fails in a way that the standard library does not contain."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def handle(self, record: logging.LogRecord) -> bool:
        self.calls += 1
        raise hosts.Panic("the log is broken")


async def test_a_log_that_fails_ends_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    failing, logger = FailingHandler(), logging.getLogger("trio_sse")
    monkeypatch.setattr(logger, "handlers", [failing])
    monkeypatch.setattr(logger, "propagate", False)
    logger.setLevel(logging.DEBUG)
    try:
        async with run() as host, host.opened("/live") as other:
            await until_subscribed(host)
            for path in ("/fails_after", "/panics_after", "/three"):
                async with host.opened(path) as stream:
                    assert (await stream.event()).data
                    await stream.rest()
            async with host.opened("/fails_before") as stream:
                assert stream.response.status == 500
            await host.life.wait_ends(4)
            await host.hub.publish("live", "the others live on")
            assert (await other.event()).data == "the others live on"
    finally:
        logger.setLevel(logging.NOTSET)
    assert failing.calls > 4


async def test_a_handler_may_refuse(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async with run() as host, host.opened("/refuses") as stream:
        assert (stream.response.status, stream.response.get("x-why")) == (403, "because")
        assert await stream.whole() == b"not you\n"
        assert await host.life.wait_ends(1) == [EndReason.REFUSED]
        assert not [record for record in caplog.records if record.exc_info]


async def test_an_upgrade_field_comes_with_its_connection_option(run: Run) -> None:
    async with run() as host, host.opened("/upgrades") as stream:
        assert stream.response.status == 426
        fields = [(name.lower(), value.lower()) for name, value in stream.response.fields]
        options = [value for name, value in fields if name == "connection"]
        if not host.speaks_http2:
            assert ("upgrade", "h2c") in fields
            assert "upgrade" in ", ".join(options).split(", ")
        else:  # HTTP/2 has neither
            assert not options
            assert "upgrade" not in dict(fields)


async def test_an_invalid_topic_is_a_400(run: Run) -> None:
    async with run() as host, host.opened("/no_topic") as stream:
        assert stream.response.status == 400
        assert b"256 characters" in await stream.whole()


async def test_more_streams_than_there_may_be_are_refused(run: Run) -> None:
    async with run(max_connections=2) as host, AsyncExitStack() as stack:
        for _ in range(2):
            await stack.enter_async_context(host.opened("/quiet"))
        async with host.opened("/quiet") as third:
            assert third.response.status == 503
            assert 1 <= int(third.response.get("retry-after")) <= 10
        async with host.opened("/quiet", "Accept: text/event-stream", "Cache-Control: no-cache") as browser:
            # An EventSource gives up after a 503. After a stream that ends, it reconnects.
            assert browser.response.status == 200
            assert browser.response.get("content-type") == "text/event-stream"
            assert re.fullmatch(rb"retry: [0-9]{4,5}\n\n", await browser.whole())
        assert host.statistics().open_streams == 2


async def test_a_handler_is_held_up_by_a_reader_that_does_not_read(run: Run) -> None:
    async with run() as host, host.opened("/flood", held=True) as stream:
        if not host.promises("a handler waits for a client that does not read"):
            return
        sent = -1
        while sent < host.statistics().bytes_sent:
            sent = host.statistics().bytes_sent
            assert sent < 1_000_000, "nobody holds it up"
            await trio.sleep(0.1)
        assert not host.life.ends
        await hosts.take_all(stream)
        received = 0
        while received < 2_000_000:
            received += len(await stream.read())
            stream.body = b""


async def test_a_reader_that_never_reads_is_cut_and_others_go_on(run: Run) -> None:
    async with run(write_timeout=1) as host, host.opened("/live") as other:
        await until_subscribed(host)
        async with await host.connect(receive_buffer=4096) as stuck:
            if isinstance(stuck, Client):
                await stuck.send(b"GET /flood HTTP/1.1\r\nHost: test\r\n\r\n")
            else:
                await stuck.request("GET", "/flood")
                stuck.reading.cancel()
            began_at = trio.current_time()
            await host.life.wait_opened(2)
            await host.hub.publish("live", "meanwhile")
            assert (await other.event()).data == "meanwhile"
            (reason,) = await host.life.wait_ends(1)
            assert reason in (EndReason.WRITE_TIMEOUT, EndReason.CLIENT_DISCONNECTED)
            assert trio.current_time() - began_at < 20  # the kernel looks at intervals of its own choice
        await host.hub.publish("live", "afterwards")
        assert (await other.event()).data == "afterwards"


async def test_readers_that_leave_without_having_read_leave_nothing(run: Run, clock: MockClock) -> None:
    async with run(**PATIENT, keepalive=NEVER) as host:
        async with host.opened("/live") as stream:
            await until_subscribed(host)
            await stream.leave()
        await host.life.wait_ends(1)
        tasks, descriptors = len(living_tasks()), len(open_descriptors())
        for count in range(2, 8):
            async with host.opened("/flood", held=True) as stream:
                await trio.sleep(0.1)  # by now it waits for the client
                await hosts.leave_by_reset(stream)
            await host.life.wait_ends(count)
        clock.rate = FAST  # a `send` of hypercorn may go on for a while
        await until(lambda: len(living_tasks()) <= tasks, seconds=math.inf)
        await until(lambda: len(open_descriptors()) <= descriptors, seconds=math.inf)


# The end


async def test_a_shutdown_has_every_client_reconnect(run: Run) -> None:
    async with run(drain_timeout=30) as host, AsyncExitStack() as stack:
        streams: list[Any] = []
        while len(streams) < 100:
            connection = await stack.enter_async_context(await host.connect())
            if isinstance(connection, Client):
                await connection.get("/live")
                streams.append(connection)
            else:
                opened = [await connection.request("GET", "/live") for _ in range(25)]
                streams += opened
        await until_subscribed(host, 100)
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
        assert host.life.ends == [EndReason.SERVER_SHUTDOWN] * 100


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


async def test_readers_that_never_read_can_not_hold_a_shutdown_up(run_http1: Run) -> None:
    # The write timeout would end those that a busy machine has opened long before the others.
    options = {"drain_timeout": 1, "write_timeout": 2 * SECONDS, "seconds": 4 * SECONDS}
    async with run_http1(**options) as host, AsyncExitStack() as stack:
        for _ in range(100):
            client = await stack.enter_async_context(await host.connect(receive_buffer=4096))
            assert isinstance(client, Client)
            await client.send(b"GET /flood HTTP/1.1\r\nHost: test\r\n\r\n")
        await host.life.wait_opened(100)
        began_at = trio.current_time()
        await host.shut_down()
        assert trio.current_time() - began_at < 1 + 20
        assert host.life.ends == [EndReason.SERVER_SHUTDOWN] * 100


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
        count = 1000 if host.name in MANY else 200
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
    text = (Path(__file__).parents[2] / "docs" / "hosts.md").read_text()
    lines = text.partition("## What each can promise")[2].partition('\n"At once"')[0].splitlines()
    rows = {cells[1]: cells[2:7] for line in lines if len(cells := [c.strip() for c in line.split("|")]) > 7}
    columns = {name: hosts.column(name) for name in hosts.NAMES}
    for row in hosts.DIFFERENCES:
        said = {name: not rows[row][column].startswith("no") for name, column in columns.items()}
        assert said == {name: hosts.promises(name, row) for name in hosts.NAMES}, row
