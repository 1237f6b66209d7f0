"""The model: nodes on one log, clients of many kinds, and steps that a test chooses."""

from __future__ import annotations

import math
import os
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import trio

from trio_sse import Connection, Hub, Overflow, Server
from trio_sse.websocket import WebSocketConnection, serve_topics

from ..certificates import Contexts
from ..waiting import SECONDS
from .clients import DeliveryClient, PollClient, Refused, StreamClient, WebSocketClient
from .record import Allowed, Published, Record, Resets

TOPICS = "abcd"

#: `make model`: the runs are longer, and beside other work some took longer than the others may.
IS_WHOLE = "TRIO_SSE_MODEL_RUNS" in os.environ

#: Of one run, at most: a client waits twice for what does not come, and only then says what is missing.
RUN_SECONDS = (40 if IS_WHOLE else 4) * SECONDS

#: Small, so that a client that does not read falls behind at once.
SEND_BUFFER = 4096

Transport = Literal["stream", "tls", "poll", "websocket", "two"]


@dataclass(frozen=True)
class Publish:
    """Publish events in turns, one after the other, on one of the nodes."""

    topics: str
    count: int
    size: int = 1
    node: int = 0


@dataclass(frozen=True)
class Open:
    """Open the connection of a client, after closing the one it has; a new client if there is none."""

    client: int
    node: int = 0


@dataclass(frozen=True)
class Read:
    """Read some bytes at most."""

    client: int
    size: int


@dataclass(frozen=True)
class Cut:
    """Close the connection of a client."""

    client: int


@dataclass(frozen=True)
class Restart:
    """End a node, its hub too, and start another in its place; `drains` whether it ends gracefully."""

    node: int = 0
    drains: bool = False


Step = Publish | Open | Read | Cut | Restart


@dataclass(frozen=True)
class Kind:
    """What a client asks for."""

    topics: str
    policy: Overflow = Overflow.DISCONNECT
    interval: float | None = None

    @property
    def allowed(self) -> Allowed:
        if self.policy in (Overflow.DROP_NEWEST, Overflow.DROP_OLDEST):
            return Allowed.ANYTHING
        if self.policy is Overflow.LATEST or self.interval is not None:
            return Allowed.OLDER
        return Allowed.NOTHING


@dataclass
class Node:
    """A server, its hub and where it listens."""

    hub: Hub
    server: Server
    scope: trio.CancelScope
    address: tuple[str, int]


