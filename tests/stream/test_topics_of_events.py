"""Events that say their topic, wherever they come from: live, from the log, throttled, and of states."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse import Connection, Hub, Server, ServerSentEvent
from trio_sse._wire.message import Batch, Framing, Message
from trio_sse.testing import Client
from trio_sse.websocket import WebSocketConnection, serve_topics

from ..support.cases import each_case
from ..support.leaks import MakeServer
from ..support.serving import in_memory, running
from ..support.websocket_client import opened

PUBLISHED = [("a", "1"), ("b", "line\nline"), ("a", "3")]


async def publish(hub: Hub) -> None:
    for topic, data in PUBLISHED:
        await hub.publish(topic, data, event="e", key=data)
        await hub.publish("other", "x")


def seen(events: list[ServerSentEvent]) -> list[tuple[str | None, object]]:
    return [(event.topic, event.data) for event in events]


@pytest.mark.parametrize(
    "options", [{}, {"interval": 0.1}, {"batch": 0.1}], ids=["live", "interval", "batch"]
)
async def test_events_say_their_topic_live_and_replayed(
    make_server: MakeServer, autojump_clock: MockClock, options: dict[str, Any]
) -> None:
    server: Server = make_server()

    @server.route("/")
    async def joined(connection: Connection) -> None:
        await connection.subscribe("a", "b", include_topic=True, **options)

    async with Client(server) as client:
        begun = server.hub.last_event_id
        async with client.stream("/") as one, client.stream("/") as other:
            await wait_all_tasks_blocked()
            await publish(server.hub)
            assert seen(await one.events(3)) == seen(await other.events(3)) == PUBLISHED
        async with client.stream("/", last_event_id=begun) as stream:
            assert seen(await stream.events(3)) == PUBLISHED
        async with client.stream("/", last_event_id="00000000.1") as stream:
            event = await stream.event()
            assert (event.event, event.topic) == ("reset", None)


async def test_of_several_subscriptions_each_decides(
    make_server: MakeServer, autojump_clock: MockClock
) -> None:
    server: Server = make_server()

    @server.route("/")
    async def both(connection: Connection) -> None:
        cursor = connection.last_event_id
        async with (
            server.hub.subscribe("a", last_event_id=cursor, include_topic=True) as a,
            server.hub.subscribe("b", last_event_id=cursor) as b,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(connection.forward, a)
            nursery.start_soon(connection.forward, b)

    async with Client(server) as client, client.stream("/") as stream:
        await wait_all_tasks_blocked()
        await publish(server.hub)
        expected = [("a", "1"), ("a", "3"), (None, "line\nline")]
        assert sorted(seen(await stream.events(3)), key=str) == sorted(expected, key=str)


async def test_a_state_and_an_iterated_subscription_say_their_topics(autojump_clock: MockClock) -> None:
    hub = Hub()
    hub.state("a", {"n": 1})
    async with (
        running(hub),
        hub.subscribe("a", "b", include_topic=True) as topics,
        hub.subscribe("b") as plain,
    ):
        await hub.publish("b", "x")
        assert [(await anext(topics)).topic for _ in range(2)] == ["a", "b"]
        event = await anext(plain)
        assert (event.topic, event.encode()) == (None, f"id: {event.id}\ndata: x\n\n".encode())


async def test_websockets_say_topics(make_server: MakeServer) -> None:
    server: Server = make_server()

    @server.websocket("/ws")
    async def ws(websocket: WebSocketConnection) -> None:
        await websocket.subscribe("a", "b", include_topic=True)

    @server.websocket("/topics")
    async def topics(websocket: WebSocketConnection) -> None:
        await serve_topics(websocket, topics=["a", "b"], include_topic=True)

    async with in_memory(server) as memory, opened(memory, "/ws") as one, opened(memory, "/topics") as other:
        await wait_all_tasks_blocked()
        await other.send_json(type="subscribe", topics=["a", "b"])
        cursor = (await other.json())["last_event_id"]
        await publish(server.hub)
        for websocket in (one, other):
            events = [await websocket.json() for _ in PUBLISHED]
            assert [(event["topic"], event["data"]) for event in events] == PUBLISHED
        async with opened(memory, f"/ws?last_event_id={cursor}") as again:
            assert (await again.json())["topic"] == "a"


@each_case("framing", Framing)
def test_a_batch_is_framed_with_its_topics_once(framing: Framing) -> None:
    message = Message("a", ServerSentEvent("x"), "x")
    message.place(1, "e.1")
    batch = Batch([message, message])
    framed = batch.framed_with_topics(framing)
    assert batch.framed_with_topics(framing) is framed
    assert batch.framed(framing) != framed
    assert framed.count(b'"topic":"a"' if framing is Framing.WEBSOCKET else b"topic: a\nid: e.1\n") == 2
