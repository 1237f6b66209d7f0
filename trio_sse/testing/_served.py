"""A server that a client in memory starts, and what can happen to its connections."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import final

import trio

from .._server.server import Server
from ._nursery import open_nursery
from ._pipe import PipeEnd, open_pipe


@final
class ServedInMemory:
    """A server that is served in memory while a client's context is entered.

    Attributes:
        server: the server.
        task: the task that serves, after `start`; all others of the server are below it.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self.task: trio.lowlevel.Task | None = None
        self._nursery_manager = open_nursery()
        self._nursery: trio.Nursery
        self._connect: Callable[[trio.abc.Stream, str], None]
        self._scope = trio.CancelScope()  # of the call to serve
        self._has_ended = trio.Event()
        self._pipes: list[tuple[PipeEnd, PipeEnd]] = []  # the clients' ends and the server's

    async def start(self) -> None:
        """Serve, in a task of its own, until `end`."""
        self._nursery = await self._nursery_manager.__aenter__()
        try:
            await self._begin()
        except BaseException as error:
            await self._nursery_manager.__aexit__(type(error), error, error.__traceback__)
            raise

    async def _begin(self) -> None:
        self._scope, self._has_ended = trio.CancelScope(), trio.Event()
        self._connect = await self._nursery.start(self._serve)

    async def _serve(self, *, task_status: trio.TaskStatus[Callable[[trio.abc.Stream, str], None]]) -> None:
        self.task = trio.lowlevel.current_task()
        try:
            with self._scope:
                await self.server.serve_in_memory(task_status=task_status)
        finally:
            self._has_ended.set()

    async def serve_again(self) -> None:
        """Serve once more, when the server has ended."""
        await self._has_ended.wait()
        await self._begin()

    async def end(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        """Cancel the server, and wait for its end."""
        return await self._nursery_manager.__aexit__(kind, error, traceback)

    def connect(self) -> PipeEnd:
        """Return the client's end of a new connection.

        Raises:
            ConnectionRefusedError: the server drains or has ended.
        """
        ours, theirs = open_pipe()
        self._connect(theirs, "test")
        self._pipes = [pipe for pipe in self._pipes if not pipe[1].is_closed] + [(ours, theirs)]
        return ours

    # What can happen. Each may be called from outside of any task.

    def close_clients(self) -> None:
        """Close the clients' ends."""
        for ours, _ in self._pipes:
            ours.close()

    def reset_clients(self) -> None:
        """Break the connections."""
        for ours, _ in self._pipes:
            ours.reset()

    def fail_connections(self, *, is_short: bool = False) -> None:
        """Let the server's operations on its connections fail, the first write after a part of it."""
        for _, theirs in self._pipes:
            theirs.fail(OSError("the connection fails, as the test asked for"), is_short=is_short)

    def cancel(self) -> None:
        """Cancel the server."""
        self._scope.cancel()

    def end_streams(self) -> None:
        """End the server's streams, as `Server.close_connections` does."""
        for info in self.server.connections():
            self.server.close_connections(id=info.id)

    def drain(self) -> None:
        """Begin a graceful shutdown."""
        self._nursery.start_soon(self.server.drain)
