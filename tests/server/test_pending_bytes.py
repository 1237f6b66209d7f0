"""What waits for clients that read slowly is bounded over all of them, whatever it is."""

from __future__ import annotations

import itertools
import tracemalloc
from contextlib import AsyncExitStack
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse import Connection, EndReason, Request, Response, Server
from trio_sse._transport.arriving_bytes import TOO_MUCH_ARRIVED
from trio_sse.asgi import event_stream
from trio_sse.websocket import WebSocketConnection

from ..support.asgi_apps import Receive, Send, accept, answer, http_only, websocket_only
from ..support.client import Client
from ..support.http2_wire import RawPeer
from ..support.http2_wire import ask as ask_frame
from ..support.leaks import LeakCheck, MakeServer
from ..support.serving import InMemory, in_memory
from ..support.websocket_client import BINARY, encode, opened
from ..support.websocket_handlers import idle

SIZE = 60_000
MOST = 3 * SIZE
HANDSHAKE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)
ASKS = {
    "endpoint": ("/endpoint", ()),
    "app": ("/app", ()),
    "pieces": ("/pieces", ()),
    "stream": ("/stream", ()),
    "poll": ("/stream?wait=0", ("Accept: application/json",)),
    "websocket": ("/websocket", HANDSHAKE),
}


