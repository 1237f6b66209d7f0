"""A shared log that counts the calls of one node."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from trio_sse import Log, LogSession


class CountedLog:
    """Another log, which is asked.

    Attributes:
        calls: how often each method of a session was called and has returned, by its name.
    """

    def __init__(self, log: Log, *names: str) -> None:
        self.publish_timeout = log.publish_timeout
        self.calls = Counter[str]()
        self._log = log
        self._names = names

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[LogSession]:
        async with self._log.connect() as session:
            for name in self._names:
                setattr(session, name, self._counted(name, getattr(session, name)))
            yield session

    def _counted(self, name: str, method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def call(*arguments: object) -> Any:
            result = await method(*arguments)
            self.calls[name] += 1
            return result

        return call
