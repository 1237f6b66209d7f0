"""Long polling: the same routes answer `Accept: application/json` with batches of their events."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from quart_trio import QuartTrio
from starlette.applications import Starlette
from starlette.routing import Route
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse import Connection, EndReason, HTTPException, Hub, Server
from trio_sse.asgi import event_stream
from trio_sse.quart import QuartSSE
from trio_sse.testing import Client

from ..support.cases import Cases
from ..support.leaks import LeakCheck

pytestmark = pytest.mark.usefixtures("protocol")

POLL = {"Accept": "application/json"}


async def forward(connection: Connection) -> None:
    await connection.subscribe("t")


async def refuse(connection: Connection) -> None:
    raise HTTPException(403, "not you")


async def fail(connection: Connection) -> None:
    raise ValueError("secret")


async def count(connection: Connection) -> None:
    begin = int(connection.last_event_id or 0) + 1
    for number in range(begin, begin + 3):
        await connection.send(f"{number}", id=f"{number}")
    await trio.sleep_forever()


async def newest(connection: Connection) -> None:
    await connection.subscribe("t", interval=60)


async def nothing(connection: Connection) -> None:
    await trio.sleep_forever()


HANDLERS = {
    "/t": forward,
    "/nothing": nothing,
    "/newest": newest,
    "/refuse": refuse,
    "/fail": fail,
    "/count": count,
}


def native(hub: Hub) -> Server:
    server = Server(hub=hub)
    for path, handler in HANDLERS.items():
        server.route(path)(handler)
    return server


def quart(hub: Hub) -> Server:
    app = QuartTrio(__name__)
    sse = QuartSSE(app, hub=hub)
    for path, handler in HANDLERS.items():
        sse.route(path, endpoint=path[1:])(handler)
    return Server(app, hub=hub)


def starlette(hub: Hub) -> Server:
    return Server(
        Starlette(routes=[Route(p, event_stream(h, hub=hub)) for p, h in HANDLERS.items()]), hub=hub
    )


Make = Callable[[Hub], Server]


@pytest.fixture(params=[native, quart, starlette])
def make(request: pytest.FixtureRequest) -> Make:
    made: Make = request.param
    return made


@asynccontextmanager
async def serving(make: Make, no_leak: LeakCheck, **options: Any) -> AsyncIterator[tuple[Hub, Client]]:
    hub = Hub(**options)
    async with Client(no_leak.watch(make(hub)), timeout=100) as client:
        yield hub, client


async def poll(client: Client, path: str = "/t", cursor: str = "", wait: float = 20) -> tuple[list[str], str]:
    query = f"?wait={wait}&last_event_id={cursor}" if cursor else f"?wait={wait}"
    response = await client.get(path + query, headers=POLL)
    assert response.status == 200, response.text
    answer: Any = response.json()
    return [event["data"] for event in answer["events"]], answer["last_event_id"]


async def test_the_response_is_sent_at_the_first_event(
    make: Make, no_leak: LeakCheck, autojump_clock: MockClock
) -> None:
    async with serving(make, no_leak) as (hub, client), trio.open_nursery() as nursery:

        async def publish() -> None:
            await trio.sleep(7)
            await hub.publish("t", "one", event="said")

        nursery.start_soon(publish)
        begun = trio.current_time()
        response = await client.get("/t?wait=20", headers=POLL)
        assert 7 <= trio.current_time() - begun < 8
        assert response.json() == {
            "events": [{"id": hub.last_event_id, "event": "said", "data": "one"}],
            "last_event_id": hub.last_event_id,
        }


async def test_without_events_the_response_is_empty_after_the_wait(
    make: Make, no_leak: LeakCheck, autojump_clock: MockClock
) -> None:
    async with serving(make, no_leak) as (hub, client):
        begun = trio.current_time()
        assert await poll(client, wait=20) == ([], hub.last_event_id)
        assert 20 <= trio.current_time() - begun < 21
        assert await poll(client, "/nothing", cursor="its-own") == ([], "its-own")


async def test_nothing_is_lost_or_repeated_between_two_requests(
    make: Make, no_leak: LeakCheck, autojump_clock: MockClock
) -> None:
    async with serving(make, no_leak) as (hub, client):
        _, cursor = await poll(client, wait=0)
        received: list[str] = []
        for number in range(10):
            await hub.publish("t", f"{number}")
            await hub.publish("other", "noise")
            if number % 3 == 0:
                events, cursor = await poll(client, cursor=cursor, wait=1)
                received += events
        events, cursor = await poll(client, cursor=cursor, wait=1)
        assert received + events == [f"{number}" for number in range(10)]
        assert await poll(client, cursor=cursor, wait=1) == ([], hub.last_event_id)


@pytest.mark.slow
async def test_under_an_interval_a_poll_waits_until_the_log_is_read(
    make: Make, no_leak: LeakCheck, autojump_clock: MockClock
) -> None:
    async with serving(make, no_leak, history=2000) as (hub, client):
        cursor = hub.first_event_id
        for number in range(2000):
            await hub.publish("t", f"{number}", key=f"{number % 3}")
        expected = ["1997", "1998", "1999"]
        for wait in (0, 20):
            assert await poll(client, "/newest", cursor=cursor, wait=wait) == (expected, hub.last_event_id)


async def test_a_stream_continues_where_a_poll_ended_and_vice_versa(
    make: Make, no_leak: LeakCheck, autojump_clock: MockClock
) -> None:
    async with serving(make, no_leak) as (hub, client):
        _, cursor = await poll(client, wait=0)
        await hub.publish("t", "one")
        async with client.stream("/t", last_event_id=cursor) as stream:
            assert (await stream.event()).data == "one"
            cursor = stream.last_event_id
        await hub.publish("t", "two")
        assert (await poll(client, cursor=cursor))[0] == ["two"]


@pytest.mark.slow
async def test_many_missed_events_arrive_in_batches(
    make: Make, no_leak: LeakCheck, autojump_clock: MockClock
) -> None:
    async with serving(make, no_leak) as (hub, client):
        _, cursor = await poll(client, wait=0)
        for number in range(1000):
            await hub.publish("t", f"{number}")
        received: list[str] = []
        calls = 0
        while len(received) < 1000:
            events, cursor = await poll(client, cursor=cursor, wait=1)
            assert 0 < len(events) <= 512
            received += events
            calls += 1
        assert received == [f"{number}" for number in range(1000)]
        assert calls > 1


@pytest.mark.parametrize("cursor", ["nonsense", "0badc0de.7"])
async def test_a_cursor_that_cannot_be_resumed_is_answered_with_a_reset(
    make: Make, no_leak: LeakCheck, autojump_clock: MockClock, cursor: str
) -> None:
    async with serving(make, no_leak) as (hub, client):
        response = await client.get(f"/t?last_event_id={cursor}", headers=POLL)
        answer: Any = response.json()
        assert [event["event"] for event in answer["events"]] == ["reset"]
        assert answer["last_event_id"] == hub.last_event_id


async def test_ids_of_the_handler_are_the_cursor(
    make: Make, no_leak: LeakCheck, autojump_clock: MockClock
) -> None:
    async with serving(make, no_leak) as (_, client):
        assert await poll(client, "/count") == (["1", "2", "3"], "3")
        assert await poll(client, "/count", cursor="3") == (["4", "5", "6"], "6")


async def test_an_invalid_wait_is_refused(make: Make, no_leak: LeakCheck, autojump_clock: MockClock) -> None:
    async with serving(make, no_leak) as (_, client):
        with Cases() as cases:
            for wait in ("-1", "61", "nan", "inf", "soon", ""):
                with cases.case(wait):
                    response = await client.get(f"/t?wait={wait}", headers=POLL)
                    assert (response.status, "0 to 60 seconds" in response.text) == (400, True)


async def test_refusals_and_errors_are_answered_like_those_of_streams(
    make: Make, no_leak: LeakCheck, autojump_clock: MockClock
) -> None:
    async with serving(make, no_leak) as (_, client):
        assert (await client.get("/refuse", headers=POLL)).status == 403
        if make is not starlette:  # there, the framework's own server error handling raises on
            failed = await client.get("/fail", headers=POLL)
            assert (failed.status, "secret" in failed.text) == (500, False)


async def test_responses_must_not_be_cached(
    make: Make, no_leak: LeakCheck, autojump_clock: MockClock
) -> None:
    async with serving(make, no_leak) as (_, client):
        response = await client.get("/t?wait=0", headers=POLL)
        assert response.headers.get("cache-control") == "no-store"
        assert response.headers.get("content-type") == "application/json"
        assert "Accept" in (response.headers.get("vary") or "")


async def test_taking_a_stream_returns_one(make: Make, no_leak: LeakCheck, autojump_clock: MockClock) -> None:
    async with serving(make, no_leak) as (_, client):
        with Cases() as cases:
            for accept in (
                "text/event-stream",
                "*/*",
                "text/event-stream, application/json",
                "application/jsonp",
            ):
                with cases.case(accept):
                    async with client.stream("/t", headers={"Accept": accept}) as stream:
                        assert stream.headers.get("content-type") == "text/event-stream"
                        assert "Accept" in (stream.headers.get("vary") or "")


async def test_a_client_that_disconnects_ends_its_poll(
    make: Make, no_leak: LeakCheck, autojump_clock: MockClock
) -> None:
    async with serving(make, no_leak) as (hub, client):
        with trio.move_on_after(1):
            await client.get("/t", headers=POLL)
        await wait_all_tasks_blocked()
        assert hub.statistics().subscriptions == 0


async def test_a_drain_answers_waiting_polls(no_leak: LeakCheck, autojump_clock: MockClock) -> None:
    async with serving(native, no_leak) as (_, client), trio.open_nursery() as nursery:

        async def drain() -> None:
            await trio.sleep(3)
            await client.server.drain()

        nursery.start_soon(drain)
        assert (await poll(client))[0] == []
        assert client.server.statistics().ended == {EndReason.SERVER_SHUTDOWN: 1}


async def test_a_poll_counts_as_a_stream(no_leak: LeakCheck, autojump_clock: MockClock) -> None:
    server = no_leak.watch(Server(max_connections=1))
    server.route("/t")(forward)
    async with Client(server) as client, client.stream("/t"):
        response = await client.get("/t", headers=POLL)
        assert (response.status, response.headers.get("retry-after") is not None) == (503, True)


async def test_the_response_is_json_whatever_the_data(
    make: Make, no_leak: LeakCheck, autojump_clock: MockClock
) -> None:
    async with serving(make, no_leak) as (hub, client):
        _, cursor = await poll(client, wait=0)
        text = 'one\ntwo\n\n"quoted" \u2028 größe \x00 😀'
        await hub.publish("t", text)
        await hub.publish("t", {"a": [1, None]})
        events, _ = await poll(client, cursor=cursor)
        assert events[0] == text
        assert json.loads(events[1]) == {"a": [1, None]}


async def test_a_handler_with_more_than_one_response_holds_is_cancelled(
    no_leak: LeakCheck, autojump_clock: MockClock
) -> None:
    server = no_leak.watch(native(no_leak.watch_hub(Hub())))

    async with Client(server) as client:
        cursor = server.hub.last_event_id
        for number in range(1000):
            await server.hub.publish("t", f"{number}")
        came: list[str] = []
        began_at = trio.current_time()
        while len(came) < 1000:
            answer = await client.get(f"/t?wait=0&last_event_id={cursor}", headers=POLL)
            portion = json.loads(answer.body)
            came += [event["data"] for event in portion["events"]]
            cursor = portion["last_event_id"]
        assert came == [f"{number}" for number in range(1000)]
        assert trio.current_time() < began_at + 1
