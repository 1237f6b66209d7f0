"""Runs live as long as their hub, whichever server runs it."""

from __future__ import annotations

from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import memory_stream_pair

from trio_sse import Connection, Hub, Run, Runs, RunStatus, Server
from trio_sse.sqlite import SQLiteLog

from ..support.client import Client
from ..support.logs import PATIENT
from ..support.run_nodes import Reading, Steps
from ..support.waiting import SECONDS, until

variable: ContextVar[str] = ContextVar("variable", default="none")


@pytest.mark.parametrize("runner", ["hub.run", "server"])
@pytest.mark.parametrize("log", ["memory", "sqlite"])
async def test_runs_go_on_when_another_server_runs_their_hub(runner: str, log: str, tmp_path: Path) -> None:
    hub = Hub(log=None if log == "memory" else SQLiteLog(tmp_path / "log.db", **PATIENT))
    runs = Runs(hub, drain_timeout=0.01, lease=SECONDS * 5)
    servers = [Server(hub=hub), Server(hub=hub)]
    steps, seen, ended = Steps(), list[str](), list[str]()

    scopes = {name: trio.CancelScope() for name in ("first", "second")}

    async def work(run: Run, steps: Steps) -> int:
        seen.append(variable.get())
        try:
            return await steps(run)
        finally:
            ended.append("run")

    @servers[1].route("/run/{id}")
    async def show(connection: Connection, id: str) -> None:
        await runs.get(id).stream(connection)

    async def serve(act: Any, name: str, task_status: trio.TaskStatus[Any]) -> None:
        with scopes[name]:
            await act(task_status=task_status)
        ended.append(name)

    with trio.fail_after(SECONDS * 2):
        async with trio.open_nursery() as nursery:
            act = hub.run if runner == "hub.run" else servers[0].serve_in_memory
            await nursery.start(serve, act, "first")
            connect = await nursery.start(serve, servers[1].serve_in_memory, "second")
            await until(lambda: len(hub._engine._successors))
            variable.set("of the caller")
            view = await runs.start(work, steps)
            stopped = await runs.start(work, Steps())
            steps.write("one ")
            ours, theirs = memory_stream_pair()
            connect(theirs, "memory")
            client, reader = Client(ours), Reading(view)
            assert (await client.get(f"/run/{view.id}")).status == 200
            nursery.start_soon(reader.run)
            await reader.has("one ")
            if runner == "hub.run":
                scopes["first"].cancel()
            else:
                await servers[0].drain()
            await until(lambda: not len(hub._engine._successors))
            assert not [name for name in ended if name == "run"]
            steps.write("two ")
            await reader.has("one two ")
            assert seen == ["of the caller"] * 2
            later = await runs.start(work, Steps())
            await stopped.cancel("stop")
            assert (await stopped.wait()).reason == "stop"
            await servers[1].drain()
            await until(lambda: ended[-1] == "second")
            infos = [await runs.get(one.id).info() for one in (view, later)] if log == "memory" else []
            assert [info.status for info in infos] == [RunStatus.CANCELLED] * len(infos)
            assert [event.event for event in await client.rest()][:1] == ["run"]
            await until(lambda: reader.ends)
            assert reader.ends[0].reason == "the server was shut down"
    with pytest.raises(RuntimeError, match="does not run"):
        await runs.start(work, Steps())
    assert ended.count("run") == 3


async def test_what_must_pass_ends_the_hub() -> None:
    hub = Hub()
    runs = Runs(hub)
    stopped = list[str]()

    async def interrupted(run: Run) -> None:
        raise KeyboardInterrupt

    async def bystander(run: Run) -> None:
        try:
            await trio.sleep_forever()
        finally:
            stopped.append(run.id)

    async def run_hub() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(hub.run)
            await runs.start(bystander)
            await runs.start(interrupted)
            await trio.sleep_forever()

    with pytest.raises(BaseExceptionGroup) as excinfo:
        await run_hub()
    assert excinfo.value.split(KeyboardInterrupt)[1] is None
    assert len(stopped) == 1
    async with trio.open_nursery() as nursery:
        await nursery.start(hub.run)
        assert (await runs.start(bystander)).id not in stopped
        nursery.cancel_scope.cancel()
