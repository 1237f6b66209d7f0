"""Statistics of single topics, and of those that patterns match."""

from __future__ import annotations

from typing import Any

import pytest
import trio.testing

from trio_sse import Hub, PatternStatistics, TopicStatistics
from trio_sse._hub import topic_statistics as module
from trio_sse._hub.hub import engine_of

from ..support.cases import each_case
from ..support.serving import running


async def test_topics_are_counted_by_the_first_pattern_that_matches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", 2)
    monkeypatch.setattr(module, "_MOST_REMEMBERED", 2)
    hub = Hub(topic_patterns=["prices/us/*", "prices/*", "unused"])
    async with running(hub), hub.subscribe("prices/us/A", "prices/B", "chat"), hub.subscribe("prices/B"):
        for topic in ("prices/us/A", "prices/B", "prices/us/C", "chat", "news", "news"):
            await hub.publish(topic, "x")
        await trio.testing.wait_all_tasks_blocked()
        size = engine_of(hub).log.size // 6
        statistics = await hub.collect_statistics()
        assert statistics.patterns == {
            "prices/us/*": PatternStatistics(1, 1, 2, 2, 2 * size),
            "prices/*": PatternStatistics(1, 2, 1, 1, size),
            "unused": PatternStatistics(0, 0, 0, 0, 0),
            "other": PatternStatistics(1, 1, 3, 3, 3 * size),
        }
        assert sum(each.published for each in statistics.patterns.values()) == statistics.published
        assert await hub.topic_statistics("prices/*") == {
            "prices/B": TopicStatistics(2, 1, size),
            "prices/us/A": TopicStatistics(1, 1, size),
            "prices/us/C": TopicStatistics(0, 1, size),
        }
        assert list(await hub.topic_statistics())[:3] == ["chat", "news", "prices/B"]
        engine_of(hub).count_topics(["n*"])
        await hub.publish("news", "x")
        await trio.testing.wait_all_tasks_blocked()
        assert hub.statistics().patterns["n*"].published == 1
        engine_of(hub).count_topics([])
        assert hub.statistics().patterns == {}


@each_case(
    ("patterns", "error", "text"),
    [
        ("prices/*", TypeError, "one str"),
        ([7], TypeError, "a pattern of topics must be a str, not int"),
        (["a\n"], ValueError, "control characters"),
        (["other"], ValueError, "no pattern matches"),
        ([str(number) for number in range(101)], ValueError, "topic_patterns"),
    ],
)
def test_patterns_are_checked(patterns: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        Hub(topic_patterns=patterns)
