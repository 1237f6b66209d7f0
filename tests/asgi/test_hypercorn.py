"""What is specific to hypercorn: its settings, its sockets, and its internals as far as we use them."""

from __future__ import annotations

import contextlib
import math
import socket
import ssl
import traceback
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from hypercorn.config import Config
from quart_trio import QuartTrio
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_sse.hypercorn
from trio_sse import Connection, EndReason, EventDecoder
from trio_sse._asgi import foreign_server, hypercorn_direct
from trio_sse.quart import QuartSSE

from ..support.certificates import Certificate
from ..support.client import Client
from ..support.hosts import FAST, PATIENT, Host, Run, running, until_subscribed
from ..support.http2_client import Http2Connection
from ..support.leaks import LeakCheck, living_tasks
from ..support.waiting import SECONDS, until


def make_config(**options: Any) -> Config:
    config = Config()
    config.bind, config.errorlog = ["127.0.0.1:0"], None
    for name, value in options.items():
        setattr(config, name, value)
    return config


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
    )
    assert ours.backlog >= socket.SOMAXCONN
    assert (ours.graceful_timeout, ours.max_requests, ours.read_timeout) == (7, None, None)
    assert ours.h2_max_concurrent_streams >= 1000
    assert ours.keep_alive_max_requests >= 2**31 - 1
    assert ours.ssl_handshake_timeout <= 10


def test_settings_that_are_better_than_ours_are_kept() -> None:
    given = make_config(backlog=2**16, h2_max_concurrent_streams=5000, ssl_handshake_timeout=3)
    ours = trio_sse.hypercorn._with_safe_settings(given, drain_timeout=7)
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
            shutdown.set()
            await client.rest()
            assert client.retry is not None
        await until(lambda: len(order) == 2)
    assert order == ["stream", "app"]


async def test_accepted_sockets_have_our_limits(no_leak: LeakCheck) -> None:
    found: list[tuple[int, int]] = []
    async with serving(no_leak, make_config(), write_timeout=7) as (sse, (where,)):

        @sse.on_connect
        def look(connection: Connection) -> None:
            own = connection._stream.transport.socket  # type: ignore[attr-defined]
            found.append(
                (
                    own.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
                    own.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF),
                )
            )

        await check_stream(sse, await connect(where))
    assert found[0][0] == 12_000  # five seconds more than the write timeout
    assert found[0][1] <= 2 * 64 * 1024


# Its internals


