"""Who is subscribed to what in a hub, and where each subscription starts: now, or after its `Last-Event-ID`.

Nothing in this file has a checkpoint. So a feed goes live between two batches of the pump, and the
log's last position is that of the newest batch which was bound to its subscribers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from typing import final

import trio

from .._log.memory import Gap, MemoryLog, Page
from .._shared_log.history import Fetch, LogHistory
from .._state.topic import StateTopic
from .._subscription.feed import Feed
from .._subscription.queue import Overflow
from .._subscription.source import START_NOW, Fetched, FetchFrom, ReplayFrom, StartWith, WaitForLog
from .._subscription.throttle import Throttle
from .._wire.cursor import Cursor
from .._wire.event import ServerSentEvent
from .._wire.held_states import split_mark
from .._wire.message import Batch, Message
from .flushing import FlushScheduler
from .inbox import Inbox
from .live_subscribers import LiveSubscribers
from .pacing import Subscriber, ThrottledGroup, deliver_alone
from .progress import Progress
from .snapshots import Snapshots


@final
class Registry:
    """The hub's feeds: all that are registered, and for each topic those that are live.

    It is the `Source` of the feeds, the `Subscribers` of the pump and the `LogReaders` of a log's follower.

    Args:
        inbox: the hub's; it knows whether the hub runs, and in which thread.

    Attributes:
        snapshots: of the topics that are states.
        states: these topics.
        history: reads a shared log for feeds that have missed more than is in memory, if there is one.
        on_gap: called when a shared log has lost continuity.
        settle: calls a function between two batches of the pump.
        has_overlaps: whether anybody has ever had several topics.
        arrivals: how many feeds have ever joined with an id that the log had not reached.
        replayed: events read from the log.
        resets: gaps that were announced to a feed.
        dropped: events that feeds that have ended did not receive, because newer ones replaced them.
    """

    def __init__(self, log: MemoryLog, inbox: Inbox, scheduler: FlushScheduler, progress: Progress) -> None:
        self.snapshots = Snapshots(log)
        self.states = self.snapshots.states
        self.history: LogHistory | None = None
        self.on_gap: Callable[[], None] | None = None
        self.settle: Callable[[Callable[[], None]], None] | None = None
        self.has_overlaps = False
        self.arrivals = 0
        self.replayed = 0
        self.resets = 0
        self.dropped = 0
        self._log = log
        self._inbox = inbox
        self._registered: dict[Feed, None] = {}
        self._ahead: dict[Feed, int] = {}  # those that wait for the log, and as which arrival each came
        self._live = LiveSubscribers()
        self._groups: dict[tuple[tuple[str, ...], Throttle], ThrottledGroup] = {}
        self._withdrawn: set[str] = set()  # states that were lost, and of which live feeds receive snapshots
        self._scheduler = scheduler
        self._progress = progress

    def __len__(self) -> int:
        return len(self._registered)

    def __iter__(self) -> Iterator[Feed]:
        return iter(self._registered)

    @property
    def topics(self) -> int:
        """How many topics have live subscribers."""
        return len(self._live)

    def subscribers_by_topic(self) -> Iterator[tuple[str, int]]:
        """Yield the topics that have live subscribers, and how many; a group of throttled ones is one."""
        yield from self._live.counts()

    def subscribers_of(self, topic: str) -> int:
        """Return how many live subscribers a topic has."""
        return self._live.count(topic)

    @property
    def groups(self) -> Collection[ThrottledGroup]:
        """The groups of throttled feeds that are live."""
        return self._groups.values()

    def has_states(self, topics: Collection[str]) -> bool:
        """Whether some of the topics are states; see `Source.has_states`."""
        return bool(self.states) and not self.states.keys().isdisjoint(topics)

    def is_state(self, topic: str) -> bool:
        """Whether nothing but changes of a state may be published to a topic."""
        state = self.states.get(topic)
        return state is not None and not state.is_closed

    def check_can_be_state(self, topic: str) -> None:
        """Raise `ValueError` unless a topic can be declared a state."""
        if self.is_state(topic):
            raise ValueError(f"topic {topic!r} is a state already")
        if topic in self.states:
            raise ValueError(f"the last changes of the closed state {topic!r} are still being published")
        if any(topic in feed.topics for feed in self._registered):
            raise ValueError(
                f"topic {topic!r} has subscribers: declare a state before anyone subscribes to it"
            )

    def check_topics_of(self, feed: Feed, topics: Collection[str]) -> None:
        """Raise `ValueError` if a feed must not have these topics; see `Source.check_topics_of`."""
        if self.states:
            self.check_overflow(feed, topics)

    def when_settled(self, act: Callable[[], None]) -> None:
        """Call `act` between two batches; see `Source.when_settled`."""
        assert self.settle is not None
        self.settle(act)

    def check_overflow(self, feed: Feed, topics: Collection[str]) -> None:
        """Raise `ValueError` if a feed would drop changes of a state among these topics."""
        if feed.overflow is not Overflow.DISCONNECT and self.has_states(topics):
            raise ValueError("a state cannot drop events: use the overflow policy DISCONNECT, or an interval")

    def close_state(self, state: StateTopic) -> None:
        """Turn a state's topic into an ordinary one as soon as its last change has its place."""
        state.close(partial(self._forget_state, state.name))

    def _forget_state(self, name: str) -> None:
        del self.states[name]
        self._withdrawn.discard(name)
        for feed in self._registered:
            if feed.mark and name in feed.topics:
                feed.mark = self.snapshots.mark_of(feed.topics)

    def check_thread(self) -> None:
        """Raise `RuntimeError` if the hub runs in another thread; see `Source.check_thread`."""
        self._inbox.check_thread()

    # How a feed starts

    def join(self, feed: Feed) -> ReplayFrom | FetchFrom | StartWith | WaitForLog:
        """Register a feed; see `Source.join`."""
        self._inbox.check_open()
        if self.states:  # as few calls as possible for each stream
            self.check_overflow(feed, feed.topics)
        self._registered[feed] = None
        last_event_id = feed.last_event_id
        if (last_event_id is not None or self.states) and self._must_wait(feed):
            self.arrivals += 1
            self._ahead[feed] = self.arrivals
            return WaitForLog(self._progress.end if last_event_id is None else None)
        return self._start_of(feed, last_event_id)

    def _must_wait(self, feed: Feed) -> bool:
        """Whether a feed's id is ahead of the log, or a state is not loaded that it needs."""
        if self.snapshots.need_loading(feed.topics):
            return True
        last_event_id = feed.last_event_id
        return last_event_id is not None and self._log.is_ahead(split_mark(last_event_id)[0])

    def start_ahead(self, arrived_before: int) -> None:
        """Start the feeds whose ids the log has reached, and the first arrivals; see `LogReaders`."""
        for feed, arrival in list(self._ahead.items()):
            if self.snapshots.need_loading(feed.topics):
                continue
            if arrival <= arrived_before or not self._must_wait(feed):
                del self._ahead[feed]
                feed.start(self._start_of(feed, feed.last_event_id))

    def start_waiting(self) -> None:
        """Start the feeds that wait for nothing any more; see `StateSubscribers`."""
        self.start_ahead(0)

    def _start_of(self, feed: Feed, last_event_id: str | None) -> ReplayFrom | FetchFrom | StartWith:
        topics = feed.topics
        if last_event_id is None:
            return StartWith(self.snapshots.of(topics)) if self.states else START_NOW
        id, mark = split_mark(last_event_id)
        lacking = self.snapshots.lacking(mark, topics) if self.states else ()
        if lacking:
            topics = tuple([topic for topic in topics if topic not in lacking])
        position = self._log.position_of(id, topics)
        if position is Gap.UNKNOWN:
            return self._after_gap(feed.topics, position)
        if position is Gap.EXPIRED or not self._log.covers(position, topics):
            if not self._can_fetch(topics):
                return self._after_gap(feed.topics, Gap.EXPIRED)
            return FetchFrom(id, None if position is Gap.EXPIRED else position, lacking)
        # In memory, a topic that was no state at its position had events that are not read any more.
        read_before = feed.topics if self.snapshots.shared is None else topics
        if self._lacks_state(read_before, position):
            return self._after_gap(feed.topics, Gap.EXPIRED)
        if position < self._log.last and topics:
            return ReplayFrom(position, id, lacking)
        return StartWith(self.snapshots.of(lacking, topics)) if lacking else START_NOW

    def _lacks_state(self, topics: Collection[str], position: int) -> bool:
        states = self.states
        return bool(states) and any(topic in states and position < states[topic].since for topic in topics)

    def _can_fetch(self, topics: Collection[str]) -> bool:
        """Whether a feed reads on where the log in memory does not reach.

        Of a state, the snapshot replaces whatever was missed.
        """
        return self.history is not None and not self.has_states(topics)

    def read(self, position: int, id: str, topics: Collection[str]) -> Page | FetchFrom | StartWith:
        """Read a page of the log; see `Source.read`."""
        if self._lacks_state(topics, position):
            return self._after_gap(topics, Gap.EXPIRED)
        found = self._log.read(position, topics)
        if isinstance(found, Gap):
            return FetchFrom(id, position) if self._can_fetch(topics) else self._after_gap(topics, found)
        shared = self.snapshots.shared
        if shared is not None and found.messages and self.has_states(topics):
            sent = shared.without_hidden(found.messages)
            if not sent:
                return self.read(found.position, found.id, topics)
            found = Page(sent, found.position, found.id)
        self.replayed += len(found.messages)
        return found

    # Reading a shared log itself

    def take_fetched(self, fetch: Fetch, topics: Collection[str]) -> Fetched | StartWith | None:
        """Return what was read at a place; see `Source.take_fetched`."""
        assert self.history is not None
        found = fetch.result or self.history.find(fetch)
        if found is None:
            return None
        if isinstance(found, Gap):
            return self._after_gap(topics, found)
        assert fetch.position is not None
        page = found.read(fetch.position, topics)
        self.replayed += len(page.messages)
        fetch.advance(page.id, page.position)
        return Fetched(page, self._log.covers(page.position, topics) and self._log.continues(page))

    def request_fetch(self, fetch: Fetch) -> None:
        """Let a shared log be read; see `Source.request_fetch`."""
        assert self.history is not None
        self.history.request(fetch)

    def cancel_fetch(self, fetch: Fetch) -> None:
        """Forget what was asked for."""
        assert self.history is not None
        self.history.cancel(fetch)

    def mark_of(self, topics: Collection[str]) -> str:
        """Return the mark of the states among the topics; see `Source.mark_of`."""
        return self.snapshots.mark_of(topics)

    def snapshots_of(self, topics: Collection[str], held: Collection[str]) -> list[Message]:
        """Return snapshots of the states among the topics; see `Source.snapshots_of`."""
        return self.snapshots.of(topics, held)

    # Who is live

    def live(self, topic: str) -> Sequence[Subscriber]:
        """Return the topic's live subscribers of this moment; a group counts as one."""
        return self._live.of(topic)

    def go_live(self, feed: Feed) -> Cursor:
        """Deliver to a feed from now on; see `Source.go_live`."""
        self.has_overlaps = self.has_overlaps or len(feed.topics) > 1
        if self.states:
            feed.mark = self.snapshots.mark_of(feed.topics)
        if feed.throttle is None:
            self._live.add(feed.topics, feed)
            return self._progress.end
        group = self._groups.get((feed.topics, feed.throttle))
        if group is None:
            states = [self.states[topic] for topic in feed.topics if topic in self.states]
            group = ThrottledGroup(feed.throttle, self._scheduler, states)
            self._scheduler.groups += 1
            self._groups[feed.topics, feed.throttle] = group
            self._live.add(feed.topics, group)
        group.add(feed, self._log.last)
        return self._progress.end

    def cursor(
        self, topics: tuple[str, ...], throttle: Throttle | None, position: int, written_at: float
    ) -> Cursor | None:
        """Return a feed's cursor; see `Source.cursor`."""
        if throttle is not None and not self._groups[topics, throttle].is_settled:
            return None
        return self._progress.cursor(position, written_at)

    def change_topics(self, feed: Feed, topics: tuple[str, ...]) -> list[Message]:
        """Change a live feed's topics; see `Source.change_topics`."""
        assert feed.throttle is None, "the members of a group share their topics"
        self.has_overlaps = self.has_overlaps or len(topics) > 1
        added = [topic for topic in topics if topic not in feed.topics]
        self._live.remove([topic for topic in feed.topics if topic not in topics], feed)
        self._live.add(added, feed)
        if not self.states:
            feed.mark = ""
            return []
        kept = [topic for topic in topics if topic not in added]
        if self.has_states(kept) and not feed.mark:
            return self.snapshots.of(added)  # it lacks some of those that it keeps: they are announced
        feed.mark = self.snapshots.mark_of(topics)
        return self.snapshots.of(added, kept)

    def leave(self, feed: Feed) -> None:
        """Forget a feed, and the topics that have no other subscriber."""
        if feed in self._registered:
            del self._registered[feed]
            self.dropped += feed.dropped
        self._ahead.pop(feed, None)
        if feed.throttle is None:
            self._live.remove(feed.topics, feed)
            return
        group = self._groups.get((feed.topics, feed.throttle))
        if group is not None:
            group.remove(feed)
            if not group:
                del self._groups[feed.topics, feed.throttle]
                self._scheduler.groups -= 1
                self._scheduler.discard(group)
                self._live.remove(feed.topics, group)

    # Gaps and snapshots

    def announce_gap(self, gap: Gap) -> None:
        """Deliver a reset to all feeds but those that are ahead: the log has lost continuity.

        Feeds of states alone receive snapshots instead, as soon as the states are found in the log.
        """
        self._progress.restart()
        if self.on_gap is not None:
            self.on_gap()
        if not self._registered:
            return
        self._scheduler.finish()  # what waits for an interval's end was published before the gap
        for group in self._groups.values():
            group.restart(self._log.last)
        self._withdrawn.update(self.states)
        reset = Batch([self._reset(gap)])
        for feed in list(self._registered):
            feed.mark = ""
            is_of_states = self._is_of_states(feed.topics)
            if not feed.is_live:
                feed.skip_replay([] if is_of_states else reset.messages)
                continue
            feed.restart()
            if not is_of_states:
                deliver_alone(feed, reset, trio.current_time())

    def announce_states(self, names: Collection[str]) -> None:
        """Deliver snapshots to the live feeds of states; see `StateSubscribers`."""
        self._scheduler.finish()  # as in `announce_gap`
        for group in self._groups.values():
            group.know_again(names)
        self._withdrawn.difference_update(names)
        batches: dict[tuple[tuple[str, ...], str], Batch] = {}
        for feed in [feed for feed in self._registered if feed.is_live]:
            states = tuple([topic for topic in self.snapshots.among(feed.topics) if topic in names])
            if not states:
                continue
            mark = self.snapshots.mark_of(feed.topics) if self._withdrawn.isdisjoint(feed.topics) else ""
            if (states, mark) not in batches:
                held = [topic for topic in feed.topics if topic not in states] if mark else ()
                batches[states, mark] = Batch(self.snapshots.of(states, held))
            feed.mark = ""  # the snapshots have their ids already
            if batches[states, mark].count:
                deliver_alone(feed, batches[states, mark], trio.current_time())
            feed.mark = mark

    def withdraw_states(self, names: Collection[str]) -> None:
        """Record that what follows of these states is not delivered; see `StateSubscribers`."""
        self._withdrawn.update(names)
        for feed in self._registered:
            if feed.mark and not set(names).isdisjoint(feed.topics):
                feed.mark = ""

    def _after_gap(self, topics: Collection[str], gap: Gap) -> StartWith:
        """Return what replaces events that are lost: a reset, and the states as they are now.

        If all topics are states, the snapshots replace everything, and there is no reset.
        """
        snapshots = self.snapshots.of(topics)
        return StartWith(snapshots if self._is_of_states(topics) else [self._reset(gap), *snapshots])

    def _is_of_states(self, topics: Collection[str]) -> bool:
        return len(self.snapshots.among(topics)) == len(topics)

    def _reset(self, gap: Gap) -> Message:
        """Return the event that announces a gap; after it, the client continues from now."""
        self.resets += 1
        text = f'{{"reason":"{gap.value}"}}'
        reset = Message("", ServerSentEvent(text, event="reset"), text)
        reset.place(self._log.last, self._log.last_id)
        return reset
