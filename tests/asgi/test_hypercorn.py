"""What is specific to hypercorn: its settings, its sockets, and its internals as far as we use them."""

from __future__ import annotations

import contextlib
import socket
import ssl
import traceback
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import h2.events
import httpx
import pytest
import trio
from hypercorn.config import Config
from quart_trio import QuartTrio
from trio.testing import wait_all_tasks_blocked

import trio_sse.hypercorn
from trio_sse import Connection, EndReason, EventDecoder
from trio_sse.quart import QuartSSE

from ..support.certificates import Certificate
from ..support.client import Client
from ..support.hosts import Host, Run, running, until_subscribed
from ..support.http2_client import Http2Connection, RawHttp2
from ..support.hypercorn_config import make_config
from ..support.leaks import LeakCheck, living_tasks
from ..support.waiting import SECONDS, until


@asynccontextmanager
async def serving(
    no_leak: LeakCheck,
    config: Config,
    *,
    seconds: float = SECONDS,
    max_duration: float = 3600,
    **options: Any,
) -> AsyncIterator[tuple[QuartSSE, list[str]]]:
    app = QuartTrio(__name__)
    sse = QuartSSE(app, max_duration=max_duration)
    no_leak.watch_hub(sse.hub)

    @sse.route("/live")
    async def live(connection: Connection) -> None:
        await connection.subscribe("live")

    with trio.fail_after(seconds):
        async with trio.open_nursery() as nursery:
            yield sse, await nursery.start(partial(trio_sse.hypercorn.serve, app, config, **options))
            nursery.cancel_scope.cancel()


async def check_stream(sse: QuartSSE, stream: trio.abc.Stream) -> None:
    async with Client(stream) as client:
        assert (await client.get("/live")).status == 200
        await sse.hub.publish("live", "hello")
        assert (await client.event()).data == "hello"


async def connect(where: str, certificate: Certificate | None = None) -> trio.abc.Stream:
    """Connect to the address on which hypercorn listens; by TLS and HTTP/1.1 if there is a certificate."""
    stream = await trio.open_tcp_stream("127.0.0.1", int(where.rpartition(":")[2]))
    if certificate is None:
        return stream
    context: ssl.SSLContext = certificate.context
    context.set_alpn_protocols(["http/1.1"])
    return trio.SSLStream(stream, context, server_hostname="localhost")


async def plain_connect(where: str) -> trio.SocketStream:
    return await trio.open_tcp_stream("127.0.0.1", int(where.rpartition(":")[2]))


async def test_settings_that_would_end_streams_are_corrected_in_a_copy(no_leak: LeakCheck) -> None:
    config = make_config(read_timeout=0.05, max_requests=1, keep_alive_max_requests=1, backlog=1)
    before = dict(vars(config))
    async with serving(no_leak, config) as (sse, (where,)):
        for _ in range(4):
            await check_stream(sse, await connect(where))
        async with Client(await connect(where)) as client:
            await client.get("/live")
            await trio.sleep(0.2)  # longer than the user's read timeout
            await sse.hub.publish("live", "still there")
            assert (await client.event()).data == "still there"
    assert {name: value for name, value in vars(config).items() if name != "_log"} == before


def ignore(scope: object) -> None:
    pass


def test_each_setting_that_would_cut_streams_has_a_safe_value() -> None:
    ours = trio_sse.hypercorn._with_safe_settings(
        make_config(
            backlog=1,
            graceful_timeout=1,
            h2_max_concurrent_streams=1,
            keep_alive_max_requests=1,
            max_requests=1,
            read_timeout=1,
            ssl_handshake_timeout=60,
        ),
        drain_timeout=7,
        on_access=ignore,
    )
    assert ours.backlog >= socket.SOMAXCONN
    assert (ours.graceful_timeout, ours.max_requests, ours.read_timeout) == (7, None, None)
    assert ours.h2_max_concurrent_streams >= 1000
    assert (
        ours.keep_alive_max_requests == 10_000
    )  # without a bound, HTTP/2 would have no defence against resets
    assert ours.ssl_handshake_timeout <= 10


def test_settings_that_are_better_than_ours_are_kept() -> None:
    given = make_config(backlog=2**16, h2_max_concurrent_streams=5000, ssl_handshake_timeout=3)
    ours = trio_sse.hypercorn._with_safe_settings(given, drain_timeout=7, on_access=ignore)
    assert (ours.backlog, ours.h2_max_concurrent_streams, ours.ssl_handshake_timeout) == (2**16, 5000, 3)