@pytest.fixture
def transports(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the transports of streams."""
    noted: list[str] = []
    borrow = foreign_server.borrow_transport

    def note(*arguments: Any) -> Any:
        noted.append(type(transport := borrow(*arguments)).__name__)
        return transport

    monkeypatch.setattr(foreign_server, "borrow_transport", note)
    return noted


async def test_the_installed_hypercorn_lets_us_write_to_its_sockets(
    no_leak: LeakCheck, transports: list[str]
) -> None:
    async with serving(no_leak, make_config()) as (sse, (where,)):
        await check_stream(sse, await connect(where))
    assert transports == ["HypercornTransport"]


async def test_under_tls_streams_go_through_send(
    no_leak: LeakCheck, transports: list[str], certificate: Certificate
) -> None:
    async with running("http2", no_leak, certificate) as host, host.opened("/three") as stream:
        assert len(await stream.rest()) == 3
    async with serving(no_leak, with_tls(certificate)) as (sse, (where,)):
        await check_stream(sse, await connect(where, certificate))
    assert transports == ["ASGITransport", "ASGITransport"]


def with_tls(certificate: Certificate) -> Config:
    return make_config(certfile=str(certificate.chain), keyfile=str(certificate.key))


@pytest.mark.parametrize(
    ("over", "found"),
    [
        ("http/1.1", {"socket": True, "http2": False, "truncate": True}),
        ("http/1.1 under TLS", {"socket": False, "http2": False, "truncate": True}),
        ("http/2", {"socket": False, "http2": True, "truncate": True}),
    ],
)
async def test_what_is_found_in_the_installed_hypercorn(
    no_leak: LeakCheck, certificate: Certificate, over: str, found: dict[str, bool]
) -> None:
    seen: list[dict[str, bool]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise NotImplementedError
        looked_for = {
            "socket": hypercorn_direct.find_socket(send),
            "http2": hypercorn_direct.find_http2(send),
            "truncate": hypercorn_direct.find_truncate(send),
        }
        seen.append({name: what is not None for name, what in looked_for.items()})
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    config = make_config() if over == "http/1.1" else with_tls(certificate)
    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:
            (where,) = await nursery.start(partial(trio_sse.hypercorn.serve, app, config))
            if over == "http/2":
                plain = await trio.open_tcp_stream("127.0.0.1", int(where.rpartition(":")[2]))
                async with await Http2Connection.open(plain, certificate.context, nursery) as connection:
                    assert (await connection.get("/")).status == 204
            else:
                tls = None if over == "http/1.1" else certificate
                async with Client(await connect(where, tls)) as client:
                    assert (await client.get("/")).status == 204
            nursery.cancel_scope.cancel()
    assert seen == [found]


async def nothing(message: Any) -> None:
    """Send, as an unknown server."""


def test_nothing_is_found_in_another_server() -> None:
    assert hypercorn_direct.find_socket(nothing) is None
    assert hypercorn_direct.find_http2(nothing) is None
    assert hypercorn_direct.find_truncate(nothing) is None
    assert hypercorn_direct.with_backpressure(nothing) is nothing


# Where nothing is found, over HTTP/1.1


@pytest.fixture(params=["no socket is found", "nothing is found"])
def run_by_send(
    request: pytest.FixtureRequest,
    no_leak: LeakCheck,
    certificate: Certificate,
    monkeypatch: pytest.MonkeyPatch,
    transports: list[str],
) -> Iterator[Run]:
    """Run hypercorn over HTTP/1.1 with streams that go through its `send`."""
    if request.param == "nothing is found":
        monkeypatch.setattr(hypercorn_direct, "_bound_to", lambda *arguments: None)
    else:
        monkeypatch.setattr(hypercorn_direct, "find_socket", lambda send: None)
    yield partial(running, "hypercorn", no_leak, certificate)
    assert set(transports) == {"ASGITransport"}


async def test_by_send_streams_are_delivered_and_complete(run_by_send: Run) -> None:
    async with run_by_send() as host, await host.connect() as client:
        for _ in range(2):
            await client.get("/three")
            assert len(await client.rest()) == 3
            assert client.is_ended
        await client.get("/live")
        await until_subscribed(host)
        await host.hub.publish("live", "hello")
        assert (await client.event()).data == "hello"
        await client.leave()
        assert (await host.life.wait_ends(3))[-1] is EndReason.CLIENT_DISCONNECTED


async def test_by_send_a_stream_that_fails_is_truncated(run_by_send: Run) -> None:
    async with run_by_send() as host, host.opened("/fails_after") as stream:
        assert [event.data for event in await stream.rest()] == ["one"]
        assert (stream.is_ended, stream.is_cut) == (False, True)
        assert host.life.ends == [EndReason.HANDLER_ERROR]


async def test_by_send_idle_streams_are_kept_alive_and_truncated(run_by_send: Run, clock: MockClock) -> None:
    async with run_by_send(**PATIENT, max_duration=60) as host, host.opened("/quiet") as stream:
        clock.rate = FAST
        await stream.rest()
        assert set(stream.body.split(b"\n")) == {b":", b""}
        assert (stream.is_ended, stream.is_cut) == (False, True)
        assert host.life.ends == [EndReason.MAX_DURATION]


async def test_by_send_a_shutdown_makes_clients_reconnect(run_by_send: Run) -> None:
    async with run_by_send() as host, host.opened("/live") as stream:
        await until_subscribed(host)
        await host.shut_down()
        await stream.rest()
        assert (stream.is_cut, stream.retry is not None) == (True, True)
        assert host.life.ends == [EndReason.SERVER_SHUTDOWN]


async def test_by_send_the_kernel_disconnects_a_client_that_never_reads(run_by_send: Run) -> None:
    async with run_by_send(write_timeout=1) as host, host.opened("/live") as other:
        await until_subscribed(host)
        async with await host.connect(receive_buffer=4096) as stuck:
            await stuck.send(b"GET /flood HTTP/1.1\r\nHost: test\r\n\r\n")
            (reason,) = await host.life.wait_ends(1)
            assert reason in (EndReason.WRITE_TIMEOUT, EndReason.CLIENT_DISCONNECTED)
        await host.hub.publish("live", "afterwards")
        assert (await other.event()).data == "afterwards"


async def test_by_send_clients_that_never_read_delay_a_shutdown_by_the_write_timeout(
    run_by_send: Run,
) -> None:
    async with run_by_send(drain_timeout=0.5, write_timeout=1) as host, AsyncExitStack() as stack:
        for _ in range(20):
            client = await stack.enter_async_context(await host.connect(receive_buffer=4096))
            await client.send(b"GET /flood HTTP/1.1\r\nHost: test\r\n\r\n")
        await host.life.wait_opened(20)
        began_at = trio.current_time()
        await host.shut_down()
        assert trio.current_time() - began_at < 0.5 + 1 + 20  # the kernel checks at intervals


# A second request while the stream is open


async def test_under_tls_a_disconnect_after_a_second_request_is_noticed_by_the_next_keepalive(
    no_leak: LeakCheck, certificate: Certificate, clock: MockClock
) -> None:
    async with serving(no_leak, with_tls(certificate), **PATIENT) as (sse, (where,)):
        async with Client(await connect(where, certificate)) as client:
            await client.get("/live")
            await client.send(b"GET /live HTTP/1.1\r\nHost: test\r\n\r\n")
            await until(lambda: sse.statistics().open_streams == 1)
            await client.abort()
        clock.rate = FAST
        left_at = trio.current_time()
        await until(lambda: not sse.statistics().open_streams, seconds=math.inf)
        assert sse.statistics().ended == {EndReason.CLIENT_DISCONNECTED: 1}
        assert trio.current_time() - left_at < 15 + 20 * FAST


@pytest.mark.parametrize("under_tls", [False, True])
async def test_a_truncated_stream_frees_its_connection_despite_further_requests(
    no_leak: LeakCheck, certificate: Certificate, clock: MockClock, under_tls: bool
) -> None:
    config = with_tls(certificate) if under_tls else make_config()
    async with serving(no_leak, config, **PATIENT, max_duration=30) as (sse, (where,)):
        await wait_all_tasks_blocked()
        before = living_tasks()
        async with Client(await connect(where, certificate if under_tls else None)) as client:
            await client.get("/live")
            await client.send(b"GET /live HTTP/1.1\r\nHost: test\r\n\r\n")
            clock.rate = FAST
            await client.rest()
            assert client.is_cut
            await until(lambda: not living_tasks() - before, seconds=math.inf)
        assert sse.statistics().opened == 1


# HTTP/2


@pytest.fixture
def run(no_leak: LeakCheck, certificate: Certificate) -> Run:
    """Run hypercorn over HTTP/2."""
    return partial(running, "http2", no_leak, certificate)


async def connected(host: Host) -> Http2Connection:
    connection = await host.connect()
    assert isinstance(connection, Http2Connection)
    return connection


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
    async with run(seconds=55) as host, await connected(host) as connection:
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


async def test_without_a_reset_a_truncated_stream_looks_complete(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hypercorn_direct, "_bound_to", lambda *arguments: None)
    async with run() as host, host.opened("/fails_after") as stream:
        assert len(await stream.rest()) == 1
        assert stream.is_ended  # better than staying open for ever


async def test_a_stream_that_is_not_read_is_truncated_and_the_others_of_its_connection_continue(
    run: Run,
) -> None:
    async with run(write_timeout=0.5) as host, await connected(host) as connection:
        other = await connection.request("GET", "/live")
        await until_subscribed(host)
        held = await connection.request("GET", "/flood", held=True)
        await held.wait_head()
        await host.hub.publish("live", "meanwhile")
        assert (await other.event()).data == "meanwhile"
        assert await host.life.wait_ends(1) == [EndReason.WRITE_TIMEOUT]
        await held.rest()
        assert held.is_cut
        await host.hub.publish("live", "afterwards")
        assert (await other.event()).data == "afterwards"


async def test_an_end_that_is_not_read_is_a_write_timeout(run: Run) -> None:
    async with run(write_timeout=0.3) as host, host.opened("/large", held=True) as stream:
        await stream.rest()
        assert (stream.is_ended, stream.is_cut) == (False, True)
        assert host.life.ends == [EndReason.WRITE_TIMEOUT]


async def test_an_end_that_is_read_late_is_complete(run: Run) -> None:
    async with run() as host, host.opened("/large", held=True) as stream:
        await until(lambda: host.statistics().bytes_sent > 65_535)
        await stream.release()
        assert sum(len(str(event.data)) for event in await stream.rest()) == 100_000
        assert (stream.is_ended, stream.is_cut) == (True, False)
        assert host.life.ends == [EndReason.FINISHED]


@pytest.mark.parametrize("close", [False, True])
async def test_a_disconnect_from_a_stream_that_is_not_read_is_noticed(run: Run, close: bool) -> None:
    async with run() as host, await connected(host) as connection:
        held = await connection.request("GET", "/flood", held=True)
        await until(lambda: host.statistics().bytes_sent > 65_535)
        await (connection.abort() if close else held.leave())
        with trio.fail_after(SECONDS):
            assert await host.life.wait_ends(1) == [EndReason.CLIENT_DISCONNECTED]


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
        url = f"https://localhost:{host.address[1]}"
        async with httpx.AsyncClient(http2=True, verify=context, base_url=url) as client:
            async with client.stream("GET", "/three") as response:
                assert response.http_version == "HTTP/2"
                assert (await response.aread()).count(b"data:") == 3
            async with client.stream("GET", "/live") as response:
                await until_subscribed(host)
                await host.hub.publish("live", "hello")
                decoder = EventDecoder()
                (event,) = [e async for data in first(response.aiter_raw()) for e in decoder.feed(data)]
                assert event.data == "hello"
            assert (await client.get("/plain")).text == "plain"
        assert await host.life.wait_ends(2) == [EndReason.FINISHED, EndReason.CLIENT_DISCONNECTED]


async def first(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the first piece only."""
    async for piece in pieces:
        yield piece
        return


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
async def test_a_peer_on_which_hypercorn_fails_affects_no_other(
    no_leak: LeakCheck, hostile: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(no_leak, make_config()) as (sse, (where,)):
        async with await connect(where) as stream:
            await stream.send_all(hostile)
            with trio.fail_after(SECONDS), contextlib.suppress(trio.BrokenResourceError):
                while await stream.receive_some():
                    pass
        async with await connect(where) as stream:
            await check_stream(sse, stream)
    assert "hypercorn failed on a connection, which is closed: " in caplog.text
