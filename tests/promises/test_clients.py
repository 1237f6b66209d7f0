"""Clients that others wrote, over HTTP/1.1 and HTTP/2. They get the same events, and resume alike."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial

import httpx
import httpx_sse
import pytest
import trio

from trio_sse import Connection, EndReason, EventDecoder, ServerSentEvent
from trio_sse.client import EventSource, SourceStatus

from ..support.leaks import MakeServer
from ..support.processes import curl, running
from ..support.requirements import find, needs
from ..support.serving import OnSockets, on_sockets
from ..support.waiting import SECONDS, until

#: Prints the body of a response: Node's own client of HTTP/2.
NODE = """
const [url, headers] = process.argv.slice(1);
const session = require("node:http2").connect(url);
const stream = session.request(JSON.parse(headers));
stream.pipe(process.stdout);
stream.on("close", () => session.close());
"""

TEXTS = ["plain", "one\ntwo\n\nfour", "größe", " : leading", ""]

# Type, data and id of an event.
Event = tuple[str, str, str]
# How each client reads a stream to its end, resuming after an id or not.
Read = Callable[[OnSockets, str, str | None], Awaitable[list[Event]]]


async def read_by_httpx(
    serving: OnSockets, path: str, after: str | None, *, http2: bool = False
) -> list[Event]:
    headers = {} if after is None else {"Last-Event-ID": after}
    async with (
        httpx.AsyncClient(timeout=SECONDS, verify=False, http1=not http2, http2=http2) as client,
        httpx_sse.aconnect_sse(client, "GET", serving.url(path), headers=headers) as source,
    ):
        return [(event.event, event.data, event.id) async for event in source.aiter_sse()]


async def read_by_curl(serving: OnSockets, path: str, after: str | None, *options: str) -> list[Event]:
    header = [] if after is None else ["-H", f"Last-Event-ID: {after}"]
    return await decode(curl(serving.url(path), *options, *header))


async def read_by_nghttp(serving: OnSockets, path: str, after: str | None) -> list[Event]:
    header = [] if after is None else ["-H", f"Last-Event-ID: {after}"]
    return await decode(running(find("nghttp"), *header, serving.url(path)))


async def read_by_node(serving: OnSockets, path: str, after: str | None) -> list[Event]:
    header = {} if after is None else {"last-event-id": after}
    arguments = (serving.url(""), json.dumps({":path": path, **header}))
    return await decode(running(find("node"), "-e", NODE, *arguments))


async def decode(reading: AbstractAsyncContextManager[trio.Process]) -> list[Event]:
    """Return the events that a program prints."""
    decoder = EventDecoder()
    events: list[ServerSentEvent] = []
    async with reading as process:
        assert process.stdout is not None
        async for data in process.stdout:
            events += decoder.feed(bytes(data))
    return [(event.event or "message", str(event.data), event.id or "") for event in events]


READERS = [
    read_by_httpx,
    pytest.param(read_by_curl, marks=needs("curl")),
    pytest.param(partial(read_by_httpx, http2=True), id="read_by_httpx_over_http2"),
    pytest.param(
        lambda *asked: read_by_curl(*asked, "--http2-prior-knowledge"),
        marks=needs("curl"),
        id="read_by_curl_over_http2",
    ),
    pytest.param(read_by_nghttp, marks=needs("nghttp")),
    pytest.param(read_by_node, marks=needs("node")),
]


@pytest.fixture(params=READERS)
def read(request: pytest.FixtureRequest) -> Read:
    """Return a client's way to read events."""
    chosen: Read = request.param
    return chosen


async def test_a_handlers_events_arrive_as_they_were_sent(make_server: MakeServer, read: Read) -> None:
    server = make_server(http2_cleartext=True)

    @server.route("/texts")
    async def texts(connection: Connection) -> None:
        for number, text in enumerate(TEXTS):
            await connection.comment("between")
            await connection.send(text, event="text", id=f"{number}")

    async with on_sockets(server) as serving:
        events = await read(serving, "/texts", None)
    assert events == [("text", text, f"{number}") for number, text in enumerate(TEXTS)]


