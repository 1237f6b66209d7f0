"""What the viewers of a run share: how its state has changed is computed once."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import Any

import pytest
import trio

from trio_sse import Run, Runs, Server
from trio_sse.adapters import _state_changes
from trio_sse.adapters.ag_ui import AgUi
from trio_sse.testing import Client

from ..support.waiting import SECONDS, until


@pytest.mark.parametrize("size", [10, 20_000], ids=["small", "large"])
async def test_a_change_is_computed_once_for_all_viewers_and_a_large_one_in_a_thread(
    monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    threads: list[threading.Thread] = []
    compute = _state_changes._patch

    def counting(before: str, after: str) -> str | None:
        threads.append(threading.current_thread())
        return compute(before, after)

    monkeypatch.setattr(_state_changes, "_patch", counting)
    state, (changes, next_change) = list(range(size)), trio.open_memory_channel[int](0)

    async def answer(run: Run, body: Mapping[str, Any]) -> None:
        await run.set_state(state)
        async for number in next_change:
            await run.set_state([*state, number])

    server = Server()
    agent = AgUi(Runs(server.hub), answer)
    server.route("/agent", methods=["POST"])(agent.run)
    body = '{"threadId": "t", "runId": "r"}'
    async with Client(server, timeout=SECONDS) as client, changes:
        async with (
            client.stream("/agent", method="POST", body=body) as one,
            client.stream("/agent", method="POST", body=body) as other,
        ):
            for stream in (one, other):
                types = [json.loads(str(event.data))["type"] for event in await stream.events(2)]
                assert types == ["RUN_STARTED", "STATE_SNAPSHOT"]
            for number, operation in enumerate(["add", "replace", "replace"]):
                await changes.send(number)
                for stream in (one, other):
                    event = await stream.event()
                    assert json.loads(str(event.data))["delta"] == [
                        {"op": operation, "path": f"/{size}", "value": number}
                    ]
            changes.close()
            await one.wait_over()
        assert len(threads) == 3
        assert all((thread is threading.main_thread()) == (size == 10) for thread in threads)
        await until(lambda: not agent._changes)  # nothing is kept without viewers
