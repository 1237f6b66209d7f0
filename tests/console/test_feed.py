"""The snapshots: computed once for all viewers, and only while somebody watches."""

from __future__ import annotations

import json
import time
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from trio_sse import Connection, Hub
from trio_sse._console import console, feed
from trio_sse._console.feed import Feed
from trio_sse._console.history import RATES, SPAN, History
from trio_sse._console.places import Places
from trio_sse._console.source import CHARTED, Snapshot
from trio_sse._http.exceptions import TemporaryRefusal
from trio_sse._pausing import Pausing, in_one_piece

from ..support.cases import each_case
from ..support.console import BEARER, TOKEN, ask, next_snapshot
from ..support.leaks import MakeServer
from ..support.serving import on_sockets


class Source:
    """A server that only counts."""

    def __init__(self) -> None:
        self.hub = Hub()
        self.computed = 0
        self.cost = 0.0  # seconds of CPU time

    def snapshot(self) -> Pausing[Snapshot]:
        self.computed += 1
        number = self.computed
        ends_at = time.thread_time() + self.cost
        while time.thread_time() < ends_at:
            pass
        yield
        return {"totals": dict.fromkeys(CHARTED, number), "number": number}

    def end_stream(self, id: int, pid: int | None, *, reconnect: bool) -> bool:
        return False

    async def drain_node(self, id: str, by: str) -> bool:
        return False

    def drain(self, pid: int | None) -> bool:
        return False


async def watch(feed: Feed, seen: list[int], most: int) -> None:
    number = feed.begin()
    for _ in range(most):
        number = await feed.next(number)
        seen.append(json.loads(feed.text)["number"])


async def test_all_viewers_receive_the_same_snapshots(autojump_clock: trio.testing.MockClock) -> None:
    source = Source()
    shown = Feed(source, History(), trio.current_time)
    viewers: list[list[int]] = [[] for _ in range(5)]
    async with trio.open_nursery() as nursery:
        for seen in viewers:
            nursery.start_soon(watch, shown, seen, 3)
    assert viewers == [[1, 2, 3]] * 5
    assert trio.current_time() == pytest.approx(2)
    await trio.sleep(100)
    assert source.computed == 3  # nobody has watched
    late: list[int] = []
    await watch(shown, late, 1)
    assert late == [4]  # the old one is stale
    again: list[int] = []
    await watch(shown, again, 1)
    assert again == [4]


async def test_another_viewer_computes_when_one_leaves(autojump_clock: trio.testing.MockClock) -> None:
    source = Source()
    shown = Feed(source, History(), trio.current_time)
    staying: list[int] = []
    leaving = trio.CancelScope()
    async with trio.open_nursery() as nursery:

        async def leave() -> None:
            with leaving:
                await watch(shown, [], 1000)

        nursery.start_soon(leave)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(watch, shown, staying, 3)
        await trio.sleep(0.5)  # the first one waits until the next snapshot is due
        leaving.cancel()
    assert staying == [1, 2, 3]


async def test_an_expensive_snapshot_is_computed_less_often(autojump_clock: trio.testing.MockClock) -> None:
    source = Source()
    source.cost = 0.04
    shown = Feed(source, History(), trio.current_time)
    await watch(shown, [], 3)
    assert trio.current_time() >= 2 * 0.04 * 50


def test_the_history_is_bounded_and_knows_gaps() -> None:
    history = History()
    totals = dict.fromkeys(CHARTED, 0.0)
    start = 1_700_000_000.0
    for second in range(2 * SPAN):
        totals["events_sent"] = 10.0 * second
        history.add(start + second, {**totals, "memory": None})
    now = start + 2 * SPAN - 1
    samples = list(history.samples(now))
    assert [sample["at"] for sample in samples] == [now - SPAN + 1 + n for n in range(SPAN)]
    assert history.latest(now) == samples[-1]
    encoded = in_one_piece(Feed(Source(), history, lambda: now).history())
    assert json.loads(encoded) == {"samples": samples}
    assert json.loads(in_one_piece(Feed(Source(), History()).history())) == {"samples": []}
    assert samples[0]["events_rate"] is None
    assert {sample["events_rate"] for sample in samples[1:]} == {10.0}
    assert set(samples[0]) == {"at", *(RATES.get(name, name) for name in CHARTED)}
    history.add(now + 60, {**totals, "events_sent": 1e9})  # nobody has watched for a minute
    latest = history.latest(now + 60)
    assert latest is not None
    assert (latest["at"], latest["events_rate"]) == (now + 60, None)
    assert len(list(history.samples(now + 60))) == SPAN - 59
    assert list(history.samples(now + 2 * SPAN)) == []
    assert history.latest(now + 2 * SPAN) is None


