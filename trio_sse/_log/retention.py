"""How much of each topic a log keeps: `Retention`, and the rules that say which topic has which."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from .._validate import check_bounds, check_seconds
from .._wire.topic_pattern import compile_topic_pattern


@final
@dataclass(frozen=True, slots=True)
class Retention:
    """How much of one topic a hub keeps for replay, within the bounds of the whole log.

    Attributes:
        events: how many of the topic's newest events; 0 keeps none.
        bytes: how many bytes of them.
        age: how many seconds after they were published.

    `None` stands for no bound of the topic's own.

    Raises:
        TypeError, ValueError: a bound is not acceptable.
    """

    events: int | None = None
    bytes: int | None = None
    age: float | None = None

    def __post_init__(self) -> None:
        bounds = {"events": self.events, "bytes": self.bytes}
        check_bounds(0, **{name: bound for name, bound in bounds.items() if bound is not None})
        if self.age is not None:
            check_seconds(age=self.age)


@final
class RetentionRules:
    """The retention of each topic: that of the first pattern that matches its name.

    Args:
        rules: by pattern; see `compile_topic_pattern`.

    Raises:
        TypeError, ValueError: a pattern or a retention is not acceptable.
    """

    def __init__(self, rules: Mapping[str, Retention]) -> None:
        if not isinstance(rules, Mapping):
            raise TypeError(f"retention must be a mapping of patterns, not {type(rules).__name__}")
        self._rules: list[tuple[re.Pattern[str], Retention]] = []
        for pattern, retention in rules.items():
            if not isinstance(retention, Retention):
                raise TypeError(f"retention[{pattern!r}] must be a Retention, not {type(retention).__name__}")
            self._rules.append((compile_topic_pattern(pattern, "a pattern of retention"), retention))

    def of(self, topic: str) -> Retention | None:
        """Return the retention of a topic, or `None` if it has no bounds of its own."""
        for pattern, retention in self._rules:
            if pattern.fullmatch(topic):
                return retention if retention != _UNBOUNDED else None
        return None


_UNBOUNDED = Retention()