async def test_a_broadcast_is_resumed_where_it_was_left(make_server: MakeServer, read: Read) -> None:
    server = make_server(http2_cleartext=True)

    @server.route("/live/{count:int}")
    async def live(connection: Connection, count: int) -> None:
        async with server.hub.subscribe("live", last_event_id=connection.last_event_id) as events:
            for _ in range(count):
                await connection.send(await anext(events))

    async with on_sockets(server) as serving:
        start = server.hub.last_event_id
        for text in ("one", "two", "three"):
            await server.hub.publish("live", text)
        first = await read(serving, "/live/1", start)
        rest = await read(serving, "/live/2", first[0][2])
        unknown = await read(serving, "/live/1", "00000000.1")
    epoch, _, sequence = start.rpartition(".")
    assert first + rest == [
        ("message", text, f"{epoch}.{int(sequence) + number}")
        for number, text in enumerate(("one", "two", "three"), start=1)
    ]
    assert unknown[0][0] == "reset"
    assert server.statistics().ended == {EndReason.FINISHED: 3}


@needs("curl")
@pytest.mark.parametrize(
    ("options", "reconnect", "code"),
    [
        ([], False, 0),
        ([], True, 18),  # a partial file
        (["--http2-prior-knowledge"], False, 0),
        (["--http2-prior-knowledge"], True, 92),  # the stream was reset
    ],
)
async def test_curl_shows_events_as_they_come_and_how_the_stream_ended(
    make_server: MakeServer, options: list[str], reconnect: bool, code: int
) -> None:
    server = make_server(http2_cleartext=True)
    may_go_on = trio.Event()

    @server.route("/stream")
    async def stream(connection: Connection) -> None:
        await connection.send("first")
        await may_go_on.wait()
        await connection.send("last")
        connection.close(reconnect=reconnect)

    async with on_sockets(server) as serving, curl(serving.url("/stream"), *options) as process:
        assert process.stdout is not None
        assert await process.stdout.receive_some() == b"data: first\n\n"  # at once: nobody holds it back
        may_go_on.set()
        rest = b"".join([data async for data in process.stdout])
        # Over HTTP/2, curl drops what it has not read when it learns of the cut: 50 ms later, if it is quick.
        assert rest == b"data: last\n\n" or (code == 92 and not rest)
        assert await process.wait() == code


@needs("curl")
async def test_curl_asks_for_the_head_alone(make_server: MakeServer) -> None:
    server = make_server()

    @server.route("/live")
    async def live(connection: Connection) -> None:
        await connection.subscribe("live")

    async with on_sockets(server) as serving, curl(serving.url("/live"), "--head") as process:
        assert process.stdout is not None
        head = b"".join([data async for data in process.stdout]).decode()
        assert await process.wait() == 0
    assert head.startswith("HTTP/1.1 200 OK\r\n")
    assert "\r\nContent-Type: text/event-stream\r\n" in head
    assert server.statistics().open_streams == 0


# Before the first event


@pytest.mark.integration
async def test_a_cursor_is_no_message(make_server: MakeServer, read: Read) -> None:
    server = make_server(keepalive=0.1, http2_cleartext=True)

    @server.route("/live")
    async def live(connection: Connection) -> None:
        await connection.subscribe("live")

    async def publish() -> None:
        await until(lambda: server.hub.statistics().subscriptions == 1)
        await server.hub.publish("live", "first")
        await server.hub.publish("other", "x")  # a keepalive brings the cursor
        await trio.sleep(0.4)
        await server.hub.publish("live", "second")
        await trio.sleep(0.2)
        for stream in list(server._manager.streams):
            stream.end(EndReason.FINISHED)

    async with on_sockets(server) as serving:
        serving.nursery.start_soon(publish)
        events = await read(serving, "/live", None)
        epoch = server.hub.last_event_id.partition(".")[0]
    assert events == [("message", "first", f"{epoch}.1"), ("message", "second", f"{epoch}.3")]


async def test_our_client_resumes_a_stream_that_had_no_event(
    make_server: MakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trio_sse._client.reconnecting.FLOOR_SECONDS", 0.05)
    server = make_server()

    @server.route("/live")
    async def live(connection: Connection) -> None:
        await connection.subscribe("live")

    reports: list[str] = []

    def report(status: SourceStatus, detail: str) -> None:
        reports.append(detail)

    async with (
        on_sockets(server) as serving,
        EventSource(serving.url("/live"), first_delay=0.05, on_status=report) as source,
    ):

        async def cut() -> None:
            await until(lambda: source.last_event_id != "")
            assert source.last_event_id == server.hub.last_event_id
            for stream in list(server._manager.streams):
                stream.end(EndReason.RECONNECT)
            await until(lambda: EndReason.RECONNECT in server.statistics().ended)
            await server.hub.publish("live", "while it was away")

        serving.nursery.start_soon(cut)
        assert (await anext(source)).data == "while it was away"
    assert any("resumed after" in report and report.endswith(".0") for report in reports), reports
