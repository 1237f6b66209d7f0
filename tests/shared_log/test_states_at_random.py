"""A state that nodes change at random, while nodes start and end and the log fails: nothing is lost."""

from __future__ import annotations

import contextlib
import random
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trio_sse import Hub, LogUnavailable, PatchFormat, State, StateConflict

from ..state.test_state import Reader
from .test_foreign_logs import ListLog

SECONDS = 8


def away() -> None:
    raise LogUnavailable("it is away")


class World:
    """Two hubs that stay, others that come and go, and readers that resume on either."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        # With a short log that fails now and then, all hubs may miss entries at once: that is a loss.
        self.log = ListLog(kept=40 if seed % 4 == 2 else None)
        self.patch = self.chance.choice(list(PatchFormat))
        self.topics = self.chance.choice([("s",), ("s", "t")])
        self.until = trio.current_time() + SECONDS
        self.confirmed: set[str] = set()
        self.seen: list[Any] = []

    @property
    def is_over(self) -> bool:
        return trio.current_time() > self.until

    def make_hub(self) -> Hub:
        return Hub(log=self.log, history=self.chance.choice([2, 20, 1000]))

    async def run_nodes(self, node: int) -> None:
        while not self.is_over:
            hub = self.make_hub()
            state = hub.state("s", {}, patch=self.patch) if self.chance.random() < 0.7 else None
            async with trio.open_nursery() as nursery:
                await nursery.start(hub.run)
                if state is None:
                    await trio.sleep(self.chance.uniform(0, 0.1))
                    state = hub.state("s", {}, patch=self.patch)
                prefix = f"{node}/{trio.current_time()}"
                for task in range(2):
                    nursery.start_soon(self.write, state, f"{prefix}/{task}")
                nursery.start_soon(self.publish, hub)
                await trio.sleep(self.chance.uniform(0.5, 4))
                nursery.cancel_scope.cancel()

    async def write(self, state: State, prefix: str) -> None:
        number = 0
        while True:
            number += 1
            name = f"{prefix}/{number}"
            try:
                if self.chance.random() < 0.5:
                    await state.update({name: number})
                else:
                    await state.update(lambda value, name=name: {name: len(value)})  # type: ignore[misc]
                self.confirmed.add(name)
            except (LogUnavailable, StateConflict):
                pass
            await trio.sleep(self.chance.uniform(0, 0.2))

    async def publish(self, hub: Hub) -> None:
        while True:
            with contextlib.suppress(LogUnavailable):
                await hub.publish("t", "x")
            await trio.sleep(self.chance.uniform(0, 0.05))

    async def break_log(self) -> None:
        methods = ["connect", "append", "read", "read_backward", "tail"]
        while not self.is_over:
            await trio.sleep(self.chance.uniform(0.2, 1.5))
            self.log.broken.update(dict.fromkeys(self.chance.sample(methods, 2), away))
            await trio.sleep(self.chance.uniform(0, 1))
            self.log.broken.clear()

    async def read(self, hubs: list[Hub]) -> None:
        reader, cursor = Reader(), None
        while trio.current_time() < self.until + 15:
            options: Any = self.chance.choice([{}, {"interval": 0.05}, {"batch": 0.05}])
            hub = self.chance.choice(hubs)
            async with hub.subscribe(*self.topics, last_event_id=cursor, **options) as events:
                with trio.move_on_after(20 if self.is_over else self.chance.uniform(0.01, 1)):
                    async for event in events:
                        cursor = event.id
                        if event.event == "reset":
                            reader.value = None
                        elif event.event is not None:
                            assert event.event == "snapshot" or reader.value is not None
                            reader.take(event)
        self.seen.append(reader.value)


@pytest.mark.integration  # it takes seconds
@pytest.mark.parametrize("seed", range(4))
async def test_nothing_that_was_confirmed_is_lost_and_all_agree(
    autojump_clock: MockClock, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(seed)
    hubs = [world.make_hub() for _ in range(2)]
    states = [hub.state("s", {}, patch=world.patch) for hub in hubs]
    async with trio.open_nursery() as outer:
        for hub in hubs:
            await outer.start(hub.run)
        async with trio.open_nursery() as nursery:
            for node in range(2):
                nursery.start_soon(world.run_nodes, node)
            if seed % 2:
                nursery.start_soon(world.break_log)
            for _ in range(3):
                nursery.start_soon(world.read, hubs)
        late = Hub(log=world.log)
        states.append(late.state("s", {}))
        await outer.start(late.run)
        async with late.subscribe("s") as events:
            await anext(events)  # it may have to ask the other hubs
        values: list[Any] = [state.value for state in states]
        assert values == [values[0]] * 3
        assert world.confirmed <= values[0].keys()
        assert world.seen == [values[0]] * 3
        outer.cancel_scope.cancel()
