"""What a client receives that subscribes to other states than before, or is cut off before it has all."""

from __future__ import annotations

import contextlib
import random
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trio_sse import Hub, LogUnavailable, ServerSentEvent

from ..support.leaks import MakeHub
from ..support.list_log import ListLog
from ..support.serving import running
from ..support.shares import seeds
from ..support.waiting import SECONDS
from .test_state import Reader

STATES = ("a", "b", "c")
PLAIN = ("t", "u")


class Page:
    """A client with a value of each state, and the id of the last event that it has received."""

    def __init__(self) -> None:
        self.readers: dict[str, Reader] = {}
        self.cursor: str | None = None
        self.data: list[str] = []

    def take(self, event: ServerSentEvent) -> None:
        self.cursor = event.id
        if event.event == "reset":
            for reader in self.readers.values():
                reader.value = None
        elif event.event is None:
            self.data.append(str(event.data))
        else:
            assert event.topic is not None
            reader = self.readers.setdefault(event.topic, Reader())
            assert event.event == "snapshot" or reader.value is not None, "a patch of a state that it lacks"
            reader.take(event)


class World:
    """A hub whose states change, and clients that choose and change topics, and are cut off."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.log = ListLog() if seed % 3 else None
        self.hub = Hub(log=self.log, history=self.chance.choice([5, 1000]))
        self.states = {name: self.hub.state(name, {"of": name, "rest": "x" * 200}) for name in STATES}
        self.is_over = False

    async def change(self) -> None:
        number = 0
        while True:
            number += 1
            with contextlib.suppress(LogUnavailable):
                if self.chance.random() < 0.5:
                    await self.hub.publish(self.chance.choice(PLAIN), number)
                else:
                    await self.chance.choice(list(self.states.values())).update({"n": number})
            await trio.sleep(self.chance.choice([0.01, 0.1, 1]))

    async def lose(self) -> None:
        """Empty the log now and then, as if it had been replaced."""
        while self.log is not None:
            await trio.sleep(self.chance.uniform(1, 8))
            self.log.epoch = f"{int(self.log.epoch) + 1}"
            self.log.entries, self.log.number, self.log.last = [], 0, {}

    def some(self) -> list[str]:
        return self.chance.sample(STATES + PLAIN, self.chance.randint(1, 4))

    async def visit(self, page: Page) -> None:
        topics = self.some()
        while not self.is_over:
            if self.chance.random() < 0.3:
                topics = self.some()
            options: Any = self.chance.choice([{}, {}, {"interval": 0.2}, {"batch": 0.2}])
            async with self.hub.subscribe(
                *topics, last_event_id=page.cursor, include_topic=True, **options
            ) as events:
                with trio.move_on_after(self.chance.choice([0.1, 1, 4])):
                    for _ in range(self.chance.choice([1, 2, 10, 1000])):
                        page.take(await anext(events))
                        if not options and self.chance.random() < 0.1:
                            topics = self.some()
                            await events.change(*topics)
            if self.chance.random() < 0.3:
                await trio.sleep(self.chance.choice([0.1, 1, 4]))

    async def check(self, page: Page) -> None:
        """Let the client read on until it has everything; compare."""
        topics = self.some()
        async with self.hub.subscribe(*topics, last_event_id=page.cursor, include_topic=True) as events:
            with trio.move_on_after(5):
                while True:
                    page.take(await anext(events))
        for topic in topics:
            if topic in self.states:
                assert page.readers[topic].value == self.states[topic].value


@pytest.mark.parametrize("seed", seeds(4))
async def test_a_client_of_changing_topics_that_is_cut_off_anywhere_has_all_of_its_states(
    autojump_clock: MockClock, seed: int
) -> None:
    world = World(seed)
    pages = [Page() for _ in range(3)]
    async with running(world.hub) as nursery:
        async with trio.open_nursery() as changing:
            changing.start_soon(world.change)
            changing.start_soon(world.lose)
            async with trio.open_nursery() as visiting:
                for page in pages:
                    visiting.start_soon(world.visit, page)
                await trio.sleep(8)
                world.is_over = True
            changing.cancel_scope.cancel()
        await trio.sleep(10)
        for page in pages:
            await world.check(page)
        nursery.cancel_scope.cancel()


async def test_a_client_that_is_cut_off_after_a_gap_has_its_state(autojump_clock: MockClock) -> None:
    """Its last event came before its node had found the state again."""
    log = ListLog()
    hub = Hub(log=log)
    with trio.fail_after(SECONDS):
        async with running(hub) as nursery:
            hub.state("s", 1)
            await trio.sleep(1)
            async with hub.subscribe("t", "s") as events:
                assert (await anext(events)).event == "snapshot"
                log.epoch, log.entries, log.number, log.last = "2", [], 0, {}
                log.publish("t", *"abc")
                came = [await anext(events) for _ in range(5)]
                assert [event.event for event in came] == ["reset", None, None, None, "snapshot"]
            await trio.sleep(1)  # the node repeats the state, as an entry that others do not receive
            for event in came[:4]:
                async with hub.subscribe("t", "s", last_event_id=event.id) as events:
                    while (await anext(events)).event != "snapshot":
                        pass
            nursery.cancel_scope.cancel()


async def test_a_state_that_is_declared_again_is_another_one(
    make_hub: MakeHub, autojump_clock: MockClock
) -> None:
    """Also if nothing was published since, so that the id stands for the same place."""
    hub = make_hub()
    with trio.fail_after(SECONDS):
        async with running(hub):
            first = hub.state("s", "first")
            async with hub.subscribe("s") as events:
                cursor = (await anext(events)).id
            first.close()
            hub.state("s", "second")
            async with hub.subscribe("s", last_event_id=cursor) as events:
                assert (await anext(events)).data == '"second"'


async def test_ids_are_short_however_many_states_there_are(
    make_hub: MakeHub, autojump_clock: MockClock
) -> None:
    hub = make_hub()
    states = {f"s{number}": hub.state(f"s{number}", number) for number in range(250)}
    with trio.fail_after(SECONDS):
        async with running(hub):
            async with hub.subscribe(*states, "t") as events:
                came = [await anext(events) for _ in states]
                await hub.publish("t", 1)
                came.append(await anext(events))
            assert max(len(str(event.id)) for event in came) < 40
            values: dict[str | None, object] = {}
            cursor = None
            for _ in states:  # it is cut off after each
                async with hub.subscribe(*states, "t", last_event_id=cursor, include_topic=True) as events:
                    event = await anext(events)
                    values[event.topic], cursor = event.json(), event.id
            assert values == {f"s{number}": number for number in range(250)}
