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

# A call has this time in seconds to return, and then as many rounds of the scheduler: when the event loop is
# busy, one round takes longer than the time.
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
        self._calls: dict[CompletedCall, float] = {}  # the oldest first, with the times of their responses
        self._wake_up = trio.lowlevel.ParkingLot()

    def add(self, call: CompletedCall) -> None:
        """Note that a call has completed its response."""
        self._calls[call] = trio.current_time()
        if self._wake_up:
            self._wake_up.unpark_all()

    def discard(self, call: CompletedCall) -> None:
        """Note that a call has returned."""
        self._calls.pop(call, None)

    async def run(self) -> NoReturn:
        """Continue the connections of calls that go on, until cancelled."""
        while True:
            await self._wake_up.park()
            await trio.sleep(_MOMENT)  # at the end of which there is nothing to do, most of the time
            while self._calls:
                await trio.sleep_until(next(iter(self._calls.values())) + _MOMENT)
                await self._continue_late()

    async def _continue_late(self) -> None:
        now = trio.current_time()  # compared as `run` computes it: a test's clock stands still meanwhile
        late = [call for call, completed_at in self._calls.items() if completed_at + _MOMENT <= now]
        for _ in range(_ROUNDS):
            late = [call for call in late if call in self._calls]
            if not late:
                return
            await trio.lowlevel.checkpoint()
        for call in late:
            if self._calls.pop(call, None) is not None:
                call.continue_connection()
