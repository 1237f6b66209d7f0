"""Publishers that wait for room in the inbox: first come, first served, and woken once."""

from __future__ import annotations

import json

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse._hub.hub import engine_of
from trio_sse._hub.inbox import Inbox
from trio_sse._wire.message import Message

from ..support.leaks import MakeHub
from ..support.messages import message
from ..support.serving import running
from ..support.subscriptions import take_data


class CountSteps(trio.abc.Instrument):
    def __init__(self) -> None:
        self.steps = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.steps += 1


def opened_inbox(max_events: int = 1000, max_bytes: int = 1000) -> Inbox:
    inbox = Inbox(max_events, max_bytes)
    inbox.open()
    return inbox


async def take_all(inbox: Inbox) -> list[object]:
    found: list[object] = []
    while inbox.used_events:
        found += [taken.unplaced_event.data for taken in await inbox.take()]
    return found


@pytest.mark.parametrize("inbox", [1, 3, 100])
async def test_they_are_served_in_the_order_in_which_they_came(make_hub: MakeHub, inbox: int) -> None:
    hub = make_hub(inbox=inbox)
    async with running(hub) as nursery, hub.subscribe("t") as events:
        order = []

        async def publish(number: int) -> None:
            order.append(number)
            await hub.publish("t", f"{number}")

        for number in range(300):
            nursery.start_soon(publish, number)
        assert await take_data(events, 300) == [f"{number}" for number in order]


@pytest.mark.slow
@pytest.mark.parametrize("publishers", [300, 3000])
async def test_each_costs_the_same_however_many_wait(make_hub: MakeHub, publishers: int) -> None:
    hub = make_hub(inbox=16)
    async with running(hub), trio.open_nursery() as nursery:
        count = CountSteps()
        trio.lowlevel.add_instrument(count)
        for number in range(publishers):
            nursery.start_soon(hub.publish, "t", number)
        await wait_all_tasks_blocked()
        trio.lowlevel.remove_instrument(count)
        assert hub.statistics().published == publishers
        assert count.steps < 5 * publishers


async def test_nobody_overtakes_those_who_wait() -> None:
    inbox = opened_inbox()
    inbox.put_nowait(message("x" * 800))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(inbox.put, message("y" * 800))
        await wait_all_tasks_blocked()
        with pytest.raises(trio.WouldBlock):
            inbox.put_nowait(message("small"))
        nursery.start_soon(inbox.put, message("last"))
        await wait_all_tasks_blocked()
        assert await take_all(inbox) == ["x" * 800, "y" * 800, "last"]
    inbox.put_nowait(message("small"))


def of_size(size: int) -> Message:
    """Return a message that takes so many bytes of an inbox."""
    return message("x" * (size - len(message("").wire)))


async def test_nobody_overtakes_those_who_still_wait_when_others_had_their_turn() -> None:
    inbox = opened_inbox(max_bytes=200_000)
    inbox.put_nowait(of_size(150_000))
    async with trio.open_nursery() as nursery:
        for size in (120_000, 130_000):
            nursery.start_soon(inbox.put, of_size(size))
            await wait_all_tasks_blocked()
        await inbox.take()
        assert (inbox.waiting_publishers, inbox.used_events) == (1, 1)
        with pytest.raises(trio.WouldBlock):
            inbox.put_nowait(of_size(100))
        await inbox.take()


async def test_all_have_their_turn_at_once_unless_that_takes_long(autojump_clock: MockClock) -> None:
    inbox = opened_inbox()

    def put(seconds: float) -> None:
        inbox.put_nowait(of_size(100))
        autojump_clock.jump(seconds)

    inbox.put_nowait(of_size(950))
    async with trio.open_nursery() as nursery:
        for seconds in (0, 0, 1, 0):
            nursery.start_soon(inbox.retry, put, seconds)
            await wait_all_tasks_blocked()
        await inbox.take()
        assert (inbox.waiting_publishers, inbox.used_events) == (1, 3)
        with pytest.raises(trio.WouldBlock):
            inbox.put_nowait(of_size(100))
        await inbox.take()


async def test_a_publisher_waits_until_there_is_exactly_the_room_it_needs() -> None:
    inbox = opened_inbox(max_bytes=200_000)
    for size in (70_000, 70_000, 60_000):
        inbox.put_nowait(of_size(size))
    with pytest.raises(trio.WouldBlock):
        inbox.check_room()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(inbox.put, of_size(140_000))
        await wait_all_tasks_blocked()
        for waiting in (1, 0):
            assert len(await inbox.take()) == 1
            assert inbox.waiting_publishers == waiting


