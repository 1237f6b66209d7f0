"""Errors of handlers and hooks, and what the log says of a stream."""

from __future__ import annotations

import logging
import math

import pytest
import trio
from trio.testing import MockClock

from trio_sse import Connection, EndReason, HTTPException
from trio_sse.asgi import event_stream

from ..support.leaks import MakeServer
from ..support.observed_streams import (
    Handler,
    forwarding,
    logged,
    observe,
    run_one,
    sleeping,
)
from ..support.serving import in_memory

pytestmark = pytest.mark.usefixtures("protocol")


@pytest.fixture(autouse=True)
def _log_everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "trio_sse")


# Errors of the handler


class Oops(Exception):
    pass


async def raise_before(connection: Connection) -> None:
    raise Oops("internals")


async def raise_group_before(connection: Connection) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(raise_before, connection)
        nursery.start_soon(raise_before, connection)


async def raise_after(connection: Connection) -> None:
    await connection.send("x")
    raise Oops("internals")


async def raise_group_after(connection: Connection) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(raise_after, connection)


@pytest.mark.parametrize("handler", [raise_before, raise_group_before])
async def test_an_error_before_the_head_is_answered_500(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture, handler: Handler
) -> None:
    server = make_server()
    life = observe(server, handler)
    async with in_memory(server) as serving, serving.connect() as client:
        head = await client.get("/")
        body = await client.sized_body(head)
    assert (head.status, body) == (500, b"Internal Server Error\n")
    assert life.in_hook == [EndReason.HANDLER_ERROR]
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert errors[0].exc_info


@pytest.mark.parametrize("handler", [raise_after, raise_group_after])
async def test_an_error_after_the_head_truncates_the_body(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture, handler: Handler
) -> None:
    server = make_server()
    life = observe(server, handler)
    client = await run_one(server)
    assert (client.is_cut, client.body) == (True, b"data: x\n\n")
    assert life.in_finally == [None]
    assert life.in_hook == [EndReason.HANDLER_ERROR]
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [error.exc_info[0] for error in errors if error.exc_info] == [Oops], "one error, unpacked"


async def test_an_error_of_one_stream_affects_no_other(make_server: MakeServer) -> None:
    server = make_server()
    server.route("/bad")(raise_after)
    observe(server, forwarding)
    async with in_memory(server) as serving, serving.connect() as good, serving.connect() as bad:
        await good.get("/")
        await bad.get("/bad")
        await bad.rest()
        await server.hub.publish("t", "x")
        assert (await good.event()).data == "x"


