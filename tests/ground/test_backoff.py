"""The delays between attempts."""

from __future__ import annotations

from itertools import islice

from trio_sse._backoff import delay, delays


def test_delays_double_up_to_the_longest() -> None:
    for waited, most in zip(islice(delays(0.5, 3), 6), (0.5, 1, 2, 3, 3, 3), strict=True):
        assert most / 2 <= waited <= most


def test_delays_are_jittered() -> None:
    assert len({delay(3, 1, 100) for _ in range(20)}) > 1


def test_no_attempt_is_too_late_to_be_counted() -> None:
    assert delay(100_000, 1, 30) <= 30
