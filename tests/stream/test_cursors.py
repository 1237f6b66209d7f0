"""Cursors: the id with which a client resumes before its first event, and while its topics are quiet."""

from __future__ import annotations

import json

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse import Connection, Hub, Overflow, Server
from trio_sse.testing import Client, Stream
from trio_sse.websocket import WebSocketConnection

from ..support.leaks import MakeServer
from ..support.serving import in_memory, on_sockets
from ..support.websocket_client import PING, WebSocket, opened


async def forward(connection: Connection) -> None:
    await connection.subscribe("t")


def serving(make_server: MakeServer, **options: object) -> Server:
    """Return a server with a quiet stream, at `/`."""
    server = make_server(**options)
    server.route("/")(forward)
    return server


def cursor_block(server: Server) -> bytes:
    return f"id: {server.hub.last_event_id}\n\n".encode()


# The first cursor


async def test_the_cursor_is_in_the_same_write_as_the_head(make_server: MakeServer) -> None:
    server = serving(make_server)
    async with on_sockets(server) as served, await served.connect() as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        data = bytes(await client.stream.receive_some(65536))
        body = cursor_block(server)
        assert data.partition(b"\r\n\r\n")[2] == b"%x\r\n%b\r\n" % (len(body), body)
        (stream,) = server._manager.streams
        assert stream.sent() == (0, len(data))  # it is no event


async def test_replayed_events_need_no_cursor(make_server: MakeServer) -> None:
    server = serving(make_server)
    async with Client(server) as client:
        start = server.hub.last_event_id
        await server.hub.publish("t", "missed")
        async with client.stream("/", last_event_id=start) as stream:
            assert (await stream.event()).data == "missed"
            assert stream.body.count(b"id: ") == 1


async def test_a_client_that_missed_only_events_of_other_topics_gets_the_newest_cursor(
    make_server: MakeServer,
) -> None:
    server = serving(make_server)
    async with Client(server) as client:
        start = server.hub.last_event_id
        await server.hub.publish("other", "x")
        async with client.stream("/", last_event_id=start) as stream:
            await wait_all_tasks_blocked()
            assert (stream.body, stream.last_event_id) == (cursor_block(server), server.hub.last_event_id)


@pytest.mark.parametrize(
    ("headers", "written"),
    [
        ({}, b"id: %b\n\n"),
        ({"Cache-Control": "no-cache", "Sec-Fetch-Mode": "cors"}, b"id: %b\n\n"),  # EventSource
        ({"Sec-Fetch-Mode": "cors"}, b"id: %b\n"),  # fetch
        ({"Cache-Control": "no-store"}, b"id: %b\n"),  # httpx-sse
    ],
)
async def test_clients_that_make_a_message_of_each_blank_line_get_none(
    make_server: MakeServer, autojump_clock: MockClock, headers: dict[str, str], written: bytes
) -> None:
    server = serving(make_server)
    async with Client(server) as client, client.stream("/", headers=headers) as stream:
        await wait_all_tasks_blocked()
        first = written % server.hub.last_event_id.encode()
        assert stream.body == first
        await server.hub.publish("other", "x")
        await stream.wait_keepalives(2)
        assert stream.body == first + b":\n" + written % server.hub.last_event_id.encode() + b":\n"


async def test_a_page_may_ask_for_cursors_as_events(
    make_server: MakeServer, autojump_clock: MockClock
) -> None:
    server = serving(make_server)
    async with Client(server) as client, client.stream("/?cursor_events=1") as stream:
        first = await stream.event()
        assert (first.event, first.id, first.data) == ("trio-sse.cursor", server.hub.last_event_id, "")
        await server.hub.publish("other", "x")
        second = await stream.event()
        assert (second.event, second.id) == ("trio-sse.cursor", server.hub.last_event_id)


# The cursor of a quiet stream


async def quiet(stream: Stream, count: int) -> None:
    """Wait for keepalives, so that the cursor has had its time to move."""
    await stream.wait_keepalives(stream.keepalives + count)


async def test_a_quiet_streams_cursor_moves_once_for_each_change(
    make_server: MakeServer, autojump_clock: MockClock
) -> None:
    server = serving(make_server, hub=Hub(history=10))
    async with Client(server) as client:
        async with client.stream("/") as stream:
            await server.hub.publish("t", "one")
            assert (await stream.event()).data == "one"
            for _ in range(20):
                await server.hub.publish("busy", "x")
            await quiet(stream, 3)
            assert stream.body.endswith(b":\n" + cursor_block(server) + b":\n:\n")
            cursor = stream.last_event_id
        async with client.stream("/", last_event_id=cursor) as stream:
            await server.hub.publish("t", "two")
            assert (await stream.event()).data == "two"


