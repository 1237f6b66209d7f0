"""A run as who has started it, or joins it, sees it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol, final

from .._stream.connection import Connection, stream_of
from .._websocket.connection import WebSocketConnection, connection_of
from .items import RunItem, RunReader, start_of
from .position import START
from .record import RunRecord
from .status import RunInfo

_LONGEST_REASON = 200


class RunSource(Protocol):
    """Where a `RunView` finds its run."""

    def joined(self, id: str, cursor: str | None = None) -> AbstractAsyncContextManager[RunRecord]:
        """Return a run for as long as it is shown or waited for; entering it raises `RunGone`.

        `cursor` is what its client has, so that the run is read as far as that.
        """

    async def look_up(self, id: str) -> RunInfo:
        """Return what a run is at this moment; raises `RunGone`."""

    def check_viewers(self, record: RunRecord) -> None:
        """Raise `RunLimitReached` if a run has as many viewers as it may."""

    async def cancel(self, id: str, reason: str) -> None:
        """Cancel a run, wherever it is."""


@final
class RunView:
    """A run, to be shown, asked about or cancelled; returned by `Runs.start` and `Runs.get`."""

    __slots__ = ("_source", "id")

    def __init__(self, source: RunSource, id: str) -> None:
        self._source = source
        self.id = id

    def __repr__(self) -> str:
        return f"<RunView {self.id[:8]}>"

    async def stream(self, connection: Connection | WebSocketConnection, *, in_order: bool = False) -> None:
        """Show the run on a stream: from the client's cursor on, then live, then its end.

        It returns when the end was sent. The run goes on if the stream ends before.

        Args:
            in_order: a client that starts anew receives texts and events in the order in which the run made
                them. Otherwise it receives each text in one piece first, and then the events.

        Raises:
            RunGone: there is no such run.
            RunLimitReached: the run has as many viewers as it may have.
            HTTPException: 204, since the client has received the end already. Let it pass: it answers
                the request.
        """
        inner = connection if isinstance(connection, Connection) else connection_of(connection)
        async with self._source.joined(self.id, inner.last_event_id) as record:
            self._source.check_viewers(record)
            await record.viewers.show(stream_of(inner), is_in_order=in_order)

    @asynccontextmanager
    async def events(
        self, *, in_order: bool = True, after: str | None = None
    ) -> AsyncIterator[AsyncIterator[RunItem]]:
        """Read the run's output, to show it in a form of your own: from the start, then live, then its end.

        ::

            async with view.events() as items:
                async for item in items:  # RunText, RunEmitted, RunState, and at last RunOutcome
                    ...

        In the block, it counts as one of the run's viewers. Who reads slowly receives larger pieces.

        Args:
            in_order: texts and events come in the order in which the run made them. Otherwise each text
                comes in one piece first, and then the events.
            after: the cursor of an item: only what follows is read.

        Raises:
            RunGone: there is no such run.
            RunLimitReached: the run has as many viewers as it may have.
            ValueError: the cursor is not one of this run, or void since the run was restarted.
            RunRestarted: what was read is void; raised by the iterator.
        """
        async with self._source.joined(self.id, after) as record:
            self._source.check_viewers(record)
            position = start_of(record.content, after, is_in_order=in_order)
            with record.viewers.reading():
                yield RunReader(record.content, record.viewers, position)

    async def cancel(self, reason: str = "cancelled") -> None:
        """Cancel the run; do nothing if it has ended.

        It returns when the request is on its way. The run's function is cancelled at its next checkpoint.

        Args:
            reason: what the run's clients receive.

        Raises:
            RunGone: there is no such run.
        """
        if not isinstance(reason, str):
            raise TypeError(f"reason must be a str, not {type(reason).__name__}")
        await self._source.cancel(self.id, reason[:_LONGEST_REASON])

    async def info(self) -> RunInfo:
        """Return what the run is at this moment.

        Raises:
            RunGone: there is no such run.
        """
        return await self._source.look_up(self.id)

    async def wait(self) -> RunInfo:
        """Wait until the run has ended, and return what it is then.

        Raises:
            RunGone: there is no such run.
        """
        async with self._source.joined(self.id) as record:
            await record.wait_ended()
            return record.info()


async def read_now(view: RunView) -> list[RunItem]:
    """Return what a run has put out so far, for the other packages of trio_sse; raises `RunGone`."""
    async with view._source.joined(view.id) as record:
        return RunReader(record.content, record.viewers, START).read_now()
