"""The client for users' tests."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trio_sse import Connection, EventDecoder, Request, Response, Server
from trio_sse.testing import Client

from ..support.leaks import MakeServer


@pytest.fixture
def server(make_server: MakeServer) -> Server:
    """Make a server with routes of every kind."""
    made = make_server()

    @made.route("/live")
    async def live(connection: Connection) -> None:
        await connection.subscribe("live")

    @made.route("/three")
    async def three(connection: Connection) -> None:
        for number in range(3):
            await connection.send(f"{number}")
        await connection.comment("said by the handler")

    @made.route("/cut")
    async def cut(connection: Connection) -> None:
        await connection.send("one", retry=5)
        connection.close(reconnect=True)
        await trio.sleep_forever()

    @made.endpoint("/echo", methods=["GET", "POST"])
    async def echo(request: Request) -> Response:
        headers = {
            "Set-Cookie": request.query.get("cookie", "a=b"),
            "X-Cookie": request.headers.get("cookie") or "",
        }
        return Response(request.body or b"null", headers=headers)

    return made


async def test_an_endless_stream_ends_with_its_block(server: Server, autojump_clock: MockClock) -> None:
    async with Client(server) as client:
        async with client.stream("/live") as stream:
            assert stream.status == 200
            await server.hub.publish("live", {"n": 1}, event="e")
            event = await stream.event()
            assert (event.json(), event.event) == ({"n": 1}, "e")
        async with client.stream("/live", last_event_id=server.hub.first_event_id) as stream:
            assert (await stream.event()).id == stream.last_event_id


async def test_it_reconnects_with_any_id(make_server: MakeServer, autojump_clock: MockClock) -> None:
    server = make_server()
    received: list[str | None] = []

    @server.route("/sizes")
    async def sizes(connection: Connection) -> None:
        received.append(connection.last_event_id)
        await connection.send("large", id="größe")

    async with Client(server) as client:
        async with client.stream("/sizes") as stream:
            await stream.event()
        async with client.stream("/sizes", last_event_id=stream.last_event_id) as stream:
            await stream.event()
    assert received == [None, "größe"]


async def test_keepalives_are_counted_as_time_passes(server: Server, autojump_clock: MockClock) -> None:
    async with Client(server) as client, client.stream("/live") as stream:
        await trio.sleep(61)
        assert stream.keepalives == 4
        await stream.wait_keepalives(6)
        assert stream.comments == [""] * 6


async def test_waiting_for_what_does_not_arrive_times_out(server: Server, autojump_clock: MockClock) -> None:
    async with Client(server, timeout=7) as client, client.stream("/live") as stream:
        began_at = trio.current_time()
        with pytest.raises(trio.TooSlowError, match="an event did not arrive within 7 s"):
            await stream.event()
        assert trio.current_time() - began_at == pytest.approx(7)
        with pytest.raises(trio.TooSlowError, match="the stream's end"):
            await stream.wait_over()
        with pytest.raises(trio.TooSlowError, match="a keepalive"):
            await stream.wait_keepalives(100)


async def test_a_whole_stream_is_read(server: Server, autojump_clock: MockClock) -> None:
    async with Client(server) as client, client.stream("/three") as stream:
        await stream.wait_over()
        assert (stream.is_ended, stream.is_cut, stream.comments) == (True, False, ["said by the handler"])
        assert [event.data for event in await stream.events(2)] == ["0", "1"]
        assert [event.data for event in stream.events_nowait()] == ["2"]
        assert len(EventDecoder().feed(stream.body)) == 3
        with pytest.raises(EOFError, match="ended"):
            await stream.event()
        with pytest.raises(EOFError, match="no more keepalives"):
            await stream.wait_keepalives(1)


async def test_a_cut_is_distinguished_from_an_end(server: Server, autojump_clock: MockClock) -> None:
    async with Client(server) as client, client.stream("/cut") as stream:
        await stream.wait_over()
        assert (stream.is_ended, stream.is_cut, stream.retry) == (False, True, 5)


async def test_whole_responses_and_cookies(server: Server) -> None:
    async with Client(server, headers={"X-All": "yes"}) as client:
        response = await client.post("/echo", body="{}")
        assert (response.status, response.json(), response.text, response.is_cut) == (200, {}, "{}", False)
        assert client.cookies == {"a": "b"}
        assert (await client.get("/echo")).headers.get("x-cookie") == "a=b"
        await client.get("/echo?cookie=a%3D%3B+Max-Age%3D0")
        assert client.cookies == {}


async def test_an_app_that_can_not_start_says_why(autojump_clock: MockClock) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    with pytest.raises(RuntimeError, match="no database"):
        await Client(app).__aenter__()


async def test_an_exception_of_a_test_is_raised_unwrapped(server: Server, autojump_clock: MockClock) -> None:
    error = KeyError("of the test's own")
    with pytest.raises(KeyError) as raised:
        async with Client(server) as client, client.stream("/cut"):
            raise error
    assert raised.value is error


async def test_a_group_that_a_test_raises_stays_a_group(server: Server, autojump_clock: MockClock) -> None:
    group = ExceptionGroup("two", [KeyError(1), ValueError(2)])
    with pytest.raises(ExceptionGroup) as raised:
        async with Client(server) as client, client.stream("/cut"):
            raise group
    assert raised.value is group


@pytest.mark.parametrize(("seconds", "is_cancelled"), [(0, False), (2, True)])
async def test_what_a_test_raises_is_reported_beside_what_its_server_does(
    server: Server,
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
    is_cancelled: bool,
) -> None:
    serve = server.serve_in_memory

    async def serve_and_fail(*, task_status: trio.TaskStatus[Any]) -> None:
        try:
            async with trio.open_nursery() as nursery:
                task_status.started(await nursery.start(serve))
                await trio.sleep(1)
                nursery.cancel_scope.cancel()
        finally:
            raise RuntimeError("of the server")

    monkeypatch.setattr(server, "serve_in_memory", serve_and_fail)

    async def fail() -> None:
        await trio.sleep(seconds)
        raise KeyError("of the test's own")

    with pytest.raises(ExceptionGroup) as raised:
        async with Client(server):
            await fail()
    assert raised.group_contains(RuntimeError, match="of the server")
    assert raised.group_contains(KeyError) is not is_cancelled


async def test_a_cancelled_test_ends_its_client(server: Server, autojump_clock: MockClock) -> None:
    with trio.move_on_after(1) as scope:
        async with Client(server) as client, client.stream("/cut"):
            await trio.sleep_forever()
    assert scope.cancelled_caught


async def test_a_connection_closed_without_a_response_is_cut(autojump_clock: MockClock) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await trio.sleep(1)
            await client.server.drain()

    async with Client(Server(app, drain_timeout=1)) as client, client.stream("/") as stream:
        assert (stream.status, stream.is_cut) == (0, True)


async def test_a_server_that_has_been_drained_refuses_connections(server: Server) -> None:
    async with Client(server) as client:
        assert (await client.get("/echo")).status == 200
        await server.drain()
        with pytest.raises(ConnectionRefusedError):
            await client.get("/echo")


async def test_clients_that_go_on_connecting_do_not_hold_a_drain_up(
    make_server: MakeServer, autojump_clock: MockClock
) -> None:
    server = make_server(drain_timeout=1)
    async with trio.open_nursery() as nursery:
        connect = await nursery.start(server.serve_in_memory)

        async def go_on() -> None:
            with suppress(ConnectionRefusedError):
                while True:
                    connect(trio.testing.memory_stream_pair()[0], "test")
                    await trio.sleep(0.01)

        nursery.start_soon(go_on)
        with trio.fail_after(10):
            await server.drain()
