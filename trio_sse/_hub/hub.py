"""The public facade of a hub. `HubEngine` has the parts: inbox, sequencer, pump and registry."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import datetime
from functools import partial
from types import MappingProxyType
from typing import TypeVar, TypeVarTuple, final

import trio

from .._log.retention import Retention
from .._pausing import in_one_piece, in_pieces
from .._shared_log.protocol import Log
from .._state.presence import Presence
from .._state.state import State
from .._state.topic import PatchFormat
from .._subscription.queue import Overflow
from .._subscription.subscription import Subscription
from .._validate import check_bounds
from .._wire.event import Dumps, dumps_compact
from .._wire.identity import check_identity
from .._wire.topic import check_topic, check_topics
from .engine import HubEngine
from .statistics import HubStatistics
from .ticker import Ticker
from .topic_statistics import TopicStatistics
from .tracing import Tracing

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_MIB = 1024 * 1024

_NO_RETENTION: Mapping[str, Retention] = MappingProxyType({})


@final
class Hub:
    """Broadcasts events to the subscribers of their topics.

    You can create a hub at import time. To be used, it must be running, in `run`: a `Server` that serves it
    runs it, unless the program does so itself. Only the thread that runs it may publish, subscribe and
    change states: use `trio.from_thread.run_sync` and `trio.from_thread.run` in others.

    Args:
        history: how many events the log keeps for replay; with `history_bytes`, how many bytes of them. The
            topics share them fairly: a busy topic removes its own oldest events rather than a quiet one's.
        retention: bounds of each topic that a pattern matches, such as `{"prices/*": Retention(events=9)}`;
            the first pattern that matches counts. `*` stands for any characters.
        inbox: how many events may wait for the pump before `publish` waits; with `inbox_bytes`, how
            many bytes.
        queue: how many events a subscription keeps for a reader that lags, unless it asks for another bound;
            with `queue_bytes`, how many bytes.
        log: a log shared with other hubs, such as `RedisLog` or `SQLiteLog`; in memory by default. `history`
            then bounds the part of it that this hub keeps in memory and replays from.
        dumps: encodes data that is not text; as `json.dumps`, with one argument.
        tracing: makes spans of what is published and delivered, and of the streams of each server and app
            that has this hub; see `trio_sse.otel.Tracing`.
        topic_patterns: patterns of topics, such as `prices/*`, which statistics and metrics count apart, at
            most 100; `*` stands for any characters, and the first pattern that matches a topic counts.

    All bounds apply: the one that is reached first counts.
    """

    def __init__(
        self,
        *,
        history: int = 10_000,
        history_bytes: int = 16 * _MIB,
        retention: Mapping[str, Retention] = _NO_RETENTION,
        inbox: int = 1024,
        inbox_bytes: int = 4 * _MIB,
        queue: int = 4096,
        queue_bytes: int = 4 * _MIB,
        log: Log | None = None,
        dumps: Dumps = dumps_compact,
        tracing: Tracing | None = None,
        topic_patterns: Collection[str] = (),
    ) -> None:
        check_bounds(0, history=history, history_bytes=history_bytes)
        check_bounds(1, inbox=inbox, inbox_bytes=inbox_bytes, queue=queue, queue_bytes=queue_bytes)
        self._engine = HubEngine(
            history=(history, history_bytes),
            inbox=(inbox, inbox_bytes),
            queue=(queue, queue_bytes),
            log=log,
            retention=retention,
            dumps=dumps,
            tracing=tracing,
            topic_patterns=topic_patterns,
        )
        self._tickers: set[str] = set()  # the topics of those that run

    @property
    def is_running(self) -> bool:
        """Whether `run` runs, so that events can be published and subscribed to."""
        return self._engine.inbox.is_open

    @property
    def is_ready(self) -> bool:
        """Whether there is a log to replay from; `False` until a shared log could be read once."""
        return self._engine.sequencer.is_ready

    @property
    def last_event_id(self) -> str:
        """The newest event's id. A page rendered now that later subscribes from it misses nothing.

        Events that are still in the inbox come after it.
        """
        return self._engine.log.last_id

    @property
    def first_event_id(self) -> str:
        """The oldest cursor from which all topics can be replayed without a `reset`.

        After it, no topic has lost an event. See `first_event_id_of` for what some topics still have.
        """
        return self._engine.log.first_id(())

    def first_event_id_of(self, *topics: str) -> str:
        """Return the oldest cursor from which these topics can be replayed without a `reset`.

        Subscribing to them from it replays all that the log has of them; of a shared log, all that this hub
        has in memory.

        Raises:
            TypeError, TopicError: the topics are not acceptable.
        """
        return self._engine.log.first_id(check_topics(topics))

    async def publish(
        self,
        topic: str,
        data: object,
        *,
        event: str | None = None,
        key: str | None = None,
        retry: int | None = None,
        idempotency_key: str | None = None,
    ) -> None:
        """Publish an event, waiting while the inbox is full: first come, first served.

        Args:
            topic: its name, 1 to 256 characters in any script, without control characters.
            data, event, retry: as for `ServerSentEvent`. The id is the hub's: an id of the
                application's own belongs into the data.
            key: what the event is about; a newer one may replace it under `Overflow.LATEST`.
            idempotency_key: an event that was published to the topic with the same key is not published
                again. Keys are remembered for 24 hours, and the newest 10,000 of them; with a shared log
                100,000, over all nodes.

        Raises:
            TypeError, ValueError: a field is not acceptable; see `ServerSentEvent`.
            RuntimeError: the hub has never run, or runs in another thread.
            trio.ClosedResourceError: the hub has ended.
            LogUnavailable: a shared log has not stored it within its `publish_timeout`. It may have been
                stored all the same, if only the log's reply was lost.
            EventRefused: a shared log never stores it, for example because it is too large.

        With a shared log, this returns when the event is stored. If it is cancelled, the event was not
        published; with a shared log, it may have been stored.
        """
        engine = self._engine
        await engine.publish(engine.make_message(topic, data, event, key, retry, idempotency_key))

    def publish_nowait(
        self,
        topic: str,
        data: object,
        *,
        event: str | None = None,
        key: str | None = None,
        retry: int | None = None,
        idempotency_key: str | None = None,
    ) -> None:
        """Publish an event as `publish` does, or raise `trio.WouldBlock` if it is not its turn.

        That is so if the inbox is full, or while other publishers wait for room.

        With a shared log, the event waits in the inbox until it is stored, however long that takes.
        """
        engine = self._engine
        engine.publish_nowait(engine.make_message(topic, data, event, key, retry, idempotency_key))

    def subscribe(
        self,
        *topics: str,
        last_event_id: str | None = None,
        overflow: Overflow = Overflow.DISCONNECT,
        queue: int | None = None,
        queue_bytes: int | None = None,
        interval: float | None = None,
        batch: float | None = None,
        include_topic: bool = False,
    ) -> Subscription:
        """Return a subscription to these topics, for `async with`.

        Args:
            topics: 1 to 256 names.
            last_event_id: replay what was published after this id, as a client sends it; `None` starts at
                the newest event.
            overflow: what happens when the reader lags by more than the queue holds.
            queue, queue_bytes: the queue's bounds, if they differ from the hub's.
            interval: deliver at most one event of each topic and key in this many seconds: the newest, and
                always the last one. What waits is delivered together, in the order of ids.
            batch: deliver all events, in one write for each period of this many seconds.
            include_topic: let each event say its topic, as `ServerSentEvent.topic` and to clients.

        Raises:
            TypeError, ValueError: an option is not acceptable.
            TopicError: a `ValueError`; the topics are not acceptable.
            RuntimeError: on entering it: the hub has never run, or runs in another thread.
            trio.ClosedResourceError: on entering it: the hub has ended.
        """
        feed = self._engine.make_feed(
            *topics,
            last_event_id=last_event_id,
            overflow=overflow,
            queue=queue,
            queue_bytes=queue_bytes,
            interval=interval,
            batch=batch,
            include_topic=include_topic,
        )
        return Subscription(feed)

    def state(self, topic: str, initial: object, *, patch: PatchFormat = PatchFormat.MERGE) -> State:
        """Declare a topic to be a state: subscribers receive a snapshot first, and then changes.

        It stays one until `State.close`, also when the hub ends and is run again. With a shared log, all hubs
        that declare it have the same state: declare it on each.

        Args:
            topic: its name, which must have no subscribers; nothing else may be published to it.
            initial: the first state, any JSON value; with a shared log, only as long as the log has none.
            patch: how changes are sent.

        Raises:
            TypeError, ValueError: the topic or value is not acceptable, the topic is a state already, or it
                has subscribers, which would receive changes without a snapshot.
            ImportError: the extra `state` is missing.
        """
        return self._engine.declare_state(topic, initial, patch)

    def presence(self, topic: str, *, ttl: float = 30.0, patch: PatchFormat = PatchFormat.MERGE) -> Presence:
        """Declare a topic to be a presence list: a state of members that stay as long as they are there.

        With a shared log, declare it on each hub; all show the same members.

        Args:
            topic: as for `state`.
            ttl: how many seconds a member stays when its node has died, or after `Presence.touch`: 0.2 to
                86400. Up to a third more may pass.
            patch: how changes are sent.

        Raises:
            TypeError, ValueError, ImportError: as `state`, or the `ttl` is not acceptable.
        """
        return self._engine.declare_presence(topic, ttl, patch)

    async def run_ticker(
        self,
        topic: str,
        *,
        every: float = 1.0,
        event: str | None = "tick",
        reference: datetime | float | None = None,
        clock: Callable[[], float] = time.time,
        singleton: bool = True,
        task_status: trio.TaskStatus[Ticker] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Publish the time to a topic, at whole multiples of `every` seconds, until cancelled.

        A tick is an object with its `sequence` number, in which skipped ticks are counted; its `time` in
        ISO 8601; the seconds `elapsed` since the reference, which no change of the wall clock affects;
        `server_time` in milliseconds since 1970, from which a page computes its clock's offset;
        and after a step of the wall clock, its size in seconds as `stepped`.

        Args:
            every: 0.01 to 86400 seconds.
            event: the ticks' type.
            reference: where `elapsed` counts from, an aware `datetime` or seconds since 1970; the start by
                default.
            clock: returns the wall clock's time in seconds since 1970. If it fails later, the ticker
                continues by the time that has passed.

            singleton: with a shared log, run the ticker on one of the nodes that call this. If that one
                ends, another one continues, with the same numbers and `elapsed`.

        While a shared log is unavailable, ticks are skipped.

        `task_status.started` is called with the `Ticker`.

        Raises:
            TypeError, ValueError: an option is not acceptable.
            RuntimeError: the topic has a ticker already, the hub has never run, or its log has no leases and
                this is to be a singleton.
            trio.ClosedResourceError: the hub has ended.
        """
        if check_topic(topic) in self._tickers:
            raise RuntimeError(f"topic {topic!r} has a ticker already")
        # What cannot be published is refused now, rather than at a first tick that may be a day away.
        self._engine.make_message(topic, {}, event, None, None)
        self._engine.inbox.check_open()
        sequencer = self._engine.sequencer
        is_singleton = singleton and sequencer.is_shared
        ticker = Ticker(
            topic,
            self.publish,
            every=every,
            event=event,
            reference=reference,
            clock=clock,
            newest=partial(self._engine.log.newest, topic) if is_singleton else lambda: None,
        )
        self._tickers.add(topic)
        try:
            task_status.started(ticker)
            if is_singleton:
                await sequencer.leases.run(f"ticker {topic}", ticker.run)
            else:
                await ticker.run()
        finally:
            self._tickers.remove(topic)

    async def run_singleton(self, name: str, function: Callable[[*Ts], Awaitable[T]], *arguments: *Ts) -> T:
        """Run a function on one of the nodes that call this with the same name; return what it returns.

        The others wait until it has ended there. If its node is lost, another one begins it after ten
        seconds. A node that can't reach the log for 7.5 seconds cancels the function, and begins it again
        when it holds the lease again. Without a shared log, the hub is the only node.

        Raises:
            ValueError: the name does not have 1 to 256 characters.
            RuntimeError: the hub has never run, or its log has no leases.
            trio.ClosedResourceError: the hub has ended.
        """
        if not 1 <= len(name) <= 256:
            raise ValueError(f"a singleton's name must have 1 to 256 characters, not {len(name)}")
        self._engine.inbox.check_open()
        return await self._engine.sequencer.leases.run(f"singleton {name}", partial(function, *arguments))

    async def revoke(self, identity: str, *, reconnect: bool = True) -> int:
        """End all streams of an identity; return how many those are that this process had.

        They are those of all servers and apps that use this hub. With a shared log, the other nodes end
        theirs, too, before they deliver anything that is published after this returns. Make the check of your
        hook fail first, so that nobody gets in again.

        Args:
            identity: see `Connection.identity`.
            reconnect: see `Server.close_connections`.

        Raises:
            TypeError, ValueError: the identity is not acceptable.
            RuntimeError: the hub runs in another thread. With a shared log: it has never run. Without one:
                the process is one of several workers, which cannot be reached.
            trio.ClosedResourceError: with a shared log: the hub has ended.
            LogUnavailable: the shared log has not stored this within its `publish_timeout`. The streams of
                this process have ended. Call it again to reach the others.

        If this is cancelled, the streams of this process have ended, and others may have.
        """
        return await self._engine.revocations.revoke(check_identity(identity), reconnect=reconnect)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run the hub until cancelled.

        `task_status.started` is called when events can be published. When this is cancelled, what has been
        published still gets its ids and is delivered, without waiting for anyone; then all subscriptions
        end. The hub may be run again later, with the same log. If a server that serves the hub still runs,
        the hub does not end: that server runs it on.

        Raises:
            RuntimeError: it runs already.
            LogRefused: a shared log rejects the connection, for example because of wrong credentials.
        """
        await self._engine.run(task_status)

    def statistics(self) -> HubStatistics:
        """Return the hub's statistics. This visits every subscription, so do not call it often."""
        return in_one_piece(self._engine.statistics())

    async def collect_statistics(self) -> HubStatistics:
        """Return the same, but let other tasks run between two parts of the subscriptions."""
        return await in_pieces(self._engine.statistics())

    async def topic_statistics(self, pattern: str = "*") -> dict[str, TopicStatistics]:
        """Return the statistics of each topic that a pattern matches, if it has subscribers or events.

        Other tasks run in between.

        Raises:
            TypeError, ValueError: no topic can match the pattern.
        """
        return await in_pieces(self._engine.topic_statistics(pattern))


def engine_of(hub: Hub) -> HubEngine:
    """Return the engine of a hub, for the other packages of trio_sse."""
    return hub._engine
