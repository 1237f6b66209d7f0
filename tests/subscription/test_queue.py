"""The queue of a reader that lags: four policies, two bounds."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_sse import Overflow
from trio_sse._log.memory import PAGE_BYTES, PAGE_EVENTS
from trio_sse._subscription.queue import Queue, QueueFull, make_queue, take_page, take_run
from trio_sse._wire.message import Message

from ..support.cases import each_case
from ..support.messages import placed

SIZE = len(placed(1).wire)

MANY = 10**9

DROPPING = [Overflow.DROP_OLDEST, Overflow.DROP_NEWEST]


def drain(queue: Queue) -> list[int]:
    found = []
    while queue:
        found.append(queue.pop().sequence)
    return found


@each_case("overflow", Overflow)
def test_messages_leave_in_order(overflow: Overflow) -> None:
    queue = make_queue(overflow, 3, SIZE * 3)
    dropped = [queue.put(placed(number, key=str(number))) for number in (1, 2, 3)]
    assert (dropped, len(queue), queue.size) == ([0, 0, 0], 3, SIZE * 3)
    assert drain(queue) == [1, 2, 3]
    assert queue.size == 0


@each_case("overflow", [Overflow.DISCONNECT, Overflow.LATEST])
@each_case(("max_events", "max_bytes"), [(2, MANY), (MANY, SIZE * 3 - 1)])
def test_one_more_than_fits_is_refused(overflow: Overflow, max_events: int, max_bytes: int) -> None:
    queue = make_queue(overflow, max_events, max_bytes)
    queue.put(placed(1, key="a"))
    queue.put(placed(2, key="b"))
    with pytest.raises(QueueFull):
        queue.put(placed(3, key="c"))


@pytest.mark.parametrize(("max_events", "max_bytes"), [(2, MANY), (MANY, SIZE * 3 - 1)])
def test_drop_oldest_makes_room(max_events: int, max_bytes: int) -> None:
    queue = make_queue(Overflow.DROP_OLDEST, max_events, max_bytes)
    assert [queue.put(placed(number)) for number in (1, 2, 3, 4)] == [0, 0, 1, 1]
    assert drain(queue) == [3, 4]


@pytest.mark.parametrize(("max_events", "max_bytes"), [(2, MANY), (MANY, SIZE * 3 - 1)])
def test_drop_newest_keeps_what_it_has(max_events: int, max_bytes: int) -> None:
    queue = make_queue(Overflow.DROP_NEWEST, max_events, max_bytes)
    assert [queue.put(placed(number)) for number in (1, 2, 3, 4)] == [0, 0, 1, 1]
    assert drain(queue) == [1, 2]


def test_drop_oldest_makes_as_much_room_as_a_large_message_needs() -> None:
    queue = make_queue(Overflow.DROP_OLDEST, MANY, SIZE * 4)
    for number in (1, 2, 3, 4):
        queue.put(placed(number))
    assert queue.put(placed(5, "x" * (SIZE + 2))) == 3
    assert drain(queue) == [4, 5]


@each_case("overflow", Overflow)
def test_an_empty_queue_accepts_a_message_larger_than_its_bound(overflow: Overflow) -> None:
    queue = make_queue(overflow, 10, 10)
    assert queue.put(placed(1, "x" * 100)) == 0
    assert drain(queue) == [1]


def test_latest_replaces_what_has_the_same_topic_and_key() -> None:
    queue = make_queue(Overflow.LATEST, 3, MANY)
    puts = [("t", "a"), ("t", "b"), ("t", "a"), ("u", "a"), ("t", "a")]
    dropped = [queue.put(placed(n, topic=topic, key=key)) for n, (topic, key) in enumerate(puts, 1)]
    assert dropped == [0, 0, 1, 0, 1]
    assert drain(queue) == [2, 4, 5]


def test_latest_treats_messages_without_a_key_as_one_for_each_topic() -> None:
    queue = make_queue(Overflow.LATEST, 3, MANY)
    for number, topic in enumerate("ttut", 1):
        queue.put(placed(number, topic=topic))
    assert drain(queue) == [3, 4]


def test_latest_distinguishes_no_key_from_an_empty_one() -> None:
    queue = make_queue(Overflow.LATEST, 3, MANY)
    queue.put(placed(1))
    queue.put(placed(2, key=""))
    assert drain(queue) == [1, 2]


def test_latest_counts_only_what_it_keeps() -> None:
    queue = make_queue(Overflow.LATEST, 10, MANY)
    queue.put(placed(1, "x" * 50))
    queue.put(placed(2))
    assert (len(queue), queue.size) == (1, SIZE)


def test_latest_may_replace_when_it_is_full() -> None:
    queue = make_queue(Overflow.LATEST, 2, SIZE * 2)
    queue.put(placed(1, key="a"))
    queue.put(placed(2, key="b"))
    assert queue.put(placed(3, key="a")) == 1
    assert drain(queue) == [2, 3]


@pytest.mark.parametrize("overflow", [*DROPPING, Overflow.LATEST])
def test_a_reset_replaces_what_waits_and_is_kept(overflow: Overflow) -> None:
    queue = make_queue(overflow, 2, MANY)
    for number in (1, 2):
        queue.put(placed(number, key=str(number)))
    reset = placed(3, topic="")
    assert queue.put(reset) == 2
    assert (len(queue), queue.size) == (1, len(reset.wire))
    puts = [queue.put(placed(number, key="k")) for number in (4, 5, 6)]
    assert sum(puts) + len(queue) == 4
    kept = drain(queue)
    assert kept[0] == 3
    assert set(kept[1:]) < {4, 5, 6}
    assert queue.size == 0


@pytest.mark.parametrize("overflow", [*DROPPING, Overflow.LATEST])
def test_a_second_reset_replaces_the_first(overflow: Overflow) -> None:
    queue = make_queue(overflow, 1, 1)
    assert [queue.put(placed(number, topic="")) for number in (1, 2)] == [0, 0]
    assert drain(queue) == [2]


@pytest.mark.parametrize("overflow", [*DROPPING, Overflow.LATEST])
def test_a_reset_does_not_count_for_the_bounds(overflow: Overflow) -> None:
    queue = make_queue(overflow, 1, SIZE)
    queue.put(placed(1, topic=""))
    assert queue.put(placed(2)) == 0
    assert drain(queue) == [1, 2]


def test_where_nothing_is_dropped_a_reset_waits_its_turn() -> None:
    queue = make_queue(Overflow.DISCONNECT, 2, MANY)
    queue.put(placed(1))
    queue.put(placed(2, topic=""))
    with pytest.raises(QueueFull):
        queue.put(placed(3, topic=""))
    assert drain(queue) == [1, 2]


def take_from_queue(messages: list[Message]) -> list[Message]:
    queue = make_queue(Overflow.DISCONNECT, MANY, MANY)
    for each in messages:
        queue.put(each)
    page = take_page(queue)
    assert drain(queue) == [each.sequence for each in messages[len(page) :]]
    return page


def take_from_log(messages: list[Message]) -> list[Message]:
    left = deque(messages)
    page = take_run(left)
    assert list(left) == messages[len(page) :]
    return page


@each_case("take", [take_from_queue, take_from_log])
@each_case(
    ("sizes", "fit"),
    [
        ([SIZE] * (PAGE_EVENTS + 1), PAGE_EVENTS),
        ([PAGE_BYTES, SIZE], 1),
        ([PAGE_BYTES - 1, SIZE, SIZE], 2),
        ([SIZE, PAGE_BYTES - SIZE, SIZE], 2),
        ([SIZE, PAGE_BYTES - SIZE - 1, SIZE, SIZE], 3),
    ],
)
def test_a_page_is_bounded(
    take: Callable[[list[Message]], list[Message]], sizes: list[int], fit: int
) -> None:
    messages = [placed(number % 10, "x" * (size - SIZE + 1)) for number, size in enumerate(sizes)]
    assert [len(message.wire) for message in messages] == sizes
    assert take(messages) == messages[:fit]


def test_a_message_whose_frames_are_shared_is_written_alone() -> None:
    messages = deque(placed(number) for number in range(5))
    messages[2].share_frames()
    assert [len(take_run(messages)) for _ in range(3)] == [2, 1, 2]


@given(
    st.sampled_from(Overflow),
    st.integers(1, 5),
    st.integers(SIZE, SIZE * 6),
    st.lists(st.tuples(st.integers(0, 40), st.sampled_from(["a", "b", None]), st.booleans()), max_size=30),
)
def test_bounds_and_order_hold_for_any_messages(
    overflow: Overflow, max_events: int, max_bytes: int, steps: list[tuple[int, str | None, bool]]
) -> None:
    queue = make_queue(overflow, max_events, max_bytes)
    popped: list[int] = []
    dropped = 0
    for number, (length, key, pops) in enumerate(steps):
        try:
            dropped += queue.put(placed(number, "x" * length, key=key))
        except QueueFull:
            assert overflow in (Overflow.DISCONNECT, Overflow.LATEST)
            break
        assert len(queue) <= max_events
        assert queue.size <= max_bytes or len(queue) == 1
        if pops and queue:
            popped.append(queue.pop().sequence)
    else:
        popped += drain(queue)
        assert queue.size == 0
        assert len(popped) + dropped == len(steps)
    assert popped == sorted(set(popped)), "ids only grow"
