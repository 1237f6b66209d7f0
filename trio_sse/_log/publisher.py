"""A hub's task that appends to a shared log what is published, and those who wait until that is stored.

There is one append under way at a time, and it is repeated until it is stored, so the order of one
publisher's events holds, and none is stored twice.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import final

import trio

from .._wire.message import Message
from .protocol import LogSession, LogUnavailable, encode_record
from .sessions import LogSessions

_MOST_REMEMBERED = 4096
_LARGEST_REMEMBERED = 16 * 1024  # bytes


class _State(Enum):
    WAITING = 1
    STORED = 2
    LATE = 3
    ENDED = 4


@final
class _Waiter:
    """A publisher that waits until its event is stored."""

    __slots__ = ("_task", "deadline", "state")

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.state = _State.WAITING
        self._task: trio.lowlevel.Task | None = None

    async def wait(self) -> None:
        self._task = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._abort)

    def _abort(self, raise_cancel: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED

    def wake(self, state: _State) -> None:
        self.state = state
        task, self._task = self._task, None
        if task is not None:
            trio.lowlevel.reschedule(task)


@final
class LogPublisher:
    """Has messages stored by the log.

    Args:
        timeout: for how many seconds a publisher waits until its message is stored.
    """

    def __init__(self, sessions: LogSessions, timeout: float) -> None:
        self._sessions = sessions
        self._timeout = timeout
        self._name = ""
        self._number = 0  # of the newest message
        self._waiting: dict[Message, _Waiter] = {}  # those whose publishers wait until they are stored
        self._sweep_soon = trio.lowlevel.ParkingLot()
        self._is_sweeping = False  # its next sleep will end
        self._own: dict[bytes, Message] = {}
        self._abandoned: set[Message] = set()  # not yet stored, and not to be tried again

    def begin(self) -> None:
        """Begin a run, under a name of its own: forks of one hub must not pass for one publisher."""
        self._name = secrets.token_hex(8)

    def finish(self) -> None:
        """Wake the publishers that still wait: the hub ends."""
        waiting, self._waiting = self._waiting, {}
        for waiter in waiting.values():
            waiter.wake(_State.ENDED)
        self._abandoned.clear()
        self._own.clear()

    async def wait_stored(
        self,
        message: Message,
        put: Callable[[Message], None],
        put_waiting: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Put a message into the inbox and wait until it is stored; `LogUnavailable` at the bound."""
        waiter = self._waiting[message] = _Waiter(trio.current_time() + self._timeout)
        is_put = False
        try:
            try:
                put(message)
                is_put = True
            except trio.WouldBlock:
                with trio.move_on_at(waiter.deadline):
                    await put_waiting(message)
                    is_put = True
            if is_put and waiter.state is _State.WAITING:
                if not self._is_sweeping:
                    self._is_sweeping = True
                    self._sweep_soon.unpark_all()
                await waiter.wait()
        finally:
            if self._waiting.pop(message, None) is not None and is_put:
                self._abandoned.add(message)
        if waiter.state is _State.ENDED:
            raise trio.ClosedResourceError("this hub has ended: the event may not have been stored")
        if waiter.state is not _State.STORED:
            raise LogUnavailable(f"not stored within {self._timeout:g} s: {self._sessions.failure}")

    async def sweep(self) -> None:
        """Wake the publishers that have waited too long, for ever.

        One task for all: a timer for each would cost more than the rest of a publisher's wait.
        """
        while True:
            self._is_sweeping = bool(self._waiting)
            if not self._is_sweeping:
                await self._sweep_soon.park()
            for waiter in self._waiting.values():  # the oldest first, and all have the same patience
                if waiter.deadline > trio.current_time():
                    break
                waiter.wake(_State.LATE)
            oldest = next(iter(self._waiting.values()), None)
            await trio.sleep_until(-math.inf if oldest is None else oldest.deadline)

    async def append_all(self, take: Callable[[], Awaitable[list[Message]]]) -> None:
        """Append what `take` gives, for ever."""
        pending: list[tuple[int, Message, bytes]] = []

        async def work(session: LogSession) -> None:
            nonlocal pending
            while True:
                if not pending:
                    for message in await take():
                        self._number += 1
                        record = encode_record(message, f"{self._name}-{self._number}")
                        pending.append((self._number, message, record))
                        self._remember(record, message)
                if self._abandoned:
                    kept = [item for item in pending if item[1] not in self._abandoned]
                    self._abandoned.difference_update(item[1] for item in pending)
                    pending = kept
                if not pending:
                    continue
                await session.append(self._name, [(number, record) for number, _, record in pending])
                for _, message, _ in pending:
                    if (waiter := self._waiting.pop(message, None)) is not None:
                        waiter.wake(_State.STORED)
                if self._abandoned:  # by those who were cancelled meanwhile
                    self._abandoned.difference_update(message for _, message, _ in pending)
                pending = []

        await self._sessions.keep(work)

    def _remember(self, record: bytes, message: Message) -> None:
        if len(self._own) >= _MOST_REMEMBERED:
            self._own.clear()
        if len(record) <= _LARGEST_REMEMBERED:
            self._own[record] = message

    def recall(self, record: bytes) -> Message | None:
        """Give the message that was appended as this record, once: what comes back need not be made anew."""
        return self._own.pop(record, None)
