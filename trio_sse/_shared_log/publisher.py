"""The task of a hub that appends what is published to a shared log, and the publishers that wait for it.

At most one append is under way, and it is repeated until it is stored. So one publisher's events stay in
order, and none is stored twice.
"""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Awaitable, Callable, Sequence
from enum import Enum
from typing import Protocol, final

import trio

from .._logger import get_logger
from .._wire.message import Message
from .acknowledged import AcknowledgedNumbers
from .attempts import AppendAttempts
from .protocol import (
    EventRefused,
    IdempotentSession,
    KeyedRecord,
    LogRefused,
    LogSession,
    LogUnavailable,
)
from .record import encode_record
from .sessions import LogSessions
from .writable import WriteFailure

logger = get_logger("trio_sse.log")

_MOST_REMEMBERED = 4096
_LARGEST_REMEMBERED = 16 * 1024  # bytes
_LONGEST_END = 500  # bytes of a record from its mark on: with a trace's context, and a change of a state


#: A message with its number and its record.
_Item = tuple[int, Message, bytes]


class MessageSink(Protocol):
    """Where messages wait for `LogPublisher.append_all`: the hub's inbox."""

    def put_nowait(self, message: Message) -> None:
        """Add a message, or raise `trio.WouldBlock`."""

    async def put(self, message: Message) -> None:
        """Add a message; wait for room. If this is cancelled, the message was not added."""


class _Outcome(Enum):
    WAITING = 1
    STORED = 2
    LATE = 3
    ENDED = 4
    REFUSED = 5


