"""Two nodes with one log: states that both change, and tickers of which one ticks."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, final

import json_merge_patch
import jsonpatch
import trio

from trio_sse import Connection, Hub, PatchFormat, ServerSentEvent, State

from ...support.client import Client
from ...support.waiting import until
from ..scenario import Visitor, scenario
from ..world import World
from .topics import live


@final
class Node:
    """Another node with the log of a case.

    Attributes:
        hub: its hub.
    """

    def __init__(self, hub: Hub, nursery: trio.Nursery) -> None:
        self.hub = hub
        self._nursery = nursery
        self._scope = trio.CancelScope()
        self._ended = trio.Event()

    async def start(self) -> None:
        """Run the hub."""
        await self._nursery.start(self._run)

    async def stop(self) -> None:
        """Cancel the hub, and wait until it has ended."""
        self._scope.cancel()
        await self._ended.wait()

    async def _run(self, *, task_status: trio.TaskStatus[None]) -> None:
        try:
            with self._scope:
                await self.hub.run(task_status=task_status)
        finally:
            self._ended.set()


@asynccontextmanager
async def other_node(visitor: Visitor) -> AsyncIterator[Node]:
    """Return another node, which ends with the block; it is to be started."""
    async with trio.open_nursery() as nursery:
        yield Node(Hub(log=visitor.world.log), nursery)
        nursery.cancel_scope.cancel()


def counting(world: World) -> dict[str, object]:
    world.kept["states"] = _declare(world.hub)

    async def show(connection: Connection) -> None:
        await connection.subscribe("merge-patch", "json-patch", include_topic=True)

    return {"show": show}


def _declare(hub: Hub) -> list[State]:
    return [hub.state(patch.value, {"n": 0, "all": [0]}, patch=patch) for patch in PatchFormat]


@final
class Shown:
    """The states as a client has them, by their topics."""

    def __init__(self, world: World) -> None:
        self.values: dict[str, Any] = {}
        self._world = world

    async def read(self, client: Client, numbers: Mapping[str, int]) -> None:
        """Read until the states have these numbers, which only grow."""
        while not all(self._number(topic) >= number for topic, number in numbers.items()):
            event = await client.event()
            assert event.topic is not None
            before = self._number(event.topic)
            change: Any = event.json()
            value: Any = self.values.get(event.topic)
            match event.event:
                case "snapshot":
                    value = change
                case "merge-patch":
                    value = json_merge_patch.merge(value, change)
                case "json-patch":
                    value = jsonpatch.apply_patch(value, change)
            self.values[event.topic] = value
            if value["n"] < before or value["all"] != list(range(value["n"] + 1)):
                self._world.faults.append(f"{event} makes a state {value}, from {before}")

    def _number(self, topic: str) -> int:
        value = self.values.get(topic)
        return -1 if value is None else int(value["n"])


@scenario(streams=counting)
async def states_of_two_nodes(visitor: Visitor) -> None:
    """Two writers change the same states at the same time, on two nodes if they share a log."""
    states: list[State] = visitor.world.kept["states"]
    async with other_node(visitor) as node:
        others = states
        if visitor.world.log is not None:
            others = _declare(node.hub)
            await node.start()
        async with visitor.open("/show") as client:
            shown = Shown(visitor.world)
            await shown.read(client, {state.topic: 0 for state in states})
            numbers = {state.topic: _number(state) + 2 for state in states}
            async with trio.open_nursery() as nursery:
                for state in (*states, *others):
                    nursery.start_soon(state.update, _next)
            await until(lambda: all(_number(state) >= numbers[state.topic] for state in (*states, *others)))
            await shown.read(client, numbers)
            found = {state.topic: _number(state) for state in states}
            if found != numbers or any(value["n"] != found[name] for name, value in shown.values.items()):
                visitor.world.faults.append(
                    f"the states are {found}, and shown {shown.values}, not {numbers}"
                )


def _number(state: State) -> int:
    value: Any = state.value
    return int(value["n"])


def _next(value: Any) -> dict[str, Any]:
    return {"n": value["n"] + 1, "all": [*value["all"], value["n"] + 1]}


@scenario(streams=live, logs=("memory", "sqlite", "redis"))  # a list has no leases
async def ticker_of_two_nodes(visitor: Visitor) -> None:
    """One of two nodes ticks; when it is stopped, the other one goes on with its numbers."""
    async with other_node(visitor) as node, visitor.open("/live") as client, trio.open_nursery() as nursery:
        await visitor.subscribed()
        numbers = []
        is_shared = visitor.world.log is not None
        if is_shared:
            await node.start()
            nursery.start_soon(_tick, node.hub)
            numbers += [_sequence(event) for event in await client.events(2)]
        nursery.start_soon(_tick, visitor.hub)
        if is_shared:
            await node.stop()
        numbers += [_sequence(event) for event in await client.events(2)]
        if sorted(set(numbers)) != numbers:
            visitor.world.faults.append(f"ticks have the numbers {numbers}")
        nursery.cancel_scope.cancel()


async def _tick(hub: Hub) -> None:
    with contextlib.suppress(trio.ClosedResourceError):  # its node was stopped
        await hub.run_ticker("live", every=0.05)


def _sequence(event: ServerSentEvent) -> int:
    tick = event.json()
    assert isinstance(tick, dict)
    return int(tick["sequence"])
