"""Fixtures of this package's tests."""

from __future__ import annotations

import pytest

from ..support.leaks import LeakCheck
from ..support.quart_app import App


@pytest.fixture
def made(no_leak: LeakCheck) -> App:
    """Make an app."""
    return App(no_leak)
