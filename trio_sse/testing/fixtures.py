"""Fixtures for pytest-trio.

Your `conftest.py` loads them by `pytest_plugins = ["trio_sse.testing.fixtures"]`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import trio

from .._asgi.types import ASGIApp
from .._server.server import Server
from . import Client, no_leak, random_seed
from ._nursery import open_nursery
from ._random_peer import SEED

try:
    import pytest
    from pytest_trio import trio_fixture
except ImportError as error:
    raise ImportError("trio_sse.testing.fixtures needs pytest-trio: pip install pytest-trio") from error

__all__ = ["sse_client", "sse_no_leak", "sse_seed"]

StartClient = Callable[[Server | ASGIApp], Awaitable[Client]]


@pytest.fixture
def sse_seed() -> int:
    """Return a seed for `read_at_random`, or that of `TRIO_SSE_SEED`; a test that fails shows it."""
    seed = random_seed()
    print(f"{SEED}={seed}")
    return seed


@trio_fixture  # type: ignore[untyped-decorator]  # upstream has no types
async def sse_no_leak() -> AsyncIterator[None]:
    """Fail if the test leaves tasks or file descriptors."""
    async with no_leak():
        yield


@trio_fixture  # type: ignore[untyped-decorator]  # upstream has no types
async def sse_client(sse_no_leak: None) -> AsyncIterator[StartClient]:
    """Return a function that starts a server or app and returns a client of it, until the test ends.

    The test fails if it leaves tasks or file descriptors.
    """
    async with open_nursery() as nursery:

        async def start(app: Server | ASGIApp) -> Client:
            client: Client = await nursery.start(_run_client, app)
            return client

        yield start


async def _run_client(app: Server | ASGIApp, *, task_status: trio.TaskStatus[Client]) -> None:
    async with Client(app) as client:
        task_status.started(client)
        await trio.sleep_forever()
