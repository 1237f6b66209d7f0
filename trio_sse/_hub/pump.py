"""The pump of a hub: it fans messages out to subscribers, and is the one place where they meet.

The invariant: a batch is placed in the log and bound to its topics' live subscribers in one step, without a
checkpoint. A subscription therefore goes live before or after such a step, never in the middle, so replay and
live traffic meet exactly. And batches are delivered one after the other, so every connection receives ids
that only grow.

What one subscriber receives from a batch is joined to one write, so the cost of a delivery falls as the rate
rises. `joining` says who shares a write where a batch has several topics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from time import perf_counter
from typing import Protocol, final

import trio

from .._containment import contained, cut_off_alone
from .._histogram import Histogram, HistogramCounter
from .._wire.message import Batch, Message
from .flushing import FlushScheduler
from .joining import Delivery, join
from .large_events import LARGE_BYTES, LargeEventMonitor
from .latency import PublishLatency
from .pacing import BegunDelivery, Subscriber
from .progress import Progress
from .topic_statistics import TopicPatterns

# Let other tasks run after this many writes (about 1 ms, at 10 us each). Large batches count for more,
# because copying and encrypting them takes time.
_WRITES_PER_CHECKPOINT = 100
_BYTES_PER_CHECKPOINT = 512 * 1024

# Powers of two, so that a size's bucket is the number of its bits.
_BATCH_BOUNDS = tuple(float(2**power) for power in range(11))
_FAN_OUT_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

# Under TLS, a batch is encrypted for this many clients before it is sent to them: see `Transport.begin_send`.
_SENT_TOGETHER = 16

#: Places messages in the log, without a checkpoint, and returns those that are to be delivered.
Place = Callable[[], Sequence[Message]]


class Subscribers(Protocol):
    """Who is subscribed, as the pump needs to know it."""

    @property
    def has_overlaps(self) -> bool:
        """Whether some subscriber may have several topics."""

    def live(self, topic: str) -> Sequence[Subscriber]:
        """Return the topic's live subscribers of this moment."""


