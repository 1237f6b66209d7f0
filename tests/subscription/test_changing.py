"""Changing the topics of a subscription, alone and while a connection forwards it."""

from __future__ import annotations

from functools import partial

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse import Connection, Hub, Overflow, Request, Response, Subscription
from trio_sse.testing import Client

from ..support.leaks import MakeHub, MakeServer
from ..support.serving import running


async def test_it_receives_the_new_topics_from_then_on(make_hub: MakeHub) -> None:
    hub = make_hub()
    async with running(hub), hub.subscribe("a", "b") as events:
        await hub.publish("a", 1)
        await hub.publish("c", 2)
        await wait_all_tasks_blocked()
        await events.change("b", "c")
        assert events.topics == ("b", "c")
        for number, topic in enumerate(("a", "b", "c"), start=3):
            await hub.publish(topic, number)
        assert [(await anext(events)).data for _ in range(3)] == ["1", "4", "5"]
        assert hub.statistics().topics == 2


async def test_a_new_state_begins_with_a_snapshot(make_hub: MakeHub) -> None:
    hub = make_hub()
    async with running(hub):
        state = hub.state("s", {"n": 1})
        async with hub.subscribe("a") as events, hub.subscribe("a", overflow=Overflow.LATEST) as dropping:
            await events.change("a", "s")
            await state.update(lambda value: {"n": 2})
            received = [await anext(events) for _ in range(2)]
            assert [event.json() for event in received] == [{"n": 1}, {"n": 2}]
            with pytest.raises(ValueError, match="a state cannot drop events"):
                await dropping.change("s")


async def test_it_waits_for_the_replay(make_hub: MakeHub) -> None:
    hub = make_hub()
    async with running(hub) as nursery:
        cursor = hub.last_event_id
        for number in range(1000):
            await hub.publish("a", number)
        async with hub.subscribe("a", last_event_id=cursor) as events:
            for topic in ("b", "c"):
                nursery.start_soon(events.change, topic)
            await wait_all_tasks_blocked()
            assert events.topics == ("a",)
            assert [int(str((await anext(events)).data)) for _ in range(1000)] == list(range(1000))
            async with trio.open_nursery() as reading:
                reading.start_soon(anext, events)  # only now it notices that it has read all
                await wait_all_tasks_blocked()
                assert events.topics in (("b",), ("c",))
                reading.cancel_scope.cancel()


async def test_who_waits_for_the_replay_of_an_ended_subscription_fails(make_hub: MakeHub) -> None:
    hub = make_hub()
    errors: list[type[BaseException]] = []

    async def change(events: Subscription) -> None:
        try:
            await events.change("b")
        except trio.ClosedResourceError as error:
            errors.append(type(error))

    async with running(hub) as nursery:
        cursor = hub.last_event_id
        for number in range(1000):
            await hub.publish("a", number)
        async with hub.subscribe("a", last_event_id=cursor) as events:
            nursery.start_soon(change, events)
            await wait_all_tasks_blocked()
        await wait_all_tasks_blocked()
        assert errors == [trio.ClosedResourceError]
        with pytest.raises(trio.ClosedResourceError):
            await events.change("b")


@pytest.mark.parametrize(
    ("options", "topics", "error", "match"),
    [
        ({"interval": 1}, ("b",), ValueError, "interval or batch"),
        ({"batch": 1}, ("b",), ValueError, "interval or batch"),
        ({}, (), ValueError, "topic"),
        ({}, ("a\nb",), ValueError, "topic"),
    ],
)
async def test_what_is_refused(
    make_hub: MakeHub, options: dict[str, float], topics: tuple[str, ...], error: type[Exception], match: str
) -> None:
    hub: Hub = make_hub()
    async with running(hub), hub.subscribe("a", **options) as events:  # type: ignore[arg-type]
        with pytest.raises(error, match=match):
            await events.change(*topics)
        assert events.topics == ("a",)


async def test_a_post_changes_the_topics_of_an_open_stream(
    make_server: MakeServer, autojump_clock: MockClock
) -> None:
    server = make_server()
    open_streams: dict[str, Subscription] = {}

    @server.route("/live/{name}")
    async def live(connection: Connection, name: str) -> None:
        async with server.hub.subscribe("a", last_event_id=connection.last_event_id) as events:
            open_streams[name] = events
            try:
                await connection.forward(events)
            finally:
                del open_streams[name]

    @server.endpoint("/live/{name}/topics", methods=["POST"])
    async def topics(request: Request, name: str) -> Response:
        await open_streams[name].change(*request.body.decode().split())
        return Response("")

    publish = partial(server.hub.publish)
    async with Client(server) as client, client.stream("/live/x") as stream:
        await wait_all_tasks_blocked()
        await publish("a", "1")
        assert (await stream.event()).data == "1"
        assert (await client.post("/live/x/topics", body=b"b c")).status == 200
        for topic in ("a", "b", "c"):
            await publish(topic, topic)
        assert [(await stream.event()).data for _ in range(2)] == ["b", "c"]