@each_case(
    ("processes", "before", "after", "busy"),
    [
        (1, 7.0, 7.25, 0.25),
        (1, 7.0, 8.5, 1.0),
        (4, 7.0, 8.0, 0.25),
        (3, 1000.0, 1000.3, 0.1),
        (1, 7.0, 0.0, 0.0),
    ],
)
def test_the_loop_is_busy_for_a_share_of_the_time_of_each_process(
    processes: float, before: float, after: float, busy: float
) -> None:
    history = History()
    totals = dict.fromkeys(CHARTED, 0.0)
    history.add(1000.0, {**totals, "processes": 4.0, "loop_seconds": before})
    history.add(1001.0, {**totals, "processes": processes, "loop_seconds": after})
    latest = history.latest(1001.0)
    assert latest is not None
    assert latest["loop_busy"] == busy


def test_places_are_bounded() -> None:
    places = Places(1, "viewers")
    with places.take():
        with pytest.raises(TemporaryRefusal, match="at most 1 viewers"), places.take():
            pass
        assert places.taken == 1
    assert places.taken == 0


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch, mock_clock: trio.testing.MockClock) -> trio.testing.MockClock:
    """Stop all clocks of the snapshots, so that a busy machine computes as often as another one."""
    monkeypatch.setattr(console, "Feed", partial(Feed, clock=lambda: 1_700_000_000 + trio.current_time()))
    monkeypatch.setattr(feed, "_MOST_SHARE", 1.0)
    return mock_clock


async def test_a_snapshot_shows_the_server(make_server: MakeServer, stopped: trio.testing.MockClock) -> None:
    server = make_server(console=True, console_token=TOKEN)

    @server.route("/rooms/{room}")
    async def room(connection: Connection, room: str) -> None:
        connection.identity = "ada"
        await connection.subscribe(f"rooms/{room}")

    async with on_sockets(server) as running, await running.connect() as viewer:
        assert (await ask(running, "/stream"))[0].status == 401  # an end of the console's own
        async with await running.connect() as gone:
            await gone.get("/rooms/1?token=secret")
        while not server.statistics().ended:
            await trio.lowlevel.checkpoint()
        async with await running.connect() as client:
            await client.get("/rooms/7?token=secret")
            await server.hub.publish("rooms/7", "x")
            await client.event()
            await viewer.get("/_sse/stream", BEARER)
            first = await viewer.event()
            assert (first.event, json.loads(str(first.data))) == ("history", {"samples": []})
            shown = await next_snapshot(viewer)
            await server.hub.publish("rooms/7", "y")
            stopped.jump(5)
            later = await next_snapshot(viewer)
    totals = shown["totals"]
    assert (totals["open_streams"], totals["published"], totals["subscriptions"]) == (2, 1, 1)
    assert shown["problems"] == shown["workers"] == []
    assert {kind["route"]: kind["open"] for kind in shown["kinds"]} == {"/rooms/{room}": 1, "/_sse/stream": 1}
    assert [(topic["name"], topic["subscribers"], topic["rate"]) for topic in shown["topics"]] == [
        ("rooms/7", 1, None)
    ]
    assert later["topics"][0]["rate"] > 0
    streams = {stream["path"]: stream for stream in shown["streams"]}
    assert set(streams) == {"/rooms/7", "/_sse/stream"}
    assert (streams["/rooms/7"]["identity"], streams["/rooms/7"]["topics"]) == ("ada", ["rooms/7"])
    assert streams["/_sse/stream"]["host"] == "console"
    (end,) = shown["ends"]
    assert (end["path"], end["reason"], end["identity"]) == ("/rooms/1", "client_disconnected", "ada")
    assert (shown["sample"]["events_rate"], later["sample"]["events_rate"] > 0) == (None, True)
    assert "secret" not in json.dumps(shown)


async def test_nothing_is_computed_while_nobody_watches(
    make_server: MakeServer, monkeypatch: pytest.MonkeyPatch, stopped: trio.testing.MockClock
) -> None:
    server = make_server(console=True, console_token=TOKEN)
    computed = []
    statistics = server._statistics

    def counting() -> Any:
        computed.append(trio.current_time())
        return statistics()

    monkeypatch.setattr(server, "_statistics", counting)
    server.configure(keep_alive=60)
    async with on_sockets(server) as running:
        assert (await ask(running, "/"))[0].status == 200
        assert (await ask(running, "/session", BEARER))[0].status == 200
        assert (await ask(running, "/stream"))[0].status == 401
        assert computed == []
        async with await running.connect() as viewer, await running.connect() as other:
            for client in (viewer, other):
                await client.get("/_sse/stream", BEARER)
            first = [await next_snapshot(client) for client in (viewer, other)]
            stopped.jump(5)
            second = [await next_snapshot(client) for client in (viewer, other)]
            assert first[0] == first[1] != second[0] == second[1]
        while server.connections():
            await trio.lowlevel.checkpoint()
        count = len(computed)
        stopped.jump(5)  # longer than between two snapshots
        await trio.testing.wait_all_tasks_blocked()
        assert len(computed) == count <= 4
