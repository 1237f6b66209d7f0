"""Metrics for Prometheus: what they say, in which formats, and that their page lists them all."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse
from quart import request
from quart_trio import QuartTrio

from trio_sse import Connection, EndReason, HTTPException, Hub, Request, Response, Server
from trio_sse._server.metric_families import METRICS, WORKER_METRICS
from trio_sse.asgi import event_stream
from trio_sse.metrics import StatisticsCollector, encode_metrics, metrics_app
from trio_sse.quart import QuartSSE

from ..support.leaks import MakeServer
from ..support.metrics import samples_in, value
from ..support.serving import OnSockets, on_sockets
from ..support.waiting import until

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


async def scrape(running: OnSockets, *lines: str, path: str = "/metrics") -> tuple[int, str, str]:
    """Return a response's status, media type and body."""
    async with await running.connect() as client:
        head = await client.get(path, *lines)
        body = await client.sized_body(head)
        return head.status, head.get("Content-Type") or "", body.decode()


def add_route(server: Server) -> None:
    @server.route("/rooms/{room}")
    async def room(connection: Connection, room: str) -> None:
        if room == "secret":
            raise HTTPException(403)
        await connection.subscribe(f"room/{room}")


async def test_a_scrape_says_what_the_server_does(make_server: MakeServer) -> None:
    server = make_server(metrics_path="/metrics", max_connections=2)
    add_route(server)
    async with on_sockets(server) as running:
        clients = [await running.connect() for _ in range(2)]
        for number, client in enumerate(clients):
            await client.get(f"/rooms/{number}")
        await server.hub.publish("room/0", "x")
        await clients[0].event()
        status, content_type, text = await scrape(running)  # though there is no more room
        assert (status, content_type.partition(";")[0]) == (200, "text/plain")
        samples = samples_in(text)
        kind = {"route": "/rooms/{room}", "transport": "sse", "http": "1.1", "tls": "no"}
        assert value(samples, "streams", **kind) == 2
        assert value(samples, "sent_events_total") == 1
        assert value(samples, "hub_published_events_total") == 1
        assert value(samples, "hub_batch_events_bucket", le="1.0") == 1
        assert value(samples, "streams_ended_total", reason=EndReason.SLOW_CONSUMER.value) == 0
        assert value(samples, "hub_log_problem", problem="log_lagging") == 0
        assert value(samples, "draining") == 0
        await clients[0].leave()
        await until(lambda: server.statistics().open_streams == 1)
        assert (await scrape(running, path="/rooms/secret"))[0] == 403
        samples = samples_in((await scrape(running))[2])
        assert value(samples, "streams_ended_total", reason="client_disconnected") == 1
        assert value(samples, "requests_refused_total", status="403") == 1
        assert value(samples, "stream_duration_seconds_count") == 2
        await clients[1].leave()


async def test_openmetrics_is_answered_to_those_who_ask_for_it(make_server: MakeServer) -> None:
    server = make_server(metrics_path="/metrics")
    async with on_sockets(server) as running:
        accept = "Accept: application/openmetrics-text; version=1.0.0"
        _, content_type, text = await scrape(running, accept)
        assert content_type.startswith("application/openmetrics-text")
        families: Any = parse_openmetrics(text)  # type: ignore[no-untyped-call]
        assert {family.name for family in families} >= {"trio_sse_streams", "trio_sse_draining"}
        async with await running.connect() as client:
            assert (await client.get("/metrics", method="HEAD")).status == 200
        async with await running.connect() as client:
            assert (await client.get("/metrics", method="POST")).status == 405


async def test_an_accept_that_cannot_be_parsed_is_answered_with_text(make_server: MakeServer) -> None:
    async with on_sockets(make_server(metrics_path="/metrics")) as running:
        lines = "Accept: application/openmetrics-text;version=1.0.0-rc", "Accept: text/plain;version=x.0.0"
        status, content_type, text = await scrape(running, *lines)
        assert (status, content_type.partition(";")[0]) == (200, "text/plain")
        assert value(samples_in(text), "streams_opened_total") == 0


async def test_there_are_none_unless_they_are_wanted_and_a_route_replaces_them(
    make_server: MakeServer,
) -> None:
    async with on_sockets(make_server()) as running:
        assert (await scrape(running))[0] == 404
    server = make_server(metrics_path="/metrics")

    @server.endpoint("/metrics")
    async def own(request: Request) -> Response:
        return Response("mine")

    async with on_sockets(server) as running:
        assert (await scrape(running))[2] == "mine"


