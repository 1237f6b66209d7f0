"""The public API as users write it. It is checked by mypy, and never run."""

from __future__ import annotations

import math
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import assert_type
from uuid import UUID

import trio
from hypercorn.config import Config
from quart.wrappers import Response as QuartResponse
from quart_trio import QuartTrio

import trio_sse.hypercorn
from trio_sse import (
    Connection,
    ConnectionInfo,
    EndReason,
    Entry,
    EventDecoder,
    EventRefused,
    Headers,
    HTTPException,
    Hub,
    HubStatistics,
    IdempotentSession,
    KeyedRecord,
    LeaseSession,
    Log,
    LogEnd,
    LogRefused,
    LogSession,
    LogUnavailable,
    NoticeSession,
    Overflow,
    PatchFormat,
    Presence,
    RenewableSession,
    Request,
    Response,
    Retention,
    Server,
    ServerSentEvent,
    ServerStatistics,
    SlowConsumer,
    State,
    StateConflict,
    Subscription,
    Ticker,
    TickerStatistics,
)
from trio_sse.asgi import EventStream, event_stream
from trio_sse.otel import Tracing
from trio_sse.quart import QuartSSE, StreamStatistics
from trio_sse.redis import RedisLog
from trio_sse.sqlite import SQLiteLog
from trio_sse.testing import (
    Client,
    ClientResponse,
    Interruption,
    Received,
    Stream,
    assert_nothing_lost,
    interrupt_everywhere,
    no_leak,
    read_at_random,
)

hub = Hub(history=1000, history_bytes=1 << 20, inbox=10, queue=10, queue_bytes=1 << 20, dumps=str)
traced_hub = Hub(tracing=Tracing(), topic_patterns=["prices/*"])
Hub(retention={"a/*": Retention(events=5, bytes=1000, age=0.5), "b": Retention()})
Hub(retention={"a": 5})  # type: ignore[dict-item]  # bounds are a Retention
server = Server(
    hub=hub,
    keepalive=15,
    max_duration=math.inf,
    max_connections=10,
    max_connections_per_host=None,
    max_pending_bytes=1 << 28,
    max_body_size=None,
    body_timeout=30,
    keep_alive=math.inf,
    max_header_size=1 << 16,
    max_header_fields=None,
    max_target_size=None,
    allowed_hosts={"example.org"},
    cors_origins=["https://example.org", "null"],
    cors_headers={"Mcp-Session-Id"},
    cors_exposed_headers=["Retry-After"],
    health_path=None,
    liveness_path="/live",
    readiness_path=None,
    trusted_proxies=["10.0.0.0/8", "unix"],
    forwarded_headers=["X-Forwarded-For"],
    root_path="/app",
    console=True,
    console_token="a-token-of-16-or-more",
    console_peers=["10.0.0.0/8"],
)
assert_type(server.hub, Hub)
assert_type(server.console_token, str | None)
assert_type(server.drain_timeout, float)
assert_type(server.http2, bool)
assert_type(server.http2_cleartext, bool)
server.configure(keepalive=10, max_duration=math.inf)
server.configure(10)  # type: ignore[call-arg]


# Handlers stay what they were: they can be called, and a wrong parameter is an error.


@server.route("/rooms/{room}/{number:int}/{key:uuid}", methods=["GET", "POST"])
async def room(connection: Connection, room: str, number: int, key: UUID) -> None:
    assert_type(connection.request, Request)
    assert_type(connection.last_event_id, str | None)
    assert_type(connection.end_reason, EndReason | None)
    assert_type(connection.id, int)
    assert_type(connection.peer, str)
    assert_type(connection.duration, float)
    await connection.start()
    await connection.send({"n": number}, event="tick", id="1", retry=1000)
    await connection.send(ServerSentEvent(["any", "JSON"], event="tick"))
    await connection.comment("nobody sees this")
    await connection.subscribe(room, overflow=Overflow.LATEST, queue=10)
    connection.close(reconnect=True)
    await connection.send("x", event=1)  # type: ignore[arg-type]  # an event's type is a str
    await connection.subscribe(room, "other", include_topic=True)
    await connection.subscribe(room, "latest")
    await connection.subscribe(room, overflow="latest")  # type: ignore[arg-type]  # it is an enumeration


async def calls(connection: Connection) -> None:
    await room(connection, "one", 1, UUID(int=1))
    await room(connection, 1)  # type: ignore[call-arg, arg-type]  # the decorator keeps the signature


@server.route("/answered")
async def answered(connection: Connection) -> Response | None:
    connection.add_header("Set-Cookie", "a=1")
    connection.add_header("X", 1)  # type: ignore[arg-type]  # a field's value is a str
    if connection.last_event_id is None:
        return Response("{}", content_type="application/json", headers=[("Set-Cookie", "a=1")])
    raise HTTPException(Response(status=204))


