"""What one case has: its hub, its users' code, and what was noticed to be wrong."""

from __future__ import annotations

import json
import random
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, final

import trio

from trio_sse import Connection, Hub, Log

from ..support.list_log import ListLog
from .logs import FailingLog
from .places import OF_CODE, Place, Trigger


class Injected(Exception):
    """What users' code raises in a case."""


class InjectedPanic(BaseException):
    """What users' code raises that is no `Exception`."""


@final
class World:
    """One case.

    Attributes:
        log: its shared log, if it has one.
        hub: its hub.
        trigger: says when to interrupt.
        handlers: the scopes of the handlers that run.
        clients: the scopes of what clients do that may be cancelled.
        faults: what was noticed to be wrong.
        remaining: counts of what a scenario's code has, which must become zero while the server goes on.
        kept: what a scenario's code keeps for its visits.
        visits: how many visits there were.
        failed: which code of users has raised an exception.
        opened, ended: streams that have passed `on_connect`, and calls of `on_disconnect`.
    """

    def __init__(self, log: Log | None, trigger: Trigger, seed: int | None, **options: Any) -> None:
        self.log = log
        self.hub = Hub(log=log, dumps=self.dumps, **options)
        self.trigger = trigger
        self.handlers: set[trio.CancelScope] = set()
        self.clients: set[trio.CancelScope] = set()
        self.faults: list[str] = []
        self.remaining: dict[str, Callable[[], int]] = {}
        self.kept: dict[str, Any] = {}
        self.visits = 0
        self.failed: set[str] = set()
        self.opened = 0
        self.ended = 0
        self._chance = None if seed is None else random.Random(seed)

    def code(self, where: str) -> None:
        """Say that users' code is called; raise an exception if it is its turn."""
        if self.trigger.place in OF_CODE and self.trigger.hit():
            self.failed.add(where)
            raise Injected(where) if self.trigger.place is Place.ERROR else InjectedPanic(where)

    def dumps(self, data: object) -> str:
        """Encode data as JSON."""
        self.code("dumps")
        return json.dumps(data)

    @property
    def list_log(self) -> ListLog:
        """The shared log, if it is a list."""
        assert isinstance(self.log, FailingLog)
        return self.log.list

    async def turns(self) -> None:
        """Let other tasks run, for a random number of turns, if the case has a seed."""
        if self._chance is not None and self._chance.random() < 0.5:
            for _ in range(self._chance.randrange(4)):
                await trio.lowlevel.checkpoint()

    def handler(self, function: Callable[..., Awaitable[Any]], cancelled: Any = None) -> Callable[..., Any]:
        """Return a handler that can be cancelled, with users' code around it.

        Args:
            cancelled: what it returns when it was cancelled.
        """

        @wraps(function)
        async def handle(*arguments: Any, **parameters: Any) -> Any:
            with trio.CancelScope() as scope:
                self.handlers.add(scope)
                try:
                    self.code("a handler's beginning")
                    await self.turns()
                    result = await function(*arguments, **parameters)
                    self.code("a handler's end")
                    return result
                finally:
                    self.handlers.discard(scope)
                    self.code("a handler's clean-up")
            return cancelled

        return handle

    async def on_connect(self, connection: Connection) -> None:
        self.code("on_connect")
        await self.turns()
        self.opened += 1

    def on_disconnect(self, connection: Connection) -> None:
        self.ended += 1
        self.code("on_disconnect")
        if connection.end_reason is None:
            self.faults.append("a stream has ended without a reason")
