"""Fixtures of the tests of tracing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .spans import Spans


@pytest.fixture
def spans() -> Iterator[Spans]:
    made = Spans()
    yield made
    made.provider.shutdown()
