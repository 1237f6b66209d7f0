"""A hub's two tasks at a shared log: one appends what is published here, one follows what all have published.

Each has a session of its own and, when the log fails, comes back with another one after a jittered wait.
The appender has one append under way at a time and repeats it until it is stored, so the order of one
publisher's events holds, and none is stored twice.
"""

from __future__ import annotations

import logging
import math
import random
import secrets
from collections.abc import Awaitable, Callable, Collection, Sequence
from enum import Enum
from typing import final

import trio

from ._message import Message
from ._shared_log import (
    Entry,
    Log,
    LogRefused,
    LogSession,
    LogUnavailable,
    Tail,
    Window,
    decode_record,
    encode_record,
)
from ._subscription import Subscription

logger = logging.getLogger(__name__)

_READ_ENTRIES = 256
# Between two reads that have brought something: a read costs some ten times what an entry does, so at a
# thousand entries a second this saves a third of a core, and it delays nothing that stands alone.
_PAUSE = 0.002
_MOST_REMEMBERED = 4096
_LARGEST_REMEMBERED = 16 * 1024  # bytes
_FIRST_WAIT = 0.05
_LONGEST_WAIT = 2.0


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
class Mirror:
    """Keeps a hub's window in step with the shared log, both ways.

    Args:
        deliver: is given what the log has brought, in its order, each with its place.
        after_gap: is called when continuity was lost, with the reason: subscribers are to be told.
        ahead: gives the subscriptions that wait until the log has come to their ids.
        settle_ahead: is called when it has come further, with those of them that have waited long enough.
    """

    def __init__(
        self,
        log: Log,
        window: Window,
        *,
        limit: int,
        deliver: Callable[[list[tuple[Entry, Message | None]]], Awaitable[None]],
        after_gap: Callable[[str], None],
        ahead: Callable[[], list[Subscription]],
        settle_ahead: Callable[[Collection[Subscription]], None],
    ) -> None:
        self.skipped = 0  # entries that are none of a hub's, or broken
        self.publish_timeout = log.publish_timeout
        self._log = log
        self._window = window
        self._limit = limit
        self._deliver = deliver
        self._after_gap = after_gap
        self._ahead = ahead
        self._settle_ahead = settle_ahead
        self._publisher = ""  # drawn by each run: forks of one hub must not pass for one publisher
        self._number = 0  # of this publisher's newest message
        self._cursor = "0-0"
        self._is_loaded = False
        self._failure = "it has not answered yet"
        self._waiting: dict[Message, _Waiter] = {}  # those whose publishers wait until they are stored
        self._sweep_soon = trio.lowlevel.ParkingLot()
        self._is_sweeping = False  # its next sleep will end
        self._own: dict[bytes, Message] = {}
        self._abandoned: set[Message] = set()

    # The publisher's side

    async def wait_stored(
        self,
        message: Message,
        put: Callable[[Message], None],
        put_waiting: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Put a message into the inbox and wait until it is stored; `LogUnavailable` at the bound."""
        waiter = self._waiting[message] = _Waiter(trio.current_time() + self.publish_timeout)
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
            raise LogUnavailable(f"not stored within {self.publish_timeout:g} s: {self._failure}")

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

    def finish(self) -> None:
        """Wake the publishers that still wait: the hub ends."""
        waiting, self._waiting = self._waiting, {}
        for waiter in waiting.values():
            waiter.wake(_State.ENDED)
        self._abandoned.clear()
        self._own.clear()

    # Appending

    async def append_all(self, take: Callable[[], Awaitable[list[Message]]]) -> None:
        """Append what `take` gives, for ever."""
        pending: list[tuple[int, Message, bytes]] = []

        async def work(session: LogSession) -> None:
            nonlocal pending
            while True:
                if not pending:
                    for message in await take():
                        self._number += 1
                        record = encode_record(message)
                        pending.append((self._number, message, record))
                        self._remember(record, message)
                if self._abandoned:
                    kept = [item for item in pending if item[1] not in self._abandoned]
                    self._abandoned.difference_update(item[1] for item in pending)
                    pending = kept
                if not pending:
                    continue
                await session.append(self._publisher, [(number, record) for number, _, record in pending])
                for _, message, _ in pending:
                    if (waiter := self._waiting.pop(message, None)) is not None:
                        waiter.wake(_State.STORED)
                pending = []

        await self._keep_connected(work)

    def _remember(self, record: bytes, message: Message) -> None:
        """Keep what is on its way to the log: when it comes back, it need not be made anew."""
        if len(self._own) >= _MOST_REMEMBERED:
            self._own.clear()
        if len(record) <= _LARGEST_REMEMBERED:
            self._own[record] = message

    # Following

    async def load(self) -> None:
        """Begin a run: fill the window, if the log can be reached now.

        Raises:
            LogRefused: it refuses to serve.
        """
        self._publisher = secrets.token_hex(8)
        try:
            async with self._log.connect() as session:
                self._begin(await session.tail(self._limit + 1))
        except LogUnavailable as error:
            self._failure = str(error)
            logger.warning("the shared log is not available yet: %s", error)

    async def follow(self) -> None:
        """Deliver what comes, for ever."""
        await self._keep_connected(self._follow)

    async def _follow(self, session: LogSession) -> None:
        if not self._is_loaded:
            waiting = self._ahead()
            self._begin(await session.tail(self._limit + 1))
            self._settle_ahead(waiting)
        while True:
            # An id that a client has was in the log before any read that begins after the client has come.
            waiting = self._ahead()
            entries = await session.read(self._cursor, _READ_ENTRIES)
            await self._take(entries)
            self._settle_ahead(waiting if len(entries) < _READ_ENTRIES else ())
            if 0 < len(entries) < _READ_ENTRIES:
                await trio.sleep(_PAUSE)

    def _begin(self, tail: Tail) -> None:
        """Fill the window with the run of entries without a hole that ends at the newest one."""
        run: list[Entry] = []
        expected = tail.number
        for entry in reversed(tail.entries):
            if not entry.epoch:
                self._note_skipped(entry, "it is none of a hub's")
            elif (entry.epoch, entry.number) == (tail.epoch, expected):
                run.append(entry)
                expected -= 1
            else:
                break
        run.reverse()
        if expected == 0:
            self._window.restart(tail.epoch, 0, f"{tail.epoch}-0")
        elif run:  # the first one's id is where the window begins
            first = run.pop(0)
            self._window.restart(tail.epoch, first.number, first.id)
        else:
            self._window.restart(tail.epoch, tail.number, tail.last)
        for entry in run:
            self._window.put(entry, self._decode(entry))
        self._cursor = tail.last
        self._is_loaded = True

    async def _take(self, entries: Sequence[Entry]) -> None:
        found: list[tuple[Entry, Message | None]] = []
        epoch, number = self._window.epoch, self._window.last
        for entry in entries:
            self._cursor = entry.id
            if not entry.epoch:
                self._note_skipped(entry, "it is none of a hub's")
                continue
            if entry.epoch == epoch and entry.number <= number and self._has_given(entry, found):
                self._note_skipped(entry, "it was there before")
                continue
            if (entry.epoch, entry.number) != (epoch, number + 1):
                if found:
                    await self._deliver(found)
                    found = []
                reason = "expired" if entry.epoch == epoch and entry.number > number else "unknown"
                logger.warning("the shared log is not continued after %s.%d: reset", epoch, number)
                self._window.restart(entry.epoch, entry.number - 1, _before(entry.id))
                self._after_gap(reason)
            epoch, number = entry.epoch, entry.number
            found.append((entry, self._decode(entry)))
        if found:
            await self._deliver(found)

    def _has_given(self, entry: Entry, found: Sequence[tuple[Entry, Message | None]]) -> bool:
        """Whether this event was delivered already, from an entry that the log has lost, say, and has again.

        Another event with its number is another matter: then the log has lost what was delivered.
        """
        for other, _ in found:
            if other.number == entry.number:
                return other.record == entry.record
        message = self._window.at(entry.number)
        return message is not None and encode_record(message) == entry.record

    @property
    def is_loaded(self) -> bool:
        """Whether the log has been there."""
        return self._is_loaded

    def _decode(self, entry: Entry) -> Message | None:
        if (own := self._own.pop(entry.record, None)) is not None:
            return own
        try:
            return decode_record(entry.record)
        except (ValueError, TypeError, RecursionError) as error:
            self._note_skipped(entry, str(error))
            return None

    def _note_skipped(self, entry: Entry, reason: str) -> None:
        self.skipped += 1
        if self.skipped == 1:
            logger.warning("the shared log's entry %s is skipped: %s (this is told once)", entry.id, reason)

    async def _keep_connected(self, work: Callable[[LogSession], Awaitable[None]]) -> None:
        wait = _FIRST_WAIT
        is_told = False
        while True:
            began = trio.current_time()
            try:
                async with self._log.connect() as session:
                    await work(session)
            except (LogUnavailable, LogRefused) as error:
                # Refused midway, as after a change of the password, may be put right as an outage may.
                self._failure = str(error)
                if trio.current_time() - began > _LONGEST_WAIT:
                    wait, is_told = _FIRST_WAIT, False
                if not is_told:
                    logger.warning("the shared log failed, trying again: %s", error)
                    is_told = True
            await trio.sleep(wait * random.uniform(0.5, 1))
            wait = min(wait * 2, _LONGEST_WAIT)


def _before(entry_id: str) -> str:
    """Give the id that comes right before an entry's."""
    first, _, second = entry_id.partition("-")
    if int(second):
        return f"{first}-{int(second) - 1}"
    return f"{int(first) - 1}-{2**64 - 1}"
