"""The two sequencers of a hub: one orders events in memory, one by a log that is shared with other hubs."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar, final

import trio

from .._log.idempotency import RecentKeys
from .._log.memory import MemoryLog
from .._shared_log.follower import LogReaders, ReadEntry
from .._shared_log.leases import LocalLeases, SharedLeases
from .._shared_log.protocol import Entry, Log
from .._shared_log.replica import LogReplica
from .._shared_log.window import Window
from .._state.shared_states import SharedStates
from .._wire.message import Message
from .._wire.state_change import ChangeKind
from .inbox import Inbox
from .pump import Place

# A log that is read more slowly than it is written to, for so long, is not only busy for a moment.
_LAGGING_SECONDS = 5.0

T = TypeVar("T")


class Leases(Protocol):
    """Lets functions of one name run one after the other."""

    async def run(self, name: str, function: Callable[[], Awaitable[T]]) -> T:
        """Run a function when no other one of this name runs, on any node."""


class Deliverer(Protocol):
    """The pump, or what traces it."""

    async def deliver(self, place: Place) -> None:
        """Place messages and deliver them."""

    def deliver_nowait(self, place: Place) -> None:
        """Place messages and deliver them at once."""


class Sequencer(Protocol):
    """What orders a hub's events: the part of the hub that depends on its log.

    The sequencer takes all messages from the inbox, in order, and assigns each its place. It calls the pump
    with one batch after the other, each as a function that puts the batch into the log. That function must
    not have a checkpoint, and must put nothing else into the log; nor may anything else put messages there.

    The pump calls the function once, delivers the batch to those subscribed at that moment, and returns when
    all have it. It knows nothing of how the order came about.
    """

    @property
    def is_ready(self) -> bool:
        """Whether there is a log to replay from."""

    @property
    def problem(self) -> str | None:
        """Why clients should not be sent here, as `HubStatistics.log_problem` says."""

    @property
    def lag(self) -> float:
        """For how many seconds a shared log has had more than was read."""

    @property
    def outages(self) -> int:
        """How often a shared log became unavailable."""

    @property
    def published(self) -> int:
        """How many events were ordered while the hub ran."""

    @property
    def refused(self) -> int:
        """How many messages were given up, since a shared log does not take them."""

    @property
    def is_shared(self) -> bool:
        """Whether other hubs publish to the same log."""

    @property
    def follows_for(self) -> float:
        """For how many seconds a shared log was followed without a failure."""

    def publish(self, message: Message) -> Coroutine[Any, Any, None]:
        """Put a message into the inbox; return when it is certain to be ordered."""

    @property
    def leases(self) -> Leases:
        """What runs functions once among the hubs that share the log."""

    async def load(self) -> None:
        """Prepare a run; raises `LogRefused`."""

    async def run(self) -> None:
        """Order messages until cancelled."""

    def finish(self) -> None:
        """Empty the inbox when `run` was cancelled; deliver what is ordered without waiting."""

    def renew(self) -> None:
        """Start a new epoch in a fork, if the log is its own: its ids are not those of the parent."""


@final
class MemorySequencer:
    """Orders events as they come; the log is in memory, and this hub's own."""

    is_ready = True
    problem = None
    lag = 0.0
    outages = 0
    refused = 0
    is_shared = False
    follows_for = math.inf

    def __init__(self, log: MemoryLog, inbox: Inbox, pump: Deliverer) -> None:
        self._log = log
        self._inbox = inbox
        self._pump = pump
        self._keys = RecentKeys()
        self.leases = LocalLeases()

    @property
    def published(self) -> int:
        return self._log.last

    def publish(self, message: Message) -> Coroutine[Any, Any, None]:
        return self._inbox.put(message)

    async def load(self) -> None:
        """Do nothing: the log is there."""

    async def run(self) -> None:
        while True:
            batch = await self._inbox.take()
            await self._pump.deliver(partial(self._place, batch))

    def finish(self) -> None:
        while batch := self._inbox.take_nowait():
            self._pump.deliver_nowait(partial(self._place, batch))

    def renew(self) -> None:
        self._log.renew()

    def _place(self, batch: list[Message]) -> list[Message]:
        placed = []
        for message in batch:
            if message.idempotency is None or self._keys.add(message.idempotency):
                self._log.append(message)
                placed.append(message)
        return placed


@final
class SharedSequencer:
    """Appends messages to a shared log, and delivers the log's entries in the log's order.

    Args:
        bounds: how many events, and how many bytes, the window holds.
        readers: the hub's subscriptions.
        states: the hub's states.
        controls: called with the entries of these kinds, which no subscriber receives.
    """

    is_shared = True

    def __init__(
        self,
        log: Log,
        window: Window,
        inbox: Inbox,
        pump: Deliverer,
        *,
        bounds: tuple[int, int],
        readers: LogReaders,
        states: SharedStates,
        controls: Mapping[ChangeKind, Callable[[Message], None]],
    ) -> None:
        self._window = window
        self._inbox = inbox
        self._pump = pump
        self._states = states
        self._controls = controls
        self.published = 0
        self.leases = SharedLeases(log)
        self.replica = LogReplica(
            log, window, bounds=bounds, readers=readers, states=states, deliver=self._deliver
        )

    @property
    def follows_for(self) -> float:
        return trio.current_time() - self.replica.follower.follows_since

    @property
    def is_ready(self) -> bool:
        return self.replica.follower.is_loaded

    @property
    def problem(self) -> str | None:
        follower = self.replica.follower
        if not follower.is_loaded:
            return "log_not_loaded"
        if not follower.is_following:
            return "log_unavailable"
        if self.replica.publisher.failure.is_set:
            return "log_not_writable"
        return "log_lagging" if follower.behind_for > _LAGGING_SECONDS else None

    @property
    def lag(self) -> float:
        return self.replica.follower.behind_for

    @property
    def outages(self) -> int:
        return self.replica.follower.outages

    @property
    def refused(self) -> int:
        return self.replica.publisher.refused

    async def publish(self, message: Message) -> None:
        self._inbox.check_open()  # before the publisher's own lists are touched
        await self.replica.publisher.wait_stored(message, self._inbox)

    async def load(self) -> None:
        await self.replica.load()

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._states.run)
            await self.replica.run(self._inbox.take)

    def finish(self) -> None:
        self.replica.publisher.finish()
        self._states.finish()
        self.replica.history.finish()
        self._inbox.clear()  # what the log has not stored is lost, and `publish` says so

    def renew(self) -> None:
        """Do nothing: a fork publishes to the same log."""

    async def _deliver(self, entries: Sequence[ReadEntry]) -> None:
        await self._pump.deliver(partial(self._place, entries))

    def _place(self, entries: Sequence[ReadEntry]) -> list[Message]:
        placed = []
        for entry, message in entries:
            is_sent = message is not None and (message.change is None or self._read(entry, message))
            self._window.put(entry, message if is_sent else None)
            if message is not None and is_sent:
                placed.append(message)
        self.published += len(placed)
        self._states.check_repeat(self._window.last)
        return placed

    def _read(self, entry: Entry, message: Message) -> bool:
        """Read an entry that is not only an event; return whether subscribers receive it."""
        if message.change is not None and (read := self._controls.get(message.change.kind)) is not None:
            read(message)
            return False
        return self._states.read(entry, message)