@dataclass
class Model:
    """Drives nodes and clients through steps, then checks the rule for every client.

    Attributes:
        make_hub: makes the hub of a node; hubs of one log share it.
        transport: how all clients connect.
        kinds: what each client asks for, by its number.
        nodes: how many nodes there are.
        contexts: for TLS.
        resets: when clients may receive a `reset`.
    """

    make_hub: Callable[[], Hub]
    transport: Transport
    kinds: list[Kind]
    nodes: int = 1
    contexts: Contexts | None = None
    published: list[Published] = field(default_factory=list)
    resets: Resets = Resets.NEVER
    steps_done: int = 0
    _running: list[Node] = field(default_factory=list)
    _clients: dict[int, DeliveryClient] = field(default_factory=dict)
    _is_open: set[int] = field(default_factory=set)
    _nursery: trio.Nursery | None = None

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Run the nodes."""
        with trio.fail_after(RUN_SECONDS):
            async with trio.open_nursery() as self._nursery:
                for _ in range(self.nodes):
                    self._running.append(await self._start())
                try:
                    yield
                finally:
                    with trio.CancelScope(shield=True):
                        for client in self._clients.values():
                            await client.close()
                    self._nursery.cancel_scope.cancel()

    async def _start(self) -> Node:
        assert self._nursery is not None
        hub = self.make_hub()
        server = Server(hub=hub, send_buffer=SEND_BUFFER, keepalive=0.05, drain_timeout=0.2)
        add_routes(server)
        context: ssl.SSLContext | None = None
        if self.transport == "tls":
            assert self.contexts is not None
            context = self.contexts.server
        scope = trio.CancelScope()

        async def serve(task_status: trio.TaskStatus[tuple[str, int]]) -> None:
            with scope:
                async with trio.open_nursery() as nursery:
                    await nursery.start(hub.run)
                    listen = partial(server.serve, "127.0.0.1", 0, ssl_context=context)
                    addresses = await nursery.start(listen)
                    task_status.started(addresses[0])

        address = await self._nursery.start(serve)
        return Node(hub, server, scope, address)

    # Steps

    async def do(self, step: Step) -> None:
        """Do one step."""
        self.steps_done += 1
        match step:
            case Publish():
                await self._publish(step)
            case Open():
                await self._open(step.client % len(self.kinds), step.node)
            case Read():
                await self._read(step.client % len(self.kinds), step.size)
            case Cut():
                await self._cut(step.client % len(self.kinds))
            case Restart():
                await self._restart(step.node % self.nodes, step.drains)

    async def _publish(self, step: Publish, *, is_last: bool = False) -> None:
        hub = self._running[step.node % self.nodes].hub
        for index in range(step.count):
            topic = step.topics[index % len(step.topics)]
            number = len(self.published) + 1
            key = None if number % 3 else f"k{number % 2}"
            data = {"n": number, "topic": topic, "pad": "x" * step.size, "last": is_last}
            await hub.publish(topic, data, key=key)
            self.published.append(Published(number, topic, key))

    async def _open(self, number: int, node: int) -> None:
        await self._cut(number)
        client = self._clients.get(number)
        if client is None:
            client = self._clients[number] = self._new_client(self.kinds[number])
        self._is_open.add(number)
        with suppress(Refused):
            await client.open(await self._dial(self._running[node % self.nodes]))
            return
        await self._cut(number)

    async def _receive(self, number: int, size: int) -> bool:
        """Read some bytes at most; return whether the connection goes on."""
        with suppress(Refused):
            return await self._clients[number].read(size)
        return False

    def _new_client(self, kind: Kind) -> DeliveryClient:
        parts = halves(kind.topics) if self.transport == "two" else [kind.topics]
        record = Record(kind.topics, kind.allowed, parts)
        path = f"/{kind.topics}/{kind.policy.value}/{kind.interval or 0}"
        if self.transport == "websocket":
            return WebSocketClient("/ws", record, lambda: len(self.published))
        if self.transport == "poll":
            return PollClient(path, record, lambda: len(self.published))
        if self.transport == "two":
            path = f"/two{path}"
        return StreamClient(path, record, lambda: len(self.published))

    async def _dial(self, node: Node) -> trio.abc.Stream:
        plain = trio.socket.socket()
        plain.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, SEND_BUFFER)
        await plain.connect(node.address)
        stream: trio.abc.Stream = trio.SocketStream(plain)
        if self.transport == "tls":
            assert self.contexts is not None
            stream = trio.SSLStream(stream, self.contexts.client, server_hostname="localhost")
        return stream

    async def _read(self, number: int, size: int) -> None:
        if number not in self._is_open:
            return
        is_over = False
        with trio.move_on_after(0.01 if self.transport != "poll" else math.inf):
            is_over = not await self._receive(number, size)
        if is_over:
            await self._cut(number)

    async def begin(self, number: int) -> None:
        """Open a client's first connection, and read on until it has a cursor, before any event."""
        await self._open(number, 0)
        record = self._clients[number].record
        with trio.fail_after(SECONDS):
            while record.since is None:
                assert await self._receive(number, 100), "it was cut off before it had a cursor"

    async def _cut(self, number: int) -> None:
        if number in self._is_open:
            self._is_open.discard(number)
            await self._clients[number].close()

    async def _restart(self, index: int, drains: bool) -> None:
        node = self._running[index]
        if drains:
            with trio.move_on_after(SECONDS):
                await node.server.drain()
        node.scope.cancel()
        self._running[index] = await self._start()
        for number in list(self._is_open):
            if not await self._is_alive(number):
                await self._cut(number)

    async def _is_alive(self, number: int) -> bool:
        """Read what is left of a connection whose node may have ended; return whether it goes on."""
        if self.transport == "poll":
            await self._cut(number)
            return False
        with trio.move_on_after(0.01):
            while await self._receive(number, 1000):
                pass
            return False
        return True

    # The end

    async def finish(self) -> None:
        """Publish a last event to each topic, have every client receive it, and check the rule."""
        await self._publish(Publish(TOPICS, len(TOPICS)), is_last=True)
        async with trio.open_nursery() as nursery:
            for number in self._clients:
                nursery.start_soon(self._finish_client, number)
        for client in self._clients.values():
            client.record.check(self.published, self.resets)

    async def _finish_client(self, number: int) -> None:
        """Read until the last events have come, and reconnect where the connection ends before."""
        record = self._clients[number].record
        if not record.last_event_id:
            return  # it has never been told anything, so a new connection begins now
        stalls = attempts = 0
        while not record.is_complete:
            may_be_left_out = record.allowed is Allowed.ANYTHING or record.ends_with_reset
            if stalls == (1 if may_be_left_out else 2):
                break
            if number not in self._is_open:
                attempts += 1
                assert attempts < 100, f"it is cut off again and again: {record}"
                await self._open(number, attempts)
            before = record.progress
            # Keepalives come all the time. If nothing has to come, it is no failure either if it is late.
            with trio.move_on_after(0.1 if may_be_left_out else SECONDS) as waiting:
                while record.progress == before and number in self._is_open:
                    if not await self._receive(number, 65536):
                        await self._cut(number)
            if waiting.cancelled_caught:
                stalls += 1
                await self._cut(number)


def halves(topics: str) -> list[str]:
    """Return the topics of two subscriptions; of one, if there is only one topic."""
    half = max(len(topics) // 2, 1)
    return [part for part in (topics[:half], topics[half:]) if part]


def add_routes(server: Server) -> None:
    """Add what the clients ask for."""

    @server.route("/{topics}/{policy}/{interval:float}")
    async def stream(connection: Connection, topics: str, policy: str, interval: float) -> None:
        await connection.subscribe(
            *topics, overflow=Overflow(policy), interval=interval or None, queue=100, queue_bytes=60_000
        )

    @server.route("/two/{topics}/{policy}/{interval:float}")
    async def two(connection: Connection, topics: str, policy: str, interval: float) -> None:
        async with AsyncExitStack() as stack, trio.open_nursery() as nursery:
            for part in halves(topics):
                subscription = server.hub.subscribe(
                    *part,
                    last_event_id=connection.last_event_id,
                    overflow=Overflow(policy),
                    interval=interval or None,
                    queue=100,
                    queue_bytes=60_000,
                )
                nursery.start_soon(connection.forward, await stack.enter_async_context(subscription))

    @server.websocket("/ws")
    async def ws(websocket: WebSocketConnection) -> None:
        await serve_topics(websocket, topics=list(TOPICS))
