"""What all tests share: a server that must not leak, and ways to reach it."""

from __future__ import annotations

import gc
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import hypothesis
import pytest
import trio
import trio.testing

from trio_sse import Hub, Server

from .support.certificates import Contexts, make_contexts

# No deadlines: a busy machine is no failure. Where many people wait for a run, it is the same each time.
hypothesis.settings.register_profile("here", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "here")


def pytest_collection_finish() -> None:
    """Keep what was imported out of the collections that `no_leak` makes: they take 1 ms instead of 40."""
    gc.collect()
    gc.freeze()


def open_descriptors() -> dict[str, str]:
    """Give this process's file descriptors and what they are."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:  # the listing's own
            continue
    return found


def living_tasks() -> set[trio.lowlevel.Task]:
    """Give all tasks of this run except those of the test runner itself."""
    found = set()
    waiting = [trio.lowlevel.current_root_task()]
    while waiting:
        task = waiting.pop()
        assert task is not None
        waiting += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
        if "pytest_trio" not in task.coro.cr_code.co_filename:
            found.add(task)
    return found


@dataclass
class LeakCheck:
    """Compares what lives at the end of a test with what lived at its beginning."""

    servers: list[Server] = field(default_factory=list)
    hubs: list[Hub] = field(default_factory=list)

    def watch(self, server: Server) -> Server:
        """Have a server's registrations checked, and its hub's."""
        self.servers.append(server)
        self.hubs.append(server.hub)
        return server

    def watch_hub(self, hub: Hub) -> Hub:
        """Have a hub's registrations checked."""
        self.hubs.append(hub)
        return hub

    def check_registrations(self) -> None:
        """Fail if a stream, a subscription, or a call to serve is left."""
        for server in self.servers:
            assert server.statistics().open_streams == 0, "streams are left"
            assert not server._manager.serve_scopes, "calls to serve are left"
            assert server._admission.is_empty, "counts of streams are left"
        for hub in self.hubs:
            statistics = hub.statistics()
            assert (statistics.subscriptions, statistics.topics) == (0, 0), "subscriptions are left"
            assert (statistics.queued_events, statistics.inbox_events) == (0, 0), "events are left"


@pytest.fixture(scope="session", autouse=True)
def _imported_code_is_no_garbage() -> None:
    """Spare the collector what was imported: it is most of the heap, and each test collects."""
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
    """Give TLS contexts of a server and its clients."""
    return make_contexts()


MakeServer = Callable[..., Server]


@pytest.fixture
def make_server(no_leak: LeakCheck) -> MakeServer:
    """Make servers that are checked for leaks at the end; the options are `Server`'s."""

    def make(**options: object) -> Server:
        return no_leak.watch(Server(**options))  # type: ignore[arg-type]  # the test gives the right ones

    return make


@pytest.fixture
def make_hub(no_leak: LeakCheck) -> Callable[..., Hub]:
    """Make hubs that are checked for leaks at the end; the options are `Hub`'s."""

    def make(**options: object) -> Hub:
        return no_leak.watch_hub(Hub(**options))  # type: ignore[arg-type]  # the test gives the right ones

    return make
