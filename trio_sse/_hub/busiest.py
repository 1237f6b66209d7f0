"""The topics with the most subscribers or events, for people to look at."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple, final

from .._log.memory import MemoryLog
from .._log.topic_log import TopicLog
from .._pausing import Pausing
from .registry import Registry

_TOPICS_AT_ONCE = 400
_MOST_COUNTED = 10_000  # of the events that are new


@final
class TopicInfo(NamedTuple):
    """A topic at one moment.

    Attributes:
        name: the topic.
        subscribers: how many live ones it has.
        published: its events after a position, as far as the log still has them.
        log_events, log_bytes: what can be replayed of it from memory.
        is_state: whether it is a state.
    """

    name: str
    subscribers: int
    published: int
    log_events: int
    log_bytes: int
    is_state: bool


def busiest_topics(registry: Registry, log: MemoryLog, after: int, most: int) -> Pausing[list[TopicInfo]]:
    """Return the topics with the most subscribers, and those with the most events after a position.

    Args:
        most: how many of each. All that have any are looked at.
    """
    subscribers = yield from _largest(registry.subscribers_by_topic(), most)
    # Those without new events are passed, too: so many topics at once are at most so much work at once.
    counts = ((topic.name, _count_after(topic, after)) for topic in log.topic_logs())
    counted = yield from _largest(counts, most)
    busy = [name for name, count in counted.items() if count]
    names = dict.fromkeys([*busy, *subscribers])
    found = []
    for name in names:
        held = log.topic_log(name)
        found.append(
            TopicInfo(
                name,
                registry.subscribers_of(name),
                0 if held is None else _count_after(held, after),
                0 if held is None else len(held.messages),
                0 if held is None else held.size,
                name in registry.states,
            )
        )
    return sorted(found, key=lambda topic: (-topic.subscribers, -topic.published, topic.name))


def _largest(counts: Iterator[tuple[str, int]], most: int) -> Pausing[dict[str, int]]:
    largest: list[tuple[str, int]] = []
    while chunk := list(islice(counts, _TOPICS_AT_ONCE)):
        largest = heapq.nlargest(most, [*largest, *chunk], key=_second)
        yield
    return dict(largest)


def _second(pair: tuple[str, int]) -> int:
    return pair[1]


def _count_after(topic: TopicLog, after: int) -> int:
    count = 0
    for message in islice(reversed(topic.messages), _MOST_COUNTED):
        if message.sequence <= after:
            break
        count += 1
    return count
