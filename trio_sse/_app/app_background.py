"""Going on with a connection while the app's call goes on after its response.

What an app does after its response, such as a background task of Starlette, must not hold up the next request
on the connection, which may be another client's behind a proxy. But nearly all calls return right after the
last `send`, some of them after a few steps of other tasks, and for those nothing shall be started. So a call
that has completed its response has a moment to return. If it has not by then, another task takes its
connection.
"""

from __future__ import annotations

from typing import NoReturn, Protocol, final

import trio

from .._stream.overdue import Overdue

# A call has once or twice this time in seconds to return, and then as many rounds of the scheduler: when the
# event loop is busy, one round takes longer than the time.
_MOMENT = 0.002
_ROUNDS = 10


class CompletedCall(Protocol):
    """A call of the app whose response is complete."""

    def continue_connection(self) -> None:
        """Have another task go on with the connection."""


@final
class CompletedCalls:
    """The app's calls that have completed their responses and have not returned yet."""

    def __init__(self) -> None:
        self._calls: Overdue[CompletedCall, CompletedCall] = Overdue(_MOMENT)

    def add(self, call: CompletedCall) -> None:
        """Note that a call has completed its response."""
        self._calls.add(call, call)

    def discard(self, call: CompletedCall) -> None:
        """Note that a call has returned."""
        self._calls.discard(call)

    async def run(self) -> NoReturn:
        """Continue the connections of calls that go on, until cancelled."""
        while True:
            late = await self._calls.wait()
            for _ in range(_ROUNDS):
                if not late:
                    break
                await trio.lowlevel.checkpoint()
            for call in list(late):
                call.continue_connection()
