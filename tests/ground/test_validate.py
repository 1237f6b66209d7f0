"""Checks of options."""

from __future__ import annotations

import math

import pytest

from trio_sse._validate import check_bounds, check_seconds

from ..support.cases import each_case


@each_case("value", [0, -1, math.nan, -math.inf])
def test_seconds_must_be_above_zero(value: float) -> None:
    with pytest.raises(ValueError, match="timeout must be more than 0 seconds"):
        check_seconds(timeout=value)


@pytest.mark.parametrize("value", [True, "1", None])
def test_seconds_must_be_a_number(value: float) -> None:
    with pytest.raises(TypeError, match="timeout must be a number of seconds"):
        check_seconds(timeout=value)


def test_infinite_and_fractional_seconds_are_accepted() -> None:
    check_seconds(timeout=math.inf, pause=0.1, wait=1)


@pytest.mark.parametrize("value", [-1, 2**63])
def test_bounds_out_of_range_are_refused(value: int) -> None:
    with pytest.raises(ValueError, match="queue must be"):
        check_bounds(0, queue=value)


@pytest.mark.parametrize("value", [True, 1.0, "1"])
def test_bounds_must_be_whole_numbers(value: int) -> None:
    with pytest.raises(TypeError, match="queue must be an int"):
        check_bounds(0, queue=value)
