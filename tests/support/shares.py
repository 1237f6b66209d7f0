"""How often a check is repeated: `make test` tries all its seeds and examples, `make test-unit` a share."""

from __future__ import annotations

import hypothesis
import pytest

_ONE_IN = 4


def seeds(count: int) -> list[object]:
    """Return seeds as parameters of a test; `make test-unit` tries the first quarter of them."""
    return [
        seed if seed * _ONE_IN < count else pytest.param(seed, marks=pytest.mark.integration)
        for seed in range(count)
    ]


def examples(count: int) -> int:
    """Return how many examples Hypothesis tries where the usual number, 100, is too small or too large."""
    return max(count * hypothesis.settings().max_examples // 100, 1)
