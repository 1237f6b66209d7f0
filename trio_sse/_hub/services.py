"""What runs as long as a hub does, and who uses the hub.

Services, such as the tasks of runs, go on while somebody uses the hub who does not drain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, final

import trio

from .app_drain import current_app_drain


class HubService(Protocol):
    """What runs as long as a hub does."""

    async def run(self) -> None:
        """Run until cancelled; if another task runs the hub on, it is called again."""

    async def end(self) -> None:
        """End what goes on while the hub passes from one task to another; there is no other one."""

    async def finish(self, drained_since: float) -> None:
        """Wait until what runs has ended, within a time from when a graceful shutdown began."""

    def overdue_at(self, drained_since: float, drain_timeout: float) -> float:
        """Return when what runs should end, so that a server that drains since then can still say so."""

    def end_overdue(self) -> None:
        """Let what still runs end, since it is that late."""


@final
class HubServices:
    """The services of a hub, and its users."""

    def __init__(self) -> None:
        self._services: list[HubService] = []
        self._users: set[object] = set()  # who runs the hub, or waits to, and does not drain
        self._start: Callable[[HubService], None] | None = None  # while the hub runs

    # Users

    @contextmanager
    def used_by(self, user: object) -> Iterator[None]:
        """Keep what is overdue going on in the block, until `release`."""
        self._users.add(user)
        app = current_app_drain()
        if app is not None:
            app.add(user, self)
        try:
            yield
        finally:
            self._users.discard(user)
            if app is not None:
                app.discard(user)

    @property
    def has_users(self) -> bool:
        """Whether somebody uses the hub who does not drain."""
        return bool(self._users)

    def release(self, user: object) -> None:
        """Note that a user drains, so what is overdue may end if nobody else uses the hub."""
        self._users.discard(user)

    # Services

    def add(self, service: HubService) -> None:
        """Run a service as long as the hub runs, from now on."""
        self._services.append(service)
        if self._start is not None:
            self._start(service)

    def start(self, nursery: trio.Nursery, check: Callable[[], None]) -> None:
        """Start the services in the nursery of a hub; `check` raises an error where none may be added."""

        def start(service: HubService) -> None:
            check()
            nursery.start_soon(service.run)

        self._start = start
        for service in self._services:
            start(service)

    def stop(self) -> None:
        """Start no more of them: the nursery ends."""
        self._start = None

    async def end(self) -> None:
        """End what goes on while the hub passes from one task to another; there is no other one."""
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                for service in self._services:
                    nursery.start_soon(service.end)

    async def finish(self, drained_since: float) -> None:
        """Let the services end, unless others use the hub that do not drain."""
        if not self._users:
            async with trio.open_nursery() as nursery:
                for service in self._services:
                    nursery.start_soon(service.finish, drained_since)

    async def end_overdue(self, drained_since: float, drain_timeout: float) -> None:
        """Let the services end what is overdue while a server drains, unless others use the hub."""

        async def wait(service: HubService) -> None:
            await trio.sleep_until(service.overdue_at(drained_since, drain_timeout))
            if not self._users:
                service.end_overdue()

        async with trio.open_nursery() as nursery:
            for service in self._services:
                nursery.start_soon(wait, service)
