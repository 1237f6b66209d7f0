"""Nodes that share runs, and what their viewers see."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, final

import trio

from trio_sse import Hub, Log, Run, Runs, RunView
from trio_sse._runs.items import RunEmitted, RunItem, RunOutcome, RunState, RunText

from .waiting import SECONDS, until


@final
class Node:
    """A hub with runs, on a log."""

    def __init__(self, log: Log | None, **options: Any) -> None:
        self.hub = Hub(log=log)
        self.runs = Runs(self.hub, **{"ttl": SECONDS * 10, "lease": SECONDS * 5, **options})
        self.scope = trio.CancelScope()
        self.has_ended = trio.Event()

    @property
    def holder(self) -> str:
        """The node's name in the store."""
        node = self.runs._life.node
        assert node is not None
        return node._lease.holder

    def take_over_now(self) -> None:
        """Look for runs of dead nodes, although the store may have been away a moment ago."""
        node = self.runs._life.node
        assert node is not None
        node.store.failed_at = -math.inf
        node._taking_over.look()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run the hub until `scope` is cancelled."""
        with self.scope:
            await self.hub.run(task_status=task_status)
        self.has_ended.set()


@asynccontextmanager
async def nodes(*made: Node, are_known: bool = True) -> AsyncIterator[None]:
    """Run nodes, within the time for anything to happen; by default, wait until they have the store."""
    with trio.fail_after(SECONDS * 2):
        async with trio.open_nursery() as nursery:
            for node in made:
                await nursery.start(node.run)
            await until(lambda: not are_known or all(node.runs._life.is_known.is_set() for node in made))
            yield
            nursery.cancel_scope.cancel()


@final
class Reading:
    """What one viewer has received, checked as it arrives."""

    def __init__(self, view: RunView) -> None:
        self.view = view
        self.texts: dict[str, str] = {}
        self.events: list[str] = []
        self.states: list[str] = []
        self.ends: list[RunOutcome] = []
        self.cursor: str | None = None

    @property
    def text(self) -> str:
        """The main text."""
        return self.texts.get("text", "")

    async def run(self) -> None:
        """Read until the end."""
        async with self.view.events(after=self.cursor) as items:
            async for item in items:
                self._add(item)

    def _add(self, item: RunItem) -> None:
        assert not self.ends, "nothing follows the end"
        self.cursor = item.cursor
        match item:
            case RunText():
                self.texts[item.name] = self.texts.get(item.name, "") + item.text
            case RunEmitted():
                self.events.append(item.data)
            case RunState():
                self.states.append(item.data)
            case RunOutcome():
                self.ends.append(item)

    async def has(self, text: str) -> None:
        """Wait until the main text is this."""
        await until(lambda: len(self.text) >= len(text) or self.ends)
        assert self.text == text


@asynccontextmanager
async def reading(*views: RunView) -> AsyncIterator[list[Reading]]:
    """Read runs until all have ended, or the block has been left by an exception."""
    found = [Reading(view) for view in views]
    async with trio.open_nursery() as nursery:
        for one in found:
            nursery.start_soon(one.run)
        yield found


@final
class Steps:
    """A run's function that does one step for each call of `go`, and then ends."""

    def __init__(self) -> None:
        self.sender, self.receiver = trio.open_memory_channel[Callable[[Run], Any] | None](100)

    async def __call__(self, run: Run) -> int:
        count = 0
        async for act in self.receiver:
            count += 1
            if act is None:
                break
            await act(run)
        return count

    def write(self, text: str, **options: Any) -> None:
        """Append to a text."""
        self.sender.send_nowait(lambda run: run.append(text, **options))

    def do(self, act: Callable[[Run], Any]) -> None:
        """Do something."""
        self.sender.send_nowait(act)

    def finish(self) -> None:
        """End the run."""
        self.sender.send_nowait(None)
