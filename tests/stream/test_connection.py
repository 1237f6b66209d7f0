"""One connection's life: keepalives, durations, timeouts, drain, and the reasons of its end."""

from __future__ import annotations

import logging
import math
import re
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse import Connection, EndReason, HTTPException, Overflow, Server, ServerSentEvent
from trio_sse._stream.keepalive import KeepaliveScheduler

from ..support.client import Client
from ..support.leaks import MakeServer
from ..support.serving import InMemory, in_memory, on_sockets

Handler = Callable[[Connection], Awaitable[None]]


async def forwarding(connection: Connection) -> None:
    await connection.subscribe("t")


async def sleeping(connection: Connection) -> None:
    await trio.sleep_forever()


BOTH_MODES = pytest.mark.parametrize("handler", [forwarding, sleeping])


class Life:
    """What one stream's handler, hook and log saw of its end."""

    def __init__(self) -> None:
        self.in_finally: list[EndReason | None] = []
        self.in_hook: list[EndReason | None] = []
        self.durations: list[float] = []


def observe(server: Server, handler: Handler = sleeping) -> Life:
    """Serve `/` by a handler and note how its streams end."""
    life = Life()

    @server.route("/")
    async def observed(connection: Connection) -> None:
        try:
            await handler(connection)
        finally:
            life.in_finally.append(connection.end_reason)

    @server.on_disconnect
    def disconnected(connection: Connection) -> None:
        life.in_hook.append(connection.end_reason)
        life.durations.append(connection.duration)

    return life


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Give the lines that the log has of the streams' lives."""
    lines = [record.getMessage() for record in caplog.records if record.name == "trio_sse.access"]
    return [line for line in lines if line.startswith(("open ", "close "))]


@pytest.fixture(autouse=True)
def _log_everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "trio_sse")


# Keepalives


@BOTH_MODES
async def test_a_keepalive_is_a_comment_without_a_blank_line(
    make_server: MakeServer, autojump_clock: MockClock, handler: Handler
) -> None:
    server = make_server(keepalive=15)
    observe(server, handler)
    async with in_memory(server) as serving, serving.connect() as client:
        await client.get("/")
        times = []
        for _ in range(3):
            assert await client.read() == b":\n"
            times.append(trio.current_time())
    assert [times[1] - times[0], times[2] - times[1]] == pytest.approx([15, 15])


async def test_a_keepalive_is_a_chunk_of_its_own(make_server: MakeServer, autojump_clock: MockClock) -> None:
    server = make_server()
    observe(server)
    async with in_memory(server) as serving, serving.connect() as client:
        await client.get("/")
        while len(client._buffer) < 14:
            await client._receive()
        assert client._buffer == b"2\r\n:\n\r\n" * 2


async def test_the_head_goes_out_with_the_first_keepalive(
    make_server: MakeServer, autojump_clock: MockClock
) -> None:
    server = make_server(keepalive=15)
    observe(server)
    async with in_memory(server) as serving, serving.connect() as client:
        begun = trio.current_time()
        head = await client.get("/")
        assert trio.current_time() - begun == pytest.approx(15)
        assert head.status == 200
        assert await client.read() == b":\n"


async def test_a_forward_sends_the_head_at_once(make_server: MakeServer, autojump_clock: MockClock) -> None:
    server = make_server()
    observe(server, forwarding)
    async with in_memory(server) as serving, serving.connect() as client:
        begun = trio.current_time()
        await client.get("/")
        assert trio.current_time() == begun


@BOTH_MODES
async def test_an_hour_of_idling_has_its_keepalives(
    make_server: MakeServer, autojump_clock: MockClock, handler: Handler
) -> None:
    server = make_server(keepalive=15, max_duration=math.inf)
    observe(server, handler)
    async with in_memory(server) as serving, serving.connect() as client:
        with trio.move_on_after(3600 + 1):
            await client.get("/")
            while True:
                await client.read()
    assert client.body == b":\n" * 240


async def test_a_keepalive_comes_only_when_the_stream_is_idle(
    make_server: MakeServer, autojump_clock: MockClock
) -> None:
    async def busy(connection: Connection) -> None:
        for _ in range(10):
            await connection.send("x")
            await trio.sleep(14)
        await trio.sleep(2)

    server = make_server(keepalive=15)
    observe(server, busy)
    async with in_memory(server) as serving, serving.connect() as client:
        await client.get("/")
        await client.rest()
    assert client.body == b"data: x\n\n" * 10 + b":\n"


