"""Fixtures that run a test on every kind of log."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from trio_sse import IdempotentSession, LeaseSession, RenewableSession

from ..support.logs import SHARED, MakeAny, MakeLog, logs, skip_without


@pytest.fixture(params=["memory", *SHARED])
async def make_log(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[MakeAny]:
    """Return a factory of logs of one kind; it returns `None` for the log in memory."""
    if request.param == "memory":
        yield lambda **options: None
    else:
        async with logs(request.param, tmp_path) as make:
            yield make


@pytest.fixture(params=SHARED)
async def make_shared(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[MakeLog]:
    """Return a factory of shared logs of one kind."""
    async with logs(request.param, tmp_path) as make:
        yield make


@pytest.fixture
async def make_idempotent(make_shared: MakeLog) -> MakeLog:
    """Return a factory of shared logs that have idempotency keys."""
    await skip_without(make_shared(), IdempotentSession)
    return make_shared


@pytest.fixture
async def make_leasing(make_shared: MakeLog) -> MakeLog:
    """Return a factory of shared logs that have leases."""
    await skip_without(make_shared(), LeaseSession)
    return make_shared


@pytest.fixture
async def make_renewable(make_shared: MakeLog) -> MakeLog:
    """Return a factory of shared logs that can begin a new epoch."""
    await skip_without(make_shared(), RenewableSession)
    return make_shared
