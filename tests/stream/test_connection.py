"""Sending and forwarding on a stream."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_sse import Connection, EndReason, Overflow, ServerSentEvent

from ..support.client import Client
from ..support.leaks import MakeServer
from ..support.observed_streams import (
    Handler,
    forwarding,
    observe,
    run_one,
)
from ..support.serving import in_memory, on_sockets
from ..support.waiting import SECONDS

# Sending


async def test_every_way_to_send_writes_the_right_bytes(make_server: MakeServer) -> None:
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


def _run_there(function: Callable[[], object]) -> None:
    """Call a function in another call of `trio.run`."""

    async def call() -> None:
        function()

    trio.run(call)


@pytest.mark.parametrize("call", [lambda function: function(), _run_there], ids=["thread", "run"])
async def test_other_threads_change_nothing(
    make_server: MakeServer, call: Callable[[Callable[[], object]], None]
) -> None:
    """They would wake the wrong event loop, or stop in the middle."""

    async def handler(connection: Connection) -> None:
        connection.identity = "a"
        for function in (
            connection.close,
            lambda: setattr(connection, "identity", "b"),
            lambda: setattr(connection, "expires_at", 1.0),
        ):
            with pytest.raises(RuntimeError, match=r"trio\.from_thread\.run_sync\(connection\.close\)"):
                await trio.to_thread.run_sync(call, function)
        with pytest.raises(RuntimeError, match=r"trio\.from_thread\.run\(connection\.send, \.\.\.\)"):
            await trio.to_thread.run_sync(lambda: trio.run(connection.send, "x"))
        assert (connection.end_reason, connection.identity, connection.expires_at) == (None, "a", None)
        await trio.to_thread.run_sync(lambda: trio.from_thread.run_sync(connection.close))
        await trio.sleep_forever()

    server = make_server()
    life = observe(server, handler)
    await run_one(server)
    assert life.in_hook == [EndReason.FINISHED]


async def test_only_headers_that_can_be_sent_are_added(make_server: MakeServer) -> None:
    async def handler(connection: Connection) -> None:
        for name, value in [
            ("X", "a\r\nB: c"),
            ("a b", "x"),
            ("Content-Length", "1"),
            ("Content-Type", "a/b"),
        ]:
            with pytest.raises(ValueError, match=r"header field|Content-Type"):
                connection.add_header(name, value)
        with pytest.raises(TypeError):
            connection.add_header("X", 1)  # type: ignore[arg-type]
        connection.add_header("X-Mine", "1")
        await connection.start()
        with pytest.raises(RuntimeError, match="head has been sent"):
            connection.add_header("X-Late", "1")

    server = make_server()
    observe(server, handler)
    client = await run_one(server)
    assert client.response is not None
    assert client.response.get("X-Mine") == "1"
    assert client.body == b""


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


async def test_a_write_cancelled_half_way_ends_the_stream(make_server: MakeServer) -> None:
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


async def test_a_send_cancelled_before_it_begins_sends_nothing(make_server: MakeServer) -> None:
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
            await server.hub.publish("ab"[number % 2], f"{number} " + "x" * 1000)
        events = await client.events(100)
    numbers = [int(str(event.data).partition(" ")[0]) for event in events]
    assert sorted(numbers) == list(range(100))
    for parity in (0, 1):
        of_topic = [number for number in numbers if number % 2 == parity]
        assert of_topic == sorted(of_topic)


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
    with trio.fail_after(SECONDS):
        client = await run_one(server)
    assert client.is_ended
    assert life.in_hook == [EndReason.FINISHED]


@pytest.mark.parametrize("steps", range(8))
async def test_a_cancelled_forward_loses_nothing(make_server: MakeServer, steps: int) -> None:
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
            with trio.fail_after(SECONDS):
                ids = [str(event.id).partition(".")[2] for event in await client.events(5)]
            assert ids == ["1", "2", "3", "4", "5"]
        else:  # it was truncated in the middle of a write: the client reconnects
            assert life.in_hook == [EndReason.WRITE_TIMEOUT]


class Interfering(trio.abc.Stream):
    """A stream that does something when bytes were sent, and then returns without a checkpoint."""

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


async def test_a_forward_cancelled_between_two_writes_loses_nothing(make_server: MakeServer) -> None:
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
        with trio.fail_after(SECONDS):
            assert [event.data for event in await client.events(2)] == ["first", "second"]


async def test_a_client_that_reconnects_receives_what_it_missed(make_server: MakeServer) -> None:
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


async def test_subscribe_passes_the_overflow_policy_to_the_hub(make_server: MakeServer) -> None:
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


# Its attributes


async def test_its_repr_shows_its_state(make_server: MakeServer) -> None:
    texts: list[str] = []

    async def handler(connection: Connection) -> None:
        texts.append(repr(connection))
        connection.close()
        texts.append(repr(connection))

    server = make_server()
    observe(server, handler)
    await run_one(server)
    assert texts == ["<Connection 1 from stream to /: open>", "<Connection 1 from stream to /: finished>"]


async def test_connections_have_unique_ids(make_server: MakeServer) -> None:
    ids: list[Any] = []

    async def handler(connection: Connection) -> None:
        ids.append(connection.id)

    server = make_server()
    observe(server, handler)
    for _ in range(3):
        await run_one(server)
    assert ids == [1, 2, 3]
