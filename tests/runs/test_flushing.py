"""How often runs are flushed: less often while the node cannot keep up."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse._runs.content import RunContent
from trio_sse._runs.flushing import RunFlusher
from trio_sse._runs.pace import FlushPace
from trio_sse._runs.record import RunRecord


def test_the_interval_follows_how_late_flushes_are() -> None:
    pace = FlushPace(0.03)
    for late, expected in ((0.001, 0.03), (0.01, 0.08), (9.0, 0.25), (0.0, 0.03)):
        for _ in range(60):
            pace.note(late)
        assert pace.interval == pytest.approx(expected, abs=0.001)
    long = FlushPace(1.0)
    long.note(9.0)
    assert long.interval == 1.0


async def test_a_node_that_is_late_flushes_less_often(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    flusher = RunFlusher(0.03, lambda record: None)
    record = RunRecord(RunContent("run", 0.0), owner=None, key=None, on_watch=lambda record: None)
    nursery.start_soon(flusher.run)
    added = 0
    # A loop that has a turn each 100 ms is late; one with a turn each millisecond is not.
    for step, turns, least, most in (
        (0.001, 100, 0.03, 0.03),
        (0.1, 50, 0.05, 0.25),
        (0.001, 2000, 0.03, 0.03),
    ):
        for _ in range(turns):
            record.pending.append("text", "x", 1)
            added += 1
            flusher.schedule(record)
            mock_clock.jump(step)
            await wait_all_tasks_blocked()
        assert least <= flusher.interval <= most
    assert len(record.content.text("text")) == added - record.pending.count
    assert record.pending.count < 50
    nursery.cancel_scope.cancel()
