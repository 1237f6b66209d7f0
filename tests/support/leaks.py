"""What a test must not leave behind: tasks, file descriptors, registrations."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from trio_sse import Hub, Server

MakeServer = Callable[..., Server]
MakeHub = Callable[..., Hub]


_DESCRIPTORS = "/proc/self/fd"
CAN_LIST_DESCRIPTORS = os.path.isdir(_DESCRIPTORS)


def open_descriptors() -> dict[str, str]:
    """Return this process's file descriptors and what they are; none where the system does not list them."""
    found = {}
    for name in os.listdir(_DESCRIPTORS) if CAN_LIST_DESCRIPTORS else ():
        try:
            found[name] = os.readlink(f"{_DESCRIPTORS}/{name}")
        except FileNotFoundError:  # the listing's own
            continue
    return found


def living_tasks() -> set[trio.lowlevel.Task]:
    """Return all tasks of this run except those of the test runner itself."""
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
