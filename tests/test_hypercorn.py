"""What is special of hypercorn: its settings, its sockets, and what we reach of its insides."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from hypercorn.config import Config
from quart_trio import QuartTrio

import trio_sse.hypercorn
from trio_sse import Connection, EndReason, _asgi_stage, _hypercorn_direct
from trio_sse.quart import QuartSSE

from .client import Client
from .conftest import LeakCheck
from .hosts import Host, running
from .http2_client import Http2Connection
from .test_conformance import certificate, until, until_subscribed

__all__ = ["certificate"]  # a fixture


def make_config(**options: Any) -> Config:
    config = Config()
    config.bind, config.errorlog = ["127.0.0.1:0"], None
    for name, value in options.items():
        setattr(config, name, value)
    return config


@asynccontextmanager
async def serving(
    no_leak: LeakCheck, config: Config, **options: Any
) -> AsyncIterator[tuple[QuartSSE, list[str]]]:
    app = QuartTrio(__name__)
    sse = QuartSSE(app)
    no_leak.watch_hub(sse.hub)

    @sse.route("/live")
    async def live(connection: Connection) -> None:
        await connection.subscribe("live")

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            yield sse, await nursery.start(partial(trio_sse.hypercorn.serve, app, config, **options))
            nursery.cancel_scope.cancel()


async def check_stream(sse: QuartSSE, stream: trio.abc.Stream) -> None:
    async with Client(stream) as client:
        assert (await client.get("/live")).status == 200
        await sse.hub.publish("live", "hello")
        assert (await client.event()).data == "hello"


async def test_settings_that_would_end_streams_are_put_right_in_a_copy(no_leak: LeakCheck) -> None:
    config = make_config(read_timeout=1, max_requests=1, keep_alive_max_requests=1, backlog=1)
    before = dict(vars(config))
    async with serving(no_leak, config) as (sse, (where,)):
        for _ in range(4):
            await check_stream(sse, await trio.open_tcp_stream("127.0.0.1", int(where.rpartition(":")[2])))
        async with Client(await trio.open_tcp_stream("127.0.0.1", int(where.rpartition(":")[2]))) as client:
            await client.get("/live")
            await trio.sleep(1.2)  # longer than the read timeout of the user's
            await sse.hub.publish("live", "still there")
            assert (await client.event()).data == "still there"
    assert {name: value for name, value in vars(config).items() if name != "_log"} == before


async def test_it_listens_where_hypercorn_would(no_leak: LeakCheck, tmp_path: Path) -> None:
    given = socket.create_server(("127.0.0.1", 0))
    port = given.getsockname()[1]
    binds = ["127.0.0.1:0", f"unix:{tmp_path}/socket", f"fd://{given.detach()}"]
    async with serving(no_leak, make_config(bind=binds)) as (sse, where):
        assert len(where) == 3
        await check_stream(sse, await trio.open_tcp_stream("127.0.0.1", int(where[0].rpartition(":")[2])))
        await check_stream(sse, await trio.open_unix_socket(f"{tmp_path}/socket"))
        await check_stream(sse, await trio.open_tcp_stream("127.0.0.1", port))


# The socket that it could not bind is left to the garbage collector by hypercorn.
@pytest.mark.filterwarnings("ignore:unclosed", "ignore::pytest.PytestUnraisableExceptionWarning")
async def test_an_address_in_use_is_an_error_and_leaves_nothing(no_leak: LeakCheck) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = make_config(bind=[f"127.0.0.1:{taken.getsockname()[1]}"])
        with pytest.raises(OSError, match="in use"):
            await trio_sse.hypercorn.serve(QuartTrio(__name__), config)


@pytest.mark.parametrize("options", [{"write_timeout": 0}, {"drain_timeout": "1"}, {"send_buffer": 0}])
async def test_options_are_checked(options: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError), match=next(iter(options))):
        await trio_sse.hypercorn.serve(QuartTrio(__name__), make_config(), **options)


async def test_accepted_sockets_have_our_bounds(no_leak: LeakCheck) -> None:
    found: list[tuple[int, int]] = []
    async with serving(no_leak, make_config(), write_timeout=7) as (sse, (where,)):

        @sse.on_connect
        def look(connection: Connection) -> None:
            own = connection.transport.socket  # type: ignore[attr-defined]
            found.append(
                (
                    own.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
                    own.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF),
                )
            )

        await check_stream(sse, await trio.open_tcp_stream("127.0.0.1", int(where.rpartition(":")[2])))
    assert found[0][0] == 7000
    assert found[0][1] <= 2 * 64 * 1024


# Its insides


@pytest.fixture
def transports(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note what streams are written to."""
    noted: list[str] = []
    borrow = _asgi_stage.borrow_transport

    def note(*arguments: Any) -> Any:
        noted.append(type(transport := borrow(*arguments)).__name__)
        return transport

    monkeypatch.setattr(_asgi_stage, "borrow_transport", note)
    return noted


