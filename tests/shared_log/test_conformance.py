"""What every log must do, seen through hubs: in memory, on Redis, in SQLite."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
import trio

from trio_sse import Connection, Entry, Hub, Log, LogSession, Server
from trio_sse._hub.hub import engine_of
from trio_sse._subscription.subscription import feed_of

from ..support.logs import MakeAny, MakeLog
from ..support.serving import on_sockets
from ..support.waiting import SECONDS


async def test_events_are_in_order_and_ids_grow(make_log: MakeAny) -> None:
    hub = Hub(log=make_log())
    async with trio.open_nursery() as nursery:
        await nursery.start(hub.run)
        async with hub.subscribe("t", "u") as events:
            for number in range(20):
                await hub.publish("tu"[number % 2], str(number), event="e", retry=7)
            with trio.fail_after(SECONDS):
                got = [await anext(events) for _ in range(20)]
        assert [event.data for event in got] == [str(number) for number in range(20)]
        assert {(event.event, event.retry) for event in got} == {("e", 7)}
        assert len({event.id for event in got}) == 20
        nursery.cancel_scope.cancel()


async def test_a_replay_starts_after_each_id(make_log: MakeAny) -> None:
    hub = Hub(log=make_log())
    async with trio.open_nursery() as nursery:
        await nursery.start(hub.run)
        first = hub.first_event_id
        async with hub.subscribe("t") as events:
            for number in range(5):
                await hub.publish("t", number)
            with trio.fail_after(SECONDS):
                ids = [first, *[(await anext(events)).id for _ in range(5)]]
        for place, id in enumerate(ids[:-1]):
            async with hub.subscribe("t", last_event_id=id) as events:
                with trio.fail_after(SECONDS):
                    assert (await anext(events)).data == str(place)
        nursery.cancel_scope.cancel()


@pytest.mark.integration
@pytest.mark.parametrize("id", ["", "7", "nonsense", "99999999999999-0", "1-0"])
async def test_an_unknown_id_is_a_reset(make_log: MakeAny, id: str) -> None:
    hub = Hub(log=make_log())
    async with trio.open_nursery() as nursery:
        await nursery.start(hub.run)
        async with hub.subscribe("t", last_event_id=id) as events:
            with trio.fail_after(SECONDS):
                assert (await anext(events)).event == "reset"
        nursery.cancel_scope.cancel()


async def test_any_script_is_a_topic_and_half_a_surrogate_pair_is_data(make_log: MakeAny) -> None:
    topic, data = (
        "\u0645\u06cc\u200c/\U0001f468\u200d\U0001f469 \u3000\U0001fae9\xa0%",
        {"a": "\ud83d", "b": "\ude00"},
    )
    hub = Hub(log=make_log(), history=10)
    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:
            await nursery.start(hub.run)
            first = hub.first_event_id
            await hub.publish(topic, data)
            for cursor in (first, None):
                async with hub.subscribe(topic, last_event_id=cursor) as events:
                    if cursor is None:
                        await hub.publish(topic, data)
                    event = await anext(events)
                    assert (event.data, event.json()) == ('{"a":"\\ud83d","b":"\\ude00"}', data)
            nursery.cancel_scope.cancel()


async def test_events_that_history_has_dropped_are_a_reset(make_log: MakeAny) -> None:
    hub = Hub(log=make_log(), history=3)
    async with trio.open_nursery() as nursery:
        await nursery.start(hub.run)
        first = hub.first_event_id
        async with hub.subscribe("t") as events:
            for number in range(5):
                await hub.publish("t", number)
            with trio.fail_after(SECONDS):
                ids = [(await anext(events)).id for _ in range(5)]
        missing = None if engine_of(hub).sequencer.is_shared else "reset"  # a shared log still has them
        for id, expected in ((first, missing), (ids[0], missing), (ids[1], None)):
            async with hub.subscribe("t", last_event_id=id) as events:
                with trio.fail_after(SECONDS):
                    assert (await anext(events)).event == expected
        nursery.cancel_scope.cancel()


async def test_a_quiet_topic_keeps_its_events_beside_a_busy_one(make_log: MakeAny) -> None:
    hub = Hub(log=make_log(), history=20)
    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:
            await nursery.start(hub.run)
            async with hub.subscribe("quiet", "busy") as events:
                await hub.publish("quiet", "first")
                await hub.publish("quiet", "missed")
                cursor = (await anext(events)).id
                for number in range(100):
                    await hub.publish("busy", number)
                for _ in range(101):
                    newest = (await anext(events)).id
            for id, expected in ((cursor, ["missed", "live"]), (newest, ["live"])):
                async with hub.subscribe("quiet", last_event_id=id) as events:
                    await hub.publish("quiet", "live")
                    assert [(await anext(events)).data for _ in expected] == expected
            assert hub.statistics().resets == hub.statistics().log_reads == 0
            nursery.cancel_scope.cancel()


# What a client has missed of a shared log, beyond what is in memory


def publish_at_once(hub: Hub, topic: str, count: int) -> None:
    for number in range(count):
        hub.publish_nowait(topic, f"{topic} {number}")


@pytest.mark.slow
async def test_a_replay_reaches_as_far_as_the_shared_log(make_shared: MakeLog) -> None:
    hub = Hub(log=make_shared(), history=10, inbox=5000)
    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:
            await nursery.start(hub.run)
            cursor = hub.last_event_id
            async with hub.subscribe("t", "u") as events:
                for _ in range(4):
                    publish_at_once(hub, "t", 300)
                    publish_at_once(hub, "u", 300)
                published = [await anext(events) for _ in range(2400)]
            for topics in (("t",), ("u",), ("u", "t")):
                async with hub.subscribe(*topics, last_event_id=cursor) as events:
                    missed = [event for event in published if str(event.data).split()[0] in topics]
                    assert [await anext(events) for _ in missed] == missed
                    await hub.publish(topics[0], f"{topics[0]} live")
                    published.append(await anext(events))
                    assert published[-1].data == f"{topics[0]} live"
            assert hub.statistics().resets == 0
            nursery.cancel_scope.cancel()


async def test_a_new_node_replays_what_it_never_had_in_memory(make_shared: MakeLog) -> None:
    one = Hub(log=make_shared(), inbox=5000)
    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:
            await nursery.start(one.run)
            start = one.last_event_id  # the log has no entry
            async with one.subscribe("t") as events:
                publish_at_once(one, "t", 500)
                seen = [await anext(events) for _ in range(500)]
            two = Hub(log=make_shared(), history=5)
            await nursery.start(two.run)
            for cursor, count in ((start, 500), (seen[0].id, 499), (seen[255].id, 244), (seen[494].id, 5)):
                async with two.subscribe("t", last_event_id=cursor) as events:
                    assert [await anext(events) for _ in range(count)] == seen[-count:]
            async with two.subscribe("quiet", last_event_id=seen[7].id) as events:
                with trio.move_on_after(0.3):
                    await anext(events)
                await two.publish("quiet", "live")
                assert (await anext(events)).data == "live"
            assert two.statistics().resets == 0
            nursery.cancel_scope.cancel()


async def test_an_id_older_than_the_shared_log_is_a_reset(make_shared: MakeLog) -> None:
    hub = Hub(log=make_shared(max_events=300), history=5, inbox=5000)
    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:
            await nursery.start(hub.run)
            start = hub.last_event_id
            async with hub.subscribe("t") as events:
                seen = []
                for _ in range(5):  # not so much at once that the log drops what was not read yet
                    publish_at_once(hub, "t", 200)
                    seen += [await anext(events) for _ in range(200)]
            for cursor in (start, seen[0].id, seen[698].id):
                async with hub.subscribe("t", last_event_id=cursor) as events:
                    reset = await anext(events)
                    assert (reset.event, reset.json()) == ("reset", {"reason": "expired"})
                    await hub.publish("t", "live")
                    seen.append(await anext(events))
                    assert seen[-1].data == "live"
            async with hub.subscribe("t", last_event_id=seen[-299].id) as events:
                assert [await anext(events) for _ in range(298)] == seen[-298:]
            nursery.cancel_scope.cancel()


@pytest.mark.integration
async def test_a_deep_replay_and_live_events_meet_exactly(make_shared: MakeLog) -> None:
    hub = Hub(log=make_shared(), history=20, inbox=5000)
    seen: list[int] = []

    async def publish() -> None:
        for number in range(600, 1000):
            await hub.publish("t", number)
            await hub.publish("other", "x" * 200)

    async def read(cursor: str, pause: float) -> None:
        async with hub.subscribe("t", last_event_id=cursor) as events:
            for number in range(1000):
                assert int(str((await anext(events)).data)) == number
                if number % 100 == 0:
                    await trio.sleep(pause)
        seen.append(1000)

    with trio.fail_after(4 * SECONDS):
        async with trio.open_nursery() as nursery:
            await nursery.start(hub.run)
            cursor = hub.last_event_id
            for number in range(600):
                hub.publish_nowait("t", number)
            async with trio.open_nursery() as inner:
                inner.start_soon(publish)
                for number in range(12):
                    inner.start_soon(read, cursor, 0.01 * number)
            assert seen == [1000] * 12
            assert hub.statistics().resets == 0
            nursery.cancel_scope.cancel()


@pytest.mark.integration
async def test_clients_that_reconnect_together_share_a_few_sessions(make_shared: MakeLog) -> None:
    counted = Counted(make_shared())
    hub = Hub(log=counted, history=10, inbox=5000)
    done = 0

    async def read(cursor: str) -> None:
        nonlocal done
        async with hub.subscribe("t", last_event_id=cursor) as events:
            for number in range(900):
                assert (await anext(events)).data == f"t {number}"
        done += 1

    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:
            await nursery.start(hub.run)
            cursor = hub.last_event_id
            async with hub.subscribe("t") as events:
                publish_at_once(hub, "t", 900)
                for _ in range(900):
                    await anext(events)
            async with trio.open_nursery() as inner:
                for _ in range(200):
                    inner.start_soon(read, cursor)
            assert done == 200
            assert counted.most <= 6  # one follows, one appends
            assert hub.statistics().log_reads < 100  # not some for each client
            assert hub.statistics().log_waiting == 0
            nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_joining_during_traffic_misses_and_repeats_nothing(make_log: MakeAny) -> None:
    hub = Hub(log=make_log())

    async def publish() -> None:
        for number in range(300):
            await hub.publish("t", number)

    async def read(last: str) -> None:
        async with hub.subscribe("t", last_event_id=last) as events:
            assert [int(str((await anext(events)).data)) for _ in range(300)] == list(range(300))

    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:
            await nursery.start(hub.run)
            first = hub.first_event_id
            async with trio.open_nursery() as inner:
                inner.start_soon(publish)
                for _ in range(10):
                    inner.start_soon(read, first)
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()


async def test_nodes_share_one_order_and_replay_each_others_events(make_shared: MakeLog) -> None:
    log = make_shared()
    one, two = Hub(log=log), Hub(log=log)
    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:
            await nursery.start(one.run)
            await nursery.start(two.run)
            async with one.subscribe("t") as at_one, two.subscribe("t") as at_two:
                async with trio.open_nursery() as inner:
                    for hub in (one, two):
                        for number in range(20):
                            inner.start_soon(hub.publish, "t", number)
                seen = [await anext(at_one) for _ in range(40)]
                assert [await anext(at_two) for _ in range(40)] == seen
            late = Hub(log=log)
            await nursery.start(late.run)
            async with late.subscribe("t", last_event_id=seen[9].id) as events:
                assert [await anext(events) for _ in range(30)] == seen[10:]
            nursery.cancel_scope.cancel()


class Counted:
    """A log whose open sessions are counted."""

    def __init__(self, log: Log) -> None:
        self.publish_timeout = log.publish_timeout
        self.open = 0
        self.most = 0
        self._log = log

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[LogSession]:
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            async with self._log.connect() as session:
                yield session
        finally:
            self.open -= 1


class Watched:
    """A log whose reads are recorded, and can be delayed."""

    def __init__(self, log: Log) -> None:
        self.publish_timeout = log.publish_timeout
        self.may_read = trio.Event()
        self.may_read.set()
        self.sizes: list[int] = []  # of what each read brought, in bytes
        self._log = log

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[LogSession]:
        async with self._log.connect() as session:
            yield WatchedSession(session, self)

    def note(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        self.sizes.append(sum(len(entry.record) for entry in entries))
        return entries


class WatchedSession:
    def __init__(self, session: LogSession, log: Watched) -> None:
        self.tail = session.tail
        self.append = session.append
        self._session = session
        self._log = log

    async def read(self, after: str, limit: int) -> Sequence[Entry]:
        await self._log.may_read.wait()
        return self._log.note(await self._session.read(after, limit))

    async def read_backward(self, upto: str, limit: int) -> Sequence[Entry]:
        return self._log.note(await self._session.read_backward(upto, limit))


@pytest.mark.slow
async def test_large_entries_are_read_in_parts(make_shared: MakeLog) -> None:
    watched = Watched(make_shared())
    one, two = Hub(log=make_shared()), Hub(log=watched, history_bytes=3_000_000)
    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:
            await nursery.start(one.run)
            for number in range(30):
                await one.publish("t", f"{number}".ljust(300_000))
            await nursery.start(two.run)
            assert sum(watched.sizes) < 4_500_000  # no more than the window holds, and one page
            async with two.subscribe("t", last_event_id=two.first_event_id) as events:
                assert [int(str((await anext(events)).data)) for _ in range(9)] == list(range(21, 30))
                watched.may_read = trio.Event()
                for number in range(30, 60):
                    await one.publish("t", f"{number}".ljust(300_000))
                watched.may_read.set()
                assert [int(str((await anext(events)).data)) for _ in range(30)] == list(range(30, 60))
            nursery.cancel_scope.cancel()
    assert max(watched.sizes) < 1_500_000


async def test_a_client_that_is_ahead_of_its_new_node_waits_for_it(make_shared: MakeLog) -> None:
    log = make_shared()
    held_up = Watched(log)
    held_up.may_read = trio.Event()
    fast, slow = Hub(log=log), Hub(log=held_up)
    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:
            await nursery.start(slow.run)
            await nursery.start(fast.run)
            async with fast.subscribe("t") as events:
                for number in range(5):
                    await fast.publish("t", number)
                seen = [await anext(events) for _ in range(5)]
            async with (
                slow.subscribe("t", last_event_id=seen[2].id) as midway,
                slow.subscribe("t", last_event_id=seen[4].id) as at_its_end,
                slow.subscribe("t", last_event_id="99999999999999-0") as nowhere,
            ):
                with trio.move_on_after(0.1):
                    await anext(midway)
                async with slow.subscribe("t", last_event_id=seen[2].id):
                    pass  # one that leaves while it waits
                assert not feed_of(midway).is_live
                held_up.may_read.set()
                assert [await anext(midway) for _ in range(2)] == seen[3:]
                await fast.publish("t", "next")
                assert (await anext(midway)).data == (await anext(at_its_end)).data == "next"
                assert (await anext(nowhere)).event == "reset"
            nursery.cancel_scope.cancel()


@pytest.mark.integration
async def test_a_poll_at_a_slower_node_keeps_its_cursor(
    make_shared: MakeLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = make_shared()
    held_up = Watched(log)
    held_up.may_read = trio.Event()
    fast, slow = Hub(log=log), Hub(log=held_up)
    server = Server(hub=slow)

    @server.route("/t")
    async def t(connection: Connection) -> None:
        await connection.subscribe("t")

    async def poll(cursor: str) -> tuple[list[str], str]:
        async with await serving.connect() as client:
            head = await client.get("/t?wait=0", "Accept: application/json", f"Last-Event-ID: {cursor}")
            answer = json.loads(await client.sized_body(head))
            return [event.get("event") or event["data"] for event in answer["events"]], answer[
                "last_event_id"
            ]

    async with on_sockets(server) as serving, trio.open_nursery() as nursery:
        await nursery.start(fast.run)
        async with fast.subscribe("t") as events:
            for number in range(4):
                await fast.publish("t", number)
            ids = [str((await anext(events)).id) for _ in range(4)]
        monkeypatch.setattr("trio_sse._stream.polling._AHEAD_SECONDS", 0.1)
        assert await poll(ids[1]) == ([], ids[1])
        monkeypatch.setattr("trio_sse._stream.polling._AHEAD_SECONDS", SECONDS)
        held_up.may_read.set()
        found, cursor = await poll(ids[1])  # as much as the node has read
        while cursor != ids[3]:
            further, cursor = await poll(cursor)
            found += further
        assert found == ["2", "3"]
        found, _ = await poll(f"{int(ids[3].partition('-')[0]) + 100_000}-0")  # which nobody ever gave
        assert found == ["reset"]
        nursery.cancel_scope.cancel()


async def test_polls_and_streams_read_what_is_no_longer_in_memory(make_shared: MakeLog) -> None:
    hub = Hub(log=make_shared(), history=5, inbox=5000)
    server = Server(hub=hub)

    @server.route("/{topic}")
    async def of(connection: Connection, topic: str) -> None:
        await connection.subscribe(topic)

    async def poll(topic: str, cursor: str) -> tuple[list[str], str]:
        async with await serving.connect() as client:
            fields = ("Accept: application/json", f"Last-Event-ID: {cursor}")
            answer = json.loads(await client.sized_body(await client.get(f"/{topic}?wait=0", *fields)))
            return [event["data"] for event in answer["events"]], answer["last_event_id"]

    async with on_sockets(server) as serving:
        start = hub.last_event_id
        async with hub.subscribe("t") as events:
            publish_at_once(hub, "t", 700)
            for _ in range(700):
                await anext(events)
        found: list[str] = []
        cursor = start
        while len(found) < 700:
            data, cursor = await poll("t", cursor)
            assert data
            found += data
        assert found == [f"t {number}" for number in range(700)]
        assert cursor == hub.last_event_id
        async with await serving.connect() as client:  # a stream receives the same
            await client.get("/t", f"Last-Event-ID: {start}")
            assert [event.data for event in await client.events(700)] == found
            await hub.publish("t", "live")
            assert (await client.event()).data == "live"
        began = trio.current_time()
        assert await poll("quiet", start) == ([], hub.last_event_id)
        assert trio.current_time() < began + 2  # no longer than reading the log takes
        assert hub.statistics().resets == 0


async def test_a_publisher_that_repeats_an_append_stores_it_once(make_shared: MakeLog) -> None:
    log = make_shared()
    async with log.connect() as session:
        await session.append("p", [(1, b"a"), (2, b"b")])
        await session.append("p", [(1, b"a"), (2, b"b"), (3, b"c")])
        await session.append("q", [(1, b"d")])
        end = await session.tail()
        entries = await session.read(f"{end.epoch}-0", 10)
        assert [(entry.number, entry.record) for entry in entries] == [
            (1, b"a"),
            (2, b"b"),
            (3, b"c"),
            (4, b"d"),
        ]
        assert end == (entries[0].epoch, 4, entries[-1].id)
        assert await session.read(entries[1].id, 10) == entries[2:]


async def test_it_is_read_backward_in_pages(make_shared: MakeLog) -> None:
    async with make_shared().connect() as session:
        assert await session.read_backward((await session.tail()).last, 10) == []
        await session.append("p", [(number, b"%d" % number) for number in range(1, 8)])
        end = await session.tail()
        entries = await session.read(f"{end.epoch}-0", 10)
        assert await session.read_backward(end.last, 10) == entries[::-1]
        assert await session.read_backward(end.last, 3) == entries[:3:-1]
        assert await session.read_backward(entries[4].id, 3) == entries[4:1:-1]
        assert await session.read_backward(f"{int(end.epoch) + 10**9}-0", 1) == entries[-1:]
        assert await session.read_backward(f"{int(end.epoch) - 1}-7", 1) == []
        assert await session.read(f"{int(end.epoch) - 1}-7", 1) == entries[:1]


async def numbers(session: LogSession) -> list[int]:
    """Return the numbers of all entries."""
    return [entry.number for entry in await session.read(f"{(await session.tail()).epoch}-0", 100)]


async def test_retention_by_count(make_shared: MakeLog) -> None:
    log = make_shared(max_events=3)
    async with log.connect() as session:
        await session.append("p", [(number, b"x") for number in range(1, 11)])
        assert await numbers(session) == [8, 9, 10]


async def test_retention_by_age(make_shared: MakeLog) -> None:
    log = make_shared(max_age=0.1)
    async with log.connect() as session:
        await session.append("p", [(1, b"x")])
        await trio.sleep(0.15)
        await session.append("p", [(2, b"y")])
        assert await numbers(session) == [2]
