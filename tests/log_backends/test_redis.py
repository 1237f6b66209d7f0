"""A hub on Redis whose server is killed, stopped, emptied or slow, or refuses."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trustme

from trio_sse import Hub, LogRefused, LogUnavailable, Server, ServerSentEvent, Subscription
from trio_sse._hub.hub import engine_of
from trio_sse._hub.sequencer import SharedSequencer
from trio_sse.redis import RedisLog

from ..support.ports import free_port
from ..support.redis_server import RedisServer, redis_server
from ..support.requirements import needs
from ..support.serving import OnSockets, on_sockets
from ..support.serving import running as running_hub
from ..support.waiting import SECONDS, until

pytestmark = [pytest.mark.integration, needs("redis-server")]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RedisServer]:
    with redis_server(tmp_path) as made:
        await made.start()
        yield made


@asynccontextmanager
async def running(server: RedisServer, *, is_there: bool = True, **options: float) -> AsyncIterator[Hub]:
    """Run a hub on Redis, which has been reached if it is there.

    By default, a busy machine keeps the timeout: it must not be an outage.
    """
    hub = Hub(log=RedisLog(server.url, **{"timeout": 10, **options}))  # type: ignore[arg-type]  # floats only
    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:
            await nursery.start(hub.run)
            await until(lambda: not is_there or hub.statistics().log_problem is None)
            yield hub
            nursery.cancel_scope.cancel()


async def take(events: Subscription, count: int) -> list[ServerSentEvent]:
    with trio.fail_after(SECONDS):
        return [await anext(events) for _ in range(count)]


async def publish_numbers(hub: Hub, count: int) -> None:
    for number in range(count):
        await hub.publish("t", str(number))


async def test_killed_during_publishing_and_restarted_from_its_file(server: RedisServer) -> None:
    async with running(server, timeout=0.3, publish_timeout=SECONDS) as hub, hub.subscribe("t") as events:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(publish_numbers, hub, 400)
            for _ in range(3):
                await trio.sleep(0.1)
                server.kill()
                await server.start()
        assert [event.data for event in await take(events, 400)] == [str(number) for number in range(400)]


async def test_redis_stopped_for_a_while_loses_nothing(server: RedisServer) -> None:
    async with running(server, timeout=0.3, publish_timeout=SECONDS) as hub, hub.subscribe("t") as events:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(publish_numbers, hub, 200)
            await trio.sleep(0.05)
            server.signal(signal.SIGSTOP)
            await trio.sleep(1)
            server.signal(signal.SIGCONT)
        assert [event.data for event in await take(events, 200)] == [str(number) for number in range(200)]


async def test_publishing_while_it_is_away_fails_at_its_bound_and_is_not_stored_later(
    server: RedisServer,
) -> None:
    async with running(server, timeout=0.3, publish_timeout=0.3) as hub, hub.subscribe("t") as events:
        server.kill()
        await trio.sleep(0.1)
        with pytest.raises(LogUnavailable, match=r"not stored within 0\.3 s"):
            await hub.publish("t", "lost")
        await server.start()
        with trio.fail_after(SECONDS):
            while True:
                try:
                    await hub.publish("t", "kept")
                    break
                except LogUnavailable:
                    pass
        assert (await take(events, 1))[0].data == "kept"


async def test_publishing_fails_while_redis_is_down_at_the_start(server: RedisServer) -> None:
    server.kill()
    async with running(server, is_there=False, timeout=0.3, publish_timeout=0.2) as hub:
        with pytest.raises(LogUnavailable):
            await hub.publish("t", "x")


async def test_subscribers_from_before_the_first_load_receive_a_reset(
    server: RedisServer,
) -> None:
    async with running(server) as other:
        await other.publish("t", "before")
    server.kill()
    options = {"timeout": 0.3, "publish_timeout": SECONDS}
    async with running(server, is_there=False, **options) as hub, hub.subscribe("t") as events:
        await server.start()
        assert [(event.event, event.data) for event in await take(events, 1)] == [
            ("reset", '{"reason":"unknown"}')
        ]
        await hub.publish("t", "after")
        assert (await take(events, 1))[0].data == "after"


async def test_a_server_is_ready_once_its_log_was_read(server: RedisServer) -> None:
    server.kill()
    app = Server(hub=Hub(log=RedisLog(server.url, timeout=0.3)))

    async def status(serving: OnSockets) -> int:
        async with await serving.connect() as client:
            return (await client.get("/health")).status

    async with on_sockets(app) as serving:
        assert await status(serving) == 503
        await server.start()
        while await status(serving) == 503:  # noqa: ASYNC110  # there is no notification
            await trio.sleep(0.05)
        server.kill()
        assert await status(serving) == 200  # if all nodes said that they cannot, nobody would be served


async def test_a_repeated_entry_is_delivered_once(server: RedisServer) -> None:
    async with running(server) as hub, hub.subscribe("t") as events:
        await publish_numbers(hub, 3)
        taken = await take(events, 3)
        sequencer = engine_of(hub).sequencer
        assert isinstance(sequencer, SharedSequencer)
        async with RedisLog(server.url).connect() as session:
            second = (await session.read(hub.first_event_id, 2))[1]
        again = second.record.decode()
        await server.do(f"XADD {{trio-sse}}:log * e {second.epoch} n 2 d '{again}'")
        await hub.publish("t", "next")
        assert [event.data for event in [*taken, *await take(events, 1)]] == ["0", "1", "2", "next"]
        assert sequencer.replica.follower.skipped == 1


async def test_a_log_restarted_empty_is_a_reset(server: RedisServer) -> None:
    async with running(server, timeout=0.3, publish_timeout=SECONDS) as hub, hub.subscribe("t") as events:
        await hub.publish("t", "old")
        (old,) = await take(events, 1)
        server.kill()
        server.forget()
        await server.start()
        await hub.publish("t", "new")
        assert [(event.event, event.data) for event in await take(events, 2)] == [
            ("reset", '{"reason":"unknown"}'),
            (None, "new"),
        ]
        async with hub.subscribe("t", last_event_id=old.id) as again:
            assert (await take(again, 1))[0].event == "reset"


async def test_a_log_that_is_flushed_is_a_reset(server: RedisServer) -> None:
    async with running(server) as hub, hub.subscribe("t") as events:
        await hub.publish("t", "old")
        (old,) = await take(events, 1)  # a stored event may not have been read back yet
        await server.do("FLUSHALL")
        await hub.publish("t", "new")
        assert [event.event for event in [old, *await take(events, 2)]] == [None, "reset", None]


async def test_flushed_during_a_replay_is_a_reset(server: RedisServer) -> None:
    async with running(server) as hub:
        first = hub.first_event_id
        async with hub.subscribe("t") as live:
            await publish_numbers(hub, 300)
            await take(live, 300)  # a stored event may not have been read back yet
        async with (
            hub.subscribe("t", last_event_id=first) as begun,
            hub.subscribe("t", last_event_id=first) as waiting,
            hub.subscribe("t") as live,
        ):
            await take(begun, 1)
            await server.do("FLUSHALL")
            await hub.publish("t", "new")
            await take(live, 2)
            page = [event.data for event in await take(begun, 255)]
            assert page == [str(number) for number in range(1, 256)]  # was read from the log before
            for events in (begun, waiting):
                assert [event.event for event in await take(events, 2)] == ["reset", None]


@pytest.mark.parametrize("pace", [{"interval": 0.02}, {"batch": 0.02}], ids=str)
async def test_throttled_subscriptions_continue_after_the_reset(
    server: RedisServer, pace: dict[str, float]
) -> None:
    async with running(server) as hub, hub.subscribe("t", **pace) as events:  # type: ignore[arg-type]
        await publish_numbers(hub, 50)
        while (await take(events, 1))[0].data != "49":
            pass
        await server.do("FLUSHALL")
        await hub.publish("t", "new")
        assert [event.event or event.data for event in await take(events, 2)] == ["reset", "new"]


async def test_equal_events_are_not_repetitions_when_the_newest_entries_were_lost(
    server: RedisServer,
) -> None:
    async with running(server, publish_timeout=SECONDS) as hub, hub.subscribe("t") as events:
        await hub.publish("t", "first")
        for _ in range(3):
            await hub.publish("t", "refresh")
        ids = [event.id for event in await take(events, 4)]
        await server.do("HSET {trio-sse}:state number 1")
        await server.do(f"XDEL {{trio-sse}}:log {' '.join(map(str, ids[1:]))}")
        for _ in range(3):
            await hub.publish("t", "refresh")
        found = await take(events, 1)
        while sum(event.event is None for event in found) < 3:
            found += await take(events, 1)
        assert found[0].event == "reset"
        async with hub.subscribe("t", last_event_id=ids[2]) as again:
            assert (await take(again, 1))[0].event == "reset"
    async with running(server) as late, late.subscribe("t", last_event_id=ids[2]) as again:
        assert (await take(again, 1))[0].event == "reset"  # though the log has ids before and after it


async def test_subscribing_during_the_first_load_is_a_reset(server: RedisServer) -> None:
    hub = Hub(log=RedisLog(server.url))
    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hub.run)
            while not hub.is_running:  # there is no notification
                await trio.lowlevel.checkpoint()
            assert not hub.is_ready
            async with hub.subscribe("t") as events:
                assert (await take(events, 1))[0].event == "reset"
                assert hub.is_ready
            nursery.cancel_scope.cancel()


async def test_the_name_of_an_unreachable_server_is_no_refusal() -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(Hub(log=RedisLog("redis://auth.localhost:1/0")).run)
        nursery.cancel_scope.cancel()


async def test_a_cancelled_hub_does_not_raise_an_outage(server: RedisServer) -> None:
    for _ in range(5):
        async with trio.open_nursery() as nursery:
            hub = Hub(log=RedisLog(server.url, timeout=0.1))
            await nursery.start(hub.run)
            await hub.publish("t", "x")
            server.signal(signal.SIGSTOP)
            hub.publish_nowait("t", "y")
            await trio.sleep(0.1)  # until the session is left, to the moment
            nursery.cancel_scope.cancel()
        server.signal(signal.SIGCONT)


async def test_a_new_log_with_lower_ids_is_a_reset(server: RedisServer) -> None:
    async with running(server) as hub, hub.subscribe("t") as events:
        await hub.publish("t", "old")
        await take(events, 1)
        await server.do("FLUSHALL")  # and then, for example, a copy from long ago
        await server.do("""XADD {trio-sse}:log 1000-1 e 1000 n 1 d '["t","lower",null,null,null]'""")
        await server.do("HSET {trio-sse}:state epoch 1000 number 1")
        assert (await take(events, 1))[0].event == "reset"
        await hub.publish("t", "next")
        assert (await take(events, 1))[0].data == "next"
        async with hub.subscribe("t", last_event_id=hub.first_event_id) as again:
            assert [event.data for event in await take(again, 2)] == ["lower", "next"]


@pytest.mark.parametrize(
    "change", ["HDEL number", *(f"HSET number {odd}" for odd in ("abc", "3.5", "0x10", "1e30", "nan", "-5"))]
)
async def test_a_log_whose_state_is_damaged_starts_anew(server: RedisServer, change: str) -> None:
    command, field = change.split(" ", 1)
    async with running(server) as hub, hub.subscribe("t") as events:
        await hub.publish("t", "old")
        await server.do(f"{command} {{trio-sse}}:state {field}")
        await hub.publish("t", "new")
        assert [event.event for event in await take(events, 3)] == [None, "reset", None]


async def test_an_id_from_before_the_first_event_is_not_the_end_of_an_emptied_log(
    server: RedisServer,
) -> None:
    async with running(server) as hub:
        before = hub.last_event_id
        for number in range(3):
            await hub.publish("t", number)
        await server.do("XTRIM {trio-sse}:log MAXLEN 0")
    async with running(server) as late, late.subscribe("t", last_event_id=before) as events:
        assert [event.event for event in await take(events, 1)] == ["reset"]
        await late.publish("t", "new")
        assert [event.event for event in await take(events, 1)] == [None]


async def test_a_long_replay_survives_a_restart_of_redis(server: RedisServer) -> None:
    log = RedisLog(server.url, timeout=0.5, publish_timeout=SECONDS)
    hub = Hub(log=log, history=10, inbox=5000)
    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:
            await nursery.start(hub.run)
            cursor = hub.last_event_id
            async with hub.subscribe("t") as events:
                for number in range(2000):
                    hub.publish_nowait("t", str(number))
                await take(events, 2000)
            async with hub.subscribe("t", last_event_id=cursor) as events:
                found = [event.data for event in await take(events, 300)]
                server.kill()
                with trio.move_on_after(1):
                    while True:
                        found.append((await anext(events)).data)
                assert len(found) < 2000
                await server.start()
                found += [event.data for event in await take(events, 2000 - len(found))]
                assert found == [str(number) for number in range(2000)]
            assert hub.statistics().resets == 0
            nursery.cancel_scope.cancel()


async def test_a_client_can_resume_after_a_corrupt_entry(server: RedisServer) -> None:
    async with running(server) as hub, hub.subscribe("t") as events:
        await hub.publish("t", "first")
        await take(events, 1)
        for number in range(2, 70):
            epoch = hub.first_event_id.partition("-")[0]
            answer = await server.do(f"XADD {{trio-sse}}:log * e {epoch} n {number} d broken")
        await server.do("HSET {trio-sse}:state number 69")
        broken = answer.split()[1].decode()
        await hub.publish("t", "next")
        await take(events, 1)
        async with hub.subscribe("t", last_event_id=broken) as again:
            assert (await take(again, 1))[0].data == "next"


async def test_a_client_can_resume_after_ids_of_any_size(server: RedisServer) -> None:
    async with running(server) as hub, hub.subscribe("t") as events:
        await server.do("XADD {trio-sse}:log 18446744073709551614-5 foreign entry")
        for number in range(3):
            await hub.publish("t", number)
        ids = [event.id for event in await take(events, 3)]
        async with hub.subscribe("t", last_event_id=ids[0]) as again:
            assert [event.data for event in await take(again, 2)] == ["1", "2"]


@pytest.mark.parametrize(("max_age", "left"), [(1e-9, 1), (1e300, 3)])
async def test_any_age_can_be_kept(server: RedisServer, max_age: float, left: int) -> None:
    async with running(server, max_age=max_age) as hub:
        for number in range(3):
            await hub.publish("t", number)
            await trio.sleep(0.01)
    assert await server.do("XLEN {trio-sse}:log") == b":%d\r\n" % left


async def test_foreign_entries_are_skipped_and_logged_once(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(server) as hub, hub.subscribe("t") as events:
        for _ in range(3):
            await server.do("XADD {trio-sse}:log * some thing")
        await server.do("XADD {trio-sse}:log * e x n y d z")
        await hub.publish("t", "ours")
        assert [event.data for event in await take(events, 1)] == ["ours"]
    assert sum("is skipped" in record.message for record in caplog.records) == 1


async def test_wrong_credentials_are_refused_at_the_start(tmp_path: Path) -> None:
    with redis_server(tmp_path, "--requirepass", "secret") as server:
        await server.start()
        for password in ("", ":wrong@"):
            hub = Hub(log=RedisLog(f"redis://{password}127.0.0.1:{server.port}/0"))
            with pytest.raises(LogRefused), trio.fail_after(SECONDS):
                await hub.run()
        right = Hub(log=RedisLog(f"redis://:secret@127.0.0.1:{server.port}/1"))
        async with running_hub(right):
            await right.publish("t", "x")


async def test_a_password_in_a_url_may_have_any_characters(tmp_path: Path) -> None:
    with redis_server(tmp_path, "--requirepass", "p@ss/w:rd%") as server:
        await server.start()
        hub = Hub(log=RedisLog(f"redis://:p%40ss%2Fw%3Ard%25@127.0.0.1:{server.port}/2"))
        async with running_hub(hub):
            await hub.publish("t", "x")


async def test_it_connects_to_a_unix_socket(tmp_path: Path) -> None:
    with redis_server(tmp_path, "--unixsocket", str(tmp_path / "socket")) as server:
        await server.start()
        hub = Hub(log=RedisLog(f"unix://{tmp_path / 'socket'}?db=1"))
        async with running_hub(hub):
            await hub.publish("t", "x")


async def test_a_key_of_another_type_is_refused_at_the_start(server: RedisServer) -> None:
    await server.do("SET {trio-sse}:log x")
    with pytest.raises(LogRefused):
        await Hub(log=RedisLog(server.url)).run()


async def test_prefixes_keep_hubs_apart(server: RedisServer) -> None:
    one, two = (Hub(log=RedisLog(server.url, prefix=prefix)) for prefix in ("one", "two"))
    async with trio.open_nursery() as nursery:
        await nursery.start(one.run)
        await nursery.start(two.run)
        async with two.subscribe("t") as events:
            await one.publish("t", "x")
            await two.publish("t", "y")
            assert (await take(events, 1))[0].data == "y"
        nursery.cancel_scope.cancel()


async def test_a_slow_redis_delays_publishers_and_loses_nothing(server: RedisServer) -> None:
    async with running(server, timeout=5, publish_timeout=SECONDS) as hub, hub.subscribe("t") as events:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(publish_numbers, hub, 20)
            for _ in range(3):  # within its timeout: slow, not away
                server.signal(signal.SIGSTOP)
                await trio.sleep(0.4)
                server.signal(signal.SIGCONT)
                await trio.sleep(0.01)
        assert [event.data for event in await take(events, 20)] == [str(number) for number in range(20)]


async def test_entries_that_redis_drops_before_a_node_reads_them_are_a_reset(server: RedisServer) -> None:
    async with running(server) as hub, hub.subscribe("t") as events:
        await hub.publish("t", "first")
        await take(events, 1)
        log = RedisLog(server.url, max_events=2)
        async with log.connect() as session:
            record = b'["t","x",null,null,null]'
            await session.append("p", [(number, record) for number in range(1, 11)])
        assert [event.event for event in await take(events, 3)] == ["reset", None, None]


async def test_the_redis_example_shows_both_nodes_one_log(server: RedisServer) -> None:
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "examples.redis_nodes"],
        env={**os.environ, "REDIS_URL": server.url, "PORT": "0"},
        stdout=-1,
    )
    assert process.stdout is not None
    try:
        with trio.fail_after(SECONDS):
            printed = b""
            while printed.count(b"\n") < 2:
                printed += await process.stdout.receive_some()
            for url in printed.decode().split():
                async with await trio.open_tcp_stream(
                    "127.0.0.1", int(url.split(":")[2].split("/")[0])
                ) as stream:
                    await stream.send_all(b"GET /numbers HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                    received = b""
                    while b'"number"' not in received:
                        received += await stream.receive_some()
    finally:
        process.terminate()
        await process.wait()
        await process.stdout.aclose()


@pytest.mark.parametrize("is_refused", [False, True])
async def test_the_program_serves_with_a_log_or_says_why_not(tmp_path: Path, *, is_refused: bool) -> None:
    with redis_server(tmp_path, "--requirepass", "secret") as server:
        await server.start()
        url = f"redis://:{'wrong' if is_refused else 'secret'}@127.0.0.1:{server.port}"
        command = [sys.executable, "-m", "trio_sse", "serve", "examples.served:server"]
        command += ["--bind", "127.0.0.1:0"]
        process = await trio.lowlevel.open_process([*command, "--log", url], stdout=-1, stderr=-1)
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            with trio.fail_after(SECONDS):
                if is_refused:
                    assert await process.wait() == 1
                    logged = b"".join([part async for part in process.stderr])
                    assert b"the shared log refused" in logged
                    assert b"Traceback" not in logged
                    assert b"wrong@" not in logged
                else:
                    assert b"Serving on" in await process.stdout.receive_some()
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()
            await process.stdout.aclose()
            await process.stderr.aclose()


@pytest.mark.parametrize(
    ("names", "authority", "refusal"),
    [
        (["127.0.0.1"], "own", None),
        (["localhost"], "own", "IP address mismatch"),
        (["127.0.0.1"], "another", "certificate verification failed"),
    ],
    ids=["right", "another name", "another authority"],
)
async def test_tls_with_password_and_database_checks_the_certificate(
    tmp_path: Path, names: list[str], authority: str, refusal: str | None
) -> None:
    own, another = trustme.CA(), trustme.CA()
    own.cert_pem.write_to_path(str(tmp_path / "own"))
    another.cert_pem.write_to_path(str(tmp_path / "another"))
    certificate = own.issue_cert(*names)
    certificate.private_key_pem.write_to_path(str(tmp_path / "key"))
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "certificate"))
    port = free_port()
    tls = ("--tls-port", f"{port}", "--tls-auth-clients", "no", "--tls-ca-cert-file", f"{tmp_path / 'own'}")
    files = ("--tls-cert-file", f"{tmp_path / 'certificate'}", "--tls-key-file", f"{tmp_path / 'key'}")
    with redis_server(tmp_path, *tls, *files, "--requirepass", "secret") as server:
        await server.start()
        url = f"rediss://:secret@127.0.0.1:{port}/3?ssl_ca_certs={tmp_path / authority}"
        hub = Hub(log=RedisLog(url))
        if refusal is not None:
            with pytest.raises(LogRefused, match=refusal):
                await hub.run()
            return
        async with trio.open_nursery() as nursery:
            await nursery.start(hub.run)
            async with hub.subscribe("t") as events:
                await hub.publish("t", "safe")
                assert [event.data for event in await take(events, 1)] == ["safe"]
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "command",
    [
        "XADD {trio-sse}:log * a b",
        "XADD {trio-sse}:log * e 1 n 1 d x",
        "XADD {trio-sse}:log * e 99999999999999999999999 n 1 d x",
        "XADD {trio-sse}:log * e 9999999999999999999 n 0 d x",
        "XADD {trio-sse}:log * e 5 n 18446744073709551615 d []",
        "XADD {trio-sse}:log 18446744073709551615-1 a b",
        "HSET {trio-sse}:state number abc",
        "HSET {trio-sse}:state number 9999999999999999",
        "HSET {trio-sse}:state epoch -1",
        "DEL {trio-sse}:state",
        "DEL {trio-sse}:log",
        "XTRIM {trio-sse}:log MAXLEN 0",
        "FLUSHALL",
        "SCRIPT FLUSH",
        "CLIENT KILL TYPE normal",
    ],
)
async def test_what_others_do_to_the_log_ends_nothing(server: RedisServer, command: str) -> None:
    async with running(server) as hub, hub.subscribe("t") as events:
        await publish_numbers(hub, 2)
        await take(events, 2)
        await server.do(command)

        async def publish() -> None:
            while True:  # what is published before the hub notices is behind the reset
                await hub.publish("t", "next")
                await trio.sleep(0.2)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(publish)
            while (event := await anext(events)).data != "next":
                assert event.event == "reset"
            nursery.cancel_scope.cancel()