async def test_the_installed_hypercorn_lets_us_write_to_its_sockets(
    no_leak: LeakCheck, transports: list[str]
) -> None:
    async with serving(no_leak, make_config()) as (sse, (where,)):
        await check_stream(sse, await trio.open_tcp_stream("127.0.0.1", int(where.rpartition(":")[2])))
    assert transports == ["HypercornTransport"]


@pytest.mark.parametrize("leave", [True, False])
async def test_a_hypercorn_that_is_not_known_is_written_to_by_send(
    no_leak: LeakCheck, transports: list[str], monkeypatch: pytest.MonkeyPatch, certificate: Any, leave: bool
) -> None:
    monkeypatch.setattr(_hypercorn_direct, "_bound_to", lambda *arguments: None)
    async with running("hypercorn", no_leak.watch_hub, certificate) as host:
        async with host.opened("/three") as stream:
            assert len(await stream.rest()) == 3
            assert stream.is_ended
        async with host.opened("/live") as stream:
            await until_subscribed(host)
            await host.hub.publish("live", "hello")
            assert (await stream.event()).data == "hello"
            if leave:
                await stream.leave()
                assert (await host.life.wait_ends(2))[-1] is EndReason.CLIENT_DISCONNECTED
            else:
                await host.shut_down()
                await stream.rest()
                assert (stream.is_cut, stream.retry is not None) == (True, True)
    assert set(transports) == {"ASGITransport"}


async def test_under_tls_streams_go_through_send(
    no_leak: LeakCheck, transports: list[str], certificate: Any
) -> None:
    async with running("http2", no_leak.watch_hub, certificate) as host, host.opened("/three") as stream:
        assert len(await stream.rest()) == 3
    assert transports == ["ASGITransport"]


# HTTP/2


@pytest.fixture
def run(no_leak: LeakCheck, certificate: Any) -> Callable[..., Any]:
    """Run hypercorn over HTTP/2."""
    return partial(running, "http2", no_leak.watch_hub, certificate)


async def connected(host: Host) -> Http2Connection:
    connection = await host.connect()
    assert isinstance(connection, Http2Connection)
    return connection


async def test_a_connection_carries_many_streams_at_once(run: Callable[..., Any]) -> None:
    async with run() as host, await connected(host) as connection:
        streams = [await connection.request("GET", "/live") for _ in range(150)]
        for stream in streams:
            await stream.wait_head()
        await until_subscribed(host, 150)
        await host.hub.publish("live", "all")
        assert {(await stream.event()).data for stream in streams} == {"all"}


async def test_a_stream_outlives_a_thousand_requests_beside_it(run: Callable[..., Any]) -> None:
    async with run() as host, await connected(host) as connection:
        stream = await connection.request("GET", "/live")
        await stream.wait_head()
        for _ in range(1050):
            assert await (await connection.request("GET", "/plain")).whole() == b"plain"
        await until_subscribed(host)
        await host.hub.publish("live", "still there")
        assert (await stream.event()).data == "still there"


async def test_streams_of_a_connection_end_one_by_one(run: Callable[..., Any]) -> None:
    async with run() as host, await connected(host) as connection:
        first, second = [await connection.request("GET", "/live") for _ in range(2)]
        await until_subscribed(host, 2)
        await first.leave()
        await host.life.wait_ends(1)
        await until(lambda: host.hub.statistics().subscriptions == 1)
        await host.hub.publish("live", "to the other")
        assert (await second.event()).data == "to the other"


async def test_without_a_reset_a_cut_is_ended_properly(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_hypercorn_direct, "_bound_to", lambda *arguments: None)
    async with run() as host, host.opened("/fails_after") as stream:
        assert len(await stream.rest()) == 1
        assert stream.is_ended  # better than to stay open for ever
