"""What one subscriber receives from a batch is joined to one write, whatever the topics."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from trio_sse._hub.joining import join
from trio_sse._wire.message import Batch, Framing, Message

from ..support.leaks import MakeHub
from ..support.messages import placed
from ..support.recorder import Recorder, record
from ..support.serving import running
from ..support.shares import seeds


class Subscriber:
    connection_number = 0

    def __init__(self, *topics: str) -> None:
        self.topics = topics
        self.batches: list[Batch] = []

    @property
    def received(self) -> list[int]:
        return [message.sequence for batch in self.batches for message in batch.messages]

    def deliver(self, batch: Batch, now: float) -> None:
        self.batches.append(batch)

    def cut_off(self) -> None:
        raise AssertionError


def deliver(messages: Sequence[Message], subscribers: Sequence[Subscriber]) -> int:
    """Deliver messages to those who subscribe to their topics; return how often others could run."""
    topics = dict.fromkeys(message.topic for message in messages)
    bound = [
        (
            [message for message in messages if message.topic == topic],
            [subscriber for subscriber in subscribers if topic in subscriber.topics],
        )
        for topic in topics
    ]
    pauses = 0
    for delivery in join(bound, has_overlaps=True):
        if delivery is None:
            pauses += 1
            continue
        batch, receivers = delivery
        for subscriber in receivers:
            subscriber.deliver(batch, 0)
    return pauses


def messages_of(topics: str, data: str = "x") -> list[Message]:
    return [placed(number, data, topic=topic) for number, topic in enumerate(topics, 1)]


def test_topics_with_the_same_subscribers_share_one_batch() -> None:
    subscribers = [Subscriber("a", "b", "c") for _ in range(5)]
    deliver(messages_of("abcabcab"), subscribers)
    (batch,) = {id(batch): batch for subscriber in subscribers for batch in subscriber.batches}.values()
    assert [message.sequence for message in batch.messages] == [1, 2, 3, 4, 5, 6, 7, 8]


def test_those_with_the_same_topics_share_a_batch_of_their_own() -> None:
    both = [Subscriber("a", "b") for _ in range(5)]
    one = [Subscriber("a") for _ in range(5)]
    deliver(messages_of("abcab"), [*both, *one])
    assert [subscriber.received for subscriber in both] == [[1, 2, 4, 5]] * 5
    assert [subscriber.received for subscriber in one] == [[1, 4]] * 5
    assert len({id(batch) for subscriber in both + one for batch in subscriber.batches}) == 2


def test_the_others_of_a_shared_topic_are_not_affected_by_what_one_has_besides() -> None:
    everyone = [Subscriber("all", f"user/{number}") for number in range(100)]
    topics = ["all", "user/3", "all", "user/7", "all"]
    deliver([placed(number, topic=topic) for number, topic in enumerate(topics, 1)], everyone)
    assert everyone[3].received == [1, 2, 3, 5]
    assert everyone[7].received == [1, 3, 4, 5]
    shared = {
        id(batch) for number, each in enumerate(everyone) for batch in each.batches if number not in (3, 7)
    }
    assert len(shared) == 1


def test_what_few_share_is_joined_in_pieces() -> None:
    first, second = Subscriber("a", "b"), Subscriber("a", "c")
    deliver(messages_of("abcac" * 20, "x" * 1000), [first, second])
    for subscriber in (first, second):
        assert max(batch.size for batch in subscriber.batches) <= 16 * 1024
        assert len(subscriber.batches) <= 6


@pytest.mark.parametrize(("count", "batches"), [(3, [4, 4, 1]), (4, [9])])
def test_a_piece_is_as_large_as_it_may_be(count: int, batches: list[int]) -> None:
    subscribers = [Subscriber("a", "b") for _ in range(count)]
    overhead = len(placed(1).wire) - len("x")
    deliver(messages_of("ab" * 4 + "a", "x" * (4096 - overhead)), [*subscribers, Subscriber("b")])
    for subscriber in subscribers:
        assert [len(batch.messages) for batch in subscriber.batches] == batches


def test_messages_for_the_same_few_are_one_batch_as_those_of_one_topic_are() -> None:
    same = [Subscriber("a", "b") for _ in range(2)]
    deliver(messages_of("ab" * 20, "x" * 1000), same)
    disjoint = [Subscriber("a"), Subscriber("b")]
    deliver(messages_of("ab" * 20, "x" * 1000), disjoint)
    assert [len(subscriber.batches) for subscriber in [*same, *disjoint]] == [1] * 4


def test_a_large_message_is_shared_by_those_who_have_its_topic_alone() -> None:
    alone, both = [Subscriber("a") for _ in range(3)], Subscriber("a", "b")
    deliver([placed(1, "x" * 100_000, topic="a"), placed(2, topic="b")], [*alone, both])
    assert [subscriber.received for subscriber in (*alone, both)] == [[1], [1], [1], [1, 2]]
    assert len({id(subscriber.batches[0]) for subscriber in (*alone, both)}) == 1


def test_a_large_message_is_encoded_once_for_all() -> None:
    subscribers = [Subscriber("a", f"{number}") for number in range(9)]
    large = placed(1, "x" * 100_000, topic="a")
    own = [placed(number + 2, topic=f"{number}") for number in range(9)]
    deliver([large, *own], subscribers)
    assert [subscriber.received for subscriber in subscribers] == [[1, number] for number in range(2, 11)]
    assert len({id(subscriber.batches[0].framed(Framing.CHUNKED)) for subscriber in subscribers}) == 1


def test_topics_without_subscribers_cost_nothing() -> None:
    subscribers = [Subscriber("a") for _ in range(5)]
    deliver(messages_of("abababab"), subscribers)
    assert [len(subscriber.batches) for subscriber in subscribers] == [1] * 5
    deliver(messages_of("bcbc"), subscribers)
    assert [len(subscriber.batches) for subscriber in subscribers] == [1] * 5


def test_other_tasks_run_while_sets_are_made() -> None:
    chance = random.Random(1)
    topics = "abcdefghij"
    subscribers = [Subscriber(*chance.sample(topics, 5)) for _ in range(3000)]
    assert deliver(messages_of(topics), subscribers) >= 2
    assert all(len(subscriber.received) == 5 for subscriber in subscribers)


def test_other_tasks_run_while_large_topics_are_compared() -> None:
    subscribers = [Subscriber() for _ in range(8000)]
    bound = [([placed(number, topic=f"{number}")], list(subscribers)) for number in range(1, 41)]
    *pauses, delivery = join(bound, has_overlaps=True)
    assert pauses == [None] * 3
    assert delivery is not None
    assert len(delivery[0].messages) == 40


@given(
    st.lists(st.sets(st.sampled_from("abcdef")), max_size=12),
    st.lists(st.sampled_from("abcdef"), min_size=1, max_size=40),
    st.integers(1, 9000),
)
def test_everyone_receives_exactly_its_messages_in_order(
    sets: list[set[str]], topics: list[str], length: int
) -> None:
    subscribers = [Subscriber(*topics) for topics in sets]
    messages = messages_of("".join(topics), "x" * length)
    deliver(messages, subscribers)
    for subscriber in subscribers:
        expected = [message.sequence for message in messages if message.topic in subscriber.topics]
        assert subscriber.received == expected


async def test_topics_that_take_turns_are_one_write(make_hub: MakeHub) -> None:
    hub, both, one = make_hub(), Recorder(), Recorder()
    async with running(hub) as nursery:
        nursery.start_soon(record, hub, both, "a", "b")
        nursery.start_soon(record, hub, one, "b", "c")
        await wait_all_tasks_blocked()
        for topic in "aabaccbb":
            hub.publish_nowait(topic, topic)
        await wait_all_tasks_blocked()
        assert hub.statistics().deliveries == 6 + 5
    assert (both.events, one.events) == ([6], [5])
    for recorder, expected in ((both, [1, 2, 3, 4, 7, 8]), (one, [3, 5, 6, 7, 8])):
        (write,) = recorder.written
        assert [int(line.split(b".")[1]) for line in write.splitlines()[::3]] == expected


@pytest.mark.parametrize("seed", seeds(10))
async def test_any_subscriptions_receive_what_is_theirs(make_hub: MakeHub, seed: int) -> None:
    chance = random.Random(seed)
    hub = make_hub()
    topics = "abcde"
    recorders = [(Recorder(), chance.sample(topics, chance.randint(1, 5))) for _ in range(20)]
    async with running(hub) as nursery:
        for recorder, chosen in recorders:
            nursery.start_soon(record, hub, recorder, *chosen)
        await wait_all_tasks_blocked()
        published = [chance.choice(topics) for _ in range(500)]
        for number, topic in enumerate(published, 1):
            await hub.publish(topic, f"{number}")
        await wait_all_tasks_blocked()
    for recorder, chosen in recorders:
        ids = [int(line.partition(b".")[2]) for line in b"".join(recorder.written).splitlines()[::3]]
        assert ids == [number for number, topic in enumerate(published, 1) if topic in chosen]
