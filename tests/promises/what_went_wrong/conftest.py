"""What the server logs is recorded."""

from __future__ import annotations

import logging

import pytest


@pytest.fixture(autouse=True)
def all_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Record what an operator sees."""
    caplog.set_level(logging.INFO, "trio_sse")
