"""Looking after the app's calls that take longer than a moment.

Most calls have returned after a moment, and for those nothing shall be started. A call that goes on without
a whole response begins to watch its client. One that goes on after its response, as for a background task of
Starlette, must not hold up the next request on the connection, which may be another client's behind a proxy.
Nearly all calls return right after the last `send`, some of them after a few steps of other tasks. One that
has not, a moment later, loses its connection to another task.
"""

from __future__ import annotations

from typing import NoReturn, Protocol, final

import trio

from .._stream.overdue import Overdue

# A call has up to three times this time in seconds to return after its response, and then as many rounds of
# the scheduler: when the event loop is busy, one round takes longer than the time.
_MOMENT = 0.002
_ROUNDS = 10


class OngoingCall(Protocol):
    """A call of the app."""

    def on_overdue(self) -> bool:
        """Look after the call; return whether its response was complete when this was called before, too."""

    def continue_connection(self) -> None:
        """Have another task go on with the connection."""


@final
class OngoingCalls:
    """The app's calls that have begun, or have completed their responses, a moment ago.

    Attributes:
        recent: each as its own value. A call joins them when it begins, and again when its response is
            complete if it has been overdue by then. It leaves them when it returns.
    """

    def __init__(self) -> None:
        self.recent: Overdue[OngoingCall, OngoingCall] = Overdue(_MOMENT)
        self._looking = trio.Lock()

    async def run(self) -> NoReturn:
        """Look after the calls, until cancelled.

        Each call to serve runs this, and one of them looks after the calls of all: `recent` has one view of
        those that are overdue. When it is cancelled, the next one goes on.
        """
        overdue: dict[OngoingCall, OngoingCall] = {}
        async with self._looking:
            try:
                while True:
                    overdue = await self.recent.wait()
                    await self._look_after(overdue)
            finally:
                for call in overdue:
                    self.recent.add(call, call)

    async def _look_after(self, overdue: dict[OngoingCall, OngoingCall]) -> None:
        for call in list(overdue):
            if not call.on_overdue():
                overdue.pop(call)
        for _ in range(_ROUNDS):
            if not overdue:
                break
            await trio.lowlevel.checkpoint()
        for call in list(overdue):
            del overdue[call]
            call.continue_connection()
