"""How a hub changes a state over a shared log: one entry at a time, tried again if another hub came first.

What is asked for while an entry is under way becomes one entry afterwards. So a hub that changes a state
more often than its log answers appends fewer entries, and every caller's change is in one of them.
"""

from __future__ import annotations

import random
import secrets
from collections import deque
from collections.abc import Awaitable, Callable
from itertools import count
from typing import final

import trio

from .._groups import split_failure
from .._logger import get_logger
from .._shared_log.protocol import EventRefused, LogUnavailable
from .._wire.message import Message
from .._wire.state_change import ChangeKind, StateChange
from .replica import StateReplica

logger = get_logger("trio_sse.hub")

_MOST_WAITING = 1024
_MOST_ATTEMPTS = 32
_ATTEMPTS_OF_PATCHES = 4  # then a state that is set is sent whole, which follows any version

# While several nodes change a state, each waits for a random time before it tries, and those that have lost
# before wait for less. Otherwise the node that has won would win again.
_CONTENTION_SECONDS = 0.5
_LONGEST_PAUSE = 0.03

_ASK_AGAIN_SECONDS = 1.0


class StateConflict(Exception):
    """A state was not changed, because other nodes have changed it again and again at the same time."""


@final
class StateRequest:
    """A change that was asked for.

    Args:
        make: returns the new state as JSON for the old one. It is called again after a conflict.
        is_whole: the new state does not depend on the old one.
        can_repeat: making the change twice is the same as making it once.
        is_awaited: somebody waits for it.
    """

    def __init__(
        self,
        make: Callable[[str], str],
        *,
        is_whole: bool = False,
        can_repeat: bool = True,
        is_awaited: bool = True,
    ) -> None:
        self.make = make
        self.is_whole = is_whole
        self.can_repeat = can_repeat
        self.is_awaited = is_awaited
        self.conflicts = 0
        self.is_alone = False  # it shares no entry with others: the log has refused one of several
        self.is_abandoned = False
        self.error: BaseException | None = None
        self.is_done = trio.Event()

    def finish(self, error: BaseException | None = None) -> None:
        """Wake the task that waits: it is done, or has failed."""
        self.error = error
        self.is_done.set()


