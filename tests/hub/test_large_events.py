"""The warning when large events are published often."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse import Hub

from ..support.follower import follow
from ..support.leaks import MakeHub
from ..support.serving import running

KIB = 1024


async def publish(hub: Hub, size: int, count: int, seconds: float, topic: str = "t") -> None:
    for _ in range(count):
        await hub.publish(topic, "x" * size)
        await trio.sleep(seconds)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "trio_sse.hub"]


async def test_frequent_large_events_are_warned_about_once(
    make_hub: MakeHub, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    hub = make_hub()
    async with running(hub) as nursery:
        for _ in range(3):
            await follow(hub, nursery, "t")
        await publish(hub, 40 * KIB, 100, 0.5)
    (warning,) = warnings(caplog)
    assert warning == (
        "topic 't': large events are published often, 280 KiB to each of 3 subscribers within 3 s: "
        "subscribe with an interval, or use a state, of which only the changes are sent"
    )


async def test_the_warning_repeats_after_ten_minutes_and_for_each_topic(
    make_hub: MakeHub, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    hub = make_hub()
    async with running(hub) as nursery:
        for topic in ("t", "u"):
            for _ in range(2):
                await follow(hub, nursery, topic)
        await publish(hub, 40 * KIB, 20, 0.1)
        await publish(hub, 40 * KIB, 20, 0.1, topic="u")
        assert [warning[:9] for warning in warnings(caplog)] == ["topic 't'", "topic 'u'"]
        await trio.sleep(600)
        await publish(hub, 40 * KIB, 20, 0.1)
        assert [warning[:9] for warning in warnings(caplog)] == ["topic 't'", "topic 'u'", "topic 't'"]


@pytest.mark.parametrize(
    ("size", "count", "seconds", "subscribers"),
    [
        (4 * KIB, 200, 0.05, 3),  # small, as it goes with the others
        (40 * KIB, 100, 5, 3),  # seldom
        (40 * KIB, 100, 0.5, 1),  # to one alone: a download
    ],
)
async def test_small_or_rare_events_are_not_warned_about(
    make_hub: MakeHub,
    autojump_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
    size: int,
    count: int,
    seconds: float,
    subscribers: int,
) -> None:
    hub = make_hub()
    async with running(hub) as nursery:
        for _ in range(subscribers):
            await follow(hub, nursery, "t")
        await publish(hub, size, count, seconds)
        await wait_all_tasks_blocked()
    assert warnings(caplog) == []
