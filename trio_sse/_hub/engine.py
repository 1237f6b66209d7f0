"""The parts of a hub put together: inbox, sequencer, pump, registry and flush scheduler.

`Hub` is the public facade of this engine. Other packages of trio_sse get the engine from `engine_of`, for
what applications do not need.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Mapping
from functools import partial
from typing import Any, final
from weakref import WeakSet

import trio

from .._generators import watching_generators
from .._groups import is_cancellation
from .._log.idempotency import key_digest
from .._log.memory import MemoryLog
from .._log.retention import Retention, RetentionRules
from .._pausing import Pausing
from .._shared_log.protocol import Log
from .._shared_log.window import Window
from .._state.presence import Presence
from .._state.presence_keeper import LONGEST_TTL, SHORTEST_TTL, PresenceKeeper
from .._state.state import Inbox as StateInbox
from .._state.state import State, topic_of
from .._state.topic import PatchFormat, StateTopic
from .._state.value import encode_state
from .._subscription.feed import Feed
from .._subscription.queue import Overflow
from .._subscription.topic_feed import TopicFeed
from .._validate import check_bounds, check_functions, check_seconds
from .._wire.composite_id import parse_composite, tag_of
from .._wire.event import Dumps, ServerSentEvent, check_key
from .._wire.held_states import split_mark
from .._wire.message import Message
from .._wire.state_change import ChangeKind
from .._wire.topic import check_topic, check_topics
from .flushing import FlushScheduler
from .inbox import Inbox
from .node_requests import NodeRequests
from .pacing import check_throttle
from .progress import Progress
from .pump import Pump
from .registry import Registry
from .revocations import Revocations
from .sequencer import MemorySequencer, Sequencer, SharedSequencer
from .services import HubServices
from .shared_states import share_states
from .signals import Signals
from .statistics import HubStatistics, hub_statistics
from .topic_statistics import TopicPatterns, TopicStatistics, topic_statistics
from .tracing import TracedPump, Tracing, publishers

_engines: WeakSet[HubEngine] = WeakSet()


def existing_engines() -> list[HubEngine]:
    """Return the engines of all hubs of this process."""
    return list(_engines)


@final
class HubEngine:
    """What a `Hub` consists of. The arguments are the hub's; each pair is a bound in events and in bytes.

    Attributes:
        log: what can be replayed: all of an in-memory log, or the window on a shared one.
        inbox, sequencer, pump, registry, scheduler, revocations, node_requests, signals, services: the parts.
        shared_log: the log that other hubs share; `None` without one.
        publish, publish_nowait: put a message into the inbox; with tracing, in a span.
        tracing: what makes spans.
    """

    log: MemoryLog
    shared_log: Log | None
    sequencer: Sequencer
    publish: Callable[[Message], Coroutine[Any, Any, None]]
    publish_nowait: Callable[[Message], None]
    _state_inbox: StateInbox

    def __init__(
        self,
        *,
        history: tuple[int, int],
        inbox: tuple[int, int],
        queue: tuple[int, int],
        log: Log | None,
        retention: Mapping[str, Retention],
        dumps: Dumps,
        tracing: Tracing | None = None,
        topic_patterns: Collection[str] = (),
    ) -> None:
        _engines.add(self)
        if isinstance(log, str):
            raise TypeError("log must be a Log, such as trio_sse.redis.RedisLog(url), not a URL")
        if log is not None:
            if not hasattr(log, "publish_timeout"):
                raise TypeError(f"log must be a Log, not {type(log).__name__}")
            check_seconds(publish_timeout=log.publish_timeout)
        if tracing is not None and not hasattr(tracing, "begin_publish"):
            raise TypeError(f"tracing must be a Tracing, not {type(tracing).__name__}")
        check_functions(dumps=dumps)
        self._history = history
        self._retention = RetentionRules(retention) if retention != {} else None
        self._queue_bounds = queue
        self._dumps = dumps
        self.inbox = Inbox(*inbox)
        self._is_loaded = False  # in this run
        self._is_vacant = False  # a run was passed on, and nobody has taken it over yet
        self._successors = trio.lowlevel.ParkingLot()  # tasks that wait to take over the run
        self.services = HubServices()
        self._states: dict[str, State] = {}
        self.presence = PresenceKeeper(self.inbox.put_nowait, lambda: self.sequencer.is_shared)
        self.tracing = tracing
        self.patterns = TopicPatterns(topic_patterns) if topic_patterns != () else None
        self.revocations = Revocations(
            check=self.inbox.check_open,
            check_thread=self.inbox.check_thread,
            publish=lambda message: self.sequencer.publish(message),
            is_shared=lambda: self.sequencer.is_shared,
        )
        self.node_requests = NodeRequests(lambda message: self.sequencer.publish(message))
        self.signals = Signals(lambda message: self.sequencer.publish(message))
        self._use_log(log)

    def _use_log(self, log: Log | None) -> None:
        self.shared_log = log
        max_events, max_bytes = self._history
        window = None
        if log is None:
            self.log = MemoryLog(max_events=max_events, max_bytes=max_bytes, retention=self._retention)
        else:
            self.log = window = Window(max_events=max_events, max_bytes=max_bytes, retention=self._retention)
        self.scheduler = FlushScheduler()
        progress = Progress(self.log)
        self.registry = Registry(self.log, self.inbox, self.scheduler, progress)
        self.pump = Pump(self.registry, self.scheduler, progress, self.inbox.latency)
        self.pump.patterns = self.patterns
        self.registry.settle = self.pump.when_settled
        pump = self.pump if self.tracing is None else TracedPump(self.tracing, self.pump)
        if log is None or window is None:
            self.sequencer = MemorySequencer(self.log, self.inbox, pump)
            self.publish, self.publish_nowait, self._state_inbox = publishers(
                self.tracing, self.inbox, self.sequencer
            )
            return
        shared_states = self.registry.snapshots.shared = share_states(self, self._history[0], log)
        self.sequencer = shared = SharedSequencer(
            log,
            window,
            self.inbox,
            pump,
            bounds=self._history,
            readers=self.registry,
            states=shared_states,
            controls={
                ChangeKind.REVOKE: self.revocations.read,
                ChangeKind.NODES: self.node_requests.read,
                ChangeKind.SIGNAL: self.signals.read,
            },
        )
        self.registry.on_gap = self._on_gap
        self.publish, self.publish_nowait, self._state_inbox = publishers(
            self.tracing, self.inbox, self.sequencer
        )
        self.registry.history = shared.replica.history
        for state in self._states.values():
            self._add_state(state)

    def _on_gap(self) -> None:
        self.revocations.on_gap()
        self.signals.on_gap()

    def use_log(self, log: Log) -> None:
        """Use a shared log instead of the hub's own, as `Hub(log=...)` does; before the hub has run.

        Raises:
            RuntimeError: the hub has run already.
        """
        if self.inbox.has_opened:
            raise RuntimeError("a hub that has run keeps its log")
        self._use_log(log)

    def is_ahead(self, event_id: str) -> bool:
        """Whether a shared log may have an event id that this hub has not read yet."""
        composite = parse_composite(event_id)
        ids = [event_id] if composite is None else [composite.base, *composite.own.values()]
        return any(self.log.is_ahead(split_mark(id)[0]) for id in ids)

    # Publishing and subscribing

    def make_message(
        self,
        topic: str,
        data: object,
        event: str | None,
        key: str | None,
        retry: int | None,
        idempotency_key: str | None = None,
    ) -> Message:
        """Return the message of an event; `Hub.publish` lists the errors."""
        if key is not None:
            key = check_key(key)
        topic = check_topic(topic)
        if self.registry.is_state(topic):
            raise ValueError(f"topic {topic!r} is a state: change it by the state's own set or update")
        made = ServerSentEvent(data, event=event, retry=retry)
        message = Message(topic, made, made.text(dumps=self._dumps), key)
        if idempotency_key is not None:
            message.idempotency = key_digest(topic, check_key(idempotency_key))
        return message

    def problems(self) -> list[str]:
        """Return why clients should not be sent to this hub; see `Server.problems`."""
        problem = self.sequencer.problem
        found = [] if self.inbox.is_open else ["hub_not_running"]
        return found if problem is None else [*found, problem]

    def make_feed(
        self,
        *topics: str,
        last_event_id: str | None,
        overflow: Overflow,
        queue: int | None,
        queue_bytes: int | None,
        interval: float | None,
        batch: float | None,
        include_topic: bool = False,
    ) -> Feed:
        """Return a feed, not yet entered; the arguments and errors are those of `Hub.subscribe`."""
        bounds = self._queue_bounds
        if queue is not None or queue_bytes is not None:
            bounds = (
                bounds[0] if queue is None else queue,
                bounds[1] if queue_bytes is None else queue_bytes,
            )
            check_bounds(1, queue=bounds[0], queue_bytes=bounds[1])
        checked = check_topics(topics)
        throttle = check_throttle(interval, batch, bounds)
        composite = None if last_event_id is None else parse_composite(last_event_id)
        if composite is not None:
            last_event_id = composite.own.get(tag_of(checked, throttle), composite.base)
        feed = (TopicFeed if include_topic else Feed)(
            self.registry,
            checked,
            last_event_id=last_event_id,
            overflow=overflow if type(overflow) is Overflow else Overflow(overflow),  # a call costs 0.3 us
            queue_bounds=bounds,
            throttle=throttle,
        )
        if self.registry.states:
            self.registry.check_overflow(feed, checked)
        return feed

    def declare_state(self, topic: str, initial: object, patch: PatchFormat) -> State:
        """Declare a topic to be a state; see `Hub.state`."""
        self.inbox.check_thread()
        topic = check_topic(topic)
        self.registry.check_can_be_state(topic)
        encode = partial(encode_state, dumps=self._dumps)
        since = self.log.last + self.inbox.used_events  # all that is published is in the log then
        state_topic = StateTopic(topic, encode(initial), patch, since)
        state = State(state_topic, encode=encode, inbox=self._state_inbox, close=self._close_state)
        self._states[topic] = state
        self._add_state(state)
        return state

    def declare_presence(self, topic: str, ttl: float, patch: PatchFormat) -> Presence:
        """Declare a topic to be a presence list; see `Hub.presence`."""
        check_seconds(ttl=ttl)
        if not SHORTEST_TTL <= ttl <= LONGEST_TTL:
            raise ValueError(f"ttl must be {SHORTEST_TTL} to {LONGEST_TTL} seconds, not {ttl}")
        return self.presence.add(self.declare_state(topic, {}, patch), ttl)

    def _add_state(self, state: State) -> None:
        state_topic = topic_of(state)
        self.registry.states[state.topic] = state_topic
        if (shared := self.registry.snapshots.shared) is not None:
            state.share(shared.add(state_topic, is_running=self.inbox.is_open))

    def _close_state(self, state: StateTopic) -> None:
        del self._states[state.name]
        self.registry.close_state(state)
        if (shared := self.registry.snapshots.shared) is not None:
            shared.remove(state.name)

    # Its life

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """Run until cancelled; see `Hub.run`."""
        with self.services.used_by(object()):
            await self._open_and_run(task_status)

    async def _open_and_run(self, task_status: trio.TaskStatus[None]) -> None:
        self.inbox.open()
        self._is_loaded = False
        await self._run(task_status)

    async def keep_running(self, task_status: trio.TaskStatus[None]) -> None:
        """Run until cancelled. If another task runs it already, wait to take over from that one.

        A run that is cancelled passes to a task that waits here, with its subscriptions and whatever waits in
        the inbox. It ends only when nobody waits.
        """
        while True:
            if not self.inbox.is_open:
                await self._open_and_run(task_status)
            task_status.started()
            task_status = trio.TASK_STATUS_IGNORED
            await self._successors.park()
            if self._is_vacant:
                self._is_vacant = False
                await self._run(task_status)

    async def _run(self, task_status: trio.TaskStatus[None]) -> None:
        try:
            with watching_generators():
                if not self._is_loaded:
                    await self.sequencer.load()
                    self._is_loaded = True
                task_status.started()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self.scheduler.run)
                    nursery.start_soon(self.presence.run)
                    nursery.start_soon(self.revocations.run)
                    self.services.start(nursery, self.inbox.check_thread)
                    await self.sequencer.run()  # in this task: it takes what is published from now on at once
        except BaseException as failure:
            self.services.stop()
            can_go_on = is_cancellation(failure)
            try:
                if not (can_go_on and len(self._successors)):
                    await self.services.end()
            finally:
                if can_go_on and len(self._successors):
                    self._pause()
                    self._is_vacant = True
                    self._successors.unpark()
                else:
                    self._finish()
            raise

    def _pause(self) -> None:
        """Finish what is being delivered, so that another task can run the hub on; there is no checkpoint."""
        self.pump.complete()
        self.scheduler.complete()
        self.pump.settle()

    def _finish(self) -> None:
        """Order and deliver what was published, without a checkpoint; then end all subscriptions."""
        self.pump.complete()
        self.sequencer.finish()
        self.scheduler.finish()
        self.pump.settle()
        self.inbox.close()
        for feed in list(self.registry):
            feed.end()
        self._successors.unpark_all()  # if there are any, the hub has failed: one of them runs it anew

    def when_settled(self, act: Callable[[], None]) -> None:
        """Call `act` between two batches: now, or after the one that is being delivered."""
        self.pump.when_settled(act)

    def statistics(self) -> Pausing[HubStatistics]:
        """Compute the hub's statistics, which visits every subscription."""
        return hub_statistics(self.log, self.inbox, self.pump, self.registry, self.scheduler, self.sequencer)

    def topic_statistics(self, pattern: str) -> Pausing[dict[str, TopicStatistics]]:
        """Compute the statistics of the topics that a pattern matches."""
        return topic_statistics(list(self.registry), self.log, pattern)

    def count_topics(self, patterns: Collection[str]) -> None:
        """Count what is published from now on by these patterns of topics."""
        self.patterns = self.pump.patterns = TopicPatterns(patterns) if patterns else None