@final
class StateWriter:
    """Changes one state.

    Args:
        publish: stores a message in the log; raises `LogUnavailable`, or why the log never stores it.
        timeout: how many seconds a caller waits.
        seen: returns the newest entry of the log that the hub has read: its epoch and number.
        wake: called when `run` has something to do.
        answer_time: returns how many seconds the other hubs may take to answer.
        on_unanswered: called when no other hub has the state.
    """

    def __init__(
        self,
        replica: StateReplica,
        *,
        publish: Callable[[Message], Awaitable[None]],
        timeout: float,
        seen: Callable[[], str],
        wake: Callable[[StateWriter], None],
        answer_time: Callable[[], float],
        on_unanswered: Callable[[StateWriter], None],
    ) -> None:
        self.replica = replica
        self.is_running = False
        self._publish = publish
        self._timeout = timeout
        self._seen = seen
        self._wake = wake
        self._answer_time = answer_time
        self.on_unanswered = on_unanswered
        self._waiting: deque[StateRequest] = deque()
        self._is_to_repeat = False
        self._tokens = (f"{secrets.token_hex(8)}-{number}" for number in count(1))
        self._read = trio.lowlevel.ParkingLot()

    # The callers' side

    def put_nowait(self, request: StateRequest) -> None:
        """Ask for a change; raise `trio.WouldBlock` if too many wait."""
        if len(self._waiting) >= _MOST_WAITING:
            raise trio.WouldBlock
        self._waiting.append(request)
        self._wake(self)

    async def put(self, request: StateRequest) -> None:
        """Make a change; return when it is part of the state.

        Raises:
            LogUnavailable: the log has not stored it in time.
            EventRefused: the log never stores it.
            StateConflict: other nodes came first each time.
        """
        self._waiting.append(request)
        self._wake(self)
        try:
            with trio.move_on_after(self._timeout):
                await request.is_done.wait()
        finally:
            request.is_abandoned = True
        if not request.is_done.is_set():
            raise LogUnavailable(
                f"the state {self.replica.topic.name!r} was not changed within {self._timeout:g} s"
            )
        if request.error is not None:
            raise request.error

    def repeat(self) -> None:
        """Append the state as it is, for the hubs that start later."""
        self._is_to_repeat = True
        self._wake(self)

    async def ask(self) -> None:
        """Ask the other hubs for the state, and load it as it was if none has it."""
        replica = self.replica
        name = replica.topic.name
        message = replica.topic.next_message("", "null", StateChange(ChangeKind.REQUEST, None, ""))
        question = replica.questions
        while replica.is_asking and replica.questions == question:
            try:
                await self._publish(message)
            except (LogUnavailable, EventRefused):
                await trio.sleep(_ASK_AGAIN_SECONDS)
                continue
            # If all hubs have lost it, those that had a value store theirs first.
            await trio.sleep(self._answer_time() * (0.5 if replica.has_value else 1))
            if replica.is_asking and replica.questions == question:
                logger.warning("the state %r is not in the log any more, and no hub has it", name)
                self.on_unanswered(self)

    def finish(self) -> None:
        """Fail what waits: the hub has ended."""
        waiting, self._waiting = self._waiting, deque()
        for request in waiting:
            request.finish(
                trio.ClosedResourceError("this hub has ended: the state may not have been changed")
            )

    # The hub's side

    @property
    def has_work(self) -> bool:
        """Whether `run` has something to do."""
        return bool(self._waiting) or self._is_to_repeat

    def on_read(self) -> None:
        """Record that the state was read on, loaded or lost."""
        self._read.unpark_all()

    async def run(self) -> None:
        """Make the changes that wait; return when there are none."""
        while self.has_work:
            if trio.current_time() < self.replica.refused_at + _CONTENTION_SECONDS:
                await trio.sleep(self._pause())
            requests = self._next_requests()
            try:
                await self._try(requests)
            finally:  # if this is cancelled, another task may run the hub on
                again = [request for request in requests if not request.is_done.is_set()]
                self._waiting.extendleft(reversed(again))

    def _next_requests(self) -> list[StateRequest]:
        """Remove and return the requests that become one entry."""
        requests = [request for request in self._waiting if not request.is_abandoned]
        count = 1 if any(request.is_alone for request in requests) else len(requests)
        self._waiting = deque(requests[count:])
        return requests[:count]

    def _pause(self) -> float:
        """Return how long to wait while several nodes change the state: less where more conflicts were."""
        conflicts = max([request.conflicts for request in self._waiting], default=0)
        return random.random() * _LONGEST_PAUSE / (1 + conflicts)

    async def _try(self, requests: list[StateRequest]) -> None:
        """Append one entry for all requests; those that are not done then are to be tried again."""
        replica = self.replica
        while not replica.is_loaded:
            await self._read.park()
        requests[:] = [request for request in requests if not request.is_abandoned]
        is_set = any(request.is_whole for request in requests)
        asked = requests
        if replica.is_initial and not replica.version and not is_set:
            requests = []  # they follow the initial value, as changes that do not replace it
            self._is_to_repeat = True
        old, version, lost = replica.topic.text, replica.version, replica.lost
        new = self._made(requests, old if lost is None else lost)
        pending = [request for request in requests if not request.is_done.is_set()]
        is_whole = lost is not None or (is_set and replica.is_initial)
        is_repeated, self._is_to_repeat = self._is_to_repeat, False
        if new == old and not (is_repeated or is_whole):
            _finish(pending)
            return
        is_forced = any(item.is_whole and item.conflicts >= _ATTEMPTS_OF_PATCHES for item in pending[-1:])
        if new != old:
            kind = ChangeKind.SET if is_whole else ChangeKind.CHANGE
        else:
            is_begun = replica.is_initial and not is_whole and not replica.changes
            kind = ChangeKind.INITIAL if is_begun else ChangeKind.REPEAT
        token = next(self._tokens)
        change = StateChange(kind, None if is_forced else version, token, self._seen())
        message = replica.topic.next_message(old, new, change, is_any_size=replica.is_initial)
        replica.outcomes[token], snapshot_number = None, replica.snapshot_number
        try:
            await self._publish(message)
            outcome = await self._wait_read(token)
        except LogUnavailable as error:
            self._is_to_repeat |= is_repeated
            self._fail(
                [request for request in pending if request.is_awaited or not request.can_repeat], error
            )
            return
        except EventRefused as error:
            self._give_up(asked, error)
            return
        except BaseException:  # cancelled
            stopped = LogUnavailable("the hub was stopped, and the state may have been changed")
            self._fail([item for item in pending if not item.can_repeat], stopped)
            raise
        finally:
            del replica.outcomes[token]
        if outcome:
            _finish(pending)
            return
        is_stale = lost is not None or replica.snapshot_number != snapshot_number
        self._is_to_repeat |= is_repeated and not is_stale
        for request in pending:
            request.conflicts += 1
        failed = [
            request for request in pending if request.is_awaited and request.conflicts >= _MOST_ATTEMPTS
        ]
        self._fail(failed, StateConflict(f"other nodes change the state {replica.topic.name!r} all the time"))

    def _made(self, requests: list[StateRequest], text: str) -> str:
        for request in requests:
            try:
                text = request.make(text)
            except BaseException as failure:  # the application's, whatever it is, is its update's only
                passing, contained = split_failure(failure)
                request.finish(contained or passing)
                if contained is not None and not request.is_awaited:
                    logger.error("the state %r was not changed: %s", self.replica.topic.name, contained)
                if passing is not None:
                    raise
        return text

    async def _wait_read(self, token: str) -> bool:
        """Wait until the entry was read; return whether it has changed the state."""
        outcomes = self.replica.outcomes
        with trio.move_on_after(self._timeout):
            while outcomes[token] is None:
                await self._read.park()
        if (outcome := outcomes[token]) is None:
            raise LogUnavailable("the change was stored, but could not be read back in time")
        return outcome

    def _give_up(self, requests: list[StateRequest], error: EventRefused) -> None:
        """Fail what the log never stores. Of several requests, that may be one: then each is tried alone."""
        waiting = [request for request in requests if not request.is_done.is_set()]
        if len(waiting) > 1:
            for request in waiting:
                request.is_alone = True
        elif waiting:
            self._fail(waiting, error)
        else:
            logger.error("the log does not store the state %r as it is: %s", self.replica.topic.name, error)

    def _fail(self, requests: list[StateRequest], error: Exception) -> None:
        for request in requests:
            request.finish(error)
            if not request.is_awaited:
                logger.error("the state %r may not have been changed: %s", self.replica.topic.name, error)


def _finish(requests: list[StateRequest]) -> None:
    for request in requests:
        request.finish()
