"""The last bytes of a stream, which never reach the next stream on the same connection."""

from __future__ import annotations

import contextlib

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse import Connection, EndReason, Request, Response, Server
from trio_sse._stream.closing import send_reconnect_hint

from ..support.client import Client
from ..support.leaks import MakeServer
from ..support.serving import in_memory, on_sockets
from ..support.waiting import SECONDS, until

LARGE = "x" * 1_000_000


def large(server: Server) -> None:
    """Serve `/` with one event that is larger than any socket buffer."""

    @server.route("/")
    async def answer(connection: Connection) -> None:
        await connection.send(LARGE)


async def test_a_stream_whose_end_is_not_delivered_has_not_finished(make_server: MakeServer) -> None:
    server = make_server(write_timeout=0.1)

    @server.route("/")
    async def answer(connection: Connection) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.send, LARGE)
            await wait_all_tasks_blocked()
            connection.close()

    async with on_sockets(server) as serving, await serving.connect() as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        await until(lambda: server.statistics().ended)
    assert server.statistics().ended == {EndReason.WRITE_TIMEOUT: 1}


async def test_a_server_that_is_cancelled_does_not_wait_for_the_end_of_a_stream_to_be_taken(
    make_server: MakeServer,
) -> None:
    server = make_server(write_timeout=10 * SECONDS)
    is_closed = trio.Event()

    @server.route("/")
    async def answer(connection: Connection) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.send, LARGE)
            await wait_all_tasks_blocked()
            connection.close()
            is_closed.set()

    async with on_sockets(server) as serving, await serving.connect() as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        await is_closed.wait()
        await wait_all_tasks_blocked()
        serving.nursery.cancel_scope.cancel()
    assert server.statistics().ended == {EndReason.SERVER_SHUTDOWN: 1}


async def test_nothing_follows_an_event_that_was_sent_in_part(make_server: MakeServer) -> None:
    server = make_server()
    pending: list[object] = []

    @server.route("/")
    async def answer(connection: Connection) -> None:
        await connection.send("whole")
        stream = connection._stream
        stream.transport.pending = b"the rest of an event"
        assert send_reconnect_hint(stream, stream.options)
        pending.append(stream.transport.pending)
        stream.transport.pending = None

    async with in_memory(server) as serving, serving.connect() as client:
        await client.get("/")
        await client.rest()
    assert pending == [b"the rest of an event"]


async def test_a_client_that_reads_slowly_has_no_more_than_the_maximum_duration(
    make_server: MakeServer, autojump_clock: MockClock
) -> None:
    server = make_server(max_duration=10, write_timeout=5, keepalive=1000)
    large(server)

    async with in_memory(server) as serving, serving.connect_lockstep() as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        while not server.statistics().ended:
            await trio.sleep(1)
            with trio.move_on_after(0.1):
                await client.stream.receive_some(1000)
    assert trio.current_time() < 12
    assert EndReason.FINISHED not in server.statistics().ended


async def test_a_keepalive_in_progress_does_not_corrupt_the_end(
    make_server: MakeServer, autojump_clock: MockClock
) -> None:
    server = make_server(keepalive=1)

    @server.route("/")
    async def brief(connection: Connection) -> None:
        await connection.send("hello")
        await trio.sleep(1.5)

    async with in_memory(server) as serving, serving.connect_lockstep() as client:
        await client.get("/")
        assert (await client.event()).data == "hello"
        await trio.sleep(3)  # the keepalive waits for a reader when the handler returns
        await client.rest()
    assert client.is_ended
    assert server.statistics().ended == {EndReason.FINISHED: 1}


async def test_the_end_arrives_even_if_the_client_has_sent_another_request(
    make_server: MakeServer,
) -> None:
    server = make_server()
    has_asked_again = trio.Event()

    @server.route("/")
    async def answer(connection: Connection) -> None:
        await connection.send("z" * 1000)
        await has_asked_again.wait()
        for _ in range(59):
            await connection.send("z" * 1000)

    async with on_sockets(server) as serving, await serving.connect() as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        await client.head()
        await client.send(b"GET /health HTTP/1.1\r\nHost: test\r\n\r\n")
        has_asked_again.set()
        events = await client.rest()
        assert await client.closed() == b""
    assert len(events) == 60
    assert client.is_ended


async def test_input_during_a_stream_is_never_parsed_as_a_request(make_server: MakeServer) -> None:
    server = make_server()
    called = []

    @server.route("/")
    async def brief(connection: Connection) -> None:
        await connection.send("a")
        await wait_all_tasks_blocked()

    @server.endpoint("/private")
    async def private(request: Request) -> Response:
        called.append(request.path)
        return Response("secret")

    inner = b"GET /private HTTP/1.1\r\nHost: test\r\n\r\n"
    async with in_memory(server) as serving, serving.connect() as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        await client.send(b"POST /x HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % len(inner))
        await client.head()
        await client.rest()
        with contextlib.suppress(trio.BrokenResourceError):  # the server has closed already, as it should
            await client.send(inner)
        assert await client.closed() == b""
    assert called == []


async def test_a_task_outside_the_handler_cannot_write_into_the_next_stream(make_server: MakeServer) -> None:
    server = make_server()
    errors = []

    async def forward_from_outside(connection: Connection) -> None:
        try:
            await connection.subscribe("secret")
        except trio.ClosedResourceError as error:
            errors.append(str(error))

    async with on_sockets(server) as serving, await serving.connect() as client:

        @server.route("/first")
        async def first(connection: Connection) -> None:
            await connection.send("first")
            serving.nursery.start_soon(forward_from_outside, connection)
            await wait_all_tasks_blocked()

        @server.route("/second")
        async def second(connection: Connection) -> None:
            await connection.subscribe("open")

        await client.get("/first")
        await client.rest()
        assert client.is_ended
        await client.get("/second")
        await server.hub.publish("secret", "for the first only")
        await server.hub.publish("open", "for the second")
        event = await client.event()
    assert event.data == "for the second"
    assert errors == ["the stream has ended: finished"]


async def test_a_forward_that_is_cancelled_within_an_event_ends_the_stream(make_server: MakeServer) -> None:
    server = make_server()

    @server.route("/")
    async def fickle(connection: Connection) -> None:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(connection.subscribe, "t")
                await wait_all_tasks_blocked()
                await server.hub.publish("t", LARGE)
                await wait_all_tasks_blocked()
                scope.cancel()
        await trio.sleep_forever()

    async with on_sockets(server) as serving:
        client: Client = await serving.connect()
        async with client:
            await client.get("/")
            await until(lambda: server.statistics().ended)
            await client.rest()
    assert client.is_cut
    assert server.statistics().ended == {EndReason.WRITE_TIMEOUT: 1}


async def test_a_disconnect_is_noticed_while_an_async_hook_waits(make_server: MakeServer) -> None:
    server = make_server()

    @server.on_connect
    async def ponder(connection: Connection) -> None:
        await trio.sleep_forever()

    @server.route("/")
    async def never(connection: Connection) -> None:
        raise AssertionError("the hook has not let it pass")

    async with on_sockets(server) as serving:
        async with await serving.connect() as client:
            await client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
            await until(lambda: server.statistics().open_streams)
        await until(lambda: not server.statistics().open_streams)
    assert server.statistics().ended == {EndReason.CLIENT_DISCONNECTED: 1}
