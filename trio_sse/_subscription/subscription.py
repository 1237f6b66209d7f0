"""A subscription, as applications see it: the thin public side of a `Feed`."""

from __future__ import annotations

from typing import final

import trio

from .._wire.event import ServerSentEvent
from .._wire.topic import check_topics
from .changing import change_topics
from .feed import Feed
from .queue import Overflow


class SlowConsumer(trio.BrokenResourceError):
    """A subscription's reader fell so far behind that its queue overflowed.

    That ends it under `Overflow.DISCONNECT`, and under `Overflow.LATEST` with too many keys.
    """


@final
class Subscription:
    """A bounded, ordered view of some topics; created by `Hub.subscribe`.

    Use it as an async context manager, which registers it, and iterate over it in one task::

        async with hub.subscribe("prices", last_event_id=connection.last_event_id) as events:
            async for event in events:
                ...

    Each event is a `ServerSentEvent` whose data is text and whose id is the hub's. If some events after
    `last_event_id` are no longer in the log, the first event has the type `reset`. The iteration ends when
    the hub ends. A cancelled iteration loses no event: the next one continues with it.

    Raises (when it is iterated over):
        SlowConsumer: the queue overflowed (under `DISCONNECT`, or `LATEST` with too many keys).
        trio.BusyResourceError: another task is waiting for an event of this subscription.
        trio.ClosedResourceError: its context has not been entered, or has been left.
        RuntimeError: the hub runs in another thread.
    """

    __slots__ = ("_feed",)

    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    def __repr__(self) -> str:
        return repr(self._feed)

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics that it receives."""
        return self._feed.topics

    @property
    def last_event_id(self) -> str | None:
        """The id after which it started, or `None` if it started at the newest event."""
        return self._feed.last_event_id

    @property
    def overflow(self) -> Overflow:
        """What happens when its queue is full."""
        return self._feed.overflow

    @property
    def dropped(self) -> int:
        """How many events the overflow policy has dropped, or replaced by newer ones."""
        return self._feed.dropped

    @property
    def queued_events(self) -> int:
        """How many events wait for the reader."""
        return self._feed.queued_events

    @property
    def queued_bytes(self) -> int:
        """The bytes of the events that wait for the reader; they are shared by all subscriptions that lag."""
        return self._feed.queued_bytes

    async def change(self, *topics: str) -> None:
        """Receive other topics from now on, without reconnecting; return when that is so.

        What was published to the former topics before is still delivered. Of a new topic, it receives what is
        published from now on; of a new state, a snapshot first. A client that reconnects subscribes to the
        new topics, from its last id.

        Any task may call this, such as that of a POST of the client's, also while the subscription is
        forwarded. It waits until what the reader had missed was replayed.

        Raises:
            TypeError, TopicError: the topics are not acceptable.
            ValueError: it has an interval or batch, or a state is among the topics and it may drop events.
            trio.ClosedResourceError: its context has not been entered, or was left; or it has ended.
            RuntimeError: the hub runs in another thread.

        If this is cancelled, the topics may have changed or not.
        """
        feed = self._feed
        feed.check_entered()
        await trio.lowlevel.checkpoint()
        checked = check_topics(topics)
        if feed.throttle is not None:
            raise ValueError("a subscription with an interval or batch keeps its topics")
        feed.check_topics(checked)
        await change_topics(feed, checked)

    async def __aenter__(self) -> Subscription:
        self._feed.enter()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._feed.leave()

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> ServerSentEvent:
        feed = self._feed
        feed.check_entered()
        await trio.lowlevel.checkpoint_if_cancelled()
        while (message := feed.take_one()) is None:
            if feed.has_overflowed:
                events, size = feed.queue_bounds
                raise SlowConsumer(f"the reader fell more than {events} events or {size} bytes behind")
            if feed.has_ended:
                raise StopAsyncIteration
            await feed.wait()
            feed.check_entered()
        await trio.lowlevel.cancel_shielded_checkpoint()
        return message.event_with_topic if feed.includes_topic else message.event


def feed_of(subscription: Subscription) -> Feed:
    """Return the engine of a subscription, for the packages that forward it to a transport."""
    return subscription._feed
