"""Reading a shared log for clients that have missed more than is in memory."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse import Hub, ServerSentEvent, Subscription
from trio_sse._hub.hub import engine_of
from trio_sse._log.memory import PAGE_EVENTS
from trio_sse._subscription.subscription import feed_of

from ..support.list_log import ListLog, order
from ..support.waiting import SECONDS


@pytest.fixture
def log() -> ListLog:
    return ListLog()


@asynccontextmanager
async def running(log: ListLog, history: int = 5) -> AsyncIterator[Hub]:
    hub = Hub(log=log, history=history)
    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:
            await nursery.start(hub.run)
            yield hub
            nursery.cancel_scope.cancel()


def numbers(count: int, start: int = 0) -> list[str]:
    return [str(number) for number in range(start, start + count)]


async def take(events: Subscription, count: int) -> list[object]:
    found: list[ServerSentEvent] = [await anext(events) for _ in range(count)]
    return [event.event or event.data for event in found]


async def test_the_log_is_read_at_the_speed_of_the_reader(log: ListLog, autojump_clock: MockClock) -> None:
    first, *_ = log.publish("t", *numbers(2000))
    async with running(log) as hub, hub.subscribe("t", last_event_id=first) as events:
        assert hub.statistics().log_reads == 0
        assert await take(events, 1) == ["1"]
        await trio.sleep(10)
        assert hub.statistics().log_reads == 1
        assert events.queued_events == 0
        assert await take(events, 1998) == numbers(1998, 2)
        log.publish("t", "live")
        assert await take(events, 1) == ["live"]
        statistics = hub.statistics()
    assert statistics.log_reads < 2000 / PAGE_EVENTS + 10  # the first ones are small
    assert max(limit for _, limit in log.reads) == PAGE_EVENTS
    assert (statistics.resets, statistics.replayed) == (0, 1999)


async def test_a_replay_waits_while_the_log_is_away(log: ListLog, autojump_clock: MockClock) -> None:
    first, *_ = log.publish("t", *numbers(600))
    async with running(log) as hub, hub.subscribe("t", last_event_id=first) as events:
        assert await take(events, 10) == numbers(10, 1)
        log.is_away = True
        with trio.move_on_after(30) as scope:
            await take(events, 590)
        assert scope.cancelled_caught
        assert hub.statistics().log_waiting == 1
        log.is_away = False
        position = int(str((await anext(events)).data))
        assert await take(events, 599 - position) == numbers(599 - position, position + 1)
        assert hub.statistics().resets == 0


async def test_entries_that_the_log_drops_during_a_replay_are_a_reset(
    log: ListLog, autojump_clock: MockClock
) -> None:
    first, *_ = log.publish("t", *numbers(1000))
    async with running(log) as hub, hub.subscribe("t", last_event_id=first) as events:
        await take(events, 1)
        log.trim(100)
        found = []
        while (data := (await take(events, 1))[0]) != "reset":
            found.append(data)
        assert found == numbers(len(found), 2)
        log.publish("t", "live")
        assert await take(events, 1) == ["live"]
        assert hub.statistics().resets == 1


async def test_dropped_entries_of_topics_that_are_in_memory_are_none_of_its_concern(
    log: ListLog, autojump_clock: MockClock
) -> None:
    log.publish("quiet", "a")
    async with running(log) as hub:
        async with hub.subscribe("quiet") as events:
            (seen,) = log.publish("quiet", "b")
            await take(events, 1)
        log.publish("quiet", "c")
        for _ in range(3):
            log.publish("busy", *numbers(100))
            await trio.sleep(1)
        log.trim(2)
        async with hub.subscribe("quiet", last_event_id=seen) as events:
            assert await take(events, 1) == ["c"]
        async with hub.subscribe("quiet", "busy", last_event_id=seen) as events:
            assert await take(events, 1) == ["reset"]


async def test_a_log_that_is_emptied_during_a_replay_is_one_reset(
    log: ListLog, autojump_clock: MockClock
) -> None:
    first, *_ = log.publish("t", *numbers(1000))
    async with running(log) as hub, hub.subscribe("t", last_event_id=first) as events:
        await take(events, 1)
        log.entries, log.epoch, log.number = [], "2", 0
        log.publish("t", "of the new log")
        await trio.sleep(3)
        found = []
        while (data := (await take(events, 1))[0]) != "of the new log":
            found.append(data)
        assert found.count("reset") == 1
        assert found[:-1] == numbers(len(found) - 1, 2)


async def test_pages_of_entries_that_the_log_has_lost_are_not_used(
    log: ListLog, autojump_clock: MockClock
) -> None:
    ids = log.publish("t", *numbers(600))
    async with running(log) as hub:
        async with hub.subscribe("t", last_event_id=ids[0]) as events:
            await take(events, 599)  # its pages are in memory
            log.entries, log.number = log.entries[:300], 300  # as after a crash: the epoch is the same
            log.publish("t", *numbers(600, 1000))
            assert await take(events, 1) == ["reset"]
        async with hub.subscribe("t", last_event_id=ids[200]) as events:
            assert await take(events, 699) == [*numbers(99, 201), *numbers(600, 1000)]
        async with hub.subscribe("t", last_event_id=ids[400]) as events:
            assert await take(events, 1) == ["reset"]


async def test_pages_are_dropped_when_nobody_reads(log: ListLog, autojump_clock: MockClock) -> None:
    first, *_ = log.publish("t", *numbers(600))
    async with running(log) as hub:
        history = engine_of(hub).registry.history
        assert history is not None
        async with hub.subscribe("t", last_event_id=first) as events:
            await take(events, 599)
        assert history._pages._pages
        await trio.sleep(15)
        assert not history._pages._pages


async def test_foreign_and_corrupt_entries_are_passed_over(log: ListLog, autojump_clock: MockClock) -> None:
    first, *_ = log.publish("t", *numbers(10))
    for _ in range(600):
        log.add_foreign()
    for record in (b"", b'["t"', b'["t",7,null,null,null]', b"\xff\xff", b'["\\ud800",1]', b"[" * 5000):
        log.add(record)
    log.add(b'[ "t", "with spaces", null, null, null ]')
    log.add(b'["\\u0074","escaped",null,null,null]')
    log.publish("t", *numbers(10, 10))
    async with running(log) as hub, hub.subscribe("t", last_event_id=first) as events:
        assert await take(events, 21) == [*numbers(9, 1), "with spaces", "escaped", *numbers(10, 10)]
        assert hub.statistics().resets == 0


async def test_a_cursor_at_a_foreign_entry_is_resumed_from(log: ListLog, autojump_clock: MockClock) -> None:
    log.publish("t", "old")
    for _ in range(300):
        log.add_foreign()
    cursor = log.entries[-1].id
    log.publish("t", *numbers(20))
    async with running(log) as hub, hub.subscribe("t", last_event_id=cursor) as events:
        assert await take(events, 20) == numbers(20)


@pytest.mark.parametrize("id", ["1-5", "1-12", "1-29"])
async def test_an_id_that_the_log_does_not_have_is_a_reset(
    log: ListLog, autojump_clock: MockClock, id: str
) -> None:
    log.publish("t", *numbers(40))
    log.entries = [entry for entry in log.entries if entry.id != id]
    async with running(log) as hub, hub.subscribe("t", last_event_id=id) as events:
        assert await take(events, 1) == ["reset"]


async def test_a_place_that_cannot_be_read_is_a_reset_in_the_end(
    log: ListLog, autojump_clock: MockClock
) -> None:
    ids = log.publish("t", *numbers(1000))
    async with running(log) as hub, hub.subscribe("t", last_event_id=ids[0]) as events:
        assert await take(events, 1) == ["1"]
        log.unreadable = set(ids[:900])
        found = []
        while (data := (await take(events, 1))[0]) != "reset":
            found.append(data)
        assert found == numbers(len(found), 2)
        log.publish("t", "live")
        assert await take(events, 1) == ["live"]


async def test_a_slow_replay_that_memory_overruns_reads_the_log(
    log: ListLog, autojump_clock: MockClock
) -> None:
    async with running(log, history=400) as hub:
        cursor = hub.last_event_id
        for start in range(0, 400, 100):
            log.publish("t", *numbers(100, start))
            await trio.sleep(1)
        async with hub.subscribe("t", last_event_id=cursor) as events:
            assert await take(events, 1) == ["0"]  # of a page in memory
            for start in range(400, 2000, 200):
                log.publish("t", *numbers(200, start))
                await trio.sleep(1)
            assert await take(events, 1999) == numbers(1999, 1)
        assert (hub.statistics().resets, hub.statistics().log_reads > 0) == (0, True)


@pytest.mark.integration
async def test_sessions_are_few_and_closed_when_nobody_reads(log: ListLog, autojump_clock: MockClock) -> None:
    log.takes = 0.1
    ids = log.publish("t", *numbers(3000))
    done = 0

    async def read(hub: Hub, start: int) -> None:
        nonlocal done
        async with hub.subscribe("t", last_event_id=ids[start]) as events:
            assert await take(events, 2999 - start) == numbers(2999 - start, start + 1)
        done += 1

    async with running(log) as hub:
        await trio.sleep(1)
        assert log.open == 2  # one appends, one follows
        async with trio.open_nursery() as nursery:
            for start in range(0, 2000, 20):
                nursery.start_soon(read, hub, start)
        assert (done, log.most_open) == (100, 6)
        assert hub.statistics().log_reads < 100
        await trio.sleep(15)
        assert log.open == 2


@pytest.mark.integration
async def test_one_reader_needs_one_session(log: ListLog, autojump_clock: MockClock) -> None:
    first, *_ = log.publish("t", *numbers(2000))
    async with running(log) as hub, hub.subscribe("t", last_event_id=first) as events:
        await take(events, 1999)
        assert log.most_open == 3


async def test_readers_that_leave_are_forgotten(log: ListLog, autojump_clock: MockClock) -> None:
    first, *_ = log.publish("t", *numbers(100))
    async with running(log) as hub:
        history = engine_of(hub).registry.history
        assert history is not None
        log.is_away = True
        for _ in range(1000):
            async with hub.subscribe("t", last_event_id=first) as events:
                with trio.move_on_after(0.001):
                    await anext(events)
        assert history.waiting == 0
        assert len(history._waiting._unlocated) < 200
        log.is_away = False
        async with hub.subscribe("t", last_event_id=first) as events:
            assert await take(events, 99) == numbers(99, 1)


async def test_readers_that_leave_while_the_log_is_read_for_them(
    log: ListLog, autojump_clock: MockClock
) -> None:
    first, *_ = log.publish("t", *numbers(100))
    async with running(log) as hub:
        log.takes = 0.2
        for _ in range(20):
            async with hub.subscribe("t", last_event_id=first) as events:
                with trio.move_on_after(0.1):
                    await anext(events)
        async with hub.subscribe("t", last_event_id=first) as events:
            assert await take(events, 99) == numbers(99, 1)
        assert hub.statistics().log_waiting == 0


async def test_a_cancelled_read_is_continued(log: ListLog, autojump_clock: MockClock) -> None:
    log.takes = 0.1
    first, *_ = log.publish("t", *numbers(700))
    async with running(log) as hub, hub.subscribe("t", last_event_id=first) as events:
        found: list[object] = []
        while len(found) < 699:
            with trio.move_on_after(0.03):
                found += await take(events, 1)
        assert found == numbers(699, 1)


async def test_a_replay_goes_on_when_the_hub_has_ended_only_to_what_was_read(
    log: ListLog, autojump_clock: MockClock
) -> None:
    first, *_ = log.publish("t", *numbers(700))
    hub = Hub(log=log, history=5)
    async with trio.open_nursery() as nursery:
        await nursery.start(hub.run)
        async with hub.subscribe("t", last_event_id=first) as events:
            assert await take(events, 1) == ["1"]
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await wait_all_tasks_blocked()
                found = [event.data async for event in events]
                assert found == numbers(len(found), 2)
                assert feed_of(events).has_ended
    assert hub.statistics().log_waiting == 0


async def test_under_an_interval_the_newest_of_each_key_is_replayed(
    log: ListLog, autojump_clock: MockClock
) -> None:
    first, *_ = [log.publish("t", f"{number}", key=f"{number % 5}")[0] for number in range(3000)]
    async with running(log) as hub, hub.subscribe("t", last_event_id=first, interval=1) as events:
        assert await take(events, 5) == numbers(5, 2995)
        log.publish("t", "live")
        assert await take(events, 1) == ["live"]
        assert hub.statistics().replayed == 2999


# At random


class Witness:
    """A client that reads and reconnects, and checks that nothing is missing or repeated silently."""

    def __init__(self, hub: Hub, published: list[tuple[str, str]], chance: random.Random) -> None:
        self.resets = 0
        self._seen = 0  # of what was published, this much was received, or is not for this client
        self._hub = hub
        self._published = published  # the topic and id of each event
        self._chance = chance
        self._topics = tuple(chance.sample(TOPICS, chance.randint(1, 3)))
        self._cursor = chance.choice(published)[1] if published else hub.last_event_id

    async def run(self) -> None:
        while True:
            async with self._hub.subscribe(*self._topics, last_event_id=self._cursor) as events:
                with trio.move_on_after(self._chance.choice([0.1, 1, 5])):
                    while True:
                        self.take(await anext(events))
                        if self._chance.random() < 0.02:
                            await trio.sleep(self._chance.choice([0.1, 1]))
            await trio.sleep(self._chance.choice([0, 0.5, 3]))

    def take(self, event: ServerSentEvent) -> None:
        id = event.id or ""
        if event.event == "reset":
            self.resets += 1
        else:
            assert id == self.expected()
        self._cursor = id

    def expected(self) -> str | None:
        """Return the id of the next event that it has to receive, or `None` if it has all."""
        after = order(self._cursor)
        for topic, id in self._published[self._seen :]:
            if topic in self._topics and order(id) > after:
                return id
            self._seen += 1
        return None


TOPICS = ["busy", "quiet", *(f"t{number}" for number in range(4))]


@pytest.mark.integration
@pytest.mark.parametrize("seed", range(12))
async def test_nothing_is_missing_or_repeated_silently(autojump_clock: MockClock, seed: int) -> None:
    chance, log = random.Random(seed), ListLog()
    log.takes = chance.choice([0, 0.01, 0.1])
    keeps = chance.choice([50, 1000, 10**6])
    published: list[tuple[str, str]] = []
    hub = Hub(log=log, history=chance.choice([0, 5, 60]), history_bytes=chance.choice([500, 10**6]))

    def publish() -> None:
        for _ in range(chance.choice([1, 3, 40])):
            topic = "busy" if chance.random() < 0.8 else chance.choice(TOPICS)
            if chance.random() < 0.1:
                log.add_foreign()
            published.extend((topic, id) for id in log.publish(topic, "x" * chance.choice([1, 50, 20_000])))

    with trio.fail_after(3600):
        async with trio.open_nursery() as nursery:
            for _ in range(30):
                publish()
            await nursery.start(hub.run)
            witnesses = [Witness(hub, published, chance) for _ in range(12)]
            async with trio.open_nursery() as inner:
                for witness in witnesses:
                    inner.start_soon(witness.run)
                for _ in range(60):
                    publish()
                    log.trim(keeps)
                    log.is_away = chance.random() < 0.1
                    await trio.sleep(chance.choice([0, 0.1, 2]))
                log.is_away = False
                await trio.sleep(60)
                inner.cancel_scope.cancel()
            assert [witness.expected() for witness in witnesses] == [None] * 12
            assert hub.statistics().log_waiting == 0
            if keeps == 10**6:
                assert hub.statistics().resets == 0
            nursery.cancel_scope.cancel()
