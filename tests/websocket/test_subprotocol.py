"""The subprotocol "trio-sse.v1" on our own server: what a client may ask, and what it receives."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from trio_sse import Hub, LogSession, LogUnavailable, Server
from trio_sse.websocket import Allowed, WebSocketConnection, serve_topics

from ..support.cancellations import foreign_cancellation
from ..support.leaks import MakeServer
from ..support.serving import in_memory
from ..support.websocket_client import BINARY, TEXT, WebSocket, opened

pytestmark = pytest.mark.usefixtures("protocol")


def serving_topics(make_server: MakeServer, topics: Allowed, publish: Allowed = ()) -> Server:
    server: Server = make_server()

    @server.websocket("/ws")
    async def ws(websocket: WebSocketConnection) -> None:
        await serve_topics(websocket, topics=topics, publish=publish)

    return server


async def ask(websocket: WebSocket, **frame: object) -> dict[str, Any]:
    await websocket.send_json(**frame)
    return await websocket.json()


async def test_topics_are_added_and_removed(make_server: MakeServer) -> None:
    server = serving_topics(make_server, ["a", "b", "c"])
    async with in_memory(server) as memory, opened(memory, "/ws") as websocket:
        assert await ask(websocket, type="unsubscribe", topics=["a"]) == {"type": "topics", "topics": []}
        assert await ask(websocket, type="subscribe", topics=["a"]) == {
            "type": "topics",
            "topics": ["a"],
            "last_event_id": server.hub.last_event_id,
        }
        answer = await ask(websocket, type="subscribe", topics=["b", "a"])
        assert answer == {"type": "topics", "topics": ["a", "b"]}
        answer = await ask(websocket, type="unsubscribe", topics=["a", "c"])
        assert answer == {"type": "topics", "topics": ["b"]}
        await server.hub.publish("a", "not any more")
        await server.hub.publish("b", {"n": 1}, event="tick", retry=5)
        assert await websocket.json() == {
            "id": server.hub.last_event_id,
            "event": "tick",
            "retry": 5,
            "data": '{"n":1}',
        }


async def test_a_change_waits_until_the_replay_is_over(make_server: MakeServer) -> None:
    server = serving_topics(make_server, lambda topic: True)
    async with in_memory(server) as memory:
        first = server.hub.last_event_id
        for number in range(600):  # more than a page
            await server.hub.publish("a", f"{number}")
        async with opened(memory, "/ws") as websocket:
            await websocket.send_json(type="subscribe", topics=["a"], last_event_id=first)
            await websocket.send_json(type="subscribe", topics=["b"])
            came = [await websocket.json() for _ in range(602)]
        assert [frame["data"] for frame in came if "data" in frame] == [f"{number}" for number in range(600)]
        assert [frame["topics"] for frame in came if "topics" in frame] == [["a"], ["a", "b"]]


async def test_a_function_decides_who_may_do_what(make_server: MakeServer) -> None:
    async def may_subscribe(topic: str) -> bool:
        await trio.lowlevel.checkpoint()
        return topic.startswith("public/")

    server = serving_topics(make_server, may_subscribe, lambda topic: topic == "public/said")
    async with in_memory(server) as memory, opened(memory, "/ws") as websocket:
        assert "error" in await ask(websocket, type="subscribe", topics=["public/said", "private"])
        await ask(websocket, type="subscribe", topics=["public/said"])
        await websocket.send_json(type="publish", topic="public/said", event="said", data=[1, "é"])
        frame = await websocket.json()
        assert (frame["event"], frame["data"]) == ("said", '[1,"é"]')
        assert "error" in await ask(websocket, type="publish", topic="public/other", data=1)


async def test_a_function_that_fails_closes_the_websocket(make_server: MakeServer) -> None:
    def fail(topic: str) -> bool:
        raise foreign_cancellation()  # a nursery would take it for its own, and end as if all was well

    server = serving_topics(make_server, fail)
    async with in_memory(server) as memory, opened(memory, "/ws") as websocket:
        await websocket.send_json(type="subscribe", topics=["a"])
        assert await websocket.close_code() == (1011, "handler_error")


@pytest.mark.parametrize(
    ("payload", "error"),
    [
        (b"not JSON", "a frame must be JSON"),
        (b"[" * 100_000, "a frame must be JSON"),
        (b"[]", "a frame must be a JSON object"),
        (b"{}", "the type must be subscribe, unsubscribe or publish, not None"),
        (b'{"type":"subscribe"}', "topics must be a list of names"),
        (b'{"type":"subscribe","topics":"a"}', "topics must be a list of names"),
        (b'{"type":"subscribe","topics":[]}', "a subscription has 1 to 256 topics, not 0"),
        (
            b'{"type":"subscribe","topics":[%b7]}' % (b"7," * 130_000),
            "a subscription has 1 to 256 topics, not more",
        ),
        (b'{"type":"subscribe","topics":[7]}', "a topic must be a str, not int"),
        (
            b'{"type":"subscribe","topics":["\\n"]}',
            "a topic must not have control characters or the like: U+000A",
        ),
        (b'{"type":"subscribe","topics":["a"],"last_event_id":7}', "last_event_id must be a string"),
        (b'{"type":"publish","topic":"a"}', "a publish frame needs data"),
        (b'{"type":"publish","topic":7,"data":1}', "a topic must be a str"),
        (b'{"type":"publish","topic":"a","data":1,"event":7}', "event must be a string"),
        (b'{"type":"publish","topic":"a","data":1,"event":"a\\nb"}', ""),
        (b'{"type":"publish","topic":"secret","data":1}', "you may not publish to 'secret'"),
    ],
)
async def test_unknown_frames_are_an_error_and_nothing_is_lost(
    make_server: MakeServer, payload: bytes, error: str
) -> None:
    server = serving_topics(make_server, ["a"], ["a"])
    async with in_memory(server) as memory, opened(memory, "/ws") as websocket:
        await websocket.send(TEXT, payload)
        answer: Any = await websocket.json()
        assert answer["type"] == "error"
        assert answer["error"].startswith(error)
        await websocket.send(BINARY, b"{}")
        assert await websocket.json() == {"type": "error", "error": "a frame must be text, not binary"}
        assert await ask(websocket, type="subscribe", topics=["a"]) == {
            "type": "topics",
            "topics": ["a"],
            "last_event_id": server.hub.last_event_id,
        }
        answer = await ask(websocket, type="subscribe", topics=["a"], last_event_id="x")
        assert "goes with the first subscribe" in answer["error"]


class Away:
    """A log that cannot be reached."""

    publish_timeout = 0.05

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[LogSession]:
        await trio.lowlevel.checkpoint()
        raise LogUnavailable("it is away")
        yield  # this makes it a generator


async def test_a_publish_is_refused_while_the_log_is_unavailable(make_server: MakeServer) -> None:
    server = make_server(hub=Hub(log=Away()))

    @server.websocket("/ws")
    async def ws(websocket: WebSocketConnection) -> None:
        await serve_topics(websocket, topics=["a"], publish=["a"])

    async with in_memory(server) as memory, opened(memory, "/ws") as websocket:
        answer = await ask(websocket, type="publish", topic="a", data="x")
        assert answer["type"] == "error"
        assert "the log is unavailable" in answer["error"]
        assert await ask(websocket, type="subscribe", topics=["a"]) == {
            "type": "topics",
            "topics": ["a"],
            "last_event_id": server.hub.last_event_id,
        }
