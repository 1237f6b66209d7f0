"""Keepalives, and the spread of durations."""

from __future__ import annotations

import math
import re

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse import Connection, EndReason
from trio_sse._stream.keepalive import KeepaliveScheduler

from ..support.client import Client as RawClient
from ..support.leaks import MakeServer
from ..support.observed_streams import (
    BOTH_MODES,
    Handler,
    forwarding,
    observe,
)
from ..support.serving import in_memory, on_sockets
from ..support.waiting import until

# Keepalives


@BOTH_MODES
async def test_a_keepalive_is_a_comment_without_a_blank_line(
    make_server: MakeServer, autojump_clock: MockClock, handler: Handler
) -> None:
    server = make_server(keepalive=15)
    observe(server, handler)
    async with in_memory(server) as serving, serving.connect() as client:
        await client.get("/")
        if handler is forwarding:
            assert (await client.read()).startswith(b"id: ")
        times = []
        for _ in range(3):
            assert await client.read() == b":\n"
            times.append(trio.current_time())
    assert [times[1] - times[0], times[2] - times[1]] == pytest.approx([15, 15])


@BOTH_MODES
async def test_heartbeats_are_events_that_come_however_much_is_sent(
    make_server: MakeServer, autojump_clock: MockClock, handler: Handler
) -> None:
    server = make_server(keepalive=15)
    observe(server, handler)
    async with in_memory(server) as serving, serving.connect() as client:
        await client.get("/?heartbeat_events=1")
        times: list[float] = []
        while len(times) < 4:
            event = await client.event()
            if event.event == "trio-sse.heartbeat":
                assert (event.data, event.id) == ("15", None)
                times.append(trio.current_time())
                await trio.sleep(7)
                await server.hub.publish("t", "x")
    assert [round(later - times[0]) for later in times] == [0, 15, 30, 45]


async def test_a_keepalive_is_a_separate_chunk(make_server: MakeServer, autojump_clock: MockClock) -> None:
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


async def check_an_idle_hour(client: RawClient) -> None:
    """Check that a stream without events has a keepalive every 15 s."""
    with trio.move_on_after(3600 + 1):
        await client.get("/")
        while True:
            await client.read()
    assert re.sub(rb"^id: .*\n\n", b"", client.body) == b":\n" * 240


@BOTH_MODES
async def test_an_idle_hour_has_its_keepalives(
    make_server: MakeServer, autojump_clock: MockClock, handler: Handler
) -> None:
    server = make_server(keepalive=15, max_duration=math.inf)
    observe(server, handler)
    async with in_memory(server) as serving, serving.connect() as client:
        await check_an_idle_hour(client)


async def test_a_keepalive_is_sent_only_when_the_stream_is_idle(
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
async def test_keepalives_on_sockets_are_sent_when_idle(
    make_server: MakeServer, autojump_clock: MockClock, handler: Handler
) -> None:
    server = make_server(keepalive=15, max_duration=math.inf)
    observe(server, handler)
    async with on_sockets(server, seconds=math.inf) as serving, await serving.connect() as client:
        await check_an_idle_hour(client)


async def test_a_broadcast_on_a_socket_postpones_the_keepalive(
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
        keepalive = b":\nid: %b\n\n" % server.hub.last_event_id.encode()
        assert await client.read() == keepalive
        assert trio.current_time() - published == pytest.approx(15)
        assert await client.read() == b":\n"


class FakeTarget:
    def __init__(self, interval: float) -> None:
        self.interval = interval
        self.looked_at: list[float] = []

    def keep_alive(self, now: float) -> float:
        self.looked_at.append(now)
        return now + self.interval


async def test_the_scheduler_looks_at_each_stream_at_its_own_time(autojump_clock: MockClock) -> None:
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


def test_the_scheduler_frees_removed_entries_long_before_they_are_due() -> None:
    scheduler = KeepaliveScheduler()
    staying = [scheduler.add(FakeTarget(1), math.inf) for _ in range(10)]
    for _ in range(10_000):
        scheduler.remove(scheduler.add(FakeTarget(1), math.inf))
    assert len(scheduler) == len(staying)
    assert len(scheduler._entries) < 2000


@pytest.mark.parametrize("count", [1500, 2002])
def test_the_scheduler_sorts_again_only_when_most_entries_were_removed(count: int) -> None:
    scheduler = KeepaliveScheduler()
    entries = [scheduler.add(FakeTarget(1), math.inf) for _ in range(count)]
    most = max(1000, count // 2)
    for entry in entries[:most]:
        scheduler.remove(entry)
    assert len(scheduler._entries) == count
    scheduler.remove(entries[most])
    assert len(scheduler) == len(scheduler._entries) == count - most - 1


async def test_the_scheduler_passes_over_what_was_removed(autojump_clock: MockClock) -> None:
    scheduler, target = KeepaliveScheduler(), FakeTarget(10)
    removed = [scheduler.add(FakeTarget(1), 1) for _ in range(3)]
    scheduler.add(target, 1)
    for entry in removed:
        scheduler.remove(entry)
    assert len(scheduler) == 1
    with trio.move_on_after(2):
        await scheduler.run()
    assert (len(target.looked_at), len(scheduler), len(scheduler._entries)) == (1, 1, 1)


async def test_the_scheduler_lets_others_run_after_each_hundred(autojump_clock: MockClock) -> None:
    scheduler = KeepaliveScheduler()
    targets = [FakeTarget(10) for _ in range(250)]
    for target in targets:
        scheduler.add(target, 0)
    steps = []

    async def count_steps() -> None:
        while True:
            steps.append(sum(len(target.looked_at) for target in targets))
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count_steps)
        nursery.start_soon(scheduler.run)
        for _ in range(20):
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert set(steps) <= {0, 100, 200, 250}
    assert {100, 200} & set(steps)


# The maximum duration


@pytest.mark.slow
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


async def test_a_keepalive_that_nobody_takes_ends_the_stream_at_the_write_timeout(
    make_server: MakeServer,
) -> None:
    server = make_server(write_timeout=30)
    reasons: list[EndReason | None] = []

    @server.route("/")
    async def handler(connection: Connection) -> None:
        stream = connection._stream
        now = stream.transport.written_at
        stream.transport.pending = b":"  # and no task waits to write it
        for later in (29.9, 30.1):
            stream.keep_alive(now + later)
            reasons.append(stream.end_reason)

    async with in_memory(server) as serving, serving.connect() as client:
        await client.get("/")
        await until(lambda: server.statistics().ended)
    assert reasons == [None, EndReason.WRITE_TIMEOUT]


async def test_the_deadline_of_a_stream_that_needs_no_timer_is_exact(make_server: MakeServer) -> None:
    server = make_server(max_duration=100)
    reasons: list[EndReason | None] = []

    @server.route("/")
    async def handler(connection: Connection) -> None:
        stream = connection._stream
        for later in (-0.1, 0.0):
            assert stream.keep_alive(stream.deadline + later) >= stream.deadline
            reasons.append(stream.end_reason)

    async with in_memory(server) as serving, serving.connect() as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        await until(lambda: server.statistics().ended)
    assert reasons == [None, EndReason.MAX_DURATION]


async def test_a_stream_that_has_ended_waits_for_no_keepalive(make_server: MakeServer) -> None:
    server = make_server()

    @server.route("/")
    async def handler(connection: Connection) -> None:
        await connection.send("x")

    async with on_sockets(server) as serving, await serving.connect() as client:
        await client.get("/")
        await client.rest()
        await until(lambda: server.statistics().ended)
        assert [len(scope.keepalives) for scope in server._manager.serve_scopes] == [0]
