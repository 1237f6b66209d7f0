"""A hub's statistics."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HubStatistics:
    """A hub's statistics at one moment.

    Attributes:
        topics: topics that have subscribers.
        subscriptions: subscriptions that are registered.
        published: events that have an id.
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
