"""In any order of events: no client sees a gap or a duplicate, and nothing is left behind."""

from __future__ import annotations

import math
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import hypothesis
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse import Connection, EndReason, EventDecoder, Hub, Server, ServerSentEvent
from trio_sse._hub.hub import engine_of

from ..support.client import Client
from ..support.leaks import LeakCheck, living_tasks, open_descriptors
from ..support.serving import in_memory, on_sockets
from ..support.waiting import SECONDS

pytestmark = pytest.mark.integration

TOPICS = "abc"
QUEUE = 6
QUEUE_BYTES = 20_000

# The largest event is larger than what a socket takes of it, and larger than what a queue may hold.
SIZES = [1, 1000, 30_000]


# What may happen


@dataclass(frozen=True)
class Publish:
    topic: str
    count: int
    size: int


@dataclass(frozen=True)
class Connect:
    topics: str
    resume: str | int | None  # an id that is none, an earlier client to go on from, or nothing
    is_slow: bool
    iterates: bool  # the handler drives the stream, rather than forward the subscription


@dataclass(frozen=True)
class Read:
    client: int
    count: int


@dataclass(frozen=True)
class Disconnect:
    client: int


@dataclass(frozen=True)
class Close:
    stream: int


@dataclass(frozen=True)
class Sleep:
    seconds: float


@dataclass(frozen=True)
class Settle:
    pass


@dataclass(frozen=True)
class Step:
    count: int


Operation = Publish | Connect | Read | Disconnect | Close | Sleep | Settle | Step

numbers = st.integers(0, 5)

publish = st.builds(
    Publish, st.sampled_from(TOPICS), st.sampled_from([1, 1, 2, 10, 40]), st.sampled_from(SIZES)
)
connect = st.builds(
    Connect,
    st.sampled_from(["abc", "ab", "b"]),
    st.none() | st.sampled_from(["nonsense", "first"]) | numbers | numbers,
    st.booleans(),
    st.booleans(),
)
read = st.builds(Read, numbers, st.sampled_from([1, 2, 20]))
interruption = st.one_of(
    st.builds(Disconnect, numbers),
    st.builds(Close, numbers),
    st.builds(Sleep, st.sampled_from([0.1, 16, 40, 2000])),
)
pause = st.just(Settle()) | st.builds(Step, st.integers(1, 4))

# Bursts of what makes the order: something is published, somebody comes, time passes.
operations = st.lists(
    st.tuples(
        connect, pause, publish, pause, st.one_of(connect, read, publish), pause, interruption | publish
    ),
    min_size=1,
    max_size=5,
).map(lambda bursts: [operation for burst in bursts for operation in burst])

endings = st.sampled_from(["cancel", "drain", "leave"])


# What is seen of it


@dataclass
class Seen:
    """One client: what it asked for and what it received."""

    client: Client
    topics: str
    last_event_id: str | None
    permits: trio.Semaphore | None  # the reads that a slow client may make
    started_at: int | None = None  # the position of the log when its subscription began
    events: list[ServerSentEvent] = field(default_factory=list)
    is_over: bool = False

    async def run(self, path: str) -> None:
        """Read what the server sends until the stream is over or was left."""
        try:
            resume = "" if self.last_event_id is None else f"Last-Event-ID: {self.last_event_id}\r\n"
            await self.client.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n{resume}\r\n".encode())
            while b"\r\n\r\n" not in self.client._buffer:
                if not await self.client._receive():
                    return
            head = await self.client.head()
            if head.status == 503:
                return  # it was ended before it began
            assert head.status == 200
            decoder = EventDecoder()
            while True:
                if self.permits is not None:
                    await self.permits.acquire()
                data = await self.client.read()
                if not data:
                    return
                self.events += decoder.feed(data)
        except (trio.ClosedResourceError, trio.BrokenResourceError):
            pass
        finally:
            self.is_over = True

    def expected(self, published: list[str], after: int, before: int) -> list[int]:
        """Return the positions between two that are of its topics."""
        return [n for n in range(after + 1, before) if published[n - 1] in self.topics]

    def check(self, hub: Hub, published: list[str]) -> None:
        """Fail if there is a hole without a reset, a duplicate, a step back, or something foreign."""
        if self.started_at is None:
            assert not self.events
            return
        cursor = self.started_at
        if self.last_event_id is not None:
            epoch, _, sequence = self.last_event_id.partition(".")
            if epoch == engine_of(hub).log.epoch:
                cursor = int(sequence)
            else:
                assert not self.events or self.events[0].event == "reset"
        for event in self.events:
            assert event.id is not None
            position = int(event.id.partition(".")[2])
            if event.event == "reset":
                assert position >= cursor
            else:
                assert position > cursor
                assert published[position - 1] in self.topics
                assert str(event.data).startswith(f"{position} ")
                assert self.expected(published, cursor, position) == [], "a hole"
            cursor = position

    def is_settled(self, published: list[str]) -> bool:
        """Whether nothing more is to come: it reads only on request, is over, or has everything."""
        if self.permits is not None or self.is_over or self.started_at is None:
            return True
        last = self.started_at if self.last_event_id is None else len(published)
        for event in self.events:
            last = int(str(event.id).partition(".")[2])
        return not self.expected(published, last, len(published) + 1)


PassTime = Callable[[float], Awaitable[None]]


