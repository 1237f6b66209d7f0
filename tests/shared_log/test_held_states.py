"""Which states a client has is in its ids: on every log, and however it receives its events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from trio_sse import Connection, Hub, Server
from trio_sse.testing import Client
from trio_sse.websocket import WebSocketConnection, serve_topics

from ..support.logs import MakeAny
from ..support.serving import InMemory, in_memory
from ..support.waiting import SECONDS
from ..support.websocket_client import opened

LARGE = {"n": 0, "rest": "x" * 200}  # a change of it is sent as a patch
WAYS = ["subscription", "stream", "poll", "websocket", "subprotocol"]


class Visitor:
    """A client that connects, receives so many events, and is cut off."""

    client: Client
    memory: InMemory

    def __init__(self, server: Server, way: str) -> None:
        self.server = server
        self.cursor: str | None = None
        self._way = way
        self._receive = getattr(self, f"_by_{way}")

        @server.route("/")
        async def stream(connection: Connection) -> None:
            await connection.subscribe(*connection.request.query["topics"].split(","))

        @server.websocket("/ws")
        async def websocket(websocket: WebSocketConnection) -> None:
            await websocket.subscribe(*websocket.request.query["topics"].split(","))

        @server.websocket("/topics")
        async def topics(websocket: WebSocketConnection) -> None:
            await serve_topics(websocket, topics=lambda topic: True)

    @asynccontextmanager
    async def served(self) -> AsyncIterator[None]:
        if "socket" in self._way or self._way == "subprotocol":
            async with in_memory(self.server) as self.memory:
                yield
        else:
            async with Client(self.server) as self.client:
                yield

    async def receive(self, count: int, *topics: str) -> list[tuple[str | None, str]]:
        """Return the types and the data of the next events of these topics."""
        events = await self._receive(count, topics)
        self.cursor = events[-1][0]
        return [(kind, data) for _, kind, data in events]

    async def _by_subscription(self, count: int, topics: tuple[str, ...]) -> list[Any]:
        async with self.server.hub.subscribe(*topics, last_event_id=self.cursor) as subscription:
            events = [await anext(subscription) for _ in range(count)]
        return [(event.id, event.event, event.data) for event in events]

    async def _by_stream(self, count: int, topics: tuple[str, ...]) -> list[Any]:
        path = f"/?topics={','.join(topics)}"
        async with self.client.stream(path, last_event_id=self.cursor) as stream:
            return [(event.id, event.event, event.data) for event in await stream.events(count)]

    async def _by_poll(self, count: int, topics: tuple[str, ...]) -> list[Any]:
        events: list[Any] = []
        while len(events) < count:  # what is read from the log, and a snapshot, may come in two answers
            path = f"/?wait=0&topics={','.join(topics)}&last_event_id={self.cursor or ''}"
            answer: Any = (await self.client.get(path, headers={"Accept": "application/json"})).json()
            events += [(event["id"], event.get("event"), event["data"]) for event in answer["events"]]
            self.cursor = answer["last_event_id"]
        return events

    async def _by_websocket(self, count: int, topics: tuple[str, ...]) -> list[Any]:
        path = f"/ws?topics={','.join(topics)}&last_event_id={self.cursor or ''}"
        async with opened(self.memory, path) as websocket:
            return await self._events(websocket, count)

    async def _by_subprotocol(self, count: int, topics: tuple[str, ...]) -> list[Any]:
        async with opened(self.memory, "/topics") as websocket:
            asked = {"topics": topics} | ({} if self.cursor is None else {"last_event_id": self.cursor})
            await websocket.send_json(type="subscribe", **asked)
            return await self._events(websocket, count)

    async def _events(self, websocket: Any, count: int) -> list[Any]:
        events: list[Any] = []
        while len(events) < count:
            frame = await websocket.json()
            if "data" in frame:
                events.append((frame["id"], frame.get("event"), frame["data"]))
        return events


@pytest.mark.parametrize("way", WAYS)
async def test_a_client_receives_snapshots_of_the_states_that_it_lacks_and_no_others(
    make_log: MakeAny, way: str
) -> None:
    server = Server(hub=Hub(log=make_log()))
    states = {name: server.hub.state(name, LARGE) for name in "ab"}
    visitor = Visitor(server, way)
    with trio.fail_after(SECONDS):
        async with visitor.served(), server.hub.subscribe("t", "a", "b") as delivered:
            await anext(delivered)
            await anext(delivered)
            visitor.cursor = server.hub.last_event_id
            await server.hub.publish("t", "1")
            await anext(delivered)  # until the hub has read it from the log
            assert await visitor.receive(1, "t") == [(None, "1")]
            await states["a"].update({"n": 1})
            await anext(delivered)
            # It has a state more than before.
            assert [kind for kind, _ in await visitor.receive(1, "t", "a")] == ["snapshot"]
            await states["a"].update({"n": 2})
            await server.hub.publish("t", "2")
            for _ in range(2):
                await anext(delivered)
            # It has the same ones.
            assert await visitor.receive(2, "t", "a") == [("merge-patch", '{"n":2}'), (None, "2")]
            await states["a"].update({"n": 3})
            await anext(delivered)
            # The id of another topic's event says so, too.
            assert await visitor.receive(1, "a", "t") == [("merge-patch", '{"n":3}')]
            await states["b"].update({"n": 1})
            await server.hub.publish("t", "3")
            for _ in range(2):
                await anext(delivered)
            events = await visitor.receive(2, "a", "b", "t")
            assert [kind for kind, _ in events] == [None, "snapshot"]
            await states["b"].update({"n": 2})
            await anext(delivered)
            # It has other ones.
            events = await visitor.receive(1, "b")
            assert [kind for kind, _ in events] == ["snapshot"]
