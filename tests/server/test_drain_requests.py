"""Requests that arrive while the server drains: each is answered, and no connection is reset."""

from __future__ import annotations

import socket

import pytest
import trio
import trio.testing

from trio_sse import Request, Response

from ..support.client import Client
from ..support.hostile import Target
from ..support.leaks import MakeServer
from ..support.raw_requests import VALID, get
from ..support.serving import in_memory, on_sockets

ECHO = get("/echo/a")


@pytest.mark.parametrize(
    ("raw", "status", "body"), [(ECHO, 200, b"a"), (VALID, 503, b"the server is shutting down\n")]
)
async def test_clients_that_wait_to_be_accepted_are_answered(
    make_server: MakeServer, raw: bytes, status: int, body: bytes
) -> None:
    target = Target(make_server)

    async with on_sockets(target.server) as serving:
        waiting = [socket.create_connection(serving.address) for _ in range(100)]  # without a checkpoint
        for client in waiting:
            client.sendall(raw)
            client.setblocking(False)
        serving.nursery.start_soon(target.server.drain)
        for client in waiting:
            async with Client(trio.SocketStream(trio.socket.from_stdlib_socket(client))) as connection:
                head = await connection.head()
                assert (head.status, await connection.sized_body(head)) == (status, body)
                assert head.get("Connection") == "close"
                assert (head.get("Retry-After") is None) == (status == 200)
                assert await connection.closed() == b""


async def test_an_event_source_that_waits_to_be_accepted_reconnects(make_server: MakeServer) -> None:
    """It would give up after a 503."""
    target = Target(make_server)

    async with on_sockets(target.server) as serving:
        waiting = socket.create_connection(serving.address)
        waiting.sendall(get("/stream", "Accept: text/event-stream", "Cache-Control: no-cache"))
        waiting.setblocking(False)
        serving.nursery.start_soon(target.server.drain)
        async with Client(trio.SocketStream(trio.socket.from_stdlib_socket(waiting))) as connection:
            head = await connection.head()
            assert (head.status, head.get("Content-Type")) == (200, "text/event-stream")
            assert (await connection.sized_body(head)).startswith(b"retry: ")
            assert await connection.closed() == b""
    target.assert_untouched()


async def test_a_new_connection_may_still_send_its_request(
    make_server: MakeServer, autojump_clock: trio.testing.MockClock
) -> None:
    target = Target(make_server)

    async with in_memory(target.server) as serving, serving.connect() as client:
        await trio.testing.wait_all_tasks_blocked()
        serving.nursery.start_soon(target.server.drain)
        await trio.sleep(0.9)
        await client.send(ECHO)
        head = await client.head()

        assert (head.status, await client.sized_body(head)) == (200, b"a")
        assert head.get("Connection") == "close"
        assert await client.closed() == b""


async def test_a_connection_on_which_nothing_arrives_is_closed_within_a_second(
    make_server: MakeServer, autojump_clock: trio.testing.MockClock
) -> None:
    target = Target(make_server)

    async with in_memory(target.server) as serving, serving.connect() as fresh, serving.connect() as used:
        await used.sized_body(await used.get("/echo/a"))
        await trio.testing.wait_all_tasks_blocked()
        began_at = trio.current_time()
        serving.nursery.start_soon(target.server.drain)

        assert await used.closed() == b""
        assert trio.current_time() - began_at < 0.1
        assert await fresh.closed() == b""
        assert trio.current_time() - began_at == pytest.approx(1)


async def test_a_request_that_has_begun_to_arrive_has_a_second(
    make_server: MakeServer, autojump_clock: trio.testing.MockClock
) -> None:
    target = Target(make_server)

    async with in_memory(target.server) as serving, serving.connect() as quick, serving.connect() as slow:
        for client in (quick, slow):
            await client.sized_body(await client.get("/echo/a"))
            await client.send(ECHO[:20])
        await trio.testing.wait_all_tasks_blocked()
        began_at = trio.current_time()
        serving.nursery.start_soon(target.server.drain)
        await trio.sleep(0.9)
        await quick.send(ECHO[20:])

        assert (await quick.head()).status == 200
        refused = await slow.head()
        assert refused.status == 503
        assert refused.get("Connection") == "close"
        assert refused.get("Retry-After") is not None
        assert trio.current_time() - began_at == pytest.approx(1)


async def test_draining_cuts_lingering_short(
    make_server: MakeServer, autojump_clock: trio.testing.MockClock
) -> None:
    target = Target(make_server)

    async with in_memory(target.server) as serving, serving.connect() as client:
        await client.send(get("/", "Content-Length: 10"))
        assert (await client.head()).status == 404
        await trio.testing.wait_all_tasks_blocked()
        began_at = trio.current_time()

        await target.server.drain()

        assert trio.current_time() - began_at == pytest.approx(1)


async def test_when_only_accepting_stops_requests_are_answered_as_before(make_server: MakeServer) -> None:
    server = make_server()

    @server.endpoint("/")
    async def hello(request: Request) -> Response:
        return Response("hello")

    async with on_sockets(server) as serving:
        late = socket.create_connection(serving.address)
        server.stop_accepting()
        async with Client(trio.SocketStream(trio.socket.from_stdlib_socket(late))) as client:
            for _ in range(2):
                head = await client.get("/")
                assert head.get("Connection") is None
                assert await client.sized_body(head) == b"hello"