class World:
    """A server, its clients, and all that was published."""

    def __init__(self, connect: Callable[[bool], Awaitable[Client]], pass_time: PassTime) -> None:
        self.connect = connect
        self.pass_time = pass_time
        self.hub = Hub(history=60, history_bytes=10**6, inbox=20, queue=QUEUE, queue_bytes=QUEUE_BYTES)
        self.server = Server(hub=self.hub, send_buffer=4096)
        self.clients: list[Seen] = []
        self.published: list[str] = []
        self.readers: trio.Nursery
        self.server.route("/forward/{number:int}")(self.forward)
        self.server.route("/iterate/{number:int}")(self.iterate)

    async def forward(self, connection: Connection, number: int) -> None:
        self.clients[number].started_at = engine_of(self.hub).log.last
        await connection.subscribe(*self.clients[number].topics)

    async def iterate(self, connection: Connection, number: int) -> None:
        seen = self.clients[number]
        seen.started_at = engine_of(self.hub).log.last
        subscription = self.hub.subscribe(*seen.topics, last_event_id=connection.last_event_id)
        async with subscription:
            async for event in subscription:
                await connection.send(event)

    def resume_id(self, resume: str | int | None) -> str | None:
        if isinstance(resume, int):
            served = [seen for seen in self.clients if seen.events]
            return served[resume % len(served)].events[-1].id if served else None
        return self.hub.first_event_id if resume == "first" else resume

    async def do(self, operation: Operation) -> None:
        match operation:
            case Publish(topic, count, size):
                for _ in range(count):
                    self.published.append(topic)
                    await self.hub.publish(topic, f"{len(self.published)} " + "x" * size)
            case Connect(topics, resume, is_slow, iterates):
                last_event_id, permits = self.resume_id(resume), trio.Semaphore(0) if is_slow else None
                seen = Seen(await self.connect(is_slow), topics, last_event_id, permits)
                path = f"/{'iterate' if iterates else 'forward'}/{len(self.clients)}"
                self.clients.append(seen)
                self.readers.start_soon(seen.run, path)
            case Read(number, count) if slow := [seen for seen in self.clients if seen.permits is not None]:
                permits = slow[number % len(slow)].permits
                for _ in range(count):
                    assert permits is not None
                    permits.release()
            case Disconnect(number) if self.clients:
                await trio.aclose_forcefully(self.clients[number % len(self.clients)].client.stream)
            case Close(number) if streams := list(self.server._manager.streams):
                streams[number % len(streams)].end(EndReason.RECONNECT)
            case Sleep(seconds):
                await self.pass_time(seconds)
            case Settle():
                await wait_all_tasks_blocked()
            case Step(count):
                for _ in range(count):
                    await trio.lowlevel.checkpoint()
        for subscription in engine_of(self.hub).registry:
            # A reset with which it has begun counts for no bound, nor does a large event in an empty queue.
            assert subscription.queued_events <= QUEUE + 1
            assert subscription.queued_bytes <= QUEUE_BYTES or subscription.queued_events <= 2

    async def settle(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until a condition holds. Over sockets, what was sent may take its time in the kernel."""
        deadline = time.monotonic() + SECONDS  # the run's own clock may jump
        await wait_all_tasks_blocked()
        while not condition():
            assert time.monotonic() < deadline, what
            await trio.to_thread.run_sync(time.sleep, 0.002)
            await wait_all_tasks_blocked()

    def is_settled(self) -> bool:
        return all(seen.is_settled(self.published) for seen in self.clients)

    def has_been_left(self) -> bool:
        return not self.hub.statistics().subscriptions

    async def play(self, script: list[Operation], ending: str) -> None:
        async with trio.open_nursery() as self.readers:
            for operation in script:
                await self.do(operation)
            await self.settle(self.is_settled, "something is missing")
            if ending == "drain":
                await self.server.drain()
            elif ending == "leave":
                for seen in self.clients:
                    await trio.aclose_forcefully(seen.client.stream)
                await self.settle(self.has_been_left, "subscriptions are left")
            self.readers.cancel_scope.cancel()
        for seen in self.clients:
            seen.check(self.hub, self.published)


@asynccontextmanager
async def nothing_left(world: World) -> AsyncIterator[None]:
    check = LeakCheck()
    check.watch(world.server)
    await wait_all_tasks_blocked()
    tasks, descriptors = living_tasks(), set(open_descriptors().items())
    try:
        yield
    finally:
        for seen in world.clients:
            await trio.aclose_forcefully(seen.client.stream)
    await wait_all_tasks_blocked()
    check.check_registrations()
    assert world.hub.statistics().published == len(world.published)
    assert not living_tasks() - tasks
    assert not set(open_descriptors().items()) - descriptors


async def play_in_memory(script: list[Operation], ending: str) -> None:
    async def connect(is_slow: bool) -> Client:
        return serving.connect_lockstep() if is_slow else serving.connect()

    world = World(connect, trio.sleep)
    async with nothing_left(world), in_memory(world.server) as serving:
        await world.play(script, ending)


async def play_on_sockets(script: list[Operation], ending: str, clock: MockClock) -> None:
    async def connect(is_slow: bool) -> Client:
        client = await serving.connect()
        if is_slow:  # the server is to write in parts
            assert isinstance(client.stream, trio.SocketStream)
            client.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        return client

    async def pass_time(seconds: float) -> None:
        clock.jump(seconds)
        await wait_all_tasks_blocked()

    world = World(connect, pass_time)
    async with nothing_left(world), on_sockets(world.server, seconds=math.inf) as serving:
        await world.play(script, ending)


@given(operations, endings)
@hypothesis.settings(max_examples=150)
def test_any_interleaving_over_memory_streams(script: list[Operation], ending: str) -> None:
    trio.run(play_in_memory, script, ending, clock=MockClock(autojump_threshold=0))


@given(operations, endings)
@hypothesis.settings(max_examples=40)
def test_any_interleaving_over_sockets(script: list[Operation], ending: str) -> None:
    clock = MockClock(rate=1)  # it runs as usual, too: the kernel's time cannot be jumped over
    trio.run(play_on_sockets, script, ending, clock, clock=clock)
