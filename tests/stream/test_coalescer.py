"""Coalescing: few writes, whole and in order, whatever else happens."""

from __future__ import annotations

import socket
from typing import Any

import pytest
import trio
import trio.lowlevel
import trio.testing

from trio_sse import Connection, EndReason, Hub
from trio_sse._transport.socket import SocketTransport
from trio_sse.asgi import EventStream, event_stream

from ..support.asgi_apps import App, Receive, Send, http_only
from ..support.certificates import Contexts
from ..support.client import Client
from ..support.leaks import MakeServer
from ..support.serving import OnSockets, on_sockets

pytestmark = pytest.mark.usefixtures("protocol")


class Writes:
    """Counts the writes of sockets."""

    def __init__(self) -> None:
        self.sizes: list[int] = []


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> Writes:
    counted = Writes()
    send_nowait = SocketTransport.send_nowait

    def counting(self: SocketTransport, payload: bytes, events: int, now: float) -> bool:
        counted.sizes.append(len(payload))
        return send_nowait(self, payload, events, now)

    monkeypatch.setattr(SocketTransport, "send_nowait", counting)
    return counted


async def take(client: Client, count: int) -> list[object]:
    return [(await client.event()).data for _ in range(count)]


async def open_with_little_room(serving: OnSockets) -> Client:
    """Open a connection whose client has a small receive buffer."""
    stream = trio.socket.socket()
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await stream.connect(serving.address)
    return Client(trio.SocketStream(stream))


def with_slow_head(app: EventStream) -> App:
    """Return middleware that takes a while to send a response's head."""

    @http_only
    async def call(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        async def send_slowly(message: Any) -> None:
            if message["type"] == "http.response.start":
                for _ in range(4):
                    await trio.lowlevel.checkpoint()
            await send(message)

        await app(scope, receive, send_slowly)

    return call


@pytest.mark.slow
async def test_nothing_is_lost_of_what_tasks_send_while_an_app_decides_about_the_head(
    make_server: MakeServer,
) -> None:
    """Of tasks that waited for the head, one sends while what another one has sent is still buffered."""
    turns = 0
    hub = Hub()

    async def stream(connection: Connection) -> None:
        async def send(number: int) -> None:
            for _ in range(number * turns):
                await trio.lowlevel.checkpoint()
            await connection.send(f"{number}")

        async with trio.open_nursery() as nursery:
            for number in range(6):
                nursery.start_soon(send, number % 3)

    async with on_sockets(make_server(app=with_slow_head(event_stream(stream, hub=hub)), hub=hub)) as serving:
        for number in range(40):
            turns = number // 4
            async with await serving.connect() as client:
                await client.get("/")
                received = sorted(str(event.data) for event in await client.rest())
                assert received == ["0", "0", "1", "1", "2", "2"], f"after {turns} turns"


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
async def test_many_events_go_out_in_few_writes(
    make_server: MakeServer, contexts: Contexts, writes: Writes, tls: bool
) -> None:
    server = make_server()
    sent = trio.Event()

    @server.route("/own")
    async def own(connection: Connection) -> None:
        await connection.start()
        for number in range(50):
            await connection.send(number)
        assert connection.events_sent == 50
        assert connection.bytes_sent > 50 * len("data: 0\n\n")
        sent.set()
        await trio.sleep_forever()

    server_tls, client_tls = (contexts.server, contexts.client) if tls else (None, None)
    async with (
        on_sockets(server, server_tls=server_tls, client_tls=client_tls) as serving,
        await serving.connect() as client,
    ):
        await client.get("/own")
        assert await take(client, 50) == [str(number) for number in range(50)]
        await sent.wait()
    if not tls:
        assert len(writes.sizes) <= 3  # the head, the first event, the others


async def test_events_are_sent_before_the_end_of_the_stream(make_server: MakeServer) -> None:
    server = make_server()

    @server.route("/own")
    async def own(connection: Connection) -> None:
        for number in range(200):
            await connection.send(number)

    async with on_sockets(server) as serving, await serving.connect() as client:
        await client.get("/own")
        assert await take(client, 200) == [str(number) for number in range(200)]
        await client.rest()
        assert client.is_ended


@pytest.mark.parametrize("end", [EndReason.FINISHED, EndReason.MAX_DURATION, EndReason.HANDLER_ERROR])
async def test_buffered_events_are_sent_even_if_the_stream_ends_right_after(
    make_server: MakeServer, end: EndReason
) -> None:
    server = make_server()

    @server.route("/own")
    async def own(connection: Connection) -> None:
        await connection.send(1)
        await connection.send(2)
        if end is EndReason.FINISHED:
            connection.close()
        elif end is EndReason.HANDLER_ERROR:
            raise ValueError
        else:
            connection._stream.lifetime.deadline = trio.current_time()
        await trio.sleep_forever()

    async with on_sockets(server) as serving, await serving.connect() as client:
        await client.get("/own")
        assert await take(client, 2) == ["1", "2"]


async def test_comments_and_large_events_keep_their_order(make_server: MakeServer) -> None:
    server = make_server()
    large = "x" * 5000

    @server.route("/own")
    async def own(connection: Connection) -> None:
        await connection.send("first")
        await connection.send("second")
        await connection.comment("between")
        await connection.send("third")
        await connection.send(large)
        await connection.send("fourth")

    async with on_sockets(server) as serving, await serving.connect() as client:
        await client.get("/own")
        assert await take(client, 5) == ["first", "second", "third", large, "fourth"]
        assert client.body.index(b"second") < client.body.index(b": between") < client.body.index(b"third")


async def test_own_events_are_sent_before_those_of_the_hub(make_server: MakeServer) -> None:
    server = make_server()

    @server.route("/both")
    async def both(connection: Connection) -> None:
        await connection.send("own 1")
        await connection.send("own 2")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.subscribe, "live")
            await trio.testing.wait_all_tasks_blocked()
            await server.hub.publish("live", "hub")
            await connection.send("own 3")

    async with on_sockets(server) as serving, await serving.connect() as client:
        await client.get("/both")
        taken = await take(client, 4)
    assert taken[:2] == ["own 1", "own 2"]
    assert set(taken[2:]) == {"hub", "own 3"}


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
async def test_what_a_slow_client_does_not_take_is_sent_while_the_handler_does_something_else(
    make_server: MakeServer, contexts: Contexts, tls: bool
) -> None:
    server = make_server(send_buffer=4096)
    expected = [f"{number}".ljust(900, "x") for number in range(60)]
    is_sent = trio.Event()

    @server.route("/own")
    async def own(connection: Connection) -> None:
        await connection.start()
        for data in expected:
            await connection.send(data)
        is_sent.set()
        await trio.sleep_forever()

    server_tls, client_tls = (contexts.server, contexts.client) if tls else (None, None)
    async with on_sockets(server, server_tls=server_tls, client_tls=client_tls) as serving:
        client = await serving.connect() if tls else await open_with_little_room(serving)
        async with client:
            await client.get("/own")
            await is_sent.wait()
            await trio.sleep(0.05)
            assert await take(client, 60) == expected


