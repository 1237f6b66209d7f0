"""How often runs are flushed: less often while the node cannot keep up."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse._runs.content import RunContent
from trio_sse._runs.flushing import RunFlusher
from trio_sse._runs.pace import FlushPace
from trio_sse._runs.record import RunRecord


def test_the_interval_grows_while_flushes_are_late_and_shrinks_slowly() -> None:
    pace, now = FlushPace(0.03), 0.0

    def note(late: float, *, rounds: int) -> float:
        nonlocal now
        for _ in range(rounds):
            now += pace.interval
            pace.note(late, now)
        return pace.interval

    assert note(0.003, rounds=50) == 0.03
    assert 0.03 < note(9.0, rounds=1) < 0.04  # one pause of the loop counts for little
    assert note(0.02, rounds=100) == pytest.approx(0.19, rel=0.1)
    assert note(9.0, rounds=10) == 0.25
    began_at = now
    while note(0.0, rounds=1) > 0.125:
        assert now < began_at + 2
    assert now > began_at + 0.9
    assert note(0.0, rounds=200) == 0.03


def test_an_interval_that_is_long_does_not_grow() -> None:
    pace = FlushPace(1.0)
    pace.note(9.0, 1.0)
    assert pace.interval == 1.0


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