async def test_a_cursor_does_not_pass_what_waits_for_a_slow_client(
    make_server: MakeServer, autojump_clock: MockClock
) -> None:
    server = make_server(keepalive=1, write_timeout=1000)

    @server.route("/")
    async def slow(connection: Connection) -> None:
        async with server.hub.subscribe("t") as subscription:
            with trio.move_on_after(4.5):
                await connection.forward(subscription)
            await trio.sleep(5)  # what is published meanwhile is queued
            await connection.forward(subscription)

    async with Client(server) as client, client.stream("/") as stream:
        await trio.sleep(6)
        cursor = stream.last_event_id
        await server.hub.publish("t", "waits")
        await server.hub.publish("other", "x")
        await trio.sleep(3)
        assert stream.last_event_id == cursor
        assert (await stream.event()).id != cursor
        await quiet(stream, 2)
        assert stream.last_event_id == server.hub.last_event_id


async def test_a_cursor_does_not_pass_what_waits_in_a_throttled_group(
    make_server: MakeServer, autojump_clock: MockClock
) -> None:
    server = make_server(keepalive=1)

    @server.route("/")
    async def paced(connection: Connection) -> None:
        await connection.subscribe("t", batch=10)

    async with Client(server) as client, client.stream("/") as stream:
        await server.hub.publish("t", "at once")
        cursor = (await stream.event()).id
        await server.hub.publish("t", "waits")
        await server.hub.publish("other", "x")
        await quiet(stream, 3)
        assert stream.last_event_id == cursor
        assert (await stream.event()).data == "waits"
        await quiet(stream, 2)
        assert stream.last_event_id == server.hub.last_event_id


async def test_a_cursor_never_falls_behind_or_passes_a_batch_under_way(
    make_server: MakeServer, autojump_clock: MockClock
) -> None:
    """A batch that takes long to deliver: some clients have received it, others have not."""
    server = make_server(keepalive=1)
    checked: list[bool] = []

    @server.route("/{topic}")
    async def quiet_or_not(connection: Connection, topic: str) -> None:
        async with server.hub.subscribe(topic, last_event_id=connection.last_event_id) as subscription:
            await connection.forward(subscription)

    async with Client(server) as client, client.stream("/a") as a, client.stream("/b") as b:
        await wait_all_tasks_blocked()
        await server.hub.publish("a", "settled")
        await a.event()
        settled = server.hub.last_event_id
        streams = list(server._manager.streams)
        progress = server.hub._engine.pump._progress
        await trio.sleep(1.5)
        progress.begin(trio.current_time())  # as the pump does before it places a batch
        server.hub._engine.log.append(server.hub._engine.make_message("b", "under way", None, None, None))
        await trio.sleep(2)
        for stream in (a, b):
            checked.append(stream.last_event_id == settled)
        progress.settle(None)
        await trio.sleep(2)
        checked += [stream.last_event_id == server.hub.last_event_id for stream in (a, b)]
        assert len(streams) == 2
    assert checked == [True] * 4


async def test_dropped_events_may_be_passed(make_server: MakeServer, autojump_clock: MockClock) -> None:
    server = make_server(keepalive=1)

    @server.route("/")
    async def lags(connection: Connection) -> None:
        async with server.hub.subscribe("t", overflow=Overflow.DROP_NEWEST, queue=1) as subscription:
            await trio.sleep(5)
            await connection.forward(subscription)

    async with Client(server) as client, trio.open_nursery() as nursery:

        async def publish() -> None:
            await trio.sleep(1)
            for number in range(3):
                await server.hub.publish("t", f"{number}")

        nursery.start_soon(publish)
        async with client.stream("/") as stream:
            assert (await stream.event()).data == "0"
            await quiet(stream, 2)
            assert stream.last_event_id == server.hub.last_event_id


async def test_ids_of_the_application_are_left_alone(
    make_server: MakeServer, autojump_clock: MockClock
) -> None:
    server = make_server(keepalive=1)

    @server.route("/")
    async def own(connection: Connection) -> None:
        await connection.send("mine", id="mine-1")
        await connection.subscribe("t")

    async with Client(server) as client, client.stream("/") as stream:
        await server.hub.publish("other", "x")
        await quiet(stream, 3)
        assert stream.last_event_id == "mine-1"


# WebSockets


async def test_a_websocket_that_forwards_begins_with_its_cursor(
    make_server: MakeServer, autojump_clock: MockClock
) -> None:
    server = make_server(keepalive=1)

    @server.websocket("/ws")
    async def ws(websocket: WebSocketConnection) -> None:
        await websocket.subscribe("t")

    async with in_memory(server) as memory:
        await server.hub.publish("t", "before")
        async with opened(memory, "/ws") as websocket:
            cursor = json.loads(await websocket.message())
            assert cursor == {"type": "cursor", "last_event_id": server.hub.last_event_id}
            await server.hub.publish("other", "x")
            assert await next_but_pings(websocket) == {
                "type": "cursor",
                "last_event_id": server.hub.last_event_id,
            }
        await server.hub.publish("t", "while it was away")
        async with opened(memory, f"/ws?last_event_id={cursor['last_event_id']}") as websocket:
            assert (await websocket.json())["data"] == "while it was away"


async def next_but_pings(websocket: WebSocket) -> object:
    frame = await websocket.frame()
    pings = 0
    while frame is not None and frame.opcode == PING:
        pings += 1
        frame = await websocket.frame()
    assert frame is not None
    assert pings > 0, "the cursor comes with a keepalive"
    return json.loads(frame.payload)
