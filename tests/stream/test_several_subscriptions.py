"""Several subscriptions that are forwarded on one connection: each resumes exactly, wherever it is cut."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse import Connection, EventDecoder, Hub, Server, ServerSentEvent
from trio_sse._hub.hub import engine_of
from trio_sse._log.memory import Gap
from trio_sse.sqlite import SQLiteLog
from trio_sse.testing import Client
from trio_sse.websocket import WebSocketConnection

from ..support.leaks import MakeServer
from ..support.serving import in_memory, on_sockets
from ..support.shares import seeds
from ..support.websocket_client import opened


def serving_both(make_server: MakeServer, *, hub: Hub | None = None, batch: float | None = None) -> Server:
    """Serve the topics "a" and "b" by two subscriptions, the second with options of its own."""
    server: Server = make_server(keepalive=1) if hub is None else make_server(hub=hub, keepalive=1)

    async def forward_both(connection: Any) -> None:
        cursor = connection.last_event_id
        async with (
            server.hub.subscribe("a", last_event_id=cursor) as a,
            server.hub.subscribe("b", last_event_id=cursor, batch=batch) as b,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(connection.forward, a)
            nursery.start_soon(connection.forward, b)

    @server.route("/")
    async def both(connection: Connection) -> None:
        await forward_both(connection)

    @server.websocket("/ws")
    async def both_by_websocket(websocket: WebSocketConnection) -> None:
        await forward_both(websocket)

    return server


class Received:
    """What a client has received over all its connections."""

    def __init__(self) -> None:
        self.cursor = ""
        self.data: list[str] = []
        self.resets = 0

    def take(self, body: bytes) -> None:
        """Take what came on one connection, however it was cut."""
        decoder = EventDecoder(last_event_id=self.cursor)
        for event in decoder.feed(body):
            self.note(event)
        self.cursor = decoder.last_event_id

    def note(self, event: ServerSentEvent) -> None:
        self.resets += event.event == "reset"
        if event.event != "reset":
            self.data.append(str(event.data))

    def of(self, topic: str) -> list[int]:
        return [int(data[1:]) for data in self.data if data[0] == topic]


@pytest.mark.slow
@pytest.mark.parametrize("seed", seeds(6))
@pytest.mark.parametrize("batch", [None, 0.5])
async def test_each_resumes_exactly_after_a_cut_at_any_byte(
    make_server: MakeServer, autojump_clock: MockClock, seed: int, batch: float | None
) -> None:
    choose = random.Random(seed)
    server = serving_both(make_server, batch=batch)
    received = Received()
    numbers = {"a": 0, "b": 0}

    async def publish(count: int) -> None:
        for _ in range(count):
            topic = choose.choice(["a", "b", "b", "other"])
            await server.hub.publish(topic, f"{topic}{numbers.get(topic)}")
            if topic in numbers:
                numbers[topic] += 1
            if choose.random() < 0.2:
                await trio.sleep(choose.random())

    async with Client(server) as client:
        for _ in range(25):
            async with client.stream("/", last_event_id=received.cursor or None) as stream:
                await wait_all_tasks_blocked()
                await publish(choose.randrange(20))
                await trio.sleep(choose.choice([0, 0.3, 2]))
                received.take(stream.body[: choose.randrange(len(stream.body) + 1)])
            if received.cursor:  # at the first connection, the cut may come before the cursor
                await publish(choose.randrange(5))
            else:
                numbers = dict.fromkeys(numbers, 0)
                received.data.clear()
        async with client.stream("/", last_event_id=received.cursor) as stream:
            await trio.sleep(3)
            received.take(stream.body)
    assert received.resets == 0
    for topic, count in numbers.items():
        of_topic = received.of(topic)
        assert of_topic == list(range(of_topic[0], count)), topic
        assert of_topic[0] == 0 or not received.cursor


async def take_in_parts(client: Client, received: Received, count: int, *, at_once: int) -> None:
    """Reconnect until this many events are received in all, with some on each connection."""
    while len(received.data) < count:
        async with client.stream("/", last_event_id=received.cursor) as stream:
            for _ in range(min(at_once, count - len(received.data))):
                event = await stream.event()
                received.note(event)
                received.cursor = str(event.id)


async def test_the_replay_of_both_is_resumed_exactly(make_server: MakeServer) -> None:
    server = serving_both(make_server)
    received = Received()
    async with Client(server) as client:
        received.cursor = server.hub.first_event_id
        for number in range(300):
            await server.hub.publish("a", f"a{number}")
            await server.hub.publish("b", f"b{number}")
        await take_in_parts(client, received, 600, at_once=30)
    assert received.of("a") == received.of("b") == list(range(300))
    assert received.resets == 0


@pytest.mark.slow
async def test_polls_continue_both(make_server: MakeServer, autojump_clock: MockClock) -> None:
    server = serving_both(make_server)
    data: list[str] = []
    cursor = ""
    async with Client(server) as client:

        async def poll() -> None:
            nonlocal cursor
            headers = {"Accept": "application/json"}
            answer: Any = (await client.get(f"/?wait=0&last_event_id={cursor}", headers=headers)).json()
            data.extend(event["data"] for event in answer["events"])
            cursor = answer["last_event_id"]
            assert cursor

        for number in range(-1, 400):
            if number >= 0:
                await server.hub.publish("a" if number % 3 else "b", f"{number}")
            if number % 7 == -1 % 7:
                await poll()
        while len(data) < 400:
            await poll()
    assert sorted(map(int, data)) == list(range(400))


async def test_a_websocket_resumes_both(make_server: MakeServer, autojump_clock: MockClock) -> None:
    server = serving_both(make_server, batch=1)
    async with in_memory(server) as memory:
        async with opened(memory, "/ws") as websocket:
            await wait_all_tasks_blocked()
            await server.hub.publish("b", "b0")
            await wait_all_tasks_blocked()
            for number in range(1, 4):
                await server.hub.publish("b", f"b{number}")  # they wait for the interval's end
            await server.hub.publish("a", "a0")
            frames = [await websocket.json() for _ in range(2)]
            assert [frame["data"] for frame in frames] == ["b0", "a0"]
        async with opened(memory, f"/ws?last_event_id={frames[-1]['id']}") as websocket:
            assert [(await websocket.json())["data"] for _ in range(3)] == ["b1", "b2", "b3"]


async def test_both_are_resumed_from_a_shared_log(make_server: MakeServer, tmp_path: Path) -> None:
    server = serving_both(make_server, hub=Hub(log=SQLiteLog(tmp_path / "log.db")))
    received = Received()
    async with Client(server) as client:
        async with client.stream("/") as stream:
            await wait_all_tasks_blocked()
            received.take(stream.body)
        for number in range(20):
            await server.hub.publish("a", f"a{number}")
            await server.hub.publish("b", f"b{number}")
        await take_in_parts(client, received, 40, at_once=7)
    assert received.of("a") == received.of("b") == list(range(20))
    assert received.resets == 0


async def test_keepalives_move_the_cursor_of_both(make_server: MakeServer, autojump_clock: MockClock) -> None:
    server = serving_both(make_server)
    async with Client(server) as client, client.stream("/") as stream:
        await server.hub.publish("a", "a0")
        await stream.event()
        for _ in range(3):
            await server.hub.publish("other", "x")
        await stream.wait_keepalives(3)
        base, *positions = stream.last_event_id.split("~")
        assert base == server.hub.last_event_id
        assert {position.partition(".")[2] for position in positions} == {base.partition(".")[2]}
        assert stream.body.endswith(b"\n:\n:\n")


async def test_a_new_subscription_resumes_from_the_base(make_server: MakeServer) -> None:
    server = serving_both(make_server)
    async with Client(server) as client:
        async with client.stream("/") as stream:
            await wait_all_tasks_blocked()
            cursor = stream.last_event_id
        for topic in ("a", "c", "b", "c"):
            await server.hub.publish(topic, topic)
        async with server.hub.subscribe("c", last_event_id=cursor) as subscription:
            assert [(await anext(subscription)).data for _ in range(2)] == ["c", "c"]


async def test_one_that_is_left_leaves_plain_ids_and_direct_writes(
    make_server: MakeServer, autojump_clock: MockClock
) -> None:
    server = make_server(keepalive=1000)

    @server.route("/")
    async def first_both(connection: Connection) -> None:
        async with server.hub.subscribe("a") as a, trio.open_nursery() as nursery:
            nursery.start_soon(connection.forward, a)
            with trio.move_on_after(5):
                async with server.hub.subscribe("b") as b:
                    await connection.forward(b)

    async with on_sockets(server) as served, await served.connect() as client:
        await client.get("/")
        await wait_all_tasks_blocked()
        await server.hub.publish("a", "one")
        assert "~" in str((await client.event()).id)
        await trio.sleep(6)
        for text in ("two", "three"):
            await server.hub.publish("a", text)
            event = await client.event()
            assert (event.data, event.id) == (text, server.hub.last_event_id)
        await wait_all_tasks_blocked()
        (stream,) = server._manager.streams
        assert stream.forwarded[0]._writer is not None


async def test_one_that_pauses_keeps_its_position(make_server: MakeServer, autojump_clock: MockClock) -> None:
    """A handler that forwards one subscription after the other, and stays in both."""
    server = make_server(keepalive=1)

    @server.route("/")
    async def in_turns(connection: Connection) -> None:
        cursor = connection.last_event_id
        async with (
            server.hub.subscribe("a", last_event_id=cursor) as a,
            server.hub.subscribe("b", last_event_id=cursor) as b,
        ):
            while True:
                for subscription in (a, b):
                    with trio.move_on_after(9.5):
                        await connection.forward(subscription)

    received = Received()
    async with Client(server) as client:
        for _ in range(2):
            async with client.stream("/", last_event_id=received.cursor or None) as stream:
                await trio.sleep(12)
                await server.hub.publish("a", f"a{len(received.data)}")  # it waits for its turn
                await server.hub.publish("b", f"b{len(received.data)}")
                await stream.wait_keepalives(stream.keepalives + 2)
                received.take(stream.body)
        async with client.stream("/", last_event_id=received.cursor) as stream:
            await trio.sleep(30)
            received.take(stream.body)
    assert len(received.of("a")) == len(received.of("b")) == 2
    assert received.resets == 0


async def test_positions_are_kept_until_their_subscription_begins(
    make_server: MakeServer, autojump_clock: MockClock
) -> None:
    server = make_server(keepalive=1)

    @server.route("/")
    async def one_later(connection: Connection) -> None:
        cursor = connection.last_event_id
        async with (
            server.hub.subscribe("a", last_event_id=cursor) as a,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(connection.forward, a)
            await trio.sleep(5)
            async with server.hub.subscribe("b", last_event_id=cursor) as b:
                await connection.forward(b)

    received = Received()
    async with Client(server) as client:
        async with client.stream("/") as stream:
            await trio.sleep(8)
            received.take(stream.body)
        for number in range(3):
            await server.hub.publish("b", f"b{number}")
            await server.hub.publish("a", f"a{number}")
            async with client.stream("/", last_event_id=received.cursor) as stream:
                await trio.sleep(2.5)  # it is cut before the second begins
                received.take(stream.body)
        assert (received.of("a"), received.of("b")) == ([0, 1, 2], [])
        async with client.stream("/", last_event_id=received.cursor) as stream:
            await trio.sleep(8)
            received.take(stream.body)
    assert (received.of("a"), received.of("b"), received.resets) == ([0, 1, 2], [0, 1, 2], 0)


async def test_positions_that_nobody_claims_are_forgotten(
    make_server: MakeServer, autojump_clock: MockClock
) -> None:
    server = serving_both(make_server)

    @server.route("/a")
    async def only_a(connection: Connection) -> None:
        await connection.subscribe("a")

    async with Client(server) as client:
        async with client.stream("/") as stream:
            await wait_all_tasks_blocked()
            cursor = stream.last_event_id
        async with client.stream("/a", last_event_id=cursor) as stream:
            await trio.sleep(11)
            await server.hub.publish("a", "one")
            assert (await stream.event()).id == server.hub.last_event_id


@pytest.mark.slow
async def test_a_reset_that_was_not_written_is_not_passed(
    make_server: MakeServer, autojump_clock: MockClock
) -> None:
    """The log loses continuity while one subscription's events wait."""
    server = serving_both(make_server, batch=100)
    received = Received()
    async with Client(server) as client:
        async with client.stream("/") as stream:
            await wait_all_tasks_blocked()
            await server.hub.publish("b", "b0")
            await stream.event()
            engine = engine_of(server.hub)
            engine.log.renew()
            engine.registry.announce_gap(Gap.UNKNOWN)
            await server.hub.publish("a", "a0")
            await trio.sleep(3)
            body = stream.body
        assert body.count(b"event: reset") == 2
        for length in range(body.index(b"event: reset") - 100, len(body) + 1):
            received = Received()
            received.take(body[:length])
            before = received.resets
            async with client.stream("/", last_event_id=received.cursor) as stream:
                await wait_all_tasks_blocked()
                received.take(stream.body)
            assert received.resets >= 2, (length, before)
            assert received.resets == 2 or length < len(body)
            assert received.of("a") == [0] or before < 2


async def test_positions_that_a_client_makes_up_are_not_kept(make_server: MakeServer) -> None:
    server = serving_both(make_server)

    @server.route("/a")
    async def only_a(connection: Connection) -> None:
        await connection.subscribe("a")

    async with Client(server) as client:
        start = server.hub.last_event_id
        await server.hub.publish("a", "one")
        made_up = start + "".join(f"~{number:08x}.0" for number in range(100))
        async with client.stream("/a", last_event_id=made_up) as stream:
            assert (await stream.event()).id == server.hub.last_event_id
