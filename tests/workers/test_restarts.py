"""When workers that have ended are restarted."""

from __future__ import annotations

from trio_sse._workers.restarts import RestartSchedule


def test_a_worker_that_crashes_is_restarted_after_longer_and_longer_pauses() -> None:
    schedule = RestartSchedule(2)
    pauses = [schedule.add(1, 0.1) for _ in range(6)]
    assert pauses[-1] > pauses[0] * 4
    assert schedule.add(0, 0.1) <= 1  # the other slot has its own
    assert schedule.add(1, 60) == 0
    assert schedule.add(1, 0.1) <= 1


def test_a_worker_that_is_drained_is_restarted_soon_however_often() -> None:
    schedule = RestartSchedule(1)
    assert {schedule.add(0, 0.1, is_drained=True) for _ in range(20)} == {0.5}
    assert schedule.add(0, 60, is_drained=True) == 0
    assert 0 in schedule
