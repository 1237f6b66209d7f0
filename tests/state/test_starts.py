"""A stream that begins with several messages, and is cut off after the first ones: the rest is not lost."""

from __future__ import annotations

import json

import pytest
import trio
from trio.testing import MockClock

from trio_sse import Connection, Hub, Server
from trio_sse.sqlite import SQLiteLog
from trio_sse.testing import Client

from ..support.leaks import MakeHub, MakeServer
from ..support.serving import running
from ..support.waiting import SECONDS

LARGE = 70_000  # bytes: more than one poll's answer takes


async def test_a_client_that_is_cut_after_each_event_has_all_states_at_last(
    make_hub: MakeHub, autojump_clock: MockClock
) -> None:
    hub = make_hub()
    states = {name: hub.state(name, 0) for name in "abc"}
    values: dict[str, object] = {}
    resets, cursor = 0, "unknown"
    with trio.fail_after(SECONDS):
        async with running(hub):
            for number in range(1, 6):
                async with hub.subscribe("t", *states, last_event_id=cursor) as events:
                    event = await anext(events)
                    assert event.id is not None
                    cursor = event.id
                if event.event == "reset":
                    resets += 1
                elif event.event == "snapshot":
                    values[f"{len(values)}"] = event.json()
                else:
                    values[str(event.data)] = "live"
                if number == 1:  # what it has missed comes before the snapshots, and is no reason for a reset
                    await hub.publish("t", {"t": "missed"})
                    await states["c"].set(3)
                    await trio.sleep(1)
            assert (resets, sorted(map(str, values.values()))) == (1, ["0", "0", "3", "live"])
            async with hub.subscribe("t", *states, last_event_id=cursor) as events:
                with trio.move_on_after(1):
                    raise AssertionError(await anext(events))


async def test_polls_deliver_states_that_are_larger_than_an_answer(
    make_server: MakeServer, autojump_clock: MockClock
) -> None:
    server: Server = make_server()
    for name in "ab":
        server.hub.state(name, name * LARGE)

    @server.route("/s")
    async def s(connection: Connection) -> None:
        await connection.subscribe("a", "b")

    cursor, data = "", []
    async with Client(server) as client:
        for _ in range(3):
            answer = await client.get(
                f"/s?wait=0&last_event_id={cursor}", headers={"Accept": "application/json"}
            )
            found = json.loads(answer.body)
            cursor = found["last_event_id"]
            data += [json.loads(event["data"]) for event in found["events"]]
    assert data == ["a" * LARGE, "b" * LARGE]


async def test_what_is_published_while_a_state_is_looked_for_comes_before_its_snapshot(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trio_sse._state.shared_states._LONG_ANSWER_SECONDS", 0.5)
    hub = Hub(log=SQLiteLog(f"{tmp_path}/log.db", max_events=4, timeout=SECONDS, publish_timeout=SECONDS))
    with trio.fail_after(4 * SECONDS):
        async with running(hub), hub.subscribe("chat") as chat:
            for number in range(12):
                await hub.publish("chat", f"{number}")
            while (await anext(chat)).data != "11":
                pass
            hub.state("board", 1)  # the log has dropped entries, so the other nodes are asked
            async with hub.subscribe("board", "chat") as events:
                cursor = events.last_event_id
                await hub.publish("chat", "new")
                while (await anext(chat)).data != "new":
                    pass
                received = [await anext(events) for _ in range(2)]
            async with hub.subscribe("board", "chat", last_event_id=cursor) as events:
                received += [await anext(events) for _ in range(2)]
            async with hub.subscribe("board", "chat", last_event_id=received[0].id) as events:
                received.append(await anext(events))
    assert [event.data for event in received] == ["new", "1", "new", "1", "1"]