async def test_it_listens_where_hypercorn_would(no_leak: LeakCheck, tmp_path: Path) -> None:
    given = socket.create_server(("127.0.0.1", 0))
    port = given.getsockname()[1]
    binds = ["127.0.0.1:0", f"unix:{tmp_path}/socket", f"fd://{given.detach()}"]
    async with serving(no_leak, make_config(bind=binds)) as (sse, where):
        assert len(where) == 3
        await check_stream(sse, await connect(where[0]))
        await check_stream(sse, await trio.open_unix_socket(f"{tmp_path}/socket"))
        await check_stream(sse, await trio.open_tcp_stream("127.0.0.1", port))


# Hypercorn leaves the socket that it could not bind to the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("before", [[], ["127.0.0.1:0"]])
async def test_an_address_in_use_is_an_error_and_leaves_nothing_behind(
    no_leak: LeakCheck, before: list[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = make_config(bind=[*before, f"127.0.0.1:{taken.getsockname()[1]}"])
        with pytest.raises(OSError, match="in use"):
            await trio_sse.hypercorn.serve(QuartTrio(__name__), config)


async def test_an_app_that_can_not_start_leaves_nothing_behind(no_leak: LeakCheck) -> None:
    app = QuartTrio(__name__)
    no_leak.watch_hub(QuartSSE(app).hub)

    @app.before_serving
    async def fail() -> None:
        raise ValueError("no database")

    with trio.fail_after(SECONDS), pytest.raises((Exception, BaseExceptionGroup)) as raised:
        await trio_sse.hypercorn.serve(app, make_config())
    assert "no database" in "".join(traceback.format_exception(raised.value))


async def test_a_missing_certificate_is_an_error_and_leaves_nothing_behind(
    no_leak: LeakCheck, tmp_path: Path
) -> None:
    config = make_config(certfile=f"{tmp_path}/none.pem", keyfile=f"{tmp_path}/none.pem")
    with trio.fail_after(SECONDS), pytest.raises((OSError, BaseExceptionGroup)) as raised:
        await trio_sse.hypercorn.serve(QuartTrio(__name__), config)
    assert "No such file" in "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize("options", [{"write_timeout": 0}, {"drain_timeout": "1"}, {"send_buffer": 0}])
async def test_options_are_checked(options: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError), match=next(iter(options))):
        await trio_sse.hypercorn.serve(QuartTrio(__name__), make_config(), **options)


@pytest.mark.usefixtures("quick_shutdown")
async def test_streams_end_before_the_app_does(no_leak: LeakCheck) -> None:
    order: list[str] = []
    shutdown = trio.Event()
    config = make_config()
    async with serving(no_leak, config, shutdown_trigger=shutdown.wait, drain_timeout=5) as (sse, (where,)):

        @sse.on_disconnect
        def note(connection: Connection) -> None:
            assert connection.end_reason is EndReason.SERVER_SHUTDOWN
            order.append("stream")

        assert sse._app is not None

        async def after_serving() -> None:
            await sse.hub.publish("live", "the hub still runs")
            order.append("app")

        sse._app.after_serving_funcs.insert(0, after_serving)
        async with Client(await connect(where)) as client:
            await client.get("/live")
            await client.read()  # the cursor
            shutdown.set()
            await client.rest()
            assert client.retry is not None
        await until(lambda: len(order) == 2)
    assert order == ["stream", "app"]


@pytest.mark.usefixtures("quick_shutdown")
async def test_an_app_whose_lifespan_ends_is_shut_down_and_serve_raises(no_leak: LeakCheck) -> None:
    fails, may_answer = trio.Event(), trio.Event()

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await fails.wait()
            raise ValueError("a task of the app has failed")
        fails.set()
        await may_answer.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:

            async def serve(*, task_status: trio.TaskStatus[list[str]]) -> None:
                with pytest.raises(RuntimeError, match="lifespan has ended"):
                    await trio_sse.hypercorn.serve(app, make_config(), task_status=task_status)

            (where,) = await nursery.start(serve)
            async with Client(await connect(where)) as first, Client(await connect(where)) as late:
                await first.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
                await fails.wait()
                await wait_all_tasks_blocked()
                assert (await late.get("/")).status == 503
                may_answer.set()
                assert (await first.head()).status == 200


async def test_listening_sockets_have_our_limits(no_leak: LeakCheck) -> None:
    given = socket.create_server(("127.0.0.1", 0))
    kept = given.dup()  # options belong to the socket, not to the descriptor
    config = make_config(bind=[f"fd://{given.detach()}"])
    with kept:
        async with serving(no_leak, config, write_timeout=7) as (sse, _):
            await check_stream(sse, await trio.open_tcp_stream(*kept.getsockname()))
            assert kept.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 12_000  # five seconds more
            assert kept.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) <= 2 * 64 * 1024


