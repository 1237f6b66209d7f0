"""Runs on every host: they go on without their clients, and each client receives everything once."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import groupby
from typing import Any

import pytest
import trio

from trio_sse import RunStatus, ServerSentEvent

from ...support.hosts import Host, Run
from ...support.waiting import SECONDS, until

pytestmark = pytest.mark.integration


def shown(events: Iterable[ServerSentEvent], text: str = "") -> str:
    """Return a run's text after these events."""
    for event in events:
        if event.event in ("text", "append"):
            piece = json.loads(str(event.data))["text"]
            text = piece if event.event == "text" else text + piece
    return text


def go_on(host: Host, steps: int) -> None:
    for _ in range(steps):
        host.life.steps.release()


async def counted(stream: Any, text: str, expected: str) -> tuple[str, list[ServerSentEvent]]:
    """Read a stream until its text is the expected one; return it, and the other events."""
    events = []
    while text != expected:
        events.append(await stream.event())
        text = shown(events[-1:], text)
        assert expected.startswith(text)
    return text, events


async def test_a_run_is_joined_resumed_and_ends_once(run: Run) -> None:
    async with run() as host:
        runs = host.life.runs
        assert runs is not None
        async with host.opened("/run") as stream:
            text, events = await counted(stream, "", "1 ")
            assert events[0].event == "run"
            id = json.loads(str(events[0].data))["id"]
            cursor = events[-1].id
        go_on(host, 4)
        with trio.fail_after(SECONDS):
            while (await runs.get(id).info()).size < len("1 2 3 4 5 "):  # noqa: ASYNC110  # no event announces it
                await trio.sleep(0.01)
        async with host.opened(f"/run?id={id}", f"Last-Event-ID: {cursor}") as resumed:
            text, events = await counted(resumed, text, "1 2 3 4 5 ")
            assert [kind for kind, _ in groupby(events, lambda event: event.event)] == [
                *("append", "third", "append")
            ]
            async with host.opened(f"/run?id={id}") as late:
                joined, events = await counted(late, "", text)
                assert [event.event for event in events] == ["run", "text"]
                assert (await late.event()).event == "third"
                go_on(host, 2)
                for stream, before in ((resumed, text), (late, joined)):
                    events = await stream.rest()
                    assert shown(events, before) == "1 2 3 4 5 6 "
                    assert [event.event for event in events].count("third") == 1
                    assert events[-1].event == "end"
                    assert events[-1].json() == {"status": "finished", "result": {"counted": 6}}
        assert (await runs.get(id).info()).viewers == 0
        polled = await host.poll(f"/run?id={id}&wait=0")
        assert [event["event"] for event in polled["events"]] == ["run", "text", "third", "third", "end"]
        async with host.asked(f"/run?id={id}", f"Last-Event-ID: {polled['last_event_id']}") as over:
            assert (await over.wait_head()).status == 204
        async with host.asked("/run?id=unknown") as gone:
            assert (await gone.wait_head()).status == 410


async def test_viewers_that_a_drain_lets_go_on_receive_the_end(run: Run) -> None:
    async with run() as host:
        assert host.life.runs is not None
        async with host.opened("/run", method="POST") as posted:
            text, events = await counted(posted, "", "1 ")
            id = json.loads(str(events[0].data))["id"]
            async with host.opened(f"/run?id={id}") as resumable, trio.open_nursery() as nursery:
                await counted(resumable, "", text)
                nursery.start_soon(host.shut_down)
                assert "end" not in [event.event for event in await resumable.rest()]
                events = await posted.rest()
                assert [event.event for event in events] == ["end"]
                assert events[0].json() == {"status": "cancelled", "reason": "the server was shut down"}
                await until(host.ended.is_set)
        (info,) = await host.life.runs.list()
        assert (info.status, info.viewers) == (RunStatus.CANCELLED, 0)