@pytest.mark.parametrize("protocol_of", ["the app's route", "metrics_app"])
async def test_a_quart_app_has_its_own(protocol_of: str) -> None:
    app: Any = QuartTrio(__name__)
    sse = QuartSSE(app)

    @sse.route("/rooms/<room>")
    async def room(connection: Connection, room: str) -> None:
        await connection.subscribe(room)

    @app.get("/metrics")  # type: ignore[untyped-decorator]
    async def metrics() -> tuple[bytes, dict[str, str]]:
        accept = request.headers.get("Accept", "")
        body, content_type = encode_metrics(await sse.collect_statistics(), accept=accept)
        return body, {"Content-Type": content_type}

    if protocol_of == "metrics_app":
        inner, of_metrics = app.asgi_app, metrics_app(sse)

        async def dispatch(scope: Any, receive: Any, send: Any) -> None:
            is_metrics = scope["type"] == "http" and scope["path"] == "/metrics"
            await (of_metrics if is_metrics else inner)(scope, receive, send)

        app.asgi_app = dispatch
    async with on_sockets(Server(app)) as running, await running.connect() as client:
        await client.get("/rooms/1")
        samples = samples_in((await scrape(running))[2])
        kind = {"route": "/rooms/<room>", "transport": "sse", "http": "1.1", "tls": "no"}
        assert value(samples, "streams", **kind) == 1
        assert value(samples, "hub_subscriptions") == 1
        assert "trio_sse_draining" not in {name for name, _ in samples}  # of the server, which is not the app


async def test_event_streams_of_one_hub_are_added_up() -> None:
    hub = Hub()

    async def news(connection: Connection) -> None:
        await connection.subscribe("news")

    endpoints = {path: event_stream(news, hub=hub) for path in ("/a", "/b")}
    of_metrics = metrics_app(*endpoints.values())

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await endpoints.get(scope["path"], of_metrics)(scope, receive, send)

    async with on_sockets(Server(app, hub=hub)) as running:
        clients = [await running.connect() for _ in endpoints]
        for path, client in zip(endpoints, clients, strict=True):
            await client.get(path)
        samples = samples_in((await scrape(running))[2])
        route = f"{test_event_streams_of_one_hub_are_added_up.__qualname__}.<locals>.news"
        kind = {"route": route, "transport": "sse", "http": "1.1", "tls": "no"}
        assert value(samples, "streams", **kind) == 2
        assert value(samples, "streams_opened_total") == 2
        assert value(samples, "hub_subscriptions") == 2
        assert endpoints["/a"].statistics().open_streams == 1
        await clients[0].leave()
        await until(lambda: endpoints["/a"].statistics().ended == {EndReason.CLIENT_DISCONNECTED: 1})
        assert (await endpoints["/a"].collect_statistics()).durations.count == 1
        registry = CollectorRegistry()
        registry.register(StatisticsCollector(*endpoints.values()))
        assert value(samples_in(generate_latest(registry).decode()), "streams_opened_total") == 2
        await clients[1].leave()
    with pytest.raises(TypeError, match="need a Server"):
        metrics_app()
    with pytest.raises(TypeError, match="cannot be added"):
        list(StatisticsCollector(endpoints["/a"], Server()).collect())


async def test_the_asgi_app_refuses_what_it_is_not_for() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    app = metrics_app(Server())
    await app({"type": "http", "method": "POST", "headers": []}, None, send)
    assert sent[0]["status"] == 405
    await app({"type": "http", "method": "HEAD", "headers": [(b"accept", b"*/*")]}, None, send)
    assert (sent[2]["status"], sent[3]["body"]) == (200, b"")
    with pytest.raises(RuntimeError, match="websocket"):
        await app({"type": "websocket"}, None, send)


def exported() -> Iterator[tuple[str, str, frozenset[str]]]:
    """Return the names, types and labels that are exported."""
    for metric in METRICS:
        yield metric.name, metric.type.value, frozenset(metric.labels)


def test_the_page_lists_all_metrics() -> None:
    rows = re.findall(r"^\| `(trio_sse_\w+)` \| (\w+) \| ([^|]*) \| (.+) \|$", PAGE.read_text(), re.MULTILINE)
    listed = {(name, kind, frozenset(re.findall(r"`(\w+)`", labels))) for name, kind, labels, _ in rows}
    assert listed == set(exported())
    assert {(name, help) for name, _, _, help in rows} == {(one.name, one.help) for one in METRICS}


def test_names_follow_the_conventions_and_a_registry_takes_them() -> None:
    registry = CollectorRegistry()
    registry.register(StatisticsCollector(Server()))
    families = {family.name for family in parse(generate_latest(registry).decode())}
    for name, kind, _ in exported():
        assert (kind == "counter") == name.endswith("_total"), name
        assert re.fullmatch(r"trio_sse_[a-z_]+", name), name
        is_of_workers = name in {metric.name for metric in WORKER_METRICS}
        assert (name.removesuffix("_total") in families) != is_of_workers, name


def test_options_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="slash"):
        Server(metrics_path="metrics")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=re.escape("trio-sse[metrics]")):
        Server(metrics_path="/metrics")