async def test_the_room_that_one_who_was_cancelled_needed_is_forgotten() -> None:
    inbox = opened_inbox(max_bytes=200_000)
    for size in (70_000, 70_000, 60_000):
        inbox.put_nowait(of_size(size))
    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as cancelled:
            cancelled.start_soon(inbox.put, of_size(150_000))
            await wait_all_tasks_blocked()
            nursery.start_soon(inbox.put, of_size(100))
            await wait_all_tasks_blocked()
            await inbox.take()
            assert inbox.waiting_publishers == 2
            cancelled.cancel_scope.cancel()
        await inbox.take()
        assert inbox.waiting_publishers == 0


async def test_an_error_is_raised_by_the_publisher_whose_turn_it_was() -> None:
    inbox = opened_inbox()
    inbox.put_nowait(of_size(950))
    turns = iter([trio.WouldBlock(), ValueError("not now")])

    def put() -> None:
        raise next(turns)

    async def wait() -> None:
        with pytest.raises(ValueError, match="not now"):
            await inbox.retry(put)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        await inbox.take()


async def test_a_message_that_does_not_fit_yet_is_made_only_when_it_does() -> None:
    inbox = opened_inbox(max_bytes=256 * 1024)
    large = message("y" * 200 * 1024)
    attempts = 0

    def put() -> None:
        nonlocal attempts
        attempts += 1
        inbox.put_nowait(large)

    for _ in range(200):
        inbox.put_nowait(message("x" * 1000))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(inbox.retry, put)
        await wait_all_tasks_blocked()
        while inbox.waiting_publishers:
            await inbox.take()
    assert attempts <= 3


async def test_one_that_is_cancelled_lets_the_next_have_its_turn() -> None:
    inbox = opened_inbox()
    scope = trio.CancelScope()

    async def put_large() -> None:
        with scope:
            await inbox.put(message("y" * 900))

    for _ in range(9):
        inbox.put_nowait(message("x" * 80))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(put_large)
        await wait_all_tasks_blocked()
        nursery.start_soon(inbox.put, message("last"))
        await wait_all_tasks_blocked()
        scope.cancel()
        await wait_all_tasks_blocked()
        assert inbox.waiting_publishers == 1
        found = [taken.unplaced_event.data for taken in await inbox.take()]
        assert inbox.waiting_publishers == 0
        assert found + await take_all(inbox) == [*["x" * 80] * 9, "last"]


async def test_the_hubs_end_is_raised_by_all_who_wait(make_hub: MakeHub) -> None:
    hub = make_hub(inbox=1)
    refused = []

    async def publish() -> None:
        try:
            await hub.publish("t", "x")
        except trio.ClosedResourceError:
            refused.append(True)

    async with trio.open_nursery() as publishers, running(hub):
        for _ in range(10):
            publishers.start_soon(publish)
        await trio.lowlevel.checkpoint()
    assert hub.statistics().published + len(refused) == 10
    assert engine_of(hub).inbox.waiting_publishers == 0


async def test_a_state_is_changed_once_for_each_update_that_waits(make_hub: MakeHub) -> None:
    encoded = 0

    def dumps(value: object) -> str:
        nonlocal encoded
        encoded += 1
        return json.dumps(value)

    hub = make_hub(inbox=2, dumps=dumps)
    state = hub.state("s", {"total": 0})
    async with running(hub):
        encoded = 0
        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(state.update, {f"{number}": number})
        assert encoded == 50
        assert state.value == {"total": 0} | {f"{number}": number for number in range(50)}


async def test_what_goes_wrong_when_its_turn_comes_is_raised_by_the_publisher(make_hub: MakeHub) -> None:
    hub = make_hub(inbox=1)
    state = hub.state("s", {})
    failures: list[BaseException] = []

    async def update() -> None:
        try:
            await state.update({"a": object()})
        except TypeError as error:
            failures.append(error)

    async with running(hub):
        async with trio.open_nursery() as nursery:
            hub.publish_nowait("t", "fills the inbox")
            nursery.start_soon(update)
            nursery.start_soon(state.update, {"b": 1})
        assert len(failures) == 1
        assert state.value == {"b": 1}


async def test_a_state_that_was_closed_meanwhile_is_not_changed(make_hub: MakeHub) -> None:
    hub = make_hub(inbox=1)
    state = hub.state("s", 0)
    refused = []

    async def set_it() -> None:
        try:
            await state.set(1)
        except trio.ClosedResourceError:
            refused.append(True)

    async with running(hub), trio.open_nursery() as nursery:
        hub.publish_nowait("t", "fills the inbox")
        nursery.start_soon(set_it)
        state.close()
    assert refused == [True]