@final
class _Waiter:
    """A publisher that waits until its event is stored."""

    __slots__ = ("_task", "deadline", "error", "outcome")

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.outcome = _Outcome.WAITING
        self.error: Exception | None = None  # why the log does not take it
        self._task: trio.lowlevel.Task | None = None

    async def wait(self) -> None:
        self._task = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._abort)

    def _abort(self, raise_cancel: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED

    def wake(self, outcome: _Outcome) -> None:
        self.outcome = outcome
        task, self._task = self._task, None
        if task is not None:
            trio.lowlevel.reschedule(task)


@final
class LogPublisher:
    """Appends messages to the log.

    Args:
        timeout: how many seconds a publisher waits until its message is stored.

    Attributes:
        acknowledged: the numbers of the messages that were stored and not read back yet.
        has_lost_some: the log has lost some of these, as `recall` has found.
        refused: how many messages were given up, since the log does not take them.
        failure: whether appending has failed, though the log can be read.
    """

    def __init__(self, sessions: LogSessions, timeout: float) -> None:
        self.acknowledged = AcknowledgedNumbers()
        self.has_lost_some = False
        self.failure = WriteFailure(sessions)
        self._sessions = sessions
        self._timeout = timeout
        self._name = ""
        self._mark = b""  # what precedes the number in the records of this run
        self._number = 0  # of the newest message
        self._waiting: dict[Message, _Waiter] = {}  # by the message whose publisher waits
        self._sweep_soon = trio.lowlevel.ParkingLot()
        self._is_sweeping = False  # its next sleep will end
        self.refused = 0
        self._attempts = AppendAttempts(timeout / 2)
        self._own: dict[bytes, tuple[int, Message]] = {}
        self._pending: list[_Item] = []  # not known to be stored
        self._is_readable = trio.Event()
        self._idling = trio.CancelScope()  # in which the session waits for messages
        self._abandoned: set[Message] = set()  # not yet stored, and not to be tried again

    def begin(self) -> None:
        """Begin a run, under its own name: forks of one hub must not pass for one publisher."""
        self._name = secrets.token_hex(8)
        self._mark = f'"{self._name}-'.encode()
        self.pause()

    def finish(self) -> None:
        """Wake the publishers that still wait: the hub ends."""
        waiting, self._waiting = self._waiting, {}
        for waiter in waiting.values():
            waiter.wake(_Outcome.ENDED)
        self._pending.clear()
        self._attempts.skip()
        self.acknowledged.forget(self._number)
        self._abandoned.clear()
        self._own.clear()
        self.failure.clear()

    async def wait_stored(self, message: Message, sink: MessageSink) -> None:
        """Put a message into the sink and wait until it is stored.

        Raises:
            LogUnavailable: it was not stored in time.
            EventRefused: the log does not take it.
            trio.ClosedResourceError: the hub has ended.

        If this is cancelled, the message may have been stored; it is not tried again.
        """
        waiter = self._waiting[message] = _Waiter(trio.current_time() + self._timeout)
        is_put = False
        try:
            try:
                sink.put_nowait(message)
                is_put = True
            except trio.WouldBlock:
                with trio.move_on_at(waiter.deadline):
                    await sink.put(message)
                    is_put = True
            if is_put and waiter.outcome is _Outcome.WAITING:
                self._ensure_sweep()
                await waiter.wait()
        finally:
            if self._waiting.pop(message, None) is not None and is_put:
                self._abandoned.add(message)
        if waiter.outcome is _Outcome.ENDED:
            raise trio.ClosedResourceError("this hub has ended: the event may not have been stored")
        if waiter.error is not None:
            raise waiter.error
        if waiter.outcome is not _Outcome.STORED:
            raise LogUnavailable(f"not stored within {self._timeout:g} s: {self._sessions.failure}")

    def _ensure_sweep(self) -> None:
        if not self._is_sweeping:
            self._is_sweeping = True
            self._sweep_soon.unpark_all()

    async def sweep(self) -> None:
        """Wake the publishers that have waited too long, until cancelled.

        One task does it for all: a timer for each would cost more than the rest of a publisher's wait.
        """
        while True:
            self._is_sweeping = bool(self._waiting)
            if not self._is_sweeping:
                await self._sweep_soon.park()
            for waiter in self._waiting.values():  # the oldest first; all have the same timeout
                if waiter.deadline > trio.current_time():
                    break
                waiter.wake(_Outcome.LATE)
                self.failure.set()
            oldest = next(iter(self._waiting.values()), None)
            await trio.sleep_until(-math.inf if oldest is None else oldest.deadline)

    async def append_all(self, take: Callable[[], Awaitable[list[Message]]]) -> None:
        """Append the messages that `take` returns, until cancelled."""

        async def work(session: LogSession) -> None:
            while self._is_readable.is_set():
                self._idling = trio.CancelScope()
                if not self._pending:
                    with self._idling:
                        self._pending = [self._number_message(message) for message in await take()]
                    if self._idling.cancelled_caught:
                        return
                self._pending = self._without_abandoned(self._pending)
                if self._pending:
                    await self._append(session)

        while True:
            await self._wait_readable()
            await self._sessions.keep(work, self._note_failure)

    async def _wait_readable(self) -> None:
        await self._is_readable.wait()

    def _note_failure(self) -> None:
        if self._pending:  # else an idle session has ended
            self.failure.set()

    async def _append(self, session: LogSession) -> None:
        """Append the oldest messages; give up one that the log does not take."""
        attempts = self._attempts
        if attempts.is_failed:
            await self._check_appends(session)
        batch = self._pending[: attempts.size]
        attempts.begin()
        try:
            stored = await self._append_batch(session, batch)
        except EventRefused as error:
            if len(batch) == 1:
                self._give_up(batch[0], error)
            else:
                attempts.narrow(len(batch))
            return
        attempts.succeed(len(batch))
        self.failure.clear()
        for number in stored:
            self.acknowledged.add(number)
        for _, message, _ in batch:
            if (waiter := self._waiting.pop(message, None)) is not None:
                waiter.wake(_Outcome.STORED)
        if self._abandoned:  # by publishers that were cancelled during the append
            self._abandoned.difference_update(message for _, message, _ in batch)
        self._pending = self._pending[len(batch) :]

    async def _append_batch(self, session: LogSession, batch: list[_Item]) -> Sequence[int]:
        """Return the numbers of what the log has stored now, without those whose keys it knew."""
        if all(message.idempotency is None for _, message, _ in batch):
            await session.append(self._name, [(number, record) for number, _, record in batch])
            return [number for number, _, _ in batch]
        if isinstance(session, IdempotentSession):
            records = [KeyedRecord(number, record, message.idempotency) for number, message, record in batch]
            return await session.append_once(self._name, records)
        raise EventRefused("this log has no idempotency keys")

    async def _check_appends(self, session: LogSession) -> None:
        """After a failure, give up what is to blame if the log takes entries; else raise what it does."""
        if not await self._append_nothing(session):
            return
        count = min(len(self._pending), self._attempts.size)
        if self._attempts.narrow(count):
            reason = f"the log fails when it is sent this event: {self._sessions.failure}"
            self._give_up(self._pending[0], LogUnavailable(reason))

    async def _append_nothing(self, session: LogSession) -> bool:
        """Return whether the log can do so; raise what it does if it takes no entries."""
        try:
            await session.append(self._name, [])
        except (LogUnavailable, LogRefused):
            raise
        except Exception:  # a log of the application's own that does not expect this
            return False
        return True

    async def watch(self) -> None:
        """Notice that the log takes entries again after a failure, until cancelled."""
        await self.failure.watch(self._append_nothing, self._wait_readable)

    def _give_up(self, item: _Item, error: Exception) -> None:
        _, message, record = item
        self._attempts.succeed(1)
        self._pending = self._pending[1:]
        self._own.pop(record, None)
        self._abandoned.discard(message)
        self.refused += 1
        if (waiter := self._waiting.pop(message, None)) is not None:
            waiter.error = error
            waiter.wake(_Outcome.REFUSED)
        else:
            logger.error("an event of the topic %r was not stored: %s", message.topic, error)

    def resume(self) -> None:
        """Append: the log can be read."""
        self.failure.clear()  # it was that of the log as a whole
        self._is_readable.set()

    def pause(self) -> None:
        """Leave the session, and append nothing more until the log can be read: nobody would receive it.

        An idle session would not notice that its log has failed. While it is open, it can also keep others
        from a file that was replaced.
        """
        if self._is_readable.is_set():
            self._is_readable = trio.Event()
        self._idling.cancel()

    def _number_message(self, message: Message) -> _Item:
        self._number += 1
        record = encode_record(message, f"{self._name}-{self._number}")
        self._remember(record, message)
        return self._number, message, record

    def _without_abandoned(self, pending: list[_Item]) -> list[_Item]:
        if not self._abandoned:
            return pending
        kept = [item for item in pending if item[1] not in self._abandoned]
        if kept[:1] != pending[:1]:
            self._attempts.skip()
        self._abandoned.difference_update(item[1] for item in pending)
        return kept

    def _remember(self, record: bytes, message: Message) -> None:
        if len(self._own) >= _MOST_REMEMBERED:
            self._own.clear()
        if len(record) <= _LARGEST_REMEMBERED:
            self._own[record] = self._number, message

    def recall(self, record: bytes) -> Message | None:
        """Note that a record was read. Return the message that was appended as this record, once."""
        number, message = self._own.pop(record, (0, None))
        if not number:
            number = self._number_in(record)
        if number and self.acknowledged.read(number):
            self.has_lost_some = True
        return message

    def _number_in(self, record: bytes) -> int:
        """Return the number that this hub has given a record in this run; 0 if it is another's."""
        start = record.rfind(self._mark, -_LONGEST_END)
        digits = re.match(rb'\d+(?=[" ])', record[start + len(self._mark) :]) if start >= 0 else None
        return 0 if digits is None else int(digits[0])