@server.route("/texts")  # type: ignore[type-var]  # only a Response can be returned
async def texts(connection: Connection) -> str:
    return ""


@server.endpoint("/say", methods=["POST"])
async def say(request: Request) -> Response:
    assert_type(request.headers, Headers)
    assert_type(request.headers.get("cookie"), str | None)
    assert_type(request.query, dict[str, str])
    assert_type(request.body, bytes)
    if not request.body:
        raise HTTPException(400, "say something", {"X-Why": "empty"})
    hub.publish_nowait("said", request.body.decode())
    return Response(status=204, headers={"X-Said": "yes"})


@server.route("/wrong")  # type: ignore[type-var]  # a handler is a coroutine function
def wrong(connection: Connection) -> None: ...


@server.endpoint("/wrong")  # type: ignore[type-var]  # an endpoint gives a Response
async def wrong_endpoint(request: Request) -> str:
    return ""


@server.on_connect
async def greet(connection: Connection) -> None:
    await connection.send("hello")


@server.on_connect
def check(connection: Connection) -> None:
    raise HTTPException(401)


@server.on_disconnect
def count(connection: Connection) -> None:
    assert_type(connection.events_sent, int)
    assert_type(connection.bytes_sent, int)


# Publishing and subscribing


async def publish() -> None:
    assert_type(await hub.revoke("ada", reconnect=False), int)
    assert_type(await hub.publish("topic", {"any": "JSON"}, event="e", key="k", retry=10), None)
    hub.publish_nowait("topic", ["any"], event="e", key="k", retry=10)
    assert_type(hub.last_event_id, str)
    assert_type(hub.first_event_id, str)
    assert_type(hub.first_event_id_of("a", "b"), str)
    assert_type(hub.is_running, bool)
    assert_type(hub.is_ready, bool)
    state = hub.state("s", {"n": 1}, patch=PatchFormat.JSON)
    assert_type(state, State)
    try:
        await state.update({"n": 2})
        await state.update(lambda value: {"n": value["n"] + 1})
    except StateConflict:
        pass
    room = hub.presence("room", ttl=10)
    assert_type(room, Presence)
    assert_type(room.members, dict[str, object])
    async with room.join("ada", {"any": "JSON"}):
        await room.touch("bob")
        await room.remove("bob")
    assert_type(state.topic, str)
    assert_type(state.value, object)
    await state.set([1])
    state.set_nowait([2])
    await state.update({"n": 2})
    state.update_nowait({"n": 3})
    state.close()
    assert_type(state.is_closed, bool)
    assert_type(hub.statistics(), HubStatistics)
    async with trio.open_nursery() as nursery:
        ticker: Ticker = await nursery.start(partial(hub.run_ticker, "time", every=1, event=None))
        assert_type(ticker.elapsed, float)
        assert_type(ticker.statistics(), TickerStatistics)
    await hub.publish("topic")  # type: ignore[call-arg]  # without data
    await hub.publish("topic", "data", "event")  # type: ignore[call-arg]  # options are keywords


async def subscribe() -> None:
    subscription = hub.subscribe("a", "b", last_event_id=None, overflow=Overflow.DROP_OLDEST)
    assert_type(subscription, Subscription)
    try:
        async with subscription as events:
            assert_type(events, Subscription)
            async for event in events:
                assert_type(event, ServerSentEvent)
                assert_type(event.data, object)
                assert_type(event.topic, str | None)
                assert_type(event.event, str | None)
                assert_type(event.retry, int | None)
            assert_type(await anext(events), ServerSentEvent)
            assert_type(events.topics, tuple[str, ...])
            assert_type(events.last_event_id, str | None)
            assert_type(events.overflow, Overflow)
            assert_type(events.dropped, int)
            assert_type(events.queued_events, int)
            assert_type(events.queued_bytes, int)
    except SlowConsumer:
        pass


# A shared log of one's own


class OwnLog:
    publish_timeout = 5.0

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[LogSession]:
        yield OwnSession()


class OwnSession:
    async def tail(self) -> LogEnd:
        return LogEnd("1", 0, "1-0")

    async def read_backward(self, upto: str, limit: int) -> Sequence[Entry]:
        return [Entry("1-1", "1", 1, b"record")]

    async def read(self, after: str, limit: int) -> Sequence[Entry]:
        raise LogUnavailable("it cannot be reached")

    async def append(self, publisher: str, records: Sequence[tuple[int, bytes]]) -> None:
        raise LogRefused("wrong credentials")

    async def append_once(self, publisher: str, records: Sequence[KeyedRecord]) -> Sequence[int]:
        raise EventRefused("it is too large")

    async def renew(self, epoch: str) -> None: ...

    async def hold(self, name: str, holder: str, seconds: float) -> bool:
        return True

    async def release(self, name: str, holder: str) -> None: ...

    async def exchange_notices(self, name: str, notice: bytes, seconds: float) -> Mapping[str, bytes]:
        return {}