# TLS, and a second request while the stream is open


def with_tls(certificate: Certificate) -> Config:
    return make_config(certfile=str(certificate.chain), keyfile=str(certificate.key))


async def test_under_tls_a_stream_works_over_http1(no_leak: LeakCheck, certificate: Certificate) -> None:
    async with serving(no_leak, with_tls(certificate)) as (sse, (where,)):
        await check_stream(sse, await connect(where, certificate))


@pytest.mark.parametrize("under_tls", [False, True])
async def test_a_second_request_ends_the_stream_and_frees_its_connection(
    no_leak: LeakCheck, certificate: Certificate, under_tls: bool
) -> None:
    config = with_tls(certificate) if under_tls else make_config()
    async with serving(no_leak, config) as (sse, (where,)):
        await wait_all_tasks_blocked()
        before = living_tasks()
        async with Client(await connect(where, certificate if under_tls else None)) as client:
            assert (await client.get("/live")).get("connection") == "close"
            await client.send(b"GET /live HTTP/1.1\r\nHost: test\r\n\r\n")
            await client.rest()
            assert client.is_cut
            await until(lambda: not living_tasks() - before)
        assert sse.statistics().ended == {EndReason.CLIENT_DISCONNECTED: 1}


# HTTP/2


@pytest.fixture
def run(no_leak: LeakCheck, certificate: Certificate) -> Run:
    """Run hypercorn over HTTP/2."""
    return partial(running, "quart on hypercorn over http2", no_leak, certificate)


async def connected(host: Host) -> Http2Connection:
    connection = await host.connect()
    assert isinstance(connection, Http2Connection)
    return connection


@pytest.mark.integration
async def test_a_connection_carries_many_streams_at_once(run: Run) -> None:
    async with run() as host, await connected(host) as connection:
        streams = [await connection.request("GET", "/live") for _ in range(150)]
        for stream in streams:
            await stream.wait_head()
        await until_subscribed(host, 150)
        await host.hub.publish("live", "all")
        assert {(await stream.event()).data for stream in streams} == {"all"}


@pytest.mark.integration
async def test_a_stream_outlives_a_thousand_requests_beside_it(run: Run) -> None:
    async with run(seconds=4 * SECONDS) as host, await connected(host) as connection:
        stream = await connection.request("GET", "/live")
        await stream.wait_head()
        for _ in range(21):
            answers = [await connection.request("GET", "/plain") for _ in range(50)]
            assert [await answer.whole() for answer in answers] == [b"plain"] * 50
        await until_subscribed(host)
        await host.hub.publish("live", "still there")
        assert (await stream.event()).data == "still there"


async def test_streams_of_a_connection_end_one_by_one(run: Run) -> None:
    async with run() as host, await connected(host) as connection:
        first, second = [await connection.request("GET", "/live") for _ in range(2)]
        await until_subscribed(host, 2)
        await first.leave()
        await host.life.wait_ends(1)
        await until(lambda: host.hub.statistics().subscriptions == 1)
        await host.hub.publish("live", "to the other")
        assert (await second.event()).data == "to the other"


async def test_a_stream_that_is_not_read_does_not_disturb_the_others_of_its_connection(run: Run) -> None:
    async with run() as host, await connected(host) as connection:
        other = await connection.request("GET", "/live")
        await until_subscribed(host)
        held = await connection.request("GET", "/large", held=True)
        await held.wait_head()
        await host.hub.publish("live", "meanwhile")
        assert (await other.event()).data == "meanwhile"