@BOTH_MODES
async def test_keepalives_on_sockets_come_when_idle(
    make_server: MakeServer, autojump_clock: MockClock, handler: Handler
) -> None:
    server = make_server(keepalive=15, max_duration=math.inf)
    observe(server, handler)
    async with on_sockets(server, seconds=math.inf) as serving, await serving.connect() as client:
        with trio.move_on_after(3600 + 1):
            await client.get("/")
            while True:
                await client.read()
    assert client.body == b":\n" * 240


async def test_a_broadcast_on_a_socket_puts_the_keepalive_off(
    make_server: MakeServer, autojump_clock: MockClock
) -> None:
    server = make_server(keepalive=15)
    observe(server, forwarding)
    async with on_sockets(server, seconds=math.inf) as serving, await serving.connect() as client:
        await client.get("/")
        for _ in range(10):
            await trio.sleep(14)
            await server.hub.publish("t", "x")
        await client.events(10)
        assert b":\n" not in re.sub(rb"(id|data): .*\n", b"", client.body)
        published = trio.current_time()
        assert await client.read() == b":\n"
        assert trio.current_time() - published == pytest.approx(15)


class FakeTarget:
    def __init__(self, interval: float) -> None:
        self.interval = interval
        self.looked_at: list[float] = []

    def keep_alive(self, now: float) -> float:
        self.looked_at.append(now)
        return now + self.interval


async def test_the_keeper_looks_at_each_at_its_own_time(autojump_clock: MockClock) -> None:
    scheduler = KeepaliveScheduler()
    fast, slow = FakeTarget(1), FakeTarget(2.5)
    now = trio.current_time()
    with trio.move_on_after(5.5):
        scheduler.add(slow, now + 2.5)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(scheduler.run)
            await wait_all_tasks_blocked()
            scheduler.add(fast, now + 1)
    assert [at - now for at in fast.looked_at] == pytest.approx([1, 2, 3, 4, 5])
    assert [at - now for at in slow.looked_at] == pytest.approx([2.5, 5])


def test_the_keeper_forgets_what_was_removed_long_before_it_falls_due() -> None:
    scheduler = KeepaliveScheduler()
    staying = [scheduler.add(FakeTarget(1), math.inf) for _ in range(10)]
    for _ in range(10_000):
        scheduler.remove(scheduler.add(FakeTarget(1), math.inf))
    assert len(scheduler) == len(staying)
    assert len(scheduler._entries) < 2000


# The maximum duration


async def test_durations_are_spread_over_the_last_fifth(
    make_server: MakeServer, autojump_clock: MockClock
) -> None:
    server = make_server(max_duration=100, keepalive=math.inf)
    life = observe(server, forwarding)
    async with in_memory(server) as serving:
        clients = [serving.connect() for _ in range(100)]
        for client in clients:
            await client.get("/")
        for client in clients:
            await client.rest()
            assert (client.is_cut, client.is_ended) == (True, False)
    assert len(life.durations) == 100
    assert 80 <= min(life.durations) < 85
    assert 95 < max(life.durations) <= 100
    assert set(life.in_finally + life.in_hook) == {EndReason.MAX_DURATION}


# A peer that doesn't read


@pytest.mark.parametrize("mode", ["send", "forward"])
async def test_a_peer_that_takes_nothing_is_cut_at_the_write_timeout(
    make_server: MakeServer, autojump_clock: MockClock, mode: str
) -> None:
    async def handler(connection: Connection) -> None:
        await connection.start()
        if mode == "forward":
            await connection.subscribe("t")
        while True:
            await connection.send("x")

    server = make_server(write_timeout=30)
    life = observe(server, handler)
    async with in_memory(server) as serving, serving.connect_lockstep() as client:
        await client.get("/")
        await wait_all_tasks_blocked()
        await server.hub.publish("t", "x")
        await trio.sleep(60)
    assert life.in_finally == life.in_hook == [EndReason.WRITE_TIMEOUT]
    assert life.durations == pytest.approx([30])


async def test_a_slow_consumer_is_cut_and_comes_back_for_the_rest(
    make_server: MakeServer, autojump_clock: MockClock
) -> None:
    async def handler(connection: Connection) -> None:
        await connection.subscribe("t", queue=5)

    server = make_server()
    life = observe(server, handler)
    async with in_memory(server) as serving:
        async with serving.connect_lockstep() as client:
            await client.get("/")
            for number in range(10):
                await server.hub.publish("t", number)
                await wait_all_tasks_blocked()
            cursor = server.hub.first_event_id
            await client.rest()
            assert client.is_cut
        async with serving.connect() as client:
            await client.get("/", f"Last-Event-ID: {client.last_event_id or cursor}")
            assert [event.data for event in await client.events(10)] == [str(number) for number in range(10)]
    assert life.in_hook[0] is EndReason.SLOW_CONSUMER


