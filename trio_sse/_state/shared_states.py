"""The states of a hub with a shared log: what the log's follower and the hub need of them all.

A node that starts finds every state in the log, since some node repeats each state's snapshot there: after so
many changes, and before as many other events were published as a node or the log keeps.
"""

from __future__ import annotations

import math
import random
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from typing import Protocol, final

import trio

from .._shared_log.protocol import Entry, LogEnd
from .._shared_log.state_scan import FoundState
from .._wire.message import Message
from .._wire.state_change import ChangeKind
from .replica import StateReplica
from .topic import StateTopic
from .writer import StateWriter

# After so many changes, a snapshot is repeated; a node that starts reads as many at most.
_MOST_CHANGES = 500

_ANSWER_SECONDS = 1.0
_LONG_ANSWER_SECONDS = 6.0
_LONG_SECONDS = 10.0


class StateSubscribers(Protocol):
    """What the states need of the hub's subscribers."""

    def announce_states(self, names: Collection[str]) -> None:
        """Deliver snapshots to the live subscribers of these states, between two batches."""

    def withdraw_states(self, names: Collection[str]) -> None:
        """Record that nobody has these states: what follows of them is not delivered until snapshots are."""

    def start_waiting(self) -> None:
        """Start those that have waited for a state."""


@final
class SharedStates:
    """The states over a shared log.

    Attributes:
        losses: see `LogStates`.

    Args:
        when_settled: calls a function between two batches of the pump.
        position: returns the hub's position in the log.
        epoch: returns the log's epoch.
        follows_for: returns for how many seconds the hub has followed the log without a failure.
        publish: stores a message in the log; raises `LogUnavailable`.
        on_presence: called with what other hubs tell of their presence lists.
        keeps: how many events the hub or the log keeps, whichever are fewer.
        max_age: how many seconds the log keeps them.
        timeout: how many seconds a caller waits for a change.
    """

    def __init__(
        self,
        subscribers: StateSubscribers,
        *,
        when_settled: Callable[[Callable[[], None]], None],
        position: Callable[[], int],
        epoch: Callable[[], str],
        follows_for: Callable[[], float],
        publish: Callable[[Message], Awaitable[None]],
        on_presence: Callable[[Message], None],
        keeps: int,
        max_age: float,
        timeout: float,
    ) -> None:
        self.losses = 0
        self._subscribers = subscribers
        self._when_settled = when_settled
        self._position = position
        self._epoch = epoch
        self._follows_for = follows_for
        self._publish = publish
        self._on_presence = on_presence
        self._repeat_after = max(1, keeps // 2)
        self._max_age = max_age
        self._timeout = timeout
        self._writers: dict[str, StateWriter] = {}
        self._ready: dict[StateWriter, None] = {}
        self._asking: dict[StateWriter, None] = {}
        self._changed = trio.lowlevel.ParkingLot()
        self._next_repeat = math.inf  # at this position, or later

    def add(self, topic: StateTopic, *, is_running: bool) -> StateWriter:
        """Add a state, which is loaded soon; `is_running` says whether the hub runs already."""
        writer = self._writers[topic.name] = StateWriter(
            StateReplica(topic, is_loaded_late=is_running),
            publish=self._publish,
            timeout=self._timeout,
            seen=lambda: f"{self._epoch()}.{self._position()}",
            wake=self._wake,
            answer_time=self._answer_time,
            on_unanswered=self._give_up,
        )
        self._changed.unpark_all()
        return writer

    def _answer_time(self) -> float:
        """Return how long to wait for other hubs: longer if they may have lost the log a moment ago."""
        return _ANSWER_SECONDS if self._follows_for() > _LONG_SECONDS else _LONG_ANSWER_SECONDS

    def remove(self, name: str) -> None:
        """Forget a state."""
        self._writers.pop(name).finish()

    def _wake(self, writer: StateWriter) -> None:
        self._ready[writer] = None
        self._changed.unpark_all()

    # For the log's follower

    def unloaded(self) -> Collection[str]:
        """Return the names of the states that are not loaded; see `LogStates`."""
        replicas = [writer.replica for writer in self._writers.values()]
        return [item.topic.name for item in replicas if not item.is_loaded and not item.is_asking]

    def is_loaded(self, name: str) -> bool:
        """Whether a state is loaded; what is not a state is."""
        writer = self._writers.get(name)
        return writer is None or writer.replica.is_loaded

    async def wait_unloaded(self) -> None:
        """Wait until there is a state that is not loaded."""
        while not self.unloaded():
            await self._changed.park()

    def lose(self) -> None:
        """Unload all states; see `LogStates`."""
        self.losses += 1
        for writer in self._writers.values():
            writer.replica.lose()
            writer.on_read()
        self._changed.unpark_all()

    def load(self, name: str, found: FoundState, end: LogEnd) -> None:
        """Load a state, and deliver it to those who subscribe to it; see `LogStates`."""
        writer = self._writers.get(name)
        if writer is None or writer.replica.is_loaded:
            return  # it was closed meanwhile
        writer.replica.load(found, end, self._position())
        if writer.replica.is_asking:
            self._asking[writer] = None
            self._changed.unpark_all()
        if writer.replica.is_loaded:
            self._on_load(writer)

    def _give_up(self, writer: StateWriter) -> None:
        """Load a state that no hub has, as it was."""
        writer.replica.give_up(self._position())
        if writer.replica.is_loaded:
            self._on_load(writer)

    def _on_load(self, writer: StateWriter) -> None:
        name = writer.replica.topic.name
        writer.on_read()
        self._plan_repeat(writer)
        if not writer.replica.version or writer.replica.lost is not None:
            writer.repeat()
        self._when_settled(partial(self._subscribers.announce_states, [name]))
        self._subscribers.start_waiting()

    def read(self, entry: Entry, message: Message) -> bool:
        """Read an entry with a change; return whether the subscribers of its topic receive it."""
        assert message.change is not None
        if message.change.kind is ChangeKind.PRESENCE:
            self._on_presence(message)
            return False
        writer = self._writers.get(message.topic)
        if writer is None:
            return message.change.is_sent
        replica = writer.replica
        if message.change.kind is ChangeKind.REQUEST:
            if replica.is_loaded:
                writer.repeat()
            return False
        was_loaded = replica.is_loaded
        was_searched, before = replica.is_loaded or replica.is_asking, replica.topic.text
        is_valid = replica.read(entry, message)
        writer.on_read()
        if was_searched and not replica.is_loaded and not replica.is_asking:
            self._changed.unpark_all()
        if was_loaded and not replica.is_loaded:
            self._subscribers.withdraw_states([message.topic])
        if replica.lost is not None or (not is_valid and replica.is_unknown_to(message.change)):
            writer.repeat()
        if not is_valid:
            return False
        if replica.snapshot_number == entry.number:
            self._plan_repeat(writer)
        elif replica.changes >= _MOST_CHANGES * random.uniform(1, 1.5):
            writer.repeat()
        return message.change.is_sent or replica.topic.text != before

    def without_hidden(self, messages: Sequence[Message]) -> list[Message]:
        """Return the messages of a replay without those that have not changed their state."""
        return [message for message in messages if not self._is_hidden(message)]

    def _is_hidden(self, message: Message) -> bool:
        if message.change is None or (writer := self._writers.get(message.topic)) is None:
            return False
        return message.sequence in writer.replica.hidden

    # Repeating

    def _plan_repeat(self, writer: StateWriter) -> None:
        due = writer.replica.snapshot_number + self._repeat_after * random.uniform(0.5, 1)
        self._next_repeat = min(self._next_repeat, due)

    def check_repeat(self, position: int) -> None:
        """Repeat the states whose snapshots the log may drop soon; call it after each batch."""
        if position < self._next_repeat:
            return
        self._next_repeat = math.inf
        for writer in self._writers.values():
            if writer.replica.is_loaded:
                if position >= writer.replica.snapshot_number + self._repeat_after // 2:
                    writer.repeat()
                else:
                    self._plan_repeat(writer)

    # Its tasks

    async def run(self) -> None:
        """Make changes, until cancelled."""
        writers = list(self._writers.values())
        self._ready.update(dict.fromkeys(writer for writer in writers if writer.has_work))
        self._asking.update(dict.fromkeys(writer for writer in writers if writer.replica.is_asking))
        async with trio.open_nursery() as nursery:
            if self._max_age < math.inf:
                nursery.start_soon(self._repeat_old)
            while True:
                while self._asking:
                    nursery.start_soon(self._asking.popitem()[0].ask)
                while self._ready:
                    writer = next(iter(self._ready))
                    del self._ready[writer]
                    if not writer.is_running:
                        nursery.start_soon(self._run_writer, writer)
                await self._changed.park()

    async def _run_writer(self, writer: StateWriter) -> None:
        if writer.is_running:
            return
        writer.is_running = True
        try:
            await writer.run()
        finally:
            writer.is_running = False

    async def _repeat_old(self) -> None:
        """Repeat the states whose snapshots the log would drop as too old."""
        while True:
            await trio.sleep(self._max_age / 4 * random.uniform(0.5, 1))
            for writer in self._writers.values():
                if trio.current_time() > writer.replica.snapshot_at + self._max_age / 3:
                    writer.repeat()

    def finish(self) -> None:
        """Fail what waits: the hub has ended."""
        for writer in self._writers.values():
            writer.finish()
