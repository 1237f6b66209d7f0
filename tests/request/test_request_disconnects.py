"""While an endpoint, a poll or an app works on its answer, its client may leave, or wait for too long."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock, lockstep_stream_pair, memory_stream_pair, wait_all_tasks_blocked

from trio_sse import Connection, Request, Response, Server
from trio_sse._request.request_disconnects import RequestDisconnectWatcher
from trio_sse._transport.stream import StreamTransport

from ..support.asgi_apps import GET, Receive, Send, answer, http_only, post
from ..support.client import Client
from ..support.hostile import connected, send_in_pieces
from ..support.leaks import LeakCheck, MakeServer
from ..support.serving import in_memory, on_sockets
from ..support.waiting import until

UNREAD = b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\nabc"
POLL = b"GET /poll?wait=60 HTTP/1.1\r\nHost: test\r\nAccept: application/json\r\n\r\n"


class Target:
    """A server with work that never ends, and what became of it."""

    def __init__(self, no_leak: LeakCheck) -> None:
        self.begun = self.cancelled = 0
        self.server = no_leak.watch(Server(http_only(self.app), max_connections=1))

        @self.server.endpoint("/endpoint")
        async def endpoint(request: Request) -> Response:
            await self.work()
            return Response("never")

        @self.server.route("/poll")
        async def poll(connection: Connection) -> None:
            await self.work()

    async def work(self) -> None:
        self.begun += 1
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            self.cancelled += 1
            raise

    async def app(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        await self.work()


@pytest.mark.parametrize("where", ["sockets", "memory"])
@pytest.mark.parametrize(
    "request_bytes", [b"GET /endpoint HTTP/1.1\r\nHost: test\r\n\r\n", POLL, GET, UNREAD]
)
async def test_the_work_is_cancelled_when_the_client_leaves(
    no_leak: LeakCheck, caplog: pytest.LogCaptureFixture, request_bytes: bytes, where: str
) -> None:
    target = Target(no_leak)

    async def visit(connect: Callable[[], Awaitable[Client]]) -> None:
        for number in range(1, 3):  # the bound is one, so the first must be counted no longer
            client = await connect()
            await client.send(request_bytes)
            await until(lambda: target.begun == number)  # noqa: B023
            await wait_all_tasks_blocked()
            await trio.aclose_forcefully(client.stream)
            assert await until(lambda: target.cancelled == number) < 5  # noqa: B023
            await wait_all_tasks_blocked(0.01)
            assert target.server._admission.is_empty

    if where == "sockets":
        async with on_sockets(target.server) as serving:
            await visit(serving.connect)
    else:
        async with in_memory(target.server) as memory:

            async def connect() -> Client:
                return memory.connect()

            await visit(connect)
    assert not [record for record in caplog.records if record.levelname in ("ERROR", "WARNING")]


async def test_an_endpoint_has_a_deadline(
    make_server: MakeServer, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    server = make_server(request_timeout=20)

    @server.endpoint("/{seconds:float}")
    async def endpoint(request: Request, seconds: float) -> Response:
        await trio.sleep(seconds)
        return Response("in time")

    async with in_memory(server) as serving, serving.connect() as client:
        assert await client.sized_body(await client.get("/19.5")) == b"in time"
        began_at = trio.current_time()
        head = await client.get("/60.0")
        assert (head.status, await client.sized_body(head)) == (503, b"the request took too long\n")
        assert trio.current_time() - began_at == pytest.approx(20)
        assert await client.sized_body(await client.get("/0.0")) == b"in time"
    assert [r.levelname for r in caplog.records if r.levelno > 20] == ["WARNING"]


async def test_a_negative_deadline_is_no_option() -> None:
    with pytest.raises(ValueError, match="request_timeout"):
        Server(request_timeout=-1)


async def test_what_follows_a_request_is_answered_after_an_endpoint_has_run(make_server: MakeServer) -> None:
    server = make_server()

    @server.endpoint("/{number:int}")
    async def endpoint(request: Request, number: int) -> Response:
        await wait_all_tasks_blocked()
        return Response(str(number))

    async with in_memory(server) as memory, memory.connect() as client:
        for number in range(3):
            await client.send(f"GET /{number} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        for number in range(3):
            assert await client.sized_body(await client.head()) == str(number).encode()


async def test_an_app_that_has_not_answered_is_told_and_not_cancelled(no_leak: LeakCheck) -> None:
    told: list[str] = []

    @http_only
    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        assert scope["asgi"]["spec_version"] == "2.3"  # from 2.4 on, Starlette doesn't listen
        told.append((await receive())["type"])
        told.append((await receive())["type"])
        await trio.sleep(0.01)
        with pytest.raises(OSError, match="disconnected"):
            await answer(send)
        told.append("went on")

    async with on_sockets(no_leak.watch(Server(app))) as serving:
        client = await serving.connect()
        await client.send(GET)
        await wait_all_tasks_blocked()
        await trio.aclose_forcefully(client.stream)
        await until(lambda: len(told) == 3)
    assert told == ["http.request", "http.disconnect", "went on"]


@pytest.mark.slow
async def test_a_poll_that_promises_to_keep_its_connection_keeps_it(make_server: MakeServer) -> None:
    server = make_server()

    @server.route("/poll")
    async def poll(connection: Connection) -> None:
        await connection.send("one")

    async with on_sockets(server) as serving, await serving.connect() as client:
        for _ in range(200):
            await client.send(POLL)
            head = await client.head()
            await client.sized_body(head)
            assert head.get("Connection") is None


async def test_a_poll_says_that_it_closes_when_more_has_come_than_its_request(
    make_server: MakeServer,
) -> None:
    server = make_server()
    may_answer = trio.Event()

    @server.route("/poll")
    async def poll(connection: Connection) -> None:
        await may_answer.wait()
        await connection.send("one")

    async with on_sockets(server) as serving, await serving.connect() as client:
        for _ in range(2):
            await client.send(POLL)
            await wait_all_tasks_blocked(0.01)
        may_answer.set()
        head = await client.head()
        await client.sized_body(head)
        assert head.get("Connection") == "close"
        assert await client.closed() == b""


async def test_what_a_scope_holds_survives_a_copy(no_leak: LeakCheck) -> None:
    @http_only
    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        extensions = copy.deepcopy(scope)["extensions"]
        assert extensions == scope["extensions"] == copy.copy(extensions)
        await answer(send, b"copied")

    async with in_memory(no_leak.watch(Server(app))) as serving, serving.connect() as client:
        assert await client.sized_body(await client.get("/")) == b"copied"


@pytest.mark.parametrize("over", ["memory", "sockets"])
async def test_tasks_of_an_app_that_receive_at_once_share_the_body(no_leak: LeakCheck, over: str) -> None:
    @http_only
    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        pieces: list[bytes] = []

        async def read() -> None:
            while (message := await receive())["type"] == "http.request":
                pieces.append(message["body"])
                if not message["more_body"]:
                    nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(read)
        await answer(send, b"".join(pieces))

    async with connected(no_leak.watch(Server(app)), over) as client:
        body = b"".join(b"%d " % number for number in range(500))
        for _ in range(2):
            await send_in_pieces(client, post(body), 100)
            assert await client.sized_body(await client.head()) == body


async def test_what_a_client_sends_while_nobody_reads_waits_in_its_stream(no_leak: LeakCheck) -> None:
    proceed = trio.Event()

    @http_only
    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await proceed.wait()
        size, goes_on = 0, True
        while goes_on:
            message = await receive()
            size, goes_on = size + len(message["body"]), message["more_body"]
        await answer(send, b"%d" % size)

    ours, theirs = lockstep_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(no_leak.watch(Server(app)).serve_stream, theirs)
        client = Client(ours)
        sent = 0

        async def send_body() -> None:
            nonlocal sent
            await client.send(post(b"", length=100_000))
            while sent < 100_000:
                await client.send(b"x" * 1000)
                sent += 1000

        nursery.start_soon(send_body)
        await wait_all_tasks_blocked(0.01)
        assert 16_000 <= sent <= 64_000  # a bound
        proceed.set()
        assert await client.sized_body(await client.head()) == b"100000"
        assert sent == 100_000
        nursery.cancel_scope.cancel()


async def test_two_tasks_may_stop_watching_at_once() -> None:
    _, theirs = memory_stream_pair()
    transport = StreamTransport(theirs, "memory")
    watcher = RequestDisconnectWatcher(transport, bytearray(), lambda: None)
    stopped = 0

    async def stop() -> None:
        nonlocal stopped
        await watcher.stop()
        assert not transport._waiting
        stopped += 1

    async def work() -> None:
        await wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stop)
            nursery.start_soon(stop)

    await watcher.run(work)
    assert stopped == 2
