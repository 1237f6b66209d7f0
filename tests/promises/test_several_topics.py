"""Clients with different, overlapping sets of topics, some of them slow: each receives what is its own."""

from __future__ import annotations

import random
import ssl

import pytest
import trio

from trio_sse import Connection, Server, ServerSentEvent

from ..support.certificates import make_contexts
from ..support.client import Client
from ..support.leaks import LeakCheck
from ..support.serving import OnSockets, on_sockets
from ..support.waiting import until

pytestmark = pytest.mark.integration

TOPICS = "abcdef"
EVENTS = 800
CLIENTS = 24


def make_server() -> Server:
    server = Server(send_buffer=16 * 1024)

    @server.route("/{topics}/{interval:float}/{batch:float}")
    async def stream(connection: Connection, topics: str, interval: float, batch: float) -> None:
        await connection.subscribe(
            *topics, "end", interval=interval or None, batch=batch or None, queue=10_000
        )

    return server


class Reader:
    """Reads a stream, at its own speed, until it has the last event."""

    def __init__(self, chance: random.Random) -> None:
        self.topics = chance.sample(TOPICS, chance.randint(1, len(TOPICS)))
        self.interval, self.batch = chance.choice([(0, 0), (0, 0), (0.05, 0), (0, 0.05)])
        self.is_slow = chance.random() < 0.3
        self.events: list[ServerSentEvent] = []

    async def run(self, serving: OnSockets, last: str, *, task_status: trio.TaskStatus[None]) -> None:
        async with await serving.connect() as client:
            await client.get(f"/{''.join(self.topics)}/{self.interval}/{self.batch}")
            task_status.started()
            await self._read(client, last)

    async def _read(self, client: Client, last: str) -> None:
        while not self.events or self.events[-1].data != last:
            self.events.append(await client.event())
            if self.is_slow and len(self.events) % 50 == 0:
                await trio.sleep(0.02)

    def check(self, published: list[tuple[str, str]]) -> None:
        topics = {*self.topics, "end"}
        places = [int(str(event.id).partition(".")[2]) for event in self.events]
        expected = [place for place, (topic, _) in enumerate(published, 1) if topic in topics]
        assert [event.data for event in self.events] == [published[place - 1][1] for place in places]
        if self.interval:  # the newest of each topic, and nothing twice
            assert places == sorted(set(places) & set(expected))
            newest = {topic: place for place, (topic, _) in enumerate(published, 1) if topic in topics}
            assert set(newest.values()) <= set(places)
        else:
            assert places == expected


@pytest.mark.parametrize("is_secure", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("seed", range(2))
async def test_each_client_receives_its_topics_in_order(
    no_leak: LeakCheck, *, is_secure: bool, seed: int
) -> None:
    chance = random.Random(seed)
    server = no_leak.watch(make_server())
    server_tls: ssl.SSLContext | None = None
    client_tls: ssl.SSLContext | None = None
    if is_secure:
        contexts = make_contexts()
        server_tls, client_tls = contexts.server, contexts.client
    last = "the last"
    readers = [Reader(chance) for _ in range(CLIENTS)]
    published: list[tuple[str, str]] = []
    async with (
        on_sockets(server, server_tls=server_tls, client_tls=client_tls) as serving,
        trio.open_nursery() as reading,
    ):
        for reader in readers:
            await reading.start(reader.run, serving, last)
        await until(lambda: server.hub.statistics().subscriptions == CLIENTS)
        for number in range(EVENTS):
            data = f"{number} {'x' * chance.choice([0, 100, 3000, 30_000 if number % 50 == 0 else 0])}"
            published.append((chance.choice(TOPICS), data))
        published.append(("end", last))
        for topic, data in published:
            await server.hub.publish(topic, data)
            if chance.random() < 0.02:
                await trio.sleep(0.01)
    for reader in readers:
        reader.check(published)
