"""How a stream ends: by its reader, its handler, its hub, or a drain."""

from __future__ import annotations

import logging
import re
import socket
import struct

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse import Connection, EndReason
from trio_sse._hub.hub import engine_of

from ..support.client import Client
from ..support.leaks import MakeServer
from ..support.observed_streams import (
    BOTH_MODES,
    Handler,
    forwarding,
    logged,
    observe,
    run_one,
)
from ..support.serving import InMemory, in_memory, on_sockets
from ..support.waiting import SECONDS

pytestmark = pytest.mark.usefixtures("protocol")


@pytest.fixture(autouse=True)
def _log_everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "trio_sse")


# A peer that does not read


@pytest.mark.parametrize("mode", ["send", "forward"])
async def test_a_client_that_takes_nothing_is_disconnected_at_the_write_timeout(
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


async def test_a_slow_consumer_is_disconnected_and_resumes_when_it_reconnects(
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


async def test_a_slow_consumer_in_a_loop_of_the_handler_has_that_reason(make_server: MakeServer) -> None:
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


async def test_a_finished_stream_completes_the_body(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(connection: Connection) -> None:
        await connection.send("x")

    server = make_server()
    life = observe(server, handler)
    client = await run_one(server)
    assert client.is_ended
    assert life.in_finally == [None], "the handler ends it itself"
    assert life.in_hook == [EndReason.FINISHED]
    assert "reason=finished" in logged(caplog)[-1]


async def test_close_works_as_if_the_handler_had_returned(make_server: MakeServer) -> None:
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


async def test_close_for_a_reconnect_truncates_the_body(make_server: MakeServer) -> None:
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


async def test_a_client_that_disconnects_cancels_the_handler(make_server: MakeServer) -> None:
    server = make_server()
    life = observe(server)
    async with in_memory(server) as serving:
        async with serving.connect() as client:
            await client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await wait_all_tasks_blocked()
        await wait_all_tasks_blocked()
        assert life.in_finally == life.in_hook == [EndReason.CLIENT_DISCONNECTED]


@pytest.mark.http1_only
async def test_a_client_that_keeps_sending_is_disconnected(make_server: MakeServer) -> None:
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
@pytest.mark.http1_only
async def test_the_disconnect_of_an_idle_peer_is_noticed_on_a_socket(
    make_server: MakeServer, how: str, handler: Handler
) -> None:
    server = make_server(keepalive=3600)
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
        with trio.fail_after(SECONDS):
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
            server.hub.publish_nowait("t", "the last")
            with trio.move_on_after(SECONDS, shield=True):
                await wait_all_tasks_blocked()  # whatever is cancelled with it has ended
                await server.hub.publish("t", "really")

    async with on_sockets(server) as serving, await serving.connect() as client:
        await client.get("/")
        serving.nursery.cancel_scope.cancel()
    assert reasons == [EndReason.SERVER_SHUTDOWN]
    assert server.statistics().ended == {EndReason.SERVER_SHUTDOWN: 1}
    assert server.hub.statistics().published == 2


async def test_a_handler_that_cleans_up_longer_than_the_drain_time_has_no_hub(
    make_server: MakeServer, clock: MockClock
) -> None:
    server = make_server(drain_timeout=0.5)
    runs: list[bool] = []

    @server.route("/")
    async def handler(connection: Connection) -> None:
        try:
            await connection.subscribe("t")
        finally:
            with trio.CancelScope(shield=True):
                clock.autojump_threshold = 0
                for seconds in (0.4, 0.2):
                    await trio.sleep(seconds)
                    runs.append(server.hub.is_running)

    async with on_sockets(server) as serving, await serving.connect() as client:
        await client.get("/")
        serving.nursery.cancel_scope.cancel()
    assert runs == [True, False]


async def test_the_failure_of_the_hub_ends_what_is_forwarded(make_server: MakeServer) -> None:
    server = make_server()
    life = observe(server, forwarding)
    failure = trio.Event()

    async def run_hub() -> None:
        engine = engine_of(server.hub)
        original = engine.sequencer.run

        async def fail() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(original)
                await failure.wait()
                engine.sequencer.run = original  # type: ignore[method-assign]
                raise OSError("a defect")

        engine.sequencer.run = fail  # type: ignore[method-assign]
        with pytest.RaisesGroup(OSError, flatten_subgroups=True):
            await server.hub.run()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_hub)
        await wait_all_tasks_blocked()
        client = InMemory(server, nursery).connect()
        await client.get("/")
        failure.set()
        await client.rest()
        assert client.is_cut
        await client.__aexit__(None, None, None)
        nursery.cancel_scope.cancel()
    assert life.in_hook == [EndReason.SERVER_SHUTDOWN]


# Drain


@pytest.mark.slow
@BOTH_MODES
async def test_a_drain_truncates_each_stream_after_a_retry_field(
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
            if handler is forwarding:
                await client.read()  # the cursor
        await server.drain()
        times = []
        for client in clients:
            await client.rest()
            assert (client.is_cut, client.is_ended) == (True, False)
            found = re.fullmatch(rb"(?:id: .*\n\n)?retry: (\d+)\n", client.body)
            assert found is not None
            times.append(int(found[1]))
    assert set(life.in_finally + life.in_hook) == {EndReason.SERVER_SHUTDOWN}
    assert 1000 <= min(times) < 2500
    assert 3500 < max(times) <= 5000


@pytest.mark.slow
async def test_a_drain_ends_streams_one_after_the_other(
    make_server: MakeServer, autojump_clock: MockClock
) -> None:
    server = make_server(drain_timeout=10)
    life = observe(server, forwarding)
    ends: list[float] = []
    server.on_disconnect(lambda connection: ends.append(trio.current_time()))
    async with in_memory(server) as serving:
        clients = [serving.connect() for _ in range(60)]
        for client in clients:
            await client.get("/")
        begun = trio.current_time()
        await server.drain()
    assert len(life.in_hook) == 60
    assert len(set(ends)) == 6  # ten at once
    assert 0.04 < max(ends) - begun < 1


async def test_a_stuck_client_cannot_delay_a_drain(
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


async def test_a_handler_that_cleans_up_too_long_is_cancelled_at_the_drain_timeout(
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
        with trio.fail_after(SECONDS):
            ((host, port, *_),) = await nursery.start(server.serve, "127.0.0.1", 0)
            async with Client(await trio.open_tcp_stream(str(host), int(str(port)))) as client:
                await client.get("/")
                await server.drain()
                await client.rest()
                assert client.is_cut
                assert b"retry: " in client.body
    assert "reason=server_shutdown" in logged(caplog)[-1]
