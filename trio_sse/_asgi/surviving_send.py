"""Calls of hypercorn's `send` that survive the app's call.

In a `send` of one response, hypercorn may find that the connection is closed. Then it reports that to all
other responses of the connection, within this `send`. If an app cancelled it, as many do when they learn of
the disconnect, the others would never learn of it, and over HTTP/2 would live until their maximum duration.
Also, hypercorn shields its writes, and an app's call must end even if its client accepts nothing.

So each `send` runs in its own task, which the app cannot cancel. Some never return: over HTTP/2, those that
wait for the window of a client that has disconnected. They are cancelled some time after the app's call.

Hypercorn ends, with all its connections, if an app's call returns while its response's head is being sent: it
takes the request for one that nobody has answered, and answers it. So `settle` comes before the return.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

import trio

from .._groups import split_failure
from .types import Message, Send

# How long a `send` may go on after the app's call. Reporting a disconnect takes a moment for each stream.
_LAST_SECONDS = 30.0

# How long the next message of a response waits for one whose `send` was cancelled.
_ORDER_SECONDS = 1.0


@final
class SurvivingSend:
    """The `send` of one response, which sends what it is called with; `nursery` outlives the app's call."""

    def __init__(self, send: Send, nursery: trio.Nursery) -> None:
        self._send = send
        self._nursery = nursery
        self._running: dict[_Call, None] = {}  # the oldest first
        self._changed = trio.lowlevel.ParkingLot()

    async def __call__(self, message: Message) -> None:
        trio.lowlevel.current_task()  # in a thread that has none, this raises an error, and changes nothing
        call = _Call(message)
        earlier = list(self._running)
        self._running[call] = None
        self._nursery.start_soon(self._run, call, message, earlier, name="trio_sse.send")
        try:
            await call.has_ended.wait()
        except trio.Cancelled:
            call.is_abandoned = True
            self._changed.unpark_all()
            raise
        if call.error is not None:
            raise call.error

    async def _run(self, call: _Call, message: Message, earlier: list[_Call]) -> None:
        try:
            with call.scope:
                if earlier:
                    await self._wait_for(earlier)
                await self._send(message)
            if call.scope.cancelled_caught:
                call.error = OSError("the response is over")
        except BaseException as failure:
            passing, call.error = split_failure(failure)
            if passing is not None:
                raise passing from None
        finally:
            del self._running[call]
            call.has_ended.set()
            self._changed.unpark_all()

    async def _wait_for(self, earlier: Sequence[_Call]) -> None:
        """Wait until these have ended, but not for long for those whose callers were cancelled."""
        deadline = math.inf
        while left := [call for call in earlier if call in self._running]:
            if all(call.is_abandoned for call in left):
                deadline = min(deadline, trio.current_time() + _ORDER_SECONDS)
            with trio.CancelScope(deadline=deadline) as scope:
                await self._changed.park()
            if scope.cancelled_caught:
                return

    async def settle(self) -> None:
        """Wait, at the end of the app's call, until no head is being sent, and a moment for a last part."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + _ORDER_SECONDS):
            for call in [call for call in self._running if call.is_head or call.is_last]:
                await call.has_ended.wait()
        for call in [call for call in self._running if call.is_head]:
            await call.has_ended.wait()

    def close(self) -> None:
        """Bound what still runs, now that the app's call has ended."""
        for call in self._running:
            call.scope.deadline = trio.current_time() + _LAST_SECONDS


@final
class _Call:
    """One call of `send`."""

    def __init__(self, message: Message) -> None:
        self.is_head = message["type"] == "http.response.start"
        self.is_last = not (self.is_head or message.get("more_body", False))
        self.scope = trio.CancelScope()
        self.has_ended = trio.Event()
        self.is_abandoned = False
        self.error: BaseException | None = None