async def test_a_queue_that_overflows_while_the_head_waits_ends_as_a_slow_consumer(
    make_server: MakeServer, autojump_clock: MockClock
) -> None:
    async def handler(connection: Connection) -> None:
        await connection.subscribe("t", queue=1)

    server = make_server()
    life = observe(server, handler)
    async with in_memory(server) as serving, serving.connect_lockstep() as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await wait_all_tasks_blocked()
        for number in range(5):
            await server.hub.publish("t", number)
            await wait_all_tasks_blocked()
    assert life.in_hook == [EndReason.SLOW_CONSUMER]


async def test_a_subscription_that_overflowed_before_it_is_forwarded_ends_as_a_slow_consumer(
    make_server: MakeServer, autojump_clock: MockClock
) -> None:
    server = make_server()

    async def handler(connection: Connection) -> None:
        async with server.hub.subscribe("t", queue=1) as subscription:
            for number in range(5):
                await server.hub.publish("t", number)
            await wait_all_tasks_blocked()
            await connection.forward(subscription)

    life = observe(server, handler)
    async with in_memory(server) as serving, serving.connect() as client:
        await client.get("/")
        await client.rest()
    assert life.in_hook == [EndReason.SLOW_CONSUMER]


async def test_a_slow_consumer_in_a_handlers_own_loop_has_that_reason(make_server: MakeServer) -> None:
    server = make_server()

    async def handler(connection: Connection) -> None:
        await connection.start()
        async with server.hub.subscribe("t", queue=1) as subscription:
            for number in range(5):
                await server.hub.publish("t", number)
            await wait_all_tasks_blocked()
            async for event in subscription:
                await connection.send(event)

    life = observe(server, handler)
    async with in_memory(server) as serving, serving.connect() as client:
        await client.get("/")
        await client.rest()
        assert client.is_cut
    assert life.in_hook == [EndReason.SLOW_CONSUMER]


# Ends


async def run_one(server: Server, *, cancel: bool = False) -> Client:
    """Open `/` over memory, read to its end, or until the server is cancelled."""
    async with in_memory(server) as serving, serving.connect() as client:
        await client.get("/")
        if not cancel:
            await client.rest()
    return client


async def test_finished_ends_the_body(make_server: MakeServer, caplog: pytest.LogCaptureFixture) -> None:
    async def handler(connection: Connection) -> None:
        await connection.send("x")

    server = make_server()
    life = observe(server, handler)
    client = await run_one(server)
    assert client.is_ended
    assert life.in_finally == [None], "the handler ends it itself"
    assert life.in_hook == [EndReason.FINISHED]
    assert "reason=finished" in logged(caplog)[-1]


async def test_close_is_as_if_the_handler_had_returned(make_server: MakeServer) -> None:
    async def handler(connection: Connection) -> None:
        await connection.send("x")
        connection.close()
        with (
            pytest.raises(trio.ClosedResourceError, match="the stream has ended: finished"),
            trio.CancelScope(shield=True),
        ):
            await connection.send("y")
        await trio.sleep_forever()

    server = make_server()
    life = observe(server, handler)
    client = await run_one(server)
    assert (client.is_ended, client.body) == (True, b"data: x\n\n")
    assert life.in_finally == life.in_hook == [EndReason.FINISHED]


async def test_close_for_a_reconnection_cuts_the_body(make_server: MakeServer) -> None:
    async def handler(connection: Connection) -> None:
        await connection.send("x")
        connection.close(reconnect=True)
        connection.close()  # the first reason stays
        await trio.sleep_forever()

    server = make_server()
    life = observe(server, handler)
    client = await run_one(server)
    assert (client.is_cut, client.is_ended) == (True, False)
    assert life.in_finally == life.in_hook == [EndReason.RECONNECT]


async def test_a_client_that_goes_away_cancels_the_handler(make_server: MakeServer) -> None:
    server = make_server()
    life = observe(server)
    async with in_memory(server) as serving:
        async with serving.connect() as client:
            await client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await wait_all_tasks_blocked()
        await wait_all_tasks_blocked()
        assert life.in_finally == life.in_hook == [EndReason.CLIENT_DISCONNECTED]