class Target:
    """A server whose every answer is an object of its own, but for a page that is one for all."""

    def __init__(self, no_leak: LeakCheck) -> None:
        self.server = no_leak.watch(Server(http_only(self.app), max_pending_bytes=MOST))
        self.ends: list[EndReason | None] = []
        page = b"x" * SIZE

        @self.server.endpoint("/endpoint")
        async def endpoint(request: Request) -> Response:
            return Response(bytes(bytearray(SIZE)))

        @self.server.endpoint("/page")
        async def constant(request: Request) -> Response:
            return Response(page)

        @self.server.route("/stream")
        async def stream(connection: Connection) -> None:
            await connection.send(f"{connection.id}".ljust(SIZE))

        @self.server.websocket("/websocket")
        async def websocket(connection: WebSocketConnection) -> None:
            await connection.send_bytes(bytes(bytearray(SIZE)))

        @self.server.on_disconnect
        def note(connection: Connection) -> None:
            self.ends.append(connection.end_reason)

    async def app(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["path"] == "/app":
            await answer(send, bytes(bytearray(SIZE)))
            return
        await send({"type": "http.response.start", "status": 200})
        for number in range(3):
            piece = bytes(bytearray(SIZE))
            await send({"type": "http.response.body", "body": piece, "more_body": number < 2})

    @property
    def pending(self) -> tuple[int, int]:
        statistics = self.server.statistics()
        return statistics.pending_bytes // SIZE, statistics.pending_cut


async def ask(serving: InMemory, path: str, lines: tuple[str, ...] = ()) -> Client:
    """Ask for a path, and do not read the answer."""
    client = serving.connect_lockstep()
    await client.send("\r\n".join([f"GET {path} HTTP/1.1", "Host: test", *lines, "", ""]).encode())
    await wait_all_tasks_blocked()
    return client


@pytest.mark.parametrize("kind", ASKS)
async def test_those_that_take_nothing_are_cut(
    no_leak: LeakCheck, autojump_clock: MockClock, kind: str
) -> None:
    target = Target(no_leak)
    async with in_memory(target.server) as serving:
        clients = [await ask(serving, *ASKS[kind]) for _ in range(2)]
        assert target.pending == (2, 0)
        await trio.sleep(1)
        clients += [await ask(serving, *ASKS[kind]) for _ in range(2)]
        cut = target.server.statistics().pending_cut
        assert cut in (1, 2)  # what frames a body counts, too
        assert target.server.statistics().pending_bytes <= MOST
        received = [await read(client) for client in clients]
        assert target.pending == (0, cut)
    assert all(len(data) >= SIZE for data in received[cut:])
    if kind in ("stream", "websocket"):
        assert sorted(reason.value for reason in target.ends if reason is not None) == sorted(
            ["slow_consumer"] * cut + ["finished"] * (4 - cut)
        )


async def read(client: Client) -> bytes:
    """Read until the connection is cut, or nothing more comes."""
    received = b""
    try:
        with trio.move_on_after(0.05):
            while data := await client.stream.receive_some():
                received += data
    except trio.BrokenResourceError:
        pass
    await trio.aclose_forcefully(client.stream)
    await wait_all_tasks_blocked()
    return received


STREAMS = {
    "stream": ask_frame(1, "/live"),
    "poll": ask_frame(1, "/live?wait=30", "GET", "accept: application/json"),
    "websocket": ask_frame(1, "/idle", "CONNECT", "sec-websocket-version: 13", is_whole=False),
    "app": ask_frame(1, "/app-idle", "CONNECT", "sec-websocket-version: 13", is_whole=False),
}


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("reason", [EndReason.SLOW_CONSUMER, EndReason.WRITE_TIMEOUT])
async def test_whatever_shares_a_connection_that_is_given_up_ends_for_the_same_reason(
    make_server: MakeServer, autojump_clock: MockClock, reason: EndReason, kind: str
) -> None:
    """The streams themselves have nothing to send: it is an endpoint's body that waits for the client."""
    ends: list[EndReason | None] = []

    @websocket_only
    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await accept(receive, send)
        ends.append(EndReason((await receive())["reason"]))

    server = make_server(app=app, max_pending_bytes=MOST, write_timeout=5.0, http2_cleartext=True)
    server.on_disconnect(lambda connection: ends.append(connection.end_reason))
    server.websocket("/idle")(idle)

    @server.route("/live")
    async def live(connection: Connection) -> None:
        await connection.subscribe("news")

    @server.endpoint("/endpoint")
    async def endpoint(request: Request) -> Response:
        return Response(bytes(bytearray(SIZE)))

    is_cut = reason is EndReason.SLOW_CONSUMER
    async with in_memory(server) as serving:
        peers = [RawPeer(serving.connect_lockstep().stream) for _ in range(4 if is_cut else 1)]
        for peer in peers:
            await serving.nursery.start(open_and_stall, peer, STREAMS[kind])
        if not is_cut:
            await trio.sleep(6)
        await wait_all_tasks_blocked()
        assert server.statistics().pending_cut == (2 if is_cut else 0)
        assert ends == [reason] * (2 if is_cut else 1)


async def open_and_stall(peer: RawPeer, request: bytes, *, task_status: trio.TaskStatus[None]) -> None:
    async with peer:
        await peer.send(request)
        for _ in range(2):  # what waits for the first write follows it
            await peer.receive()
        await wait_all_tasks_blocked()
        await peer.send(ask_frame(3, "/endpoint"))
        await wait_all_tasks_blocked()
        task_status.started()
        await trio.sleep_forever()


@pytest.mark.integration
async def test_what_many_wait_for_counts_once(no_leak: LeakCheck, autojump_clock: MockClock) -> None:
    target = Target(no_leak)
    async with in_memory(target.server) as serving:
        clients = [await ask(serving, "/page") for _ in range(20)]
        assert target.pending == (1, 0)
        for client in clients:
            assert len(await read(client)) > SIZE
        assert target.pending == (0, 0)


async def test_a_response_that_is_larger_than_the_bound_is_sent_alone(
    no_leak: LeakCheck, autojump_clock: MockClock
) -> None:
    server = no_leak.watch(Server(max_pending_bytes=1000))

    @server.endpoint("/")
    async def endpoint(request: Request) -> Response:
        return Response(bytes(bytearray(SIZE)))

    async with in_memory(server) as serving:
        first = await ask(serving, "/")
        await trio.sleep(1)
        second = await ask(serving, "/")
        assert len(await read(first)) < SIZE
        assert len(await read(second)) > SIZE
        assert server.statistics().pending_cut == 1


async def test_endpoints_at_work_are_counted(no_leak: LeakCheck) -> None:
    server, proceed = no_leak.watch(Server()), trio.Event()

    @server.endpoint("/")
    async def endpoint(request: Request) -> Response:
        await proceed.wait()
        return Response("done")

    async with in_memory(server) as serving:
        clients = [await ask(serving, "/") for _ in range(3)]
        assert server.statistics().endpoints == 3
        proceed.set()
        for client in clients:
            assert await client.sized_body(await client.head()) == b"done"
        assert server.statistics().endpoints == 0


@pytest.mark.parametrize("path", ["/route", "/stream", "/event-stream"])
async def test_the_slowest_bodies_are_refused(
    no_leak: LeakCheck, autojump_clock: MockClock, path: str
) -> None:
    """All but the last byte of each body arrives: a peer could leave it at that."""

    async def echo(connection: Connection) -> None:
        await connection.send(f"{len(connection.request.body)} bytes")

    app = event_stream(echo, methods=["POST"])
    app._manager.arriving_bytes.most = MOST
    server = no_leak.watch(Server(app, max_pending_bytes=MOST))
    server.route("/stream", methods=["POST"])(echo)

    @server.endpoint("/route", methods=["POST"])
    async def route(request: Request) -> Response:
        return Response(f"{len(request.body)} bytes")

    head = f"POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {SIZE}\r\n\r\n".encode()
    async with in_memory(server) as serving:
        clients = [serving.connect() for _ in range(5)]
        for client in clients:
            await client.send(head + bytes(SIZE - 1))
            await wait_all_tasks_blocked()
        for client in clients[:2]:
            assert (await client.head()).status == 503
        for client in clients[2:]:
            await client.send(b"x")
            assert (await client.head()).status == 200
            await read(client)


@pytest.mark.parametrize("path", ["/websocket", "/app"])
async def test_websockets_whose_messages_are_slowest_are_closed(
    no_leak: LeakCheck, autojump_clock: MockClock, path: str
) -> None:
    """All but the last bytes of each message arrive, or all of it, and nobody takes it."""
    size = 100_000

    @websocket_only
    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await accept(receive, send)
        await trio.sleep_forever()

    server = no_leak.watch(Server(app, max_pending_bytes=3 * size))
    server.websocket("/websocket")(idle)
    async with in_memory(server) as serving, AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(opened(serving, path)) for _ in range(5)]
        for number, socket in enumerate(sockets):
            message = encode(BINARY, bytes(size))
            await socket.client.send(message if number % 2 else message[:-10])
            await wait_all_tasks_blocked()
        for number in (0, 2):  # less has arrived of these
            assert await sockets[number].close_code() == (1013, TOO_MUCH_ARRIVED)
        assert server.statistics().open_streams == 3
        assert server._manager.arriving_bytes.total <= 3 * size
        for number in (1, 3, 4):
            await trio.aclose_forcefully(sockets[number].client.stream)
        await wait_all_tasks_blocked()
        assert server._manager.arriving_bytes.total == 0


async def test_a_long_text_is_not_held_beside_its_bytes(no_leak: LeakCheck) -> None:
    server, numbers = no_leak.watch(Server()), itertools.count()

    @server.endpoint("/")
    async def endpoint(request: Request) -> Response:
        return Response(f"{next(numbers)}" * 2_000_000)

    async with in_memory(server) as serving:
        tracemalloc.start()
        try:
            clients = [await ask(serving, "/") for _ in range(8)]  # more than texts that are kept for others
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert held < 8 * 3_000_000
        for client in clients:
            await trio.aclose_forcefully(client.stream)


def test_the_bound_is_checked() -> None:
    with pytest.raises(ValueError, match="max_pending_bytes"):
        Server(max_pending_bytes=0)
