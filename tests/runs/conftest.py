"""Fixtures for runs that nodes share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from trio_sse._shared_log.run_session import RunSession

from ..support.logs import SHARED, MakeLog, logs, skip_without


@pytest.fixture(params=SHARED)
async def make_shared(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[MakeLog]:
    """Return a factory of shared logs of one kind that store runs."""
    async with logs(request.param, tmp_path) as make:
        await skip_without(make(), RunSession)
        yield make
