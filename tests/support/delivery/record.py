"""What one client has received over all its connections, and the rule for it.

The rule: what a client has received, what its policy allows to be left out, and its `reset`s account for
everything that was published to its topics since it had its first cursor; in order, without duplicates. A
`reset` stands for at least one event that is missing, unless the log itself was replaced.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from enum import Enum


class Allowed(Enum):
    """What may be left out for a client that falls behind."""

    NOTHING = "nothing"
    ANYTHING = "anything"  # its policy drops events
    OLDER = "older"  # it wants the newest event of each topic and key only


class Resets(Enum):
    """When clients may receive a `reset`."""

    NEVER = "never"  # the log keeps everything
    FOR_GAPS = "for gaps"  # the log keeps some, and a reset says that something is missing
    ALWAYS = "always"  # the log may be replaced


@dataclass(frozen=True)
class Published:
    """One event, numbered in the order in which all were published."""

    number: int
    topic: str
    key: str | None


@dataclass
class Record:
    """What one client has received."""

    topics: str
    allowed: Allowed
    parts: list[str]  # the topics of each of its subscriptions, within which there is an order
    last_event_id: str = ""
    since: int | None = None  # the number of the last event before it had its first cursor
    received: list[int] = field(default_factory=list)
    resets: list[int] = field(default_factory=list)  # how many events had been received before each
    faults: list[str] = field(default_factory=list)
    ended: set[str] = field(default_factory=set)  # topics of which it has received the last event

    def take(self, event: str, data: str, event_id: str | None, published: int) -> None:
        """Take a block of a stream, a message or an element of a poll's answer.

        Args:
            published: how many events were published before it was read.
        """
        if event_id is not None:
            self.last_event_id = event_id
            if self.since is None:
                self.since = published
        if event == "reset":
            self.resets.append(len(self.received))
        elif data:
            self._take_event(data, event_id)

    def _take_event(self, data: str, event_id: str | None) -> None:
        found = json.loads(data)
        if event_id is None:
            self.faults.append(f"event {found['n']} has no id")
        if found["topic"] not in self.topics:
            self.faults.append(f"event {found['n']} is of topic {found['topic']}")
        self.received.append(found["n"])
        if found.get("last"):
            self.ended.add(found["topic"])

    @property
    def is_complete(self) -> bool:
        """Whether the very last event of each subscription was received, and thus all that is to come."""
        return self.ended >= {max(part) for part in self.parts}

    @property
    def progress(self) -> tuple[int, int]:
        """How many events and resets have been received."""
        return len(self.received), len(self.resets)

    @property
    def ends_with_reset(self) -> bool:
        """Whether nothing has come since a `reset`, which may stand for all later events, too."""
        return bool(self.resets) and self.resets[-1] == len(self.received)

    def check(self, published: list[Published], resets: Resets) -> None:
        """Raise `AssertionError` unless the rule holds."""
        assert not self.faults, self.faults
        numbers = self.received
        topic_of = {each.number: each.topic for each in published}
        for part in self.parts:
            of_part = [number for number in numbers if topic_of.get(number, "") in part]
            assert of_part == sorted(set(of_part)), f"out of order, or duplicates: {of_part}"
        own = [each for each in published if each.topic in self.topics]
        assert set(numbers) <= {each.number for each in own}, "an event that was not published"
        if resets is Resets.NEVER:
            assert not self.resets, "a reset, though the log has everything"
        if self.since is None:
            return
        have = set(numbers)
        left_out = [each for each in own if each.number not in have]
        gaps = {part: self._gaps(part, topic_of) for part in self.parts}
        explained: set[int] = set()
        for position in range(len(self.resets)):
            found = [each.number for each in left_out if self._is_in(gaps, position, each)]
            if resets is Resets.FOR_GAPS:
                assert found, f"reset {position} of {self.resets}, though nothing is missing"
            explained.update(found)
        unexplained = [each for each in left_out if each.number > self.since and each.number not in explained]
        if self.allowed is Allowed.ANYTHING:
            return
        if self.allowed is Allowed.OLDER:
            newest = {(each.topic, each.key): each.number for each in own}
            unexplained = [each for each in unexplained if each.number in newest.values()]
        assert not unexplained, f"lost without a reset: {unexplained[:10]} of {len(own)}"

    def _gaps(self, part: str, topic_of: dict[int, str]) -> list[tuple[float, float]]:
        """Return between which numbers of a subscription's events each reset came, if it is that one's."""
        is_own = [topic_of[number] in part for number in self.received]
        gaps = []
        for position in self.resets:
            before = [n for n, own in zip(self.received[:position], is_own[:position], strict=True) if own]
            after = [n for n, own in zip(self.received[position:], is_own[position:], strict=True) if own]
            gaps.append((before[-1] if before else -math.inf, after[0] if after else math.inf))
        return gaps

    def _is_in(self, gaps: dict[str, list[tuple[float, float]]], reset: int, event: Published) -> bool:
        """Whether a reset may stand for an event."""
        part = next(part for part in self.parts if event.topic in part)
        after, before = gaps[part][reset]
        return after < event.number < before