@final
class Pump:
    """Delivers batches to subscribers, one batch after the other.

    Attributes:
        deliveries: events delivered, counted once for each subscriber.
        patterns: count what is placed, if it is to be counted by patterns of topics.
    """

    def __init__(
        self,
        subscribers: Subscribers,
        scheduler: FlushScheduler,
        progress: Progress,
        latency: PublishLatency,
    ) -> None:
        self.deliveries = 0
        self._batches = HistogramCounter(_BATCH_BOUNDS)
        self._fan_outs = HistogramCounter(_FAN_OUT_BOUNDS)
        self._quick = 0  # batches that are in neither of these yet
        self._quick_seconds = 0.0
        self._subscribers = subscribers
        self._scheduler = scheduler
        self._progress = progress
        self._latency = latency
        self.patterns: TopicPatterns | None = None
        self._newest: Message | None = None  # of the batch that was placed last
        self._monitor = LargeEventMonitor()
        self._under_way: Iterator[None] = iter(())  # the rest of the batch that is being delivered
        self._is_delivering = False
        self._when_settled: list[Callable[[], None]] = []

    async def deliver(self, place: Place) -> None:
        """Place messages and deliver them, letting other tasks run in between.

        If this is cancelled, `complete` does the rest.
        """
        self._under_way = self._fan_out(place)
        self._is_delivering = True
        self._progress.begin(trio.current_time())
        if self._scheduler.groups:
            async with self._scheduler.lock:
                for _ in self._under_way:
                    await trio.lowlevel.checkpoint()
        else:
            for _ in self._under_way:
                await trio.lowlevel.checkpoint()
        self.settle()

    def deliver_nowait(self, place: Place) -> None:
        """Place messages and deliver them at once."""
        for _ in self._fan_out(place):
            pass

    def complete(self) -> None:
        """Deliver the rest of the batch that was under way when `deliver` was cancelled."""
        for _ in self._under_way:
            pass

    def when_settled(self, act: Callable[[], None]) -> None:
        """Call `act` when all that is in the log was delivered: now, or after the batch under way."""
        if self._is_delivering:
            self._when_settled.append(act)
        else:
            act()

    def settle(self) -> None:
        """End the delivery of a batch, and call what waits for that."""
        self._is_delivering = False
        self._progress.settle(self._newest)
        acts, self._when_settled = self._when_settled, []
        for act in acts:
            with contained("a change of topics failed"):
                act()

    def _fan_out(self, place: Place) -> Iterator[None]:
        """Place messages and deliver them; yield where other tasks should run.

        All up to the first yield is the step of which the invariant speaks.
        """
        messages = place()
        self._newest = messages[-1] if messages else None
        began_at = perf_counter()
        share = 0.0  # what was written since the last yield, of what is allowed
        for delivery in self._bind(messages):
            if delivery is None:
                share = 0.0
                yield
                continue
            batch, subscribers = delivery
            write = max(1 / _WRITES_PER_CHECKPOINT, batch.size / _BYTES_PER_CHECKPOINT)
            self.deliveries += batch.count * len(subscribers)
            now = trio.current_time()
            begun: list[BegunDelivery] = []
            for subscriber in subscribers:
                try:
                    unsent = subscriber.deliver(batch, now)
                except BaseException as failure:  # a defect of one must not affect the others, nor the hub
                    cut_off_alone(subscriber, failure)
                    unsent = None
                if unsent is not None:
                    begun.append(unsent)
                    if len(begun) >= _SENT_TOGETHER:
                        _finish(begun, batch, now)
                share += write
                if share >= 1:
                    _finish(begun, batch, now)
                    share = 0.0
                    yield
                    now = trio.current_time()
            _finish(begun, batch, now)
        if messages:
            now = perf_counter()
            if (seconds := now - began_at) <= 0.0005 and len(messages) == 1 and now < self._latency.due:
                self._quick += 1  # where events are published one by one, each step is felt
                self._quick_seconds += seconds
            else:
                self._count(len(messages), seconds, now)

    def _count(self, events: int, seconds: float, now: float) -> None:
        """Count a batch that has been written."""
        self._batches.counts[min((events - 1).bit_length(), len(_BATCH_BOUNDS))] += 1
        self._batches.sum += events
        self._fan_outs.add(seconds)
        if now >= self._latency.due:
            self._latency.end_batch(now)

    @property
    def batches(self) -> Histogram:
        """How many events the batches had."""
        return self._batches.snapshot(self._quick, self._quick)

    @property
    def fan_outs(self) -> Histogram:
        """How many seconds it took until a batch was written for all subscribers."""
        return self._fan_outs.snapshot(self._quick, self._quick_seconds)

    def _bind(self, messages: Sequence[Message]) -> Iterable[Delivery | None]:
        """Bind messages to their topics' live subscribers of this moment; return what is to be delivered."""
        by_topic: dict[str, list[Message]] = {}
        for topic, run in groupby(messages, key=attrgetter("topic")):
            if (of_topic := by_topic.get(topic)) is None:
                by_topic[topic] = list(run)
            else:
                of_topic += run
        if self.patterns is not None:
            self.patterns.count(by_topic)
        live = self._subscribers.live
        bound = [(of_topic, live(topic)) for topic, of_topic in by_topic.items()]
        if sum([len(message.wire) for message in messages]) >= LARGE_BYTES:
            for of_topic, subscribers in bound:
                self._monitor.note(of_topic, len(subscribers))
        return join(bound, has_overlaps=self._subscribers.has_overlaps)


def _finish(begun: list[BegunDelivery], batch: Batch, now: float) -> None:
    """Send what was encrypted, and forget it."""
    for subscriber in begun:
        try:
            subscriber.finish_delivery(batch, now)
        except BaseException as failure:
            cut_off_alone(subscriber, failure)
    begun.clear()
