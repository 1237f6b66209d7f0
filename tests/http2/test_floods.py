"""Floods: how many frames without use one connection may send."""

from __future__ import annotations

import pytest

from trio_sse._http2.error_code import ConnectionFault
from trio_sse._http2.floods import FloodGuard
from trio_sse._http2.limits import Http2Limits

LIMITS = Http2Limits(resets=5, reset_rate=2, control_frames=10, control_rate=4)


def count_until_fault(guard: FloodGuard, now: float, earned: float = 0.0, *, resets: bool = False) -> int:
    for count in range(1000):
        try:
            if resets:
                guard.spend_reset(now)
            else:
                guard.spend(now, earned)
        except ConnectionFault:
            return count
    raise AssertionError("there is no bound")


@pytest.mark.parametrize(("resets", "burst", "rate"), [(False, 10, 4), (True, 5, 2)])
def test_a_burst_is_acceptable_and_then_a_rate(resets: bool, burst: int, rate: int) -> None:
    guard = FloodGuard(LIMITS, 100.0)

    assert count_until_fault(guard, 100.0, resets=resets) == burst
    assert count_until_fault(guard, 101.0, resets=resets) == rate
    assert count_until_fault(guard, 1000.0, resets=resets) == burst


def test_a_flood_ends_the_connection() -> None:
    guard = FloodGuard(LIMITS._replace(control_frames=0), 0.0)

    with pytest.raises(ConnectionFault, match="ENHANCE_YOUR_CALM"):
        guard.spend(0.0, 0.0)


def test_work_earns_frames_but_no_resets() -> None:
    guard = FloodGuard(LIMITS, 0.0)
    count_until_fault(guard, 0.0)
    count_until_fault(guard, 0.0, resets=True)

    assert count_until_fault(guard, 0.0, earned=6.5) == 6
    assert count_until_fault(guard, 0.0, earned=1_000.0) == 10
    assert count_until_fault(guard, 0.0, resets=True) == 0
