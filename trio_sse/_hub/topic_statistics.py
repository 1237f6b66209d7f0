"""Statistics of single topics, and of those that a pattern matches.

What is published is counted by pattern, once for a batch of the pump, and only if there are patterns.
Everything else is looked up on demand, in a visit to each subscription and each topic of the log.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

from .._log.memory import MemoryLog
from .._pausing import Pausing
from .._subscription.feed import Feed
from .._validate import check_bounds
from .._wire.message import Message
from .._wire.topic_pattern import compile_topic_pattern

#: What topics are counted as that no pattern matches.
OTHER = "other"

_MOST_PATTERNS = 100

# As many are looked at in about half a millisecond.
_AT_ONCE = 1000

# As many topics whose pattern is remembered.
_MOST_REMEMBERED = 10_000


#: How many events of each topic are held, and how many bytes.
_Held = dict[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class TopicStatistics:
    """One topic at one moment.

    Attributes:
        subscriptions: how many it has.
        log_events, log_bytes: what can be replayed; of a shared log, what this hub keeps of it in memory.
    """

    subscriptions: int
    log_events: int
    log_bytes: int


@dataclass(frozen=True, slots=True)
class PatternStatistics:
    """The topics that a pattern matches, at one moment.

    Attributes:
        topics: those that have subscribers.
        subscriptions: how many these have; a subscription to several of the topics counts for each.
        published: events of these topics that have an id.
        log_events, log_bytes: as in `TopicStatistics`.
    """

    topics: int
    subscriptions: int
    published: int
    log_events: int
    log_bytes: int


@final
class TopicPatterns:
    """Patterns, the first of which that matches a topic counts; and how much was published of each.

    Raises:
        TypeError, ValueError: a pattern is not acceptable, or there are too many.
    """

    def __init__(self, patterns: Collection[str]) -> None:
        if isinstance(patterns, str):
            raise TypeError("topic_patterns must be a collection of patterns, not one str")
        check_bounds(0, topic_patterns=_MOST_PATTERNS - len(patterns))
        self._patterns = {text: compile_topic_pattern(text, "a pattern of topics") for text in patterns}
        if OTHER in self._patterns:
            raise ValueError(f"{OTHER!r} is what the topics are counted as that no pattern matches")
        self.published = dict.fromkeys([*self._patterns, OTHER], 0)
        self._remembered: dict[str, str] = {}

    def of(self, topic: str) -> str:
        """Return the pattern that a topic counts for."""
        found = self._remembered.get(topic)
        if found is None:
            if len(self._remembered) >= _MOST_REMEMBERED:
                self._remembered.clear()
            matching = (text for text, compiled in self._patterns.items() if compiled.fullmatch(topic))
            found = self._remembered[topic] = next(matching, OTHER)
        return found

    def count(self, by_topic: Mapping[str, Sequence[Message]]) -> None:
        """Count messages that were placed."""
        for topic, messages in by_topic.items():
            self.published[self.of(topic)] += len(messages)


def topic_statistics(
    feeds: Sequence[Feed], log: MemoryLog, pattern: str
) -> Pausing[dict[str, TopicStatistics]]:
    """Compute the statistics of each topic that a pattern matches and that has subscribers or events."""
    compiled = compile_topic_pattern(pattern, "a pattern of topics")
    subscriptions, held = yield from _visit(feeds, log)
    names = [name for name in subscriptions.keys() | held.keys() if compiled.fullmatch(name)]
    return {
        name: TopicStatistics(subscriptions.get(name, 0), *held.get(name, (0, 0))) for name in sorted(names)
    }


def pattern_statistics(
    feeds: Sequence[Feed], log: MemoryLog, patterns: TopicPatterns | None
) -> Pausing[dict[str, PatternStatistics]]:
    """Compute the statistics of each pattern; without patterns, this visits nothing."""
    if patterns is None:
        return {}
    subscriptions, held = yield from _visit(feeds, log)
    sums = {text: [0, 0, published, 0, 0] for text, published in patterns.published.items()}
    for names in _parts(list(subscriptions)):
        for name in names:
            of_pattern = sums[patterns.of(name)]
            of_pattern[0] += 1
            of_pattern[1] += subscriptions[name]
        yield
    for names in _parts(list(held)):
        for name in names:
            of_pattern = sums[patterns.of(name)]
            of_pattern[3] += held[name][0]
            of_pattern[4] += held[name][1]
        yield
    return {text: PatternStatistics(*numbers) for text, numbers in sums.items()}


def _visit(feeds: Sequence[Feed], log: MemoryLog) -> Pausing[tuple[dict[str, int], _Held]]:
    """Count the subscriptions of each topic, and the events and bytes that the log has of it."""
    subscriptions: dict[str, int] = {}
    for start in range(0, len(feeds), _AT_ONCE):
        for feed in feeds[start : start + _AT_ONCE]:
            for topic in feed.topics:
                subscriptions[topic] = subscriptions.get(topic, 0) + 1
        yield
    held: _Held = {}
    for names in _parts(log.topic_names):
        for name in names:
            held[name] = log.size_of(name)
        yield
    return subscriptions, {name: numbers for name, numbers in held.items() if numbers[0]}


def _parts(names: Sequence[str]) -> Iterable[Sequence[str]]:
    for start in range(0, len(names), _AT_ONCE):
        yield names[start : start + _AT_ONCE]