@pytest.mark.integration
async def test_the_end_of_a_stream_that_is_not_read_is_waited_for_within_the_write_timeout(run: Run) -> None:
    async with run(write_timeout=0.3, drain_timeout=20) as host, host.opened("/large", held=True):
        assert await host.life.wait_ends(1) == [EndReason.FINISHED]
        began_at = trio.current_time()
        await host.shut_down()
        assert trio.current_time() - began_at < 10


async def test_an_end_that_is_read_late_is_complete(run: Run) -> None:
    async with run() as host, host.opened("/large", held=True) as stream:
        await until(lambda: host.statistics().bytes_sent > 65_535)
        await stream.release()
        assert sum(len(str(event.data)) for event in await stream.rest()) == 100_000
        assert (stream.is_ended, stream.is_cut) == (True, False)
        assert host.life.ends == [EndReason.FINISHED]


@pytest.mark.integration
@pytest.mark.parametrize("close", [False, True])
async def test_a_disconnect_from_a_stream_that_is_not_read_is_noticed(run: Run, close: bool) -> None:
    async with run() as host, await connected(host) as connection:
        held = await connection.request("GET", "/flood", held=True)
        await until(lambda: host.statistics().bytes_sent > 65_535)
        await (connection.abort() if close else held.leave())
        with trio.fail_after(SECONDS):
            assert await host.life.wait_ends(1) == [EndReason.CLIENT_DISCONNECTED]


@pytest.mark.integration
async def test_clients_that_never_read_delay_a_shutdown_by_the_write_timeout(run: Run) -> None:
    async with run(drain_timeout=0.5, write_timeout=1) as host, AsyncExitStack() as stack:
        for _ in range(10):
            stuck = await stack.enter_async_context(await host.connect(receive_buffer=4096))
            await stuck.request("GET", "/flood")
            stuck.reading.cancel()
        await host.life.wait_opened(10)
        began_at = trio.current_time()
        await host.shut_down()
        assert trio.current_time() - began_at < 0.5 + 1 + 20  # the kernel checks at intervals


# Httpx leaves its generators to the garbage collector if they are not read to the end.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
async def test_httpx_streams_and_its_disconnect_is_noticed_when_it_closes(run: Run) -> None:
    async with run() as host:
        context: ssl.SSLContext = host.tls  # type: ignore[assignment]
        url = f"https://localhost:{host.port}"
        async with httpx.AsyncClient(http2=True, verify=context, base_url=url) as client:
            async with client.stream("GET", "/three") as response:
                assert response.http_version == "HTTP/2"
                assert (await response.aread()).count(b"data:") == 3
            async with client.stream("GET", "/live") as response:
                await until_subscribed(host)
                decoder = EventDecoder()
                pieces = response.aiter_raw()
                cursor = host.hub.last_event_id
                assert [e async for data in first(pieces) for e in decoder.feed(data)] == []
                assert decoder.last_event_id == cursor
                await host.hub.publish("live", "hello")
                (event,) = [e async for data in first(pieces) for e in decoder.feed(data)]
                assert event.data == "hello"
            assert (await client.get("/plain")).text == "plain"
        assert await host.life.wait_ends(2) == [EndReason.FINISHED, EndReason.CLIENT_DISCONNECTED]


