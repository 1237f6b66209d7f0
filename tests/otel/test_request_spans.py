"""Spans of streams and requests: what they say, and that no failure of theirs ends a stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import trio
from opentelemetry import propagate, trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.trace import SpanKind, StatusCode
from quart_trio import QuartTrio

from trio_sse import Connection, Headers, HTTPException, Hub, Request, Response, Server
from trio_sse._logging.repeats import RepeatLimit
from trio_sse._otel import guard
from trio_sse.asgi import event_stream
from trio_sse.quart import QuartSSE
from trio_sse.websocket import WebSocketConnection, serve_topics

from ..support.leaks import MakeServer
from ..support.serving import in_memory, on_sockets
from ..support.waiting import until
from ..support.websocket_client import WebSocket, opened
from .spans import TRACE, TRACEPARENT, Spans, attributes, id_of, parent_of, status_of


class Seen:
    """The current spans of handlers and hooks, by what they are."""

    def __init__(self) -> None:
        self.spans: dict[str, Any] = {}

    def note(self, what: str) -> None:
        self.spans[what] = trace.get_current_span()


def make_host(kind: str, hub: Hub, seen: Seen) -> Server:
    """Return a server whose path `/rooms/1` is a stream of the topic `room`."""

    async def room(connection: Connection, room: str = "1") -> None:
        seen.note("handler")
        if room == "secret":
            raise HTTPException(403)
        if room == "broken":
            raise ValueError("no")
        await connection.subscribe("room")

    if kind == "native":
        server = Server(hub=hub)
        server.route("/rooms/{room}")(room)
        return server
    if kind == "quart":
        app = QuartTrio(__name__)
        QuartSSE(app, hub=hub).route("/rooms/<room>")(room)
        return Server(app, hub=hub)
    endpoint = event_stream(room, hub=hub)

    async def plain(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            parameters = {"room": scope["path"].rpartition("/")[2]}
            await endpoint({**scope, "path_params": parameters}, receive, send)

    return Server(plain, hub=hub)


ROUTES = {"native": "/rooms/{room}", "quart": "/rooms/<room>", "asgi": "make_host.<locals>.room"}


@pytest.mark.parametrize("kind", ROUTES)
async def test_a_stream_has_a_span_that_is_its_handlers(kind: str, spans: Spans) -> None:
    seen, hub = Seen(), Hub(tracing=spans.tracing)
    async with on_sockets(make_host(kind, hub, seen)) as running:
        async with await running.connect() as client:
            await client.get("/rooms/1?token=secret", TRACEPARENT, "tracestate: vendor=1")
            await hub.publish("room", "x")
            await client.event()
        span = await spans.one(f"GET {ROUTES[kind]}")
        assert span.kind is SpanKind.SERVER
        assert seen.spans["handler"].get_span_context() == span.get_span_context()
        assert parent_of(span) == (TRACE, "b7ad6b7169203331")
        assert span.parent is not None
        assert span.parent.trace_state["vendor"] == "1"
        found = attributes(span)
        assert found["http.request.method"] == "GET"
        assert found["http.route"] == ROUTES[kind]
        assert found["url.path"] == "/rooms/1"
        assert found["url.scheme"] == "http"
        assert found["server.address"] == "test"
        assert found["network.protocol.version"] == "1.1"
        assert found["http.response.status_code"] == 200
        assert found["trio_sse.transport"] == "sse"
        assert found["trio_sse.end_reason"] == "client_disconnected"
        assert (found["trio_sse.events"], found["trio_sse.bytes"] > 0) == (1, True)
        assert "secret" not in span.to_json()
        for path, status in (("secret", 403), ("broken", 500)):
            spans.exporter.clear()
            async with await running.connect() as client:
                assert (await client.get(f"/rooms/{path}")).status == status
            span = await spans.one(f"GET {ROUTES[kind]}")
            assert attributes(span)["http.response.status_code"] == status
            assert (span.status.status_code is StatusCode.ERROR) == (status == 500)
            assert parent_of(span) is None
        spans.exporter.clear()
        async with await running.connect() as client:
            await client.get("/rooms/1?wait=0", "Accept: application/json")
        span = await spans.one(f"GET {ROUTES[kind]}")
        assert attributes(span)["trio_sse.transport"] == "poll"
        assert attributes(span)["http.response.status_code"] == 200


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("example.org", {"server.address": "example.org"}),
        ("example.org:8000", {"server.address": "example.org", "server.port": 8000}),
        ("[::1]:8000", {"server.address": "[::1]", "server.port": 8000}),
        ("[::1]", {"server.address": "[::1]"}),
        ("user:secret@example.org:x", {"server.address": "example.org"}),
        ("", {}),
    ],
)
def test_the_host_is_split_and_an_unknown_method_is_no_name(
    host: str, found: Mapping[str, Any], spans: Spans
) -> None:
    headers = Headers([(b"host", host.encode()), (b"traceparent", b"nonsense")])
    request = Request("BREW", "/pot?secret", "/pot", headers, "1.0", "peer", b"")
    span = spans.tracing.begin_request(
        request, route=None, attributes={}, run_outside=lambda function: function()
    )
    span.end(None, None, {})
    (finished,) = spans("HTTP")
    of_server = {name: value for name, value in attributes(finished).items() if name.startswith("server.")}
    assert of_server == found
    assert attributes(finished)["http.request.method_original"] == "BREW"
    assert "secret" not in finished.to_json()
    assert trace.get_current_span() is trace.INVALID_SPAN


async def test_streams_that_never_begin_have_the_status_of_the_answer(spans: Spans) -> None:
    server = Server(hub=Hub(tracing=spans.tracing))

    @server.route("/topic")
    async def topic(connection: Connection) -> None:
        await connection.subscribe("a\n")

    @server.route("/ended")
    async def ended(connection: Connection) -> None:
        connection.close(reconnect=True)
        await trio.sleep_forever()

    @server.route("/silent")
    async def silent(connection: Connection) -> None:
        await trio.sleep_forever()

    async with on_sockets(server) as running:
        for path, status in (("/topic", 400), ("/ended", 503)):
            assert await status_of(running, path) == status
            assert attributes(await spans.one(f"GET {path}"))["http.response.status_code"] == status
        async with await running.connect() as client:
            await client.send(b"GET /silent HTTP/1.1\r\nHost: test\r\n\r\n")
            await until(lambda: server.statistics().open_streams)
        assert "http.response.status_code" not in attributes(await spans.one("GET /silent"))


async def test_endpoints_hooks_and_websockets_have_spans(
    make_server: MakeServer, spans: Spans, protocol: str
) -> None:
    seen = Seen()
    server = make_server(hub=Hub(tracing=spans.tracing), metrics_path="/metrics")

    @server.endpoint("/orders/{number:int}", methods=["POST"])
    async def order(request: Request, number: int) -> Response:
        seen.note("endpoint")
        if number == 0:
            raise ValueError("no")
        await server.hub.publish("orders", number)
        return Response(status=201)

    @server.on_connect
    async def connected(connection: Connection) -> None:
        seen.note("connected")

    @server.on_disconnect
    def disconnected(connection: Connection) -> None:
        seen.note("disconnected")

    @server.websocket("/ws")
    async def websocket(connection: WebSocketConnection) -> None:
        seen.note("websocket")
        await serve_topics(connection, topics=["orders"])

    @server.route("/orders")
    async def orders(connection: Connection) -> None:
        await connection.start()

    async with on_sockets(server) as running:
        assert await status_of(running, "/orders/7", TRACEPARENT, method="POST") == 201
        span = await spans.one("POST /orders/{number:int}")
        assert seen.spans["endpoint"].get_span_context() == span.get_span_context()
        assert attributes(span)["http.response.status_code"] == 201
        assert parent_of(span) == (TRACE, "b7ad6b7169203331")
        assert parent_of(await spans.one("publish")) == id_of(span)
        spans.exporter.clear()
        assert await status_of(running, "/orders/0", method="POST") == 500
        span = await spans.one("POST /orders/{number:int}")
        assert (span.status.status_code, attributes(span)["error.type"]) == (StatusCode.ERROR, "ValueError")
        assert not span.events  # an exception's text may have anything in it
        assert await status_of(running, "/orders") == 200
        span = await spans.one("GET /orders")
        for hook in ("connected", "disconnected"):
            assert seen.spans[hook].get_span_context() == span.get_span_context()
        spans.exporter.clear()
        assert await status_of(running, "/metrics") == await status_of(running, "/healthz") == 200
        assert await status_of(running, "/orders", method="HEAD") == 200
        assert attributes(await spans.one("HEAD /orders"))["trio_sse.transport"] == "head"
        assert len(spans()) == 1
    if protocol == "http1":
        async with in_memory(server) as memory, opened(memory, "/ws") as client:
            await client.send_json(type="subscribe", topics=["orders"])
            await client.json()
        span = await spans.one("GET /ws")
        assert seen.spans["websocket"].get_span_context() == span.get_span_context()
        assert attributes(span)["http.response.status_code"] == 101
        assert attributes(span)["trio_sse.transport"] == "websocket"


async def test_the_servers_own_span_is_no_parent_but_that_of_middleware_is(spans: Spans) -> None:
    tracer = spans.provider.get_tracer("test")
    hub = Hub(tracing=spans.tracing)
    app = QuartTrio(__name__)
    sse = QuartSSE(app, hub=hub)
    is_traced = False

    @sse.route("/")
    async def stream(connection: Connection) -> None:
        await connection.start()

    inner: Any = app.asgi_app

    async def middleware(scope: Any, receive: Any, send: Any) -> None:
        if is_traced and scope["type"] == "http":
            with tracer.start_as_current_span("middleware"):
                await inner(scope, receive, send)
        else:
            await inner(scope, receive, send)

    app.asgi_app = middleware  # type: ignore[method-assign]
    with tracer.start_as_current_span("outside"):
        async with on_sockets(Server(app, hub=hub)) as running:
            await status_of(running, "/")
            assert parent_of(await spans.one("GET /")) is None
            spans.exporter.clear()
            is_traced = True
            await status_of(running, "/", TRACEPARENT)
            assert parent_of(await spans.one("GET /")) == id_of(await spans.one("middleware"))


async def test_a_websocket_of_quart_has_a_span(spans: Spans) -> None:
    hub = Hub(tracing=spans.tracing)
    app = QuartTrio(__name__)
    sse = QuartSSE(app, hub=hub)

    @app.websocket("/ws/<name>")
    async def ws(name: str) -> None:
        await sse.serve_topics(topics=fail if name == "broken" else ["a"])

    def fail(topic: str) -> bool:
        raise ValueError("no")

    async with on_sockets(Server(app, hub=hub)) as running:
        async with WebSocket(await running.connect()) as client:
            await client.open("/ws/one", TRACEPARENT)
            await client.send_json(type="subscribe", topics=["a"])
            await client.json()
        span = await spans.one("GET /ws/<name>")
        assert parent_of(span) == (TRACE, "b7ad6b7169203331")
        assert attributes(span)["trio_sse.end_reason"] == "client_disconnected"
        assert attributes(span)["http.response.status_code"] == 101
        spans.exporter.clear()
        async with WebSocket(await running.connect()) as client:
            await client.open("/ws/broken")
            await client.send_json(type="subscribe", topics=["a"])
            assert await client.close_code() == (1011, "handler_error")
        span = await spans.one("GET /ws/<name>")
        assert attributes(span)["error.type"] == "handler_error"


class Broken(SpanProcessor):
    def on_start(self, span: Any, parent_context: Any = None) -> None:
        raise RuntimeError("the SDK is broken")


class BrokenAtTheEnd(SpanProcessor):
    def on_end(self, span: ReadableSpan) -> None:
        raise RuntimeError("the SDK is broken")


@pytest.mark.parametrize("fault", ["start", "end", "propagator"])
async def test_a_broken_sdk_ends_nothing_and_is_logged_once(
    fault: str, spans: Spans, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(guard, "_repeats", RepeatLimit(most=1, seconds=1e9))
    if fault == "propagator":

        def fail(*args: Any, **options: Any) -> Any:
            raise RuntimeError("the propagator is broken")

        monkeypatch.setattr(propagate, "extract", fail)
    else:
        spans.provider.add_span_processor(Broken() if fault == "start" else BrokenAtTheEnd())
    hub = Hub(tracing=spans.tracing)
    server = Server(hub=hub)

    @server.route("/")
    async def stream(connection: Connection) -> None:
        await connection.subscribe("a")

    @server.endpoint("/whole")
    async def whole(request: Request) -> Response:
        return Response("x")

    async with on_sockets(server) as running:
        for number in range(3):
            assert await status_of(running, "/whole") == 200
            async with await running.connect() as client:
                await client.get("/")
                await hub.publish("a", number)
                assert (await client.event()).data == str(number)
        await until(lambda: server.statistics().open_streams == 0)
    lines = [record.getMessage() for record in caplog.records if record.name == "trio_sse.tracing"]
    assert lines
    assert len(lines) == len(set(lines))
