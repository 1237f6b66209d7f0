"""Cursors: the id with which a client resumes before its first event, and while its topics are quiet."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse import Connection, EventDecoder, Hub, Overflow, Server
from trio_sse._hub.hub import engine_of
from trio_sse._log.memory import Gap
from trio_sse.sqlite import SQLiteLog
from trio_sse.testing import Client, Stream
from trio_sse.websocket import WebSocketConnection, serve_topics

from ..support.client import Client as RawClient
from ..support.leaks import MakeServer
from ..support.serving import in_memory, on_sockets
from ..support.waiting import until
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


async def test_the_topics_of_a_websocket_change_without_a_loss(
    make_server: MakeServer, autojump_clock: MockClock
) -> None:
    server = make_server(keepalive=1)

    @server.websocket("/ws")
    async def ws(websocket: WebSocketConnection) -> None:
        await serve_topics(websocket, topics=["a", "b", "c"])

    async with in_memory(server) as memory:
        async with opened(memory, "/ws") as websocket:
            await websocket.send_json(type="subscribe", topics=["a"])
            answer = await websocket.json()
            assert answer["last_event_id"] == server.hub.last_event_id
            await server.hub.publish("b", "before it was asked for")
            await websocket.send_json(type="subscribe", topics=["b"])
            assert (await websocket.json())["topics"] == ["a", "b"]
            assert await next_but_pings(websocket) == {
                "type": "cursor",
                "last_event_id": server.hub.last_event_id,
            }
            cursor = server.hub.last_event_id
        for topic in "abc":
            await server.hub.publish(topic, topic)
        async with opened(memory, "/ws") as websocket:
            await websocket.send_json(type="subscribe", topics=["a", "b"], last_event_id=cursor)
            assert (await websocket.json())["last_event_id"] == cursor
            assert [(await websocket.json())["data"] for _ in range(2)] == ["a", "b"]


# Logs


async def test_before_the_first_event_of_a_shared_log(make_server: MakeServer, tmp_path: Path) -> None:
    server = serving(make_server, hub=Hub(log=SQLiteLog(tmp_path / "log.db")), keepalive=0.05)
    async with Client(server) as client:
        async with client.stream("/") as stream:
            await wait_all_tasks_blocked()
            first = stream.last_event_id
            await server.hub.publish("other", "x")
            while stream.last_event_id != server.hub.last_event_id:
                await stream.wait_keepalives(stream.keepalives + 1)
            cursor = stream.last_event_id
        await server.hub.publish("t", "while it was away")
        for event_id in (first, cursor):
            async with client.stream("/", last_event_id=event_id) as stream:
                assert (await stream.event()).data == "while it was away"


@pytest.mark.parametrize("reads_reset", [False, True])
async def test_after_a_reset_the_cursor_is_of_the_new_log(
    make_server: MakeServer, autojump_clock: MockClock, reads_reset: bool
) -> None:
    server = serving(make_server, keepalive=1)
    async with Client(server) as client:
        async with client.stream("/") as stream:
            for number in range(5):
                await server.hub.publish("t", f"{number}")
            await stream.events(5)
            engine = engine_of(server.hub)
            engine.log.renew()
            engine.registry.announce_gap(Gap.UNKNOWN)  # as the follower of a shared log does
            if reads_reset:
                assert (await stream.event()).event == "reset"
            await quiet(stream, 2)
            assert stream.last_event_id == server.hub.last_event_id
            await server.hub.publish("other", "x")
            await quiet(stream, 2)
            assert stream.last_event_id == server.hub.last_event_id
            cursor = stream.last_event_id
        await server.hub.publish("t", "next")
        async with client.stream("/", last_event_id=cursor) as stream:
            assert (await stream.event()).data == "next"


# Whatever happens at once


def check_cursors(body: bytes, topics: str, published: dict[int, str]) -> None:
    """Check that no cursor of a stream passes an event that comes later, or falls behind."""
    decoder = EventDecoder()
    missing = [sequence for sequence, topic in published.items() if topic in topics]
    known = ""
    for line in body.splitlines(keepends=True):
        for event in decoder.feed(line):
            sequence = int(str(event.id).partition(".")[2])
            while missing and missing[0] < sequence:
                missing.pop(0)  # published before this stream began, or replaced in an interval
            assert missing.pop(0) == sequence
        if decoder.last_event_id != known:
            before = int(known.partition(".")[2] or 0)
            known = decoder.last_event_id
            cursor = int(known.partition(".")[2])
            assert before <= cursor, "it has fallen behind"
            assert before == 0 or not missing or missing[0] > cursor, "it has passed an event"
            if before == 0:
                missing = [sequence for sequence in missing if sequence > cursor]
    assert missing == [] or known == ""


@pytest.mark.parametrize(("over_sockets", "streams"), [(True, 250), (False, 50)])
async def test_no_cursor_passes_an_event_or_falls_behind(
    make_server: MakeServer, over_sockets: bool, streams: int
) -> None:
    """Many streams, so that the pump lets keepalives be written in the middle of a batch."""
    choose = random.Random(streams)
    server = make_server(keepalive=0.001)

    @server.route("/{topics}")
    async def some(connection: Connection, topics: str) -> None:
        await connection.subscribe(*topics, batch=0.03 if "d" in topics else None)

    published: dict[int, str] = {}
    bodies: list[tuple[str, RawClient]] = []

    async def read(topics: str, task_status: trio.TaskStatus[None]) -> None:
        connecting = served.connect()
        async with connecting if isinstance(connecting, RawClient) else await connecting as client:
            await client.get(f"/{topics}")
            bodies.append((topics, client))
            task_status.started()
            while await client.read():
                pass

    running = on_sockets(server) if over_sockets else in_memory(server)
    async with running as served, trio.open_nursery() as nursery:
        async with trio.open_nursery() as starting:  # at once: keepalives flood those that are connected
            for number in range(streams):
                starting.start_soon(nursery.start, read, ["a", "b", "ab", "bc", "cd"][number % 5])
        for _ in range(15):
            for _ in range(choose.randrange(9)):
                topic = choose.choice("abcdx")
                server.hub.publish_nowait(topic, "x" * choose.choice([1, 5_000]))
                published[len(published) + 1] = topic
            await trio.sleep(choose.choice([0, 0.001, 0.002, 0.01]))
        last = max(sequence for sequence, topic in published.items() if topic != "x")
        await until(lambda: all(known_of(client) >= last for _, client in bodies))
        for topics, client in bodies:
            check_cursors(client.body, topics, published)
        nursery.cancel_scope.cancel()


def known_of(client: RawClient) -> int:
    """Return the newest position that a client knows."""
    found = client.body.rfind(b"id: ")
    return int(client.body[found : client.body.find(b"\n", found)].rpartition(b".")[2]) if found >= 0 else -1