async def first(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the first piece only."""
    async for piece in pieces:
        yield piece
        return


@pytest.mark.integration
async def test_the_requests_of_a_connection_are_bounded(
    no_leak: LeakCheck, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trio_sse.hypercorn, "_REQUESTS", 300)
    async with serving(no_leak, make_config(keep_alive_max_requests=1)) as (sse, (where,)):
        async with await plain_connect(where) as stream:
            client = RawHttp2(stream)
            for _ in range(310):
                client.h2.reset_stream(client.ask("/nowhere"))
            await client.flush()
            await client.wait(h2.events.ConnectionTerminated)
        await check_stream(sse, await connect(where))


@pytest.mark.slow
async def test_a_connection_that_resets_its_requests_is_refused_for_a_while(
    no_leak: LeakCheck, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trio_sse._asgi.disconnect_flood._SECONDS", SECONDS)
    calls = ended = 0
    clients = set()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal calls, ended
        assert scope["type"] == "http"
        calls += 1
        clients.add(scope["client"])
        while (await receive())["type"] != "http.disconnect":
            pass
        ended += 1

    with trio.fail_after(2 * SECONDS):
        async with trio.open_nursery() as nursery:
            (where,) = await nursery.start(partial(trio_sse.hypercorn.serve, app, make_config()))
            async with await plain_connect(where) as stream, await plain_connect(where) as other:
                client = RawHttp2(stream)
                for expected in range(10, 211, 10):  # 200 are tolerated
                    numbers = [client.ask("/") for _ in range(10)]
                    await client.flush()
                    await until(lambda expected=expected: calls == expected)  # type: ignore[misc]
                    for number in numbers:
                        client.h2.reset_stream(number)
                    await client.flush()
                    await until(lambda expected=expected: ended == expected)  # type: ignore[misc]
                    await trio.testing.wait_all_tasks_blocked()  # and the calls have returned
                number = client.ask("/")
                await client.flush()
                head = await client.wait(h2.events.ResponseReceived, number)
                assert dict(head.headers)[":status"] == "429"
                assert calls == 210
                await other.send_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
                await until(lambda: len(clients) == 2)
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        (b"te", b"trailers", "200"),
        (b"a b", b"x", "500"),
        (b"x", b"a\nb", "500"),
        (b"x-\xe4", b"x", "500"),
        (b"content-length", b"two", "500"),
    ],
)
async def test_a_field_that_cannot_be_sent_does_not_harm_the_connection(
    name: bytes, value: bytes, status: str
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        headers = [(name, value)] if scope["path"] == "/bad" else []
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})

    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:
            (where,) = await nursery.start(partial(trio_sse.hypercorn.serve, app, make_config()))
            async with await plain_connect(where) as stream:
                client = RawHttp2(stream)
                for path, expected in (("/bad", status), ("/good", "200")):
                    number = client.ask(path)
                    await client.flush()
                    head = await client.wait(h2.events.ResponseReceived, number)
                    assert dict(head.headers)[":status"] == expected
            nursery.cancel_scope.cancel()


async def test_a_body_that_continues_after_the_answer_does_not_end_hypercorn(
    no_leak: LeakCheck, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(no_leak, make_config()) as (sse, (where,)):
        async with await plain_connect(where) as stream:
            client = RawHttp2(stream)
            number = client.ask("/nowhere", "POST", end_stream=False)
            await client.flush()
            await client.wait(h2.events.ResponseReceived, number)
            for last in (False, False, True):
                client.h2.send_data(number, b"x" * 1000, end_stream=last)
                await client.flush()
                await trio.sleep(0.01)
            await client.wait(h2.events.StreamEnded, number)
        await check_stream(sse, await connect(where))
    assert "hypercorn failed" not in caplog.text


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"


@pytest.mark.parametrize(
    "hostile",
    [
        # HTTP/2 with a path that is not ASCII.
        PREFACE + b"\0\0\x0a\1\5\0\0\0\1\x82\x87\x41\x01x\x44\x03/\xff\xfe",
        # An upgrade to HTTP/2 with invalid settings.
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n\r\n",
    ],
)
async def test_after_a_peer_on_which_hypercorn_fails_others_are_served(
    no_leak: LeakCheck, hostile: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(no_leak, make_config()) as (sse, (where,)):
        async with Client(await connect(where)) as client:
            await client.get("/live")
            async with await connect(where) as stream:
                await stream.send_all(hostile)
                with trio.fail_after(SECONDS), contextlib.suppress(trio.BrokenResourceError):
                    while await stream.receive_some():
                        pass
            await client.rest()
            assert client.is_cut  # it has to reconnect
        assert sse.hub.is_running
        await check_stream(sse, await connect(where))
    assert "hypercorn failed, and is started again: " in caplog.text
    assert sse.statistics().ended == {EndReason.SERVER_SHUTDOWN: 1, EndReason.CLIENT_DISCONNECTED: 1}


async def test_a_failure_while_it_is_cancelled_is_contained(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail_when_cancelled(app: Any, config: Any, *, task_status: Any, **options: Any) -> None:
        async def fail() -> None:
            try:
                await trio.sleep_forever()
            finally:
                raise KeyError(3)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            nursery.start_soon(trio.sleep_forever)
            task_status.started([])

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr(trio_sse.hypercorn, "serve_by_hypercorn", fail_when_cancelled)
    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(trio_sse.hypercorn.serve, app, make_config()))
            nursery.cancel_scope.cancel()
    assert "hypercorn failed, while it was cancelled: KeyError(3)" in caplog.text