async def test_an_error_while_cleaning_up_keeps_the_reason(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(connection: Connection) -> None:
        try:
            await connection.send("x")
            connection.close(reconnect=True)
            await trio.sleep_forever()
        finally:
            raise Oops

    server = make_server()
    life = observe(server, handler)
    client = await run_one(server)
    assert client.is_cut
    assert life.in_hook == [EndReason.RECONNECT]
    assert "the handler failed for id=1 peer=stream path=/" in caplog.text


async def test_a_shielded_handler_cannot_write_to_a_stream_that_has_ended(
    make_server: MakeServer, autojump_clock: MockClock
) -> None:
    errors: list[str] = []

    async def handler(connection: Connection) -> None:
        with trio.CancelScope(shield=True):
            await connection.send("x")
            await trio.sleep(1000)
            try:
                await connection.send("y")
            except trio.ClosedResourceError as error:
                errors.append(str(error))

    server = make_server(max_duration=100, keepalive=math.inf)
    life = observe(server, handler)
    client = await run_one(server)
    assert client.body == b"data: x\n\n"
    assert errors == ["the stream has ended: max_duration"]
    assert life.in_hook == [EndReason.MAX_DURATION]


# Hooks


async def test_hooks_run_in_order_around_the_handler(make_server: MakeServer) -> None:
    server = make_server()
    calls: list[object] = []

    @server.on_connect
    def first(connection: Connection) -> None:
        calls.append(("first", connection._stream.has_started))

    @server.on_connect
    async def second(connection: Connection) -> None:
        await trio.lowlevel.checkpoint()
        calls.append("second")

    @server.on_disconnect
    def last(connection: Connection) -> None:
        calls.append(connection.end_reason)

    @server.route("/")
    async def handler(connection: Connection) -> None:
        calls.append("handler")

    await run_one(server)
    assert calls == [("first", False), "second", "handler", EndReason.FINISHED]


@pytest.mark.parametrize("is_hook", [True, False])
async def test_a_stream_is_refused_by_an_http_exception(make_server: MakeServer, is_hook: bool) -> None:
    async def refuse(connection: Connection) -> None:
        raise HTTPException(403, "not you", {"X-Reason": "because"})

    server = make_server()
    life = observe(server, sleeping if is_hook else refuse)
    if is_hook:
        server.on_connect(refuse)
    async with in_memory(server) as serving, serving.connect() as client:
        head = await client.get("/")
        body = await client.sized_body(head)
        assert (head.status, head.get("X-Reason"), body) == (403, "because", b"not you\n")
        assert (await client.get("/")).status == 403, "the connection may be used further"
    assert server.statistics().ended == {EndReason.REFUSED: 2}
    assert len(life.in_finally) == len(life.in_hook) == (0 if is_hook else 2)


async def test_an_http_exception_after_the_head_is_an_error(make_server: MakeServer) -> None:
    async def handler(connection: Connection) -> None:
        await connection.start()
        raise HTTPException(403)

    server = make_server()
    life = observe(server, handler)
    client = await run_one(server)
    assert client.is_cut
    assert life.in_hook == [EndReason.HANDLER_ERROR]


async def test_an_invalid_topic_is_answered_400(make_server: MakeServer) -> None:
    async def handler(connection: Connection) -> None:
        await connection.subscribe("a\nb")

    server = make_server()
    life = observe(server, handler)
    async with in_memory(server) as serving, serving.connect() as client:
        assert (await client.get("/")).status == 400
    assert life.in_hook == [EndReason.REFUSED]


async def test_a_failing_connect_hook_is_answered_500(make_server: MakeServer) -> None:
    server = make_server()
    life = observe(server)
    server.on_connect(raise_before)
    async with in_memory(server) as serving, serving.connect() as client:
        assert (await client.get("/")).status == 500
    assert life.in_hook == []
    assert server.statistics().ended == {EndReason.HANDLER_ERROR: 1}


async def test_a_failing_disconnect_hook_stops_no_other(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    server = make_server()

    @server.on_disconnect
    def bad(connection: Connection) -> None:
        raise Oops

    async def handler(connection: Connection) -> None:
        return

    life = observe(server, handler)
    client = await run_one(server)
    assert client.is_ended
    assert life.in_hook == [EndReason.FINISHED]
    assert "on_disconnect hook" in caplog.text


async def test_an_async_disconnect_hook_is_refused(make_server: MakeServer) -> None:
    async def hook(connection: Connection) -> None:
        raise Oops

    for on_disconnect in (make_server().on_disconnect, event_stream(hook).on_disconnect):
        with pytest.raises(TypeError, match="plain function"):
            on_disconnect(hook)  # type: ignore[type-var,arg-type,unused-ignore]


# The log


async def test_a_stream_has_one_line_when_it_opens_and_one_when_it_closes(
    make_server: MakeServer, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    server = make_server()

    @server.route("/secret/{name}")
    async def handler(connection: Connection, name: str) -> None:
        await connection.send("x", id="1")
        await connection.send("y")
        await trio.sleep(2.5)

    async with in_memory(server) as serving, serving.connect() as client:
        await client.get("/secret/a?token=hidden")
        await client.rest()
    opened, closed = logged(caplog)
    size = server.statistics().bytes_sent
    assert opened == "open id=1 peer=stream path=/secret/a"
    assert closed == (
        f"close id=1 peer=stream path=/secret/a reason=finished duration=2.500 events=2 bytes={size}"
    )
    assert "hidden" not in caplog.text


async def test_events_and_bytes_are_counted_for_each_stream_of_a_connection(make_server: MakeServer) -> None:
    async def handler(connection: Connection) -> None:
        for _ in range(3):
            await connection.send("x")

    server = make_server()
    observe(server, handler)
    async with in_memory(server) as serving, serving.connect() as client:
        for _ in range(2):
            await client.get("/")
            await client.rest()
            assert client.is_ended
    statistics = server.statistics()
    assert (statistics.opened, statistics.events_sent) == (2, 6)
