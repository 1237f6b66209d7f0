"""Topics: what is published goes through one pump, which orders it, logs it and hands it out.

The pump is the only sequencer. What has gathered in the inbox while the last fan-out went on is given its
ids, appended to the log and bound to the topics' subscribers in one step without a checkpoint. So whoever
subscribes does so before or after such a step, never in the middle: replay and live traffic meet
exactly. As runs of one topic are joined to one write, the cost of a delivery falls as the rate rises.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import final
from weakref import WeakSet

import trio

from .._log.memory import MemoryLog
from .._log.protocol import Entry, Log, Window
from .._log.replica import Mirror
from .._validate import check_bounds
from .._wire.event import Dumps, ServerSentEvent, dumps_compact, utf8_size
from .._wire.message import Batch, Message
from .._wire.topic import check_topic, check_topics
from .large_events import HEAVY_BYTES, HeavyTraffic
from .pacing import Schedule, check_pace
from .queue import Overflow
from .registry import Subscribers
from .state import PatchFormat, State
from .statistics import HubStatistics
from .subscription import Subscription
from .ticker import Ticker

logger = logging.getLogger("trio_sse.hub")

_MIB = 1024 * 1024

# A batch goes out in one write. 64 KiB fit into a send buffer that is empty, and more would gain nothing.
_BATCH_EVENTS = 256
_BATCH_BYTES = 64 * 1024

# The pump lets other tasks run after this many writes, at some 10 us each about a millisecond; of large
# batches, after fewer, since copying and encrypting them takes its time.
_WRITES_PER_CHECKPOINT = 100
_BYTES_PER_CHECKPOINT = 512 * 1024


_hubs: WeakSet[Hub] = WeakSet()


def existing_hubs() -> list[Hub]:
    """Give all hubs of this process."""
    return list(_hubs)


@final
class Hub:
    """Broadcast events to whoever subscribes to their topics.

    A hub may be made at import time. It works while its `run` does: a `Server` that serves it runs it,
    unless the program does so itself.

    Args:
        history: how many events the log keeps for those who come back; with `history_bytes`, how many
            bytes of them.
        inbox: how many events may wait for the pump before `publish` waits; with `inbox_bytes`, how
            many bytes.
        queue: how many events a subscription keeps for a reader that lags, unless it says otherwise; with
            `queue_bytes`, how many bytes.
        log: a log shared with other hubs, as `RedisLog` or `SQLiteLog`; in memory by default. `history` then
            bounds the part of it that this hub keeps in memory and replays from.
        dumps: encodes data that is not text; as `json.dumps`, with one argument.

    All bounds hold together: the one that is met first counts.
    """

    def __init__(
        self,
        *,
        history: int = 10_000,
        history_bytes: int = 16 * _MIB,
        inbox: int = 1024,
        inbox_bytes: int = 4 * _MIB,
        queue: int = 4096,
        queue_bytes: int = 4 * _MIB,
        log: Log | None = None,
        dumps: Dumps = dumps_compact,
    ) -> None:
        check_bounds(0, history=history, history_bytes=history_bytes)
        check_bounds(1, inbox=inbox, inbox_bytes=inbox_bytes, queue=queue, queue_bytes=queue_bytes)
        _hubs.add(self)
        self._mirror: Mirror | None = None
        self._set_log(log, history, history_bytes)
        self._queue_bounds = (queue, queue_bytes)
        self._dumps = dumps
        self._inbox_events = inbox
        self._inbox_bytes = inbox_bytes
        self._inbox: trio.MemorySendChannel[Message] | None = None  # there is one while `run` runs
        self._inbox_used = 0  # bytes
        self._room = trio.lowlevel.ParkingLot()  # publishers that wait for room in the inbox
        self._end = trio.lowlevel.ParkingLot()  # tasks that wait for `run` to end
        self._has_run = False
        self._is_going_out = False  # a batch, at this moment
        self._when_settled: list[Callable[[], None]] = []
        self._heavy = HeavyTraffic()
        self._tickers: set[str] = set()  # the topics of those that run
        self._deliveries = 0  # statistics
        self._going_out: Iterator[None] = iter(())  # the batch of a shared log that is under way

    def _set_log(self, log: Log | None, history: int, history_bytes: int) -> None:
        self._history = (history, history_bytes)
        self._log: MemoryLog
        if log is None:
            self._log = MemoryLog(max_events=history, max_bytes=history_bytes)
        else:
            self._log = window = Window(max_events=history, max_bytes=history_bytes)
            self._window = window
        self._schedule = Schedule()
        self._subscribers = Subscribers(self._log, self._check_running, self._schedule)
        if log is not None:
            self._mirror = Mirror(
                log,
                window,
                bounds=(history, history_bytes),
                deliver=self._deliver_entries,
                after_gap=self._subscribers.tell_gap,
                ahead=self._subscribers.ahead,
                settle_ahead=self._subscribers.settle_ahead,
            )

    def use_log(self, log: Log) -> None:
        """Use a shared log instead of the hub's own, as `Hub(log=...)` does; before the hub has run.

        Raises:
            RuntimeError: the hub has run already, or has states, which need the in-memory log.
        """
        if self._has_run or self._subscribers.states:
            raise RuntimeError("a hub that has run, or has states, keeps its log")
        self._set_log(log, *self._history)

    @property
    def is_running(self) -> bool:
        """Whether `run` runs, so that events can be published and subscribed to."""
        return self._inbox is not None

    @property
    def is_ready(self) -> bool:
        """Whether a shared log has been there: until then, the hub has nothing to replay."""
        return self._mirror is None or self._mirror.follower.is_loaded

    @property
    def is_shared(self) -> bool:
        """Whether its log is shared with other hubs."""
        return self._mirror is not None

    def note_fork(self) -> None:
        """Take note that this process is a fork, in which events go their own ways; before it has run."""
        if self._mirror is None:
            self._log.renew()

    @property
    def last_event_id(self) -> str:
        """The cursor after the newest event: a page rendered now can subscribe from it later, without a hole.

        What is still in the inbox comes after it.
        """
        return self._log.id_at(self._log.last)

    @property
    def first_event_id(self) -> str:
        """The cursor before the oldest event of the log: subscribing from it replays all of the log."""
        return self._log.id_at(self._log.start)

    def is_ahead(self, event_id: str) -> bool:
        """Whether an id may be one that a shared log has, but that this hub hasn't come to yet."""
        return self._log.is_ahead(event_id)

    async def wait_ended(self) -> None:
        """Wait until the hub doesn't run; who waits in order to run it must do so without a checkpoint."""
        while self._inbox is not None:
            await self._end.park()

    async def publish(
        self,
        topic: str,
        data: object,
        *,
        event: str | None = None,
        key: str | None = None,
        retry: int | None = None,
    ) -> None:
        """Publish an event, waiting while the inbox is full.

        Args:
            topic: its name, 1 to 256 printable characters.
            data, event, retry: as for `ServerSentEvent`. The id is the hub's: an id of the
                application's own goes into the data.
            key: what the event is about; a newer one may replace it under `Overflow.LATEST`.

        Raises:
            TypeError, ValueError: a field is not acceptable; see `ServerSentEvent`.
            RuntimeError: the hub has never run.
            trio.ClosedResourceError: the hub has ended.
            LogUnavailable: a shared log has not stored it in its `publish_timeout`. It may yet have
                been stored, if only the log's reply was lost.

        If it is cancelled, nothing was published; with a shared log, it may have been. With that log,
        this returns when the event is stored.
        """
        message = self._make(topic, data, event, key, retry)
        if self._mirror is not None:
            await trio.lowlevel.checkpoint_if_cancelled()
            await self._mirror.publisher.wait_stored(message, self._put, self._put_waiting)
        else:
            await self._put_waiting(message)

    async def _put_waiting(self, message: Message) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        while True:
            try:
                self._put(message)
            except trio.WouldBlock:
                await self._room.park()
            else:
                break
        await trio.lowlevel.cancel_shielded_checkpoint()

    def publish_nowait(
        self,
        topic: str,
        data: object,
        *,
        event: str | None = None,
        key: str | None = None,
        retry: int | None = None,
    ) -> None:
        """Publish an event as `publish` does, or raise `trio.WouldBlock` if the inbox is full.

        With a shared log, it waits in the inbox until that has stored it, however long that takes.
        """
        self._put(self._make(topic, data, event, key, retry))

    def _make(
        self, topic: str, data: object, event: str | None, key: str | None, retry: int | None
    ) -> Message:
        if key is not None and not isinstance(key, str):
            raise TypeError(f"key must be a str or None, not {type(key).__name__}")
        if key is not None and not key.isascii():
            utf8_size("key", key)
        if topic in self._subscribers.states:
            raise ValueError(f"topic {topic!r} is a state: change it by the state's own set or update")
        made = ServerSentEvent(data, event=event, retry=retry)
        return Message(check_topic(topic), made, made.text(dumps=self._dumps), key)

    def _put(self, message: Message) -> None:
        self._check_running()
        assert self._inbox is not None
        size = len(message.wire)
        if self._inbox_used and self._inbox_used + size > self._inbox_bytes:
            raise trio.WouldBlock
        self._inbox.send_nowait(message)
        self._inbox_used += size

    def _check_running(self) -> None:
        if self._inbox is not None:
            return
        if self._has_run:
            raise trio.ClosedResourceError("this hub has ended: nothing can be published or subscribed to")
        raise RuntimeError(
            "this hub is not running: serve it by a Server, or run it by `await nursery.start(hub.run)`"
        )

    def subscribe(
        self,
        *topics: str,
        last_event_id: str | None = None,
        overflow: Overflow = Overflow.DISCONNECT,
        queue: int | None = None,
        queue_bytes: int | None = None,
        interval: float | None = None,
        batch: float | None = None,
    ) -> Subscription:
        """Give a subscription to these topics, to be used by `async with`.

        Args:
            topics: 1 to 256 names.
            last_event_id: replay what came after this id, as a client sends it; `None` begins now.
            overflow: what happens when the reader lags by more than the queue holds.
            queue, queue_bytes: the queue's bounds, if they differ from the hub's.
            interval: give at most one event of each topic and key in so many seconds: the newest, and the
                last one always. What waits is given at once, in the order of ids.
            batch: give all events, but in one write in so many seconds.

        Raises:
            TypeError, ValueError: an option is not acceptable.
            TopicError: a `ValueError`; the topics are not acceptable.
            RuntimeError: on entering it: the hub has never run.
            trio.ClosedResourceError: on entering it: the hub has ended.
        """
        bounds = self._queue_bounds
        if queue is not None or queue_bytes is not None:
            bounds = (
                bounds[0] if queue is None else queue,
                bounds[1] if queue_bytes is None else queue_bytes,
            )
            check_bounds(1, queue=bounds[0], queue_bytes=bounds[1])
        checked = check_topics(topics)
        if overflow is not Overflow.DISCONNECT and self._subscribers.has_states(checked):
            raise ValueError("a state's changes can't be dropped: use DISCONNECT, or an interval for fewer")
        return Subscription(
            self._subscribers,
            checked,
            last_event_id=last_event_id,
            overflow=Overflow(overflow),
            queue_bounds=bounds,
            pace=check_pace(interval, batch),
        )

    def state(self, topic: str, initial: object, *, patch: PatchFormat = PatchFormat.MERGE) -> State:
        """Declare a topic to be a state: subscribers get a snapshot first, and then what changes.

        It stays one until `State.close`, also when the hub ends and is run again.

        Args:
            topic: its name, to which nobody is subscribed; nothing else may be published to it.
            initial: the state to begin with, any JSON value.
            patch: how changes are sent.

        Raises:
            TypeError, ValueError: the topic or value is not acceptable, the topic is a state already, or
                somebody is subscribed to it, who would be given changes of what it doesn't have.
            RuntimeError: the hub has a shared log: states need the in-memory one.
            ImportError: the extra `state` is missing.
        """
        if self._mirror is not None:
            raise RuntimeError("a state is one process's: a hub with a shared log can't have states")
        if check_topic(topic) in self._subscribers.states:
            raise ValueError(f"topic {topic!r} is a state already")
        if self._subscribers.live(topic):
            raise ValueError(
                f"topic {topic!r} has subscribers: declare a state before anyone subscribes to it"
            )
        declared = State(
            topic,
            initial,
            patch=patch,
            encode=lambda value: ServerSentEvent([value]).text(dumps=self._dumps)[1:-1],
            put=self._put,
            room=self._room,
            forget=partial(self._subscribers.states.__delitem__, topic),
        )
        self._subscribers.states[topic] = declared
        return declared

    async def run_ticker(
        self,
        topic: str,
        *,
        every: float = 1.0,
        event: str | None = "tick",
        reference: datetime | float | None = None,
        clock: Callable[[], float] = time.time,
        task_status: trio.TaskStatus[Ticker] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Publish the time to a topic, on whole multiples of `every` seconds, until cancelled.

        A tick is an object of its `sequence`, which counts the ticks that were skipped, too; its `time`, in
        ISO 8601; the seconds `elapsed` since the reference, whatever was done to the wall clock;
        `server_time`, in milliseconds since 1970, from which a page computes by how much its own clock is
        off; and after a step of the wall clock `stepped`, by how many seconds.

        Args:
            every: 0.01 to 86400 seconds.
            event: the ticks' type.
            reference: where `elapsed` counts from, an aware `datetime` or seconds since 1970; the start by
                default.
            clock: gives the wall clock's time in seconds since 1970.

        `task_status.started` is called with the `Ticker`.

        Raises:
            TypeError, ValueError: an option is not acceptable.
            RuntimeError: there is a ticker for this topic, or the hub has never run.
            trio.ClosedResourceError: the hub has ended.
        """
        if check_topic(topic) in self._tickers:
            raise RuntimeError(f"topic {topic!r} has a ticker already")
        # What can't be published is refused now, rather than at a first tick that may be a day away.
        self._make(topic, {}, event, None, None)
        self._check_running()
        ticker = Ticker(topic, self.publish, every=every, event=event, reference=reference, clock=clock)
        self._tickers.add(topic)
        try:
            task_status.started(ticker)
            await ticker.run()
        finally:
            self._tickers.remove(topic)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run the pump until cancelled.

        Call `task_status.started` when events can be published. When it is cancelled, what has been
        published is still given its ids and delivered, without waiting for anyone; then all
        subscriptions end. It may be run again later, with the same log.

        Raises:
            RuntimeError: it runs already.
            LogRefused: a shared log refuses to serve; wrong credentials, say.
        """
        if self._inbox is not None:
            raise RuntimeError("this hub is running already: one task runs it, a server's or the program's")
        self._inbox, outlet = trio.open_memory_channel[Message](self._inbox_events)
        self._has_run = True
        going_out: Iterator[None] = iter(())
        if self._mirror is not None:
            await self._run_mirror(self._mirror, outlet, task_status)
            return
        task_status.started()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._schedule.run)
            try:
                async for message in outlet:
                    going_out = self._fan_out(self._gather(message, outlet))
                    self._is_going_out = True
                    if self._schedule.groups:
                        async with self._schedule.turn:
                            for _ in going_out:
                                await trio.lowlevel.checkpoint()
                    else:
                        for _ in going_out:
                            await trio.lowlevel.checkpoint()
                    self._settle()
            finally:
                self._finish(going_out, outlet)

    async def _run_mirror(
        self, mirror: Mirror, outlet: trio.MemoryReceiveChannel[Message], task_status: trio.TaskStatus[None]
    ) -> None:
        async def take() -> list[Message]:
            return self._gather(await outlet.receive(), outlet)

        try:
            await mirror.load()
            task_status.started()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._schedule.run)
                nursery.start_soon(mirror.run, take)
        finally:
            mirror.publisher.finish()
            while _receive(outlet) is not None:
                pass
            self._inbox_used = 0
            self._finish(self._going_out, outlet)

    async def _deliver_entries(self, found: list[tuple[Entry, Message | None]]) -> None:
        self._going_out = self._fan_out_entries(found)
        self._is_going_out = True
        async with self._schedule.turn:
            for _ in self._going_out:
                await trio.lowlevel.checkpoint()
        self._settle()

    def _fan_out_entries(self, found: list[tuple[Entry, Message | None]]) -> Iterator[None]:
        """Put entries into the window and deliver them; the first step does as `_fan_out`'s."""
        for entry, message in found:
            self._window.put(entry, message)
        yield from self._hand_out([message for _, message in found if message is not None])

    def _finish(self, going_out: Iterator[None], outlet: trio.MemoryReceiveChannel[Message]) -> None:
        for _ in going_out:
            pass
        while (message := _receive(outlet)) is not None:
            for _ in self._fan_out(self._gather(message, outlet)):
                pass
        self._schedule.finish()
        self._settle()
        self._inbox = None
        outlet.close()
        for subscription in list(self._subscribers):
            subscription.end()
        self._room.unpark_all()  # they find that the hub has ended
        self._end.unpark_all()

    def when_settled(self, act: Callable[[], None]) -> None:
        """Call `act` when everyone was given all that is in the log: now, or after the batch under way."""
        if self._is_going_out:
            self._when_settled.append(act)
        else:
            act()

    def _settle(self) -> None:
        self._is_going_out = False
        acts, self._when_settled = self._when_settled, []
        for act in acts:
            act()

    def _gather(self, first: Message, outlet: trio.MemoryReceiveChannel[Message]) -> list[Message]:
        """Take from the inbox what has come, up to a batch's bounds, and make room for publishers."""
        gathered = [first]
        size = len(first.wire)
        while size < _BATCH_BYTES and len(gathered) < _BATCH_EVENTS and (message := _receive(outlet)):
            gathered.append(message)
            size += len(message.wire)
        self._inbox_used -= size
        self._room.unpark_all()
        return gathered

    def _fan_out(self, messages: list[Message]) -> Iterator[None]:
        """Order, log and deliver messages; yield where other tasks should be let in.

        The first step, up to the first yield, binds the messages to their ids and subscribers.
        """
        for message in messages:
            self._log.append(message)
        yield from self._hand_out(messages)

    def _hand_out(self, messages: list[Message]) -> Iterator[None]:
        """Deliver messages that are in the log, as `_fan_out` does."""
        deliveries = [
            (Batch(list(run)), self._subscribers.live(topic))
            for topic, run in groupby(messages, key=attrgetter("topic"))
        ]
        share = 0.0  # of what may go on until the next checkpoint
        for batch, subscriptions in deliveries:
            if batch.size >= HEAVY_BYTES:
                self._heavy.note(batch, len(subscriptions), trio.current_time())
            write = max(1 / _WRITES_PER_CHECKPOINT, batch.size / _BYTES_PER_CHECKPOINT)
            self._deliveries += batch.count * len(subscriptions)
            now = trio.current_time()
            for subscription in subscriptions:
                try:
                    subscription.deliver(batch, now)
                except Exception:  # a defect of one transport must not touch the others, nor the hub
                    logger.exception("delivery failed: %r is cut off", subscription)
                    subscription.cut_off()
                share += write
                if share >= 1:
                    share = 0.0
                    yield
                    now = trio.current_time()

    def statistics(self) -> HubStatistics:
        """Give the hub's figures at this moment. It looks at every subscription: not for hot code."""
        subscriptions = list(self._subscribers)
        return HubStatistics(
            topics=self._subscribers.topics,
            subscriptions=len(subscriptions),
            published=self._log.last,
            deliveries=self._deliveries + self._schedule.deliveries,
            replayed=self._subscribers.replayed,
            resets=self._subscribers.resets,
            inbox_events=self._inbox.statistics().current_buffer_used if self._inbox is not None else 0,
            inbox_bytes=self._inbox_used,
            queued_events=sum(subscription.queued_events for subscription in subscriptions),
            queued_bytes=sum(subscription.queued_bytes for subscription in subscriptions),
            log_events=len(self._log),
            log_bytes=self._log.size,
            last_event_id=self.last_event_id,
        )


def _receive(outlet: trio.MemoryReceiveChannel[Message]) -> Message | None:
    try:
        return outlet.receive_nowait()
    except trio.WouldBlock:
        return None