async def test_a_client_that_goes_on_sending_is_cut(make_server: MakeServer) -> None:
    server = make_server()
    life = observe(server, forwarding)
    async with in_memory(server) as serving, serving.connect() as client:
        await client.get("/")
        await client.send(b"GET /admin HTTP/1.1\r\n\r\n" * 1000)
        await client.rest()
        assert client.is_cut
    assert life.in_finally == life.in_hook == [EndReason.PROTOCOL_ERROR]


@pytest.mark.parametrize("how", ["fin", "rst"])
@BOTH_MODES
async def test_the_hang_up_of_an_idle_peer_is_noticed_on_a_socket(
    make_server: MakeServer, how: str, handler: Handler
) -> None:
    server = make_server()
    life = observe(server, handler)
    async with on_sockets(server) as serving, await serving.connect() as client:
        assert isinstance(client.stream, trio.SocketStream)
        await client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        while not server.statistics().open_streams:
            await trio.lowlevel.checkpoint()
        if how == "rst":
            client.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            await client.stream.aclose()
        else:
            await client.stream.send_eof()
        with trio.fail_after(1):
            while not life.in_hook:
                await trio.lowlevel.checkpoint()
    assert life.in_finally == life.in_hook == [EndReason.CLIENT_DISCONNECTED]


async def test_a_cancelled_server_is_seen_in_finally_where_publishing_still_works(
    make_server: MakeServer,
) -> None:
    server = make_server()
    reasons: list[EndReason | None] = []

    @server.route("/")
    async def handler(connection: Connection) -> None:
        try:
            await connection.subscribe("t")
        finally:
            reasons.append(connection.end_reason)
            server.hub.publish_nowait("t", "goodbye")
            with trio.move_on_after(1) as scope:
                scope.shield = True
                await server.hub.publish("t", "really")

    async with on_sockets(server) as serving, await serving.connect() as client:
        await client.get("/")
        serving.nursery.cancel_scope.cancel()
    assert reasons == [EndReason.SERVER_SHUTDOWN]
    assert server.statistics().ended == {EndReason.SERVER_SHUTDOWN: 1}
    assert server.hub.statistics().published == 2


async def test_the_end_of_the_hub_ends_what_is_forwarded(make_server: MakeServer) -> None:
    server = make_server()
    life = observe(server, forwarding)
    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as hub_nursery:
            await hub_nursery.start(server.hub.run)
            client = InMemory(server, nursery).connect()
            await client.get("/")
            hub_nursery.cancel_scope.cancel()
        await client.rest()
        assert client.is_cut
        await client.__aexit__(None, None, None)
    assert life.in_hook == [EndReason.SERVER_SHUTDOWN]


# Errors of the handler


class Oops(Exception):
    pass


async def raise_before(connection: Connection) -> None:
    raise Oops("internals")


async def raise_group_before(connection: Connection) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(raise_before, connection)
        nursery.start_soon(raise_before, connection)


async def raise_after(connection: Connection) -> None:
    await connection.send("x")
    raise Oops("internals")


async def raise_group_after(connection: Connection) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(raise_after, connection)


@pytest.mark.parametrize("handler", [raise_before, raise_group_before])
async def test_an_error_before_the_head_is_answered_500(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture, handler: Handler
) -> None:
    server = make_server()
    life = observe(server, handler)
    async with in_memory(server) as serving, serving.connect() as client:
        head = await client.get("/")
        body = await client.sized_body(head)
    assert (head.status, body) == (500, b"Internal Server Error\n")
    assert life.in_hook == [EndReason.HANDLER_ERROR]
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert errors[0].exc_info


@pytest.mark.parametrize("handler", [raise_after, raise_group_after])
async def test_an_error_after_the_head_cuts_the_body(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture, handler: Handler
) -> None:
    server = make_server()
    life = observe(server, handler)
    client = await run_one(server)
    assert (client.is_cut, client.body) == (True, b"data: x\n\n")
    assert life.in_finally == [None]
    assert life.in_hook == [EndReason.HANDLER_ERROR]
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [error.exc_info[0] for error in errors if error.exc_info] == [Oops], "one error, unpacked"


async def test_an_error_of_one_stream_touches_no_other(make_server: MakeServer) -> None:
    server = make_server()
    server.route("/bad")(raise_after)
    observe(server, forwarding)
    async with in_memory(server) as serving, serving.connect() as good, serving.connect() as bad:
        await good.get("/")
        await bad.get("/bad")
        await bad.rest()
        await server.hub.publish("t", "x")
        assert (await good.event()).data == "x"


