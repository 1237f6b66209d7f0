"""How hubs that run inside an app learn that the app's server drains.

An app's lifespan ends after the last of its responses. What a hub does at a graceful shutdown, such as ending
runs, must be done before, so that streams can still show it. So the server says it, to all users of hubs
that have begun in the lifespan; they are found by a context variable, since any framework may be in between.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol, final

import trio

_current: ContextVar[AppDrain | None] = ContextVar("trio_sse_app_drain", default=None)


class DrainedHub(Protocol):
    """What this needs of a hub's `HubServices`."""

    def release(self, user: object) -> None:
        """Note that a user drains."""

    async def end_overdue(self, drained_since: float, drain_timeout: float) -> None:
        """Let the services end what is overdue while a server drains, unless others use the hub."""


@final
class AppDrain:
    """The users of hubs that belong to one app's lifespan.

    Attributes:
        since: when the app's server has begun to drain, in Trio's time; `None` before.
    """

    def __init__(self) -> None:
        self.since: float | None = None
        self._users: dict[object, DrainedHub] = {}

    @contextmanager
    def current(self) -> Iterator[None]:
        """Be the one to which hubs belong that are run in the context."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)

    def add(self, user: object, hub: DrainedHub) -> None:
        """Add a user of a hub, which is released when the server drains."""
        self._users[user] = hub
        if self.since is not None:
            hub.release(user)

    def discard(self, user: object) -> None:
        """Remove a user."""
        self._users.pop(user, None)

    async def run(self, drained_since: float, drain_timeout: float) -> None:
        """Say that the server drains, and let the hubs end in time what is overdue."""
        if self.since is not None:
            return
        self.since = drained_since
        for user, hub in self._users.items():
            hub.release(user)
        async with trio.open_nursery() as nursery:
            for hub in set(self._users.values()):
                nursery.start_soon(hub.end_overdue, drained_since, drain_timeout)


def current_app_drain() -> AppDrain | None:
    """Return that of the app in whose lifespan this is called; `None` outside."""
    return _current.get()