idempotent: IdempotentSession = OwnSession()
leasing: LeaseSession = OwnSession()
renewable: RenewableSession = OwnSession()
noticing: NoticeSession = OwnSession()


shared: Log = OwnLog()
Hub(log=shared)
Hub(log=RedisLog("redis://localhost", prefix="p", max_events=10, max_age=math.inf, timeout=2))
Hub(log=SQLiteLog("log.db", max_events=10, publish_timeout=1))


async def once(number: int, text: str) -> bytes:
    assert_type(await hub.run_singleton("name", once, 1, "text"), bytes)
    await hub.run_singleton("name", once, 1)  # type: ignore[arg-type]  # an argument is missing
    await hub.publish("t", 1, idempotency_key="key")
    hub.publish_nowait("t", 1, idempotency_key="key")
    return b""


# Serving


async def serve(context: ssl.SSLContext, listener: trio.SocketListener, stream: trio.abc.Stream) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(hub.run)
        await nursery.start(server.serve, "127.0.0.1", 0)
        await nursery.start(partial(server.serve, None, 8443, ssl_context=context))
        await nursery.start(server.serve_listeners, [listener])
        nursery.start_soon(partial(server.serve_stream, stream, peer="me"))
        connect = await nursery.start(server.serve_in_memory)
        connect(stream, "me")
        server.stop_accepting()
        assert_type(await server.drain(), None)
    assert_type(server.problems(), list[str])
    statistics = server.statistics()
    assert_type(statistics, ServerStatistics)
    assert_type(statistics.ended, Mapping[EndReason, int])
    assert_type(statistics.hub, HubStatistics)
    statistics.refused = 0  # type: ignore[misc]  # it is a snapshot


# Decoding


def decode(decoder: EventDecoder) -> None:
    assert_type(decoder.feed(b"data: x\n\n"), list[ServerSentEvent])
    assert_type(decoder.last_event_id, str)
    assert_type(decoder.retry, int | None)
    assert_type(ServerSentEvent("x").encode(), bytes)


# Apps

app = QuartTrio(__name__)
sse = QuartSSE(app, hub=hub, keepalive=15, max_duration=math.inf)
assert_type(sse.hub, Hub)
assert_type(sse.statistics(), StreamStatistics)
assert_type(sse.connections(identity="ada"), list[ConnectionInfo])
assert_type(sse.close_connections(identity="ada", reconnect=False), int)
Server(app, hub=hub)


@sse.route("/prices/<symbol>", methods=["GET", "POST"])
async def prices(connection: Connection, symbol: str) -> None:
    await connection.subscribe(symbol)


@sse.route("/generated")
async def generated() -> AsyncIterator[ServerSentEvent]:
    yield ServerSentEvent("x")


@sse.stream
async def view(connection: Connection) -> None:
    await prices(connection, "ABC")
    await prices(connection)  # type: ignore[call-arg]  # the decorator keeps the signature


@sse.route("/plain")  # type: ignore[type-var]  # a handler is asynchronous
def plain(connection: Connection) -> None: ...


async def use_view() -> None:
    assert_type(await view(), QuartResponse)


assert_type(event_stream(answered, headers=[("Set-Cookie", "a=1")]), EventStream)
assert_type(event_stream(room, hub=hub, methods=["GET"], headers={"X": "y"}), EventStream)
event_stream(plain)  # type: ignore[arg-type]  # nor is this one


async def serve_app() -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(Server(app).serve, "127.0.0.1", 0)
        await nursery.start(trio_sse.hypercorn.serve, app, Config())


async def use_client() -> None:
    async with Client(app, timeout=1) as client, client.stream("/", last_event_id="1") as stream:
        assert_type(stream, Stream)
        assert_type(await stream.event(), ServerSentEvent)
        assert_type(stream.keepalives, int)
        assert_type(await client.get("/"), ClientResponse)
        assert_type((await client.get("/")).json(), object)


async def use_kit(client: Client, stream: Stream) -> None:
    async def visit(client: Client) -> None: ...

    assert_type(await interrupt_everywhere(Server, visit), dict[Interruption, int])
    await interrupt_everywhere(lambda: app, visit, check=lambda app: app, interruptions=[Interruption.RESET])
    async with no_leak(Server(), hub):
        received = await read_at_random(client, "/", until=lambda event: event.data == "last", seed=1)
    assert_type(received, Received)
    assert_nothing_lost(received, ["first", "last"], resets=True)
    await stream.wait_over(within=5)