async def test_a_client_that_takes_nothing_of_it_is_disconnected_at_the_write_timeout(
    make_server: MakeServer,
) -> None:
    server = make_server(send_buffer=4096, write_timeout=0.2, keepalive=0.05)
    ended = trio.Event()

    @server.on_disconnect
    def note(connection: Connection) -> None:
        assert connection.end_reason is EndReason.WRITE_TIMEOUT
        ended.set()

    @server.route("/own")
    async def own(connection: Connection) -> None:
        while connection._stream.transport.pending is None:
            for _ in range(50):
                await connection.send("x" * 1000)
            await trio.lowlevel.checkpoint()
        await trio.sleep_forever()

    async with on_sockets(server) as serving, await open_with_little_room(serving) as client:
        await client.get("/own")
        await ended.wait()


async def test_a_handler_that_keeps_sending_lets_other_tasks_run(make_server: MakeServer) -> None:
    server = make_server()

    @server.route("/flood")
    async def flood(connection: Connection) -> None:
        while True:
            await connection.send("x")

    async with on_sockets(server) as serving, await serving.connect() as client:
        await client.get("/flood")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(take, client, 20_000)
            for _ in range(20):
                await trio.lowlevel.checkpoint()
            assert await _answers(serving)
            nursery.cancel_scope.cancel()


async def _answers(serving: OnSockets) -> bool:
    async with await serving.connect() as other:
        return (await other.get("/health")).status == 200


async def test_a_send_notices_a_cancellation_even_if_it_does_not_wait(make_server: MakeServer) -> None:
    server = make_server()
    count = 0

    @server.route("/own")
    async def own(connection: Connection) -> None:
        nonlocal count
        with trio.CancelScope() as scope:
            while True:
                await connection.send("x")
                count += 1
                if count == 3:
                    scope.cancel()
        await connection.send("after")

    async with on_sockets(server) as serving, await serving.connect() as client:
        await client.get("/own")
        assert await take(client, 4) == ["x", "x", "x", "after"]
    assert count == 3


@pytest.mark.slow
async def test_a_stream_may_end_just_before_its_rest_is_flushed(
    make_server: MakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    send_nowait = SocketTransport.send_nowait

    def full(self: SocketTransport, payload: bytes, events: int, now: float) -> bool:
        if b"second" not in payload:
            return send_nowait(self, payload, events, now)
        self.pending = payload  # as when the peer takes no more
        return False

    monkeypatch.setattr(SocketTransport, "send_nowait", full)
    server = make_server()

    @server.route("/own")
    async def own(connection: Connection) -> None:
        await connection.send("first")
        await connection.send("second")
        for _ in range(int(connection.request.query["rounds"])):
            await trio.lowlevel.checkpoint()
        connection._stream.on_disconnect()
        await trio.sleep_forever()

    async with on_sockets(server) as serving:
        for number in range(40):  # Trio shuffles the tasks of a round
            async with await serving.connect() as client:
                await client.get(f"/own?rounds={number % 4}")
                await client.rest()
