"""Runs: started, joined late and again, cancelled, and gone on with by another node."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, final

import trio

from trio_sse import Connection, Run, Runs, ServerSentEvent

from ...support.client import Client
from ..scenario import Visitor, scenario
from ..world import World
from .nodes import other_node

#: What the runs of the scenarios write.
WHOLE = "0 1 2 3 "


@final
class Viewer:
    """What somebody has received of a run, checked as it comes: no hole, no duplicate, and one end.

    Attributes:
        text: the run's text so far.
        end: how the run has ended.
    """

    def __init__(self, world: World) -> None:
        self.text = ""
        self.end: object = None
        self._world = world

    def add(self, events: Iterable[ServerSentEvent]) -> None:
        """Take what was received."""
        for event in events:
            if self.end is not None:
                self._world.faults.append(f"{event} follows the end of a run")
            match event.event:
                case "run":
                    self.text = ""
                case "text":
                    self.text = _text_of(event)
                case "append":
                    self.text += _text_of(event)
                case "end":
                    self.end = event.json()
            if not WHOLE.startswith(self.text):
                self._world.faults.append(f"a viewer of a run has {self.text!r} of {WHOLE!r}")

    async def read(self, client: Client, upto: str = WHOLE) -> None:
        """Read a stream until the run has this text."""
        while len(self.text) < len(upto):
            self.add([await client.event()])

    async def finish(self, client: Client) -> object:
        """Read a stream to its end, and return how the run has ended."""
        self.add(await client.rest())
        assert self.end is not None
        return self.end


def _text_of(event: ServerSentEvent) -> str:
    data = event.json()
    assert isinstance(data, Mapping)
    return str(data["text"])


def of_runs(world: World) -> dict[str, object]:
    runs = Runs(world.hub, drain_timeout=1, cancel_when_unwatched=1)

    async def count(run: Run) -> dict[str, int]:
        for number in range(4):
            world.code("a run")
            await run.append(f"{number} ")
            await world.turns()
            await trio.sleep(0.04)
        await run.emit({"n": 4}, event="done")
        return {"counted": 4}

    async def wait(run: Run) -> None:
        await run.append("0 ")
        await trio.sleep_forever()

    async def begin(connection: Connection) -> None:
        view = await runs.start(wait if "wait" in connection.request.query else count)
        await view.stream(connection)

    async def cancel(connection: Connection) -> None:
        await runs.get(connection.request.query["id"]).cancel("stopped")
        await connection.send("cancelled")

    return {"begin": begin, "cancel": cancel, **joined(runs)}


def joined(runs: Runs) -> dict[str, object]:
    async def join(connection: Connection) -> None:
        await runs.get(connection.request.query["id"]).stream(connection)

    return {"join": join}


@scenario(streams=of_runs)
async def run(visitor: Visitor) -> None:
    """A run has two viewers, of which one joins late, and one reconnects; and one when it has ended."""
    one, two, late = (Viewer(visitor.world) for _ in range(3))
    async with visitor.open("/begin") as client:
        begun = await client.event()
        id = begun.json()["id"]  # type: ignore[index]
        one.add([begun])
        await one.read(client, "0 ")
        async with visitor.open(f"/join?id={id}") as other:
            await two.read(other, "0 ")
            await client.leave()
            async with visitor.open(f"/join?id={id}", f"Last-Event-ID: {client.last_event_id}") as again:
                ends = [await one.finish(again), await two.finish(other)]
    async with visitor.open(f"/join?id={id}") as client:
        ends.append(await late.finish(client))
    texts = {one.text, two.text, late.text}
    if ends != ends[:1] * 3 or len(texts) > 1 or not (texts == {WHOLE} or "a run" in visitor.world.failed):
        visitor.world.faults.append(f"a run has ended as {ends}, with {one.text, two.text, late.text}")


@scenario(streams=of_runs)
async def cancelled_run(visitor: Visitor) -> None:
    """A run has two viewers, and is cancelled."""
    one, two = Viewer(visitor.world), Viewer(visitor.world)
    async with visitor.open("/begin?wait") as client:
        id = (await client.event()).json()["id"]  # type: ignore[index]
        async with visitor.open(f"/join?id={id}") as other:
            await two.read(other, "0 ")
            async with visitor.open(f"/cancel?id={id}") as cancelling:
                await cancelling.rest()
            ends = [await one.finish(client), await two.finish(other)]
    assert ends == [{"status": "cancelled", "reason": "stopped"}] * 2


def resumed(world: World) -> dict[str, object]:
    runs = Runs(world.hub)
    resumable(runs, world)
    return joined(runs)


def resumable(runs: Runs, world: World) -> Any:
    """Add a function that other nodes can go on with, and return it."""

    @runs.resumable(name="work")
    async def work(run: Run) -> dict[str, int]:
        done: int = run.checkpoint_value or 0
        for number in range(done, 4):
            world.code("a run")
            if len(run.text()) == 2 * number:
                await run.append(f"{number} ")
            await run.checkpoint(number + 1)
            await trio.sleep(0.02)
        return {"worked": 4}

    return work


@scenario(streams=resumed, logs=("sqlite", "redis"))
async def resumed_run(visitor: Visitor) -> None:
    """A run begins on another node, which is stopped: this one goes on with it."""
    viewer = Viewer(visitor.world)
    async with other_node(visitor) as node:
        runs = Runs(node.hub)
        work = resumable(runs, visitor.world)
        await node.start()
        view = await runs.start(work)
        async with visitor.open(f"/join?id={view.id}") as client:
            await viewer.read(client, "0 ")
            await node.stop()
            end = await viewer.finish(client)
            is_whole = "worked" in str(end) and viewer.text == WHOLE
            if not (is_whole or "a run" in visitor.world.failed):
                visitor.world.faults.append(f"a run that was taken over has ended: {end}, {viewer.text!r}")
