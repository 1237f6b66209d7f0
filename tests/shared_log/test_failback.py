"""A log that loses its newest entries, and has others with their numbers, before a hub has noticed."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse import Hub, Retention

from ..support.list_log import ListLog
from ..support.waiting import SECONDS

HISTORY = 4  # entries: the window has those with the data 6 to 9


@pytest.mark.parametrize(
    ("lost", "new"),
    [
        pytest.param(3, 1, id="the page ends within the window"),
        pytest.param(3, 3, id="the page ends with the window"),
        pytest.param(3, 5, id="the page ends after the window"),
        pytest.param(5, 1, id="the page ends before the window"),
        pytest.param(5, 9, id="the page has other entries than the window"),
    ],
)
async def test_a_page_of_the_log_is_not_continued_by_a_window_of_another_history(
    autojump_clock: MockClock, lost: int, new: int
) -> None:
    """What is lost does not follow what replaced it: the client receives a reset instead."""
    log = ListLog()
    ids = log.publish("t", *map(str, range(10)))
    hub = Hub(log=log, history=HISTORY)
    received: list[object] = []
    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:
            await nursery.start(hub.run)
            await wait_all_tasks_blocked()
            _replace(log, lost, new)
            async with hub.subscribe("t", last_event_id=ids[1]) as events:
                while "reset" not in received:
                    event = await anext(events)
                    received.append(event.event or event.data)
            nursery.cancel_scope.cancel()
    kept = [str(number) for number in range(2, 10 - lost)]
    expected = [*kept, *(f"new {number}" for number in range(new))]
    before = received[:-1]
    assert before == expected[: len(before)]


async def test_a_page_that_the_window_continues_is_continued(autojump_clock: MockClock) -> None:
    """Of a quiet topic, too, whose messages are older than the entries that the window knows."""
    log = ListLog()
    ids = log.publish("quiet", *map(str, range(10)))
    log.publish("busy", *map(str, range(20)))
    hub = Hub(log=log, history=HISTORY, retention={"quiet": Retention(events=2)})
    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:
            await nursery.start(hub.run)
            async with hub.subscribe("quiet", last_event_id=ids[1]) as events:
                assert [(await anext(events)).data for _ in range(8)] == [str(n) for n in range(2, 10)]
                log.publish("quiet", "live")
                assert (await anext(events)).data == "live"
            nursery.cancel_scope.cancel()


def _replace(log: ListLog, lost: int, new: int) -> None:
    """Replace the newest entries, without waking those who wait for more."""
    log.entries = log.entries[:-lost]
    log.number -= lost
    waiting, log.changed = log.changed, trio.lowlevel.ParkingLot()
    log.publish("t", *[f"new {number}" for number in range(new)])
    log.changed = waiting
