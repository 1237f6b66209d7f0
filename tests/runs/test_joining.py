"""Viewers that join together: what they receive is made once."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from trio_sse import Run, Runs
from trio_sse._runs.content import RunContent
from trio_sse._runs.protocol import RunEvent

from ..support.leaks import MakeServer
from ..support.serving import in_memory
from .test_runs import join, serve_runs, text_of


@pytest.mark.parametrize("size", [100, 100_000])
async def test_what_viewers_lack_is_made_once_for_all_that_come_soon(
    make_server: MakeServer, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    made = 0
    whole = RunContent.whole

    def counting(content: RunContent, *, in_order: bool = False) -> list[RunEvent]:
        nonlocal made
        made += 1
        return list(whole(content, in_order=in_order))

    monkeypatch.setattr(RunContent, "whole", counting)
    server, goes_on = make_server(), trio.Event()
    runs = Runs(server.hub)
    serve_runs(server, runs)

    async def write(run: Run) -> None:
        await run.append("ö" * size)
        await goes_on.wait()
        await run.append("end")

    async with in_memory(server) as serving:
        view = await runs.start(write)
        await trio.sleep(1)
        clients = [await join(serving, view.id) for _ in range(3)]
        await trio.sleep(0.9)
        clients.append(await join(serving, view.id))
        assert made == 1
        await trio.sleep(2)
        (record,) = runs._table.going_on
        assert not record.viewers._missing  # it is kept for a moment only
        clients.append(await join(serving, view.id))
        assert made == 2
        goes_on.set()
        for client in clients:
            assert await text_of(client) == "ö" * size + "end"
