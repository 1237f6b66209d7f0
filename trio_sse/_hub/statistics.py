"""A hub's statistics: counters that are kept anyway, and a visit to each subscription."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import trio

from .._histogram import Histogram
from .._log.memory import MemoryLog
from .._pausing import Pausing
from .._subscription.feed import Feed
from .flushing import FlushScheduler
from .inbox import Inbox
from .pacing import ThrottledGroup
from .topic_statistics import PatternStatistics, pattern_statistics

if TYPE_CHECKING:
    from .pump import Pump
    from .registry import Registry
    from .sequencer import Sequencer

# As many subscriptions are looked at in about half a millisecond.
_FEEDS_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class HubStatistics:
    """A hub's statistics at one moment.

    Attributes:
        topics: topics that have subscribers.
        subscriptions: subscriptions that are registered.
        published: events that this hub has ordered, or read from a shared log while it ran.
        refused: events that were given up because a shared log does not take them.
        deliveries: events delivered to live subscriptions, counted once for each of them.
        replayed: events replayed from the log.
        resets: gaps that were announced to a subscriber.
        states: topics that are states.
        snapshots: snapshots that subscribers received when they started, or after a gap. All who start
            between two events share one.
        inbox_events, inbox_bytes: what was published and has no id yet.
        queued_events, queued_bytes: what waits for readers that lag, summed over the subscriptions; what
            several of them share counts for each.
        waiting_events, waiting_bytes: what waits for the end of an interval or batch, summed over the groups
            of subscriptions that are served together.
        log_events, log_bytes: what can be replayed; of a shared log, what this hub keeps of it in memory.
        log_topics: topics that have events there.
        evicted: events that are no longer there, because of a bound.
        log_reads: pages read from a shared log, for subscriptions that missed more than this hub has.
        log_waiting: subscriptions that wait for such a page.
        last_event_id: see `Hub.last_event_id`.
        batches: how many events were delivered together.
        fan_outs: how many seconds it took from an event's place in the order until all subscribers that keep
            up had it; the others have it in their queues.
        latencies: how many seconds it took from `publish` until then, of some of the events that this hub
            has published.
        lagging: subscriptions that have something queued.
        longest_queue: the events of the one that lags most.
        dropped: events that readers did not receive, because they lagged and newer events replaced them.
        log_problem: `log_not_loaded`, `log_unavailable`, `log_not_writable` or `log_lagging`, as in
            `Server.problems`, or `None`.
        log_lag: for how many seconds a shared log has had more than this hub has read.
        log_outages: how often a shared log has become unavailable.
        patterns: the topics that each of the hub's `topic_patterns` matches, and as `other` the rest.
    """

    topics: int
    subscriptions: int
    published: int
    refused: int
    deliveries: int
    replayed: int
    resets: int
    states: int
    snapshots: int
    inbox_events: int
    inbox_bytes: int
    queued_events: int
    queued_bytes: int
    waiting_events: int
    waiting_bytes: int
    log_events: int
    log_bytes: int
    log_topics: int
    evicted: int
    log_reads: int
    log_waiting: int
    last_event_id: str
    batches: Histogram
    fan_outs: Histogram
    latencies: Histogram
    lagging: int
    longest_queue: int
    dropped: int
    log_problem: str | None
    log_lag: float
    log_outages: int
    patterns: Mapping[str, PatternStatistics]


class _Queues(NamedTuple):
    """What subscriptions have queued for their readers."""

    subscriptions: int
    events: int
    size: int
    lagging: int
    longest: int
    dropped: int


def _count_queues(feeds: Sequence[Feed]) -> Pausing[_Queues]:
    """Add up what the feeds have queued."""
    events = size = lagging = longest = dropped = 0
    for start in range(0, len(feeds), _FEEDS_AT_ONCE):
        for feed in feeds[start : start + _FEEDS_AT_ONCE]:
            dropped += feed.dropped
            if queued := feed.queued_events:
                events += queued
                size += feed.queued_bytes
                lagging += 1
                longest = max(longest, queued)
        yield
    return _Queues(len(feeds), events, size, lagging, longest, dropped)


class _Waiting(NamedTuple):
    """What waits for the end of an interval or batch."""

    events: int
    size: int


def _count_waiting(groups: Sequence[ThrottledGroup]) -> Pausing[_Waiting]:
    """Add up what waits in the groups; each client may have one of its own."""
    events = size = 0
    for start in range(0, len(groups), _FEEDS_AT_ONCE):
        for group in groups[start : start + _FEEDS_AT_ONCE]:
            events += group.waiting_events
            size += group.waiting_bytes
        yield
    return _Waiting(events, size)


def hub_statistics(
    log: MemoryLog,
    inbox: Inbox,
    pump: Pump,
    registry: Registry,
    scheduler: FlushScheduler,
    sequencer: Sequencer,
) -> Pausing[HubStatistics]:
    """Compute the statistics of a hub that consists of these, which visits every subscription."""
    feeds = list(registry)
    queues = yield from _count_queues(feeds)
    waiting = yield from _count_waiting(list(registry.groups))
    patterns = yield from pattern_statistics(feeds, log, pump.patterns)
    history = registry.history
    return HubStatistics(
        topics=registry.topics,
        subscriptions=queues.subscriptions,
        published=sequencer.published,
        refused=sequencer.refused,
        deliveries=pump.deliveries + scheduler.deliveries,
        replayed=registry.replayed,
        resets=registry.resets,
        states=len(registry.states),
        snapshots=registry.snapshots.sent,
        inbox_events=inbox.used_events,
        inbox_bytes=inbox.used_bytes,
        queued_events=queues.events,
        queued_bytes=queues.size,
        waiting_events=waiting.events,
        waiting_bytes=waiting.size,
        log_events=len(log),
        log_bytes=log.size,
        log_topics=log.topics,
        evicted=log.evicted,
        log_reads=0 if history is None else history.reads,
        log_waiting=0 if history is None else history.waiting,
        last_event_id=log.last_id,
        batches=pump.batches,
        fan_outs=pump.fan_outs,
        latencies=inbox.latency.seconds.snapshot(),
        lagging=queues.lagging,
        longest_queue=queues.longest,
        dropped=registry.dropped + queues.dropped,
        log_problem=sequencer.problem if trio.lowlevel.in_trio_run() else None,
        log_lag=sequencer.lag,
        log_outages=sequencer.outages,
        patterns=patterns,
    )
