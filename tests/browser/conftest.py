"""A browser that all tests of this package share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ..support.browser import chromium


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    """Run a browser."""
    with chromium() as running:
        yield running