async def test_an_error_while_cleaning_up_keeps_the_reason(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(connection: Connection) -> None:
        try:
            await connection.send("x")
            connection.close(reconnect=True)
            await trio.sleep_forever()
        finally:
            raise Oops

    server = make_server()
    life = observe(server, handler)
    client = await run_one(server)
    assert client.is_cut
    assert life.in_hook == [EndReason.RECONNECT]
    assert "handler failed" in caplog.text


async def test_a_handler_that_shields_can_not_write_to_a_stream_that_has_ended(
    make_server: MakeServer, autojump_clock: MockClock
) -> None:
    errors: list[str] = []

    async def handler(connection: Connection) -> None:
        with trio.CancelScope(shield=True):
            await connection.send("x")
            await trio.sleep(1000)
            try:
                await connection.send("y")
            except trio.ClosedResourceError as error:
                errors.append(str(error))

    server = make_server(max_duration=100, keepalive=math.inf)
    life = observe(server, handler)
    client = await run_one(server)
    assert client.body == b"data: x\n\n"
    assert errors == ["the stream has ended: max_duration"]
    assert life.in_hook == [EndReason.MAX_DURATION]


# Hooks


async def test_hooks_run_in_order_around_the_handler(make_server: MakeServer) -> None:
    server = make_server()
    calls: list[object] = []

    @server.on_connect
    def first(connection: Connection) -> None:
        calls.append(("first", connection._stream.has_started))

    @server.on_connect
    async def second(connection: Connection) -> None:
        await trio.lowlevel.checkpoint()
        calls.append("second")

    @server.on_disconnect
    def last(connection: Connection) -> None:
        calls.append(connection.end_reason)

    @server.route("/")
    async def handler(connection: Connection) -> None:
        calls.append("handler")

    await run_one(server)
    assert calls == [("first", False), "second", "handler", EndReason.FINISHED]


@pytest.mark.parametrize("is_hook", [True, False])
async def test_a_stream_is_refused_by_an_http_exception(make_server: MakeServer, is_hook: bool) -> None:
    async def refuse(connection: Connection) -> None:
        raise HTTPException(403, "not you", {"X-Reason": "because"})

    server = make_server()
    life = observe(server, sleeping if is_hook else refuse)
    if is_hook:
        server.on_connect(refuse)
    async with in_memory(server) as serving, serving.connect() as client:
        head = await client.get("/")
        body = await client.sized_body(head)
        assert (head.status, head.get("X-Reason"), body) == (403, "because", b"not you\n")
        assert (await client.get("/")).status == 403, "the connection may be used further"
    assert server.statistics().ended == {EndReason.REFUSED: 2}
    assert len(life.in_finally) == len(life.in_hook) == (0 if is_hook else 2)


async def test_an_http_exception_after_the_head_is_an_error(make_server: MakeServer) -> None:
    async def handler(connection: Connection) -> None:
        await connection.start()
        raise HTTPException(403)

    server = make_server()
    life = observe(server, handler)
    client = await run_one(server)
    assert client.is_cut
    assert life.in_hook == [EndReason.HANDLER_ERROR]


async def test_a_topic_that_is_none_is_answered_400(make_server: MakeServer) -> None:
    async def handler(connection: Connection) -> None:
        await connection.subscribe("a\nb")

    server = make_server()
    life = observe(server, handler)
    async with in_memory(server) as serving, serving.connect() as client:
        assert (await client.get("/")).status == 400
    assert life.in_hook == [EndReason.REFUSED]


async def test_a_failing_connect_hook_is_answered_500(make_server: MakeServer) -> None:
    server = make_server()
    life = observe(server)
    server.on_connect(raise_before)
    async with in_memory(server) as serving, serving.connect() as client:
        assert (await client.get("/")).status == 500
    assert life.in_hook == []
    assert server.statistics().ended == {EndReason.HANDLER_ERROR: 1}


async def test_a_failing_disconnect_hook_stops_no_other(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    server = make_server()

    @server.on_disconnect
    def bad(connection: Connection) -> None:
        raise Oops

    async def handler(connection: Connection) -> None:
        return

    life = observe(server, handler)
    client = await run_one(server)
    assert client.is_ended
    assert life.in_hook == [EndReason.FINISHED]
    assert "on_disconnect hook" in caplog.text


# The log


async def test_a_stream_has_one_line_when_it_opens_and_one_when_it_closes(
    make_server: MakeServer, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    server = make_server()

    @server.route("/secret/{name}")
    async def handler(connection: Connection, name: str) -> None:
        await connection.send("x", id="1")
        await connection.send("y")
        await trio.sleep(2.5)

    async with in_memory(server) as serving, serving.connect() as client:
        await client.get("/secret/a?token=hidden")
        await client.rest()
    opened, closed = logged(caplog)
    size = server.statistics().bytes_sent
    assert opened == "open id=1 peer=stream path=/secret/a"
    assert closed == (
        f"close id=1 peer=stream path=/secret/a reason=finished duration=2.500 events=2 bytes={size}"
    )
    assert "hidden" not in caplog.text


async def test_events_and_bytes_are_counted_for_each_stream_of_a_connection(make_server: MakeServer) -> None:
    async def handler(connection: Connection) -> None:
        for _ in range(3):
            await connection.send("x")

    server = make_server()
    observe(server, handler)
    async with in_memory(server) as serving, serving.connect() as client:
        for _ in range(2):
            await client.get("/")
            await client.rest()
            assert client.is_ended
    statistics = server.statistics()
    assert (statistics.opened, statistics.events_sent) == (2, 6)


# Sending


async def test_every_way_to_send_has_its_bytes(make_server: MakeServer) -> None:
    async def handler(connection: Connection) -> None:
        await connection.start()
        await connection.comment("hello\nthere")
        await connection.send("a", event="e", id="1", retry=5)
        await connection.send(ServerSentEvent("b", comment="c"))
        await connection.send({"n": 1})
        with pytest.raises(TypeError, match="sent as it is"):
            await connection.send(ServerSentEvent("b"), id="1")
        with pytest.raises(ValueError, match="event must not contain"):
            await connection.send("x", event="a\nb")

    server = make_server()
    observe(server, handler)
    client = await run_one(server)
    assert client.body == (
        b': hello\n: there\nid: 1\nevent: e\nretry: 5\ndata: a\n\n: c\ndata: b\n\ndata: {"n":1}\n\n'
    )


@pytest.mark.parametrize("connect", ["connect", "connect_lockstep"])
async def test_several_tasks_may_send(make_server: MakeServer, connect: str) -> None:
    async def handler(connection: Connection) -> None:
        async def send(name: str) -> None:
            for number in range(20):
                await connection.send(f"{name * 100}\n{number}")

        async with trio.open_nursery() as nursery:
            for name in "abcd":
                nursery.start_soon(send, name)

    server = make_server()
    observe(server, handler)
    async with in_memory(server) as serving, getattr(serving, connect)() as client:
        await client.get("/")
        data = [str(event.data).split("\n") for event in await client.rest()]
    assert len(data) == 80
    for name in "abcd":
        assert [int(number) for by, number in data if by == name * 100] == list(range(20))


async def test_a_write_that_was_cancelled_half_way_ends_the_stream(make_server: MakeServer) -> None:
    async def handler(connection: Connection) -> None:
        await connection.start()
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(connection.send, "half")
                await wait_all_tasks_blocked()
                scope.cancel()
        await connection.send("never")

    server = make_server()
    life = observe(server, handler)
    async with in_memory(server) as serving, serving.connect_lockstep() as client:
        await client.get("/")
        await wait_all_tasks_blocked()
        await client.rest()
        assert b"never" not in client.body
        assert client.is_cut
    assert life.in_hook == [EndReason.WRITE_TIMEOUT]


async def test_a_send_that_is_cancelled_before_it_begins_sends_nothing(make_server: MakeServer) -> None:
    async def handler(connection: Connection) -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            await connection.send("never")
        await connection.send("x")

    server = make_server()
    observe(server, handler)
    client = await run_one(server)
    assert (client.body, client.is_ended) == (b"data: x\n\n", True)


async def send_twenty(connection: Connection) -> None:
    for number in range(20):
        await connection.send(f"{number} " + "x" * 100_000)


async def forward_twenty(connection: Connection) -> None:
    publish = connection._stream.hub.publish
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.subscribe, "t")
        await wait_all_tasks_blocked()
        for number in range(20):
            await publish("t", f"{number} " + "x" * 100_000)


@pytest.mark.parametrize("handler", [send_twenty, forward_twenty])
async def test_what_a_socket_takes_in_parts_arrives_whole(make_server: MakeServer, handler: Handler) -> None:
    server = make_server(send_buffer=4096)
    observe(server, handler)
    async with on_sockets(server) as serving, await serving.connect() as client:
        assert isinstance(client.stream, trio.SocketStream)
        client.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        await client.get("/")
        events = await client.events(20)
    assert [event.data for event in events] == [f"{number} " + "x" * 100_000 for number in range(20)]


# Forwarding


async def test_two_forwards_share_one_stream(make_server: MakeServer) -> None:
    async def handler(connection: Connection) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.subscribe, "a")
            nursery.start_soon(connection.subscribe, "b")

    server = make_server()
    observe(server, handler)
    async with on_sockets(server) as serving, await serving.connect() as client:
        await client.get("/")
        await wait_all_tasks_blocked()
        for number in range(100):
            await server.hub.publish("ab"[number % 2], "x" * 1000)
        events = await client.events(100)
    ids = [int(str(event.id).partition(".")[2]) for event in events]
    assert sorted(ids) == list(range(1, 101))
    for parity in (0, 1):
        assert [id for id in ids if id % 2 == parity] == sorted(id for id in ids if id % 2 == parity)


@pytest.mark.parametrize("entered", [False, True])
async def test_a_subscription_is_forwarded_inside_its_context(make_server: MakeServer, entered: bool) -> None:
    server = make_server()

    async def handler(connection: Connection) -> None:
        subscription = server.hub.subscribe("t")
        if entered:
            async with subscription:
                pass
        with pytest.raises(trio.ClosedResourceError, match="inside its own"):
            await connection.forward(subscription)

    life = observe(server, handler)
    with trio.fail_after(5):
        client = await run_one(server)
    assert client.is_ended
    assert life.in_hook == [EndReason.FINISHED]


@pytest.mark.parametrize("steps", range(8))
async def test_a_forward_that_is_cancelled_loses_nothing(make_server: MakeServer, steps: int) -> None:
    server = make_server()

    async def handler(connection: Connection) -> None:
        async with server.hub.subscribe("a", "b") as subscription:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(connection.forward, subscription)
                await wait_all_tasks_blocked()
                for topic in "abab":  # four writes: the first is under way while the others queue
                    server.hub.publish_nowait(topic, "x")
                for _ in range(steps):
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
            await connection.forward(subscription)

    life = observe(server, handler)
    async with in_memory(server) as serving, serving.connect() as client:
        await client.get("/")
        await wait_all_tasks_blocked()
        server.hub.publish_nowait("a", "x")
        await wait_all_tasks_blocked()
        if not life.in_hook:
            with trio.fail_after(5):
                ids = [str(event.id).partition(".")[2] for event in await client.events(5)]
            assert ids == ["1", "2", "3", "4", "5"]
        else:  # it was cut in the middle of a write: the client comes back
            assert life.in_hook == [EndReason.WRITE_TIMEOUT]


class Interfering(trio.abc.Stream):
    """A stream that does something when bytes have gone out, and returns without a checkpoint after it."""

    def __init__(self, inner: trio.abc.Stream, interfere: Callable[[bytes], Awaitable[None]]) -> None:
        self.inner = inner
        self.interfere = interfere

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.inner.send_all(data)
        await self.interfere(bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        await self.inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return bytes(await self.inner.receive_some(max_bytes))

    async def aclose(self) -> None:
        await self.inner.aclose()


async def test_a_forward_that_is_cancelled_between_two_writes_loses_nothing(make_server: MakeServer) -> None:
    server = make_server()
    scope = trio.CancelScope()

    async def handler(connection: Connection) -> None:
        async with server.hub.subscribe("t") as subscription:
            with scope:
                await connection.forward(subscription)
            await connection.forward(subscription)

    async def interfere(data: bytes) -> None:
        if b"first" in data:
            server.hub.publish_nowait("t", "second")
            await wait_all_tasks_blocked()
            scope.cancel()

    observe(server, handler)
    ours, theirs = trio.testing.memory_stream_pair()
    async with in_memory(server) as serving, Client(ours) as client:
        serving.nursery.start_soon(server.serve_stream, Interfering(theirs, interfere))
        await client.get("/")
        await wait_all_tasks_blocked()
        server.hub.publish_nowait("t", "first")
        with trio.fail_after(5):
            assert [event.data for event in await client.events(2)] == ["first", "second"]


async def test_a_client_that_comes_back_is_given_what_it_missed(make_server: MakeServer) -> None:
    server = make_server()
    observe(server, forwarding)
    async with in_memory(server) as serving:
        async with serving.connect() as client:
            await client.get("/")
            await server.hub.publish("t", 1)
            id = (await client.event()).id
        for number in (2, 3):
            await server.hub.publish("t", number)
        async with serving.connect() as client:
            await client.get("/", f"Last-Event-ID: {id}")
            await server.hub.publish("t", 4)
            assert [event.data for event in await client.events(3)] == ["2", "3", "4"]


async def test_a_policy_is_passed_on(make_server: MakeServer) -> None:
    async def handler(connection: Connection) -> None:
        await connection.subscribe("t", overflow=Overflow.LATEST, queue=2)

    server = make_server()
    observe(server, handler)
    async with in_memory(server) as serving, serving.connect_lockstep() as client:
        await client.get("/")
        for number in range(10):
            await server.hub.publish("t", number)
            await wait_all_tasks_blocked()
        assert [event.data for event in await client.events(2)] == ["0", "9"]


# Drain


@BOTH_MODES
async def test_a_drain_cuts_each_stream_after_telling_it_when_to_come_back(
    make_server: MakeServer, autojump_clock: MockClock, handler: Handler
) -> None:
    async def started(connection: Connection) -> None:
        await connection.start()
        await handler(connection)

    server = make_server(reconnect_spread=5)
    life = observe(server, started)
    async with in_memory(server) as serving:
        clients = [serving.connect() for _ in range(30)]
        for client in clients:
            await client.get("/")
        await server.drain()
        times = []
        for client in clients:
            await client.rest()
            assert (client.is_cut, client.is_ended) == (True, False)
            found = re.fullmatch(rb"retry: (\d+)\n", client.body)
            assert found is not None
            times.append(int(found[1]))
    assert set(life.in_finally + life.in_hook) == {EndReason.SERVER_SHUTDOWN}
    assert 1000 <= min(times) < 2500
    assert 3500 < max(times) <= 5000


async def test_a_drain_spreads_the_ends(make_server: MakeServer, autojump_clock: MockClock) -> None:
    server = make_server(drain_timeout=10)
    life = observe(server, forwarding)
    ends: list[float] = []
    server.on_disconnect(lambda connection: ends.append(trio.current_time()))
    async with in_memory(server) as serving:
        clients = [serving.connect() for _ in range(200)]
        for client in clients:
            await client.get("/")
        begun = trio.current_time()
        await server.drain()
    assert len(life.in_hook) == 200
    assert len(set(ends)) == 20
    assert 0.1 < max(ends) - begun < 1


async def test_a_stuck_reader_can_not_hold_a_drain_up(
    make_server: MakeServer, autojump_clock: MockClock
) -> None:
    server = make_server(drain_timeout=10, write_timeout=30)
    life = observe(server, forwarding)
    async with in_memory(server) as serving, serving.connect_lockstep() as stuck, serving.connect() as good:
        for client in (stuck, good):
            await client.get("/")
        await server.hub.publish("t", "x")
        await wait_all_tasks_blocked()
        begun = trio.current_time()
        await server.drain()
        assert trio.current_time() - begun <= 10
        await good.rest()
        assert b"retry: " in good.body
    assert life.in_hook == [EndReason.SERVER_SHUTDOWN] * 2


async def test_a_handler_that_cleans_up_for_long_is_cancelled_at_the_drain_timeout(
    make_server: MakeServer, autojump_clock: MockClock
) -> None:
    async def handler(connection: Connection) -> None:
        await connection.start()
        try:
            await trio.sleep_forever()
        finally:
            with trio.move_on_after(3600) as scope:
                scope.shield = True
                await server.hub.publish("t", "x")
                scope.shield = False
                await trio.sleep_forever()

    server = make_server(drain_timeout=10)
    observe(server, handler)
    async with in_memory(server) as serving, serving.connect() as client:
        await client.get("/")
        begun = trio.current_time()
        await server.drain()
        assert trio.current_time() - begun <= 10


async def test_a_drain_on_sockets_ends_the_call_to_serve(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    server = make_server()
    observe(server, forwarding)
    async with trio.open_nursery() as nursery:
        with trio.fail_after(5):
            ((host, port, *_),) = await nursery.start(server.serve, "127.0.0.1", 0)
            async with Client(await trio.open_tcp_stream(str(host), int(str(port)))) as client:
                await client.get("/")
                await server.drain()
                await client.rest()
                assert client.is_cut
                assert client.body.startswith(b"retry: ")
    assert "reason=server_shutdown" in logged(caplog)[-1]


# Its attributes


async def test_its_text_tells_its_state(make_server: MakeServer) -> None:
    texts: list[str] = []

    async def handler(connection: Connection) -> None:
        texts.append(repr(connection))
        connection.close()
        texts.append(repr(connection))

    server = make_server()
    observe(server, handler)
    await run_one(server)
    assert texts == ["<Connection 1 from stream to /: open>", "<Connection 1 from stream to /: finished>"]


async def test_connections_have_ids_of_their_own(make_server: MakeServer) -> None:
    ids: list[Any] = []

    async def handler(connection: Connection) -> None:
        ids.append(connection.id)

    server = make_server()
    observe(server, handler)
    for _ in range(3):
        await run_one(server)
    assert ids == [1, 2, 3]
