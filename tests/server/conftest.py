"""Fixtures of this package's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from trio_sse import Server

from ..support.leaks import LeakCheck
from ..support.serving import InMemory, in_memory


@pytest.fixture
def serve(no_leak: LeakCheck) -> Callable[..., Any]:
    """Serve an app over memory streams."""

    @asynccontextmanager
    async def serving(app: Any, **options: Any) -> AsyncIterator[InMemory]:
        async with in_memory(no_leak.watch(Server(app, **options))) as running:
            yield running

    return serving
