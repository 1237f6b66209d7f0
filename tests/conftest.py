"""Fixtures of all tests: servers and hubs that are checked for leaks, and TLS contexts."""

from __future__ import annotations

import gc
import os
from collections.abc import AsyncIterator

import hypothesis
import pytest
import trio.testing

from trio_sse import Hub, Server

from .support.certificates import Contexts, make_contexts
from .support.leaks import LeakCheck, MakeHub, MakeServer, living_tasks, open_descriptors

# No deadlines: a busy machine is no failure. Where many people wait for a run, it is the same each time.
hypothesis.settings.register_profile("here", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "here")


def pytest_collection_finish() -> None:
    """Keep what was imported out of the collections that `no_leak` makes: they take 1 ms instead of 40."""
    gc.collect()
    gc.freeze()


@pytest.fixture
async def no_leak() -> AsyncIterator[LeakCheck]:
    """Check at the end that tasks, descriptors and registrations are back at their baseline.

    Whatever the test starts must have ended when its function returns.
    """
    check = LeakCheck()
    gc.collect()
    await trio.testing.wait_all_tasks_blocked()
    tasks = living_tasks()
    descriptors = open_descriptors()
    yield check
    await trio.testing.wait_all_tasks_blocked()
    assert not living_tasks() - tasks, "tasks are left"
    left = {name: what for name, what in open_descriptors().items() if descriptors.get(name) != what}
    assert not left, "descriptors are left"
    check.check_registrations()


@pytest.fixture(scope="session")
def contexts() -> Contexts:
    """Return TLS contexts of a server and its clients."""
    return make_contexts()


@pytest.fixture
def make_server(no_leak: LeakCheck) -> MakeServer:
    """Make servers that are checked for leaks at the end; the options are `Server`'s."""

    def make(**options: object) -> Server:
        return no_leak.watch(Server(**options))  # type: ignore[arg-type]  # the test gives the right ones

    return make


@pytest.fixture
def make_hub(no_leak: LeakCheck) -> MakeHub:
    """Make hubs that are checked for leaks at the end; the options are `Hub`'s."""

    def make(**options: object) -> Hub:
        return no_leak.watch_hub(Hub(**options))  # type: ignore[arg-type]  # the test gives the right ones

    return make
