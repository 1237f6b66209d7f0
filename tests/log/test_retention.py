"""What a log keeps of each topic: fair shares of its bounds, the topics' own bounds, and where gaps are."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from trio_sse import Retention
from trio_sse._log import topic_log
from trio_sse._log.memory import Gap, MemoryLog, Page
from trio_sse._log.retention import RetentionRules
from trio_sse._shared_log.protocol import Entry
from trio_sse._shared_log.window import Window

from ..support.cases import each_case
from ..support.clocks import StoppedClock
from ..support.messages import message
from ..support.shares import seeds

HUGE = 10**9

SIZE = len("id: 01234567.1\ndata: \n\n")  # of a message without data


def make_log(
    *,
    max_events: int = HUGE,
    max_bytes: int = HUGE,
    retention: dict[str, Retention] | None = None,
    clock: StoppedClock | None = None,
) -> MemoryLog:
    rules = None if retention is None else RetentionRules(retention)
    return MemoryLog(
        max_events=max_events, max_bytes=max_bytes, retention=rules, clock=clock or StoppedClock()
    )


def publish(log: MemoryLog, topic: str, *data: str) -> None:
    for each in data or ("x",):
        log.append(message(each, topic=topic))


def held(log: MemoryLog, topic: str) -> list[int]:
    """Return the sequences of a topic's messages, from the first that can be read without a gap."""
    position = log.position_of(log.first_id((topic,)), (topic,))
    assert isinstance(position, int)
    found: list[int] = []
    while messages := read(log, position, topic):
        found += messages
        position = messages[-1]
    return found


def read(log: MemoryLog, position: int, *topics: str) -> list[int]:
    page = log.read(position, topics)
    assert isinstance(page, Page)
    return [each.sequence for each in page.messages]


# Fair shares


def test_a_busy_topic_does_not_evict_a_quiet_one() -> None:
    log = make_log(max_events=10)
    publish(log, "quiet", "a", "b")
    for _ in range(100):
        publish(log, "busy")
    assert held(log, "quiet") == [1, 2]
    assert held(log, "busy") == list(range(95, 103))
    assert (len(log), log.topics, log.evicted) == (10, 2, 92)


def test_a_large_topic_does_not_evict_a_small_one() -> None:
    log = make_log(max_bytes=10_000)
    publish(log, "small", "a", "b")
    for _ in range(20):
        publish(log, "large", "x" * 1000)
    assert held(log, "small") == [1, 2]
    assert len(held(log, "large")) == 9
    assert log.size <= 10_000


def test_a_topic_that_was_busy_makes_room_for_others() -> None:
    log = make_log(max_events=10)
    publish(log, "past", *"x" * 10)
    publish(log, "now", *"x" * 100)
    assert len(held(log, "past")) == len(held(log, "now")) == 5


def test_among_equals_the_oldest_message_goes() -> None:
    log = make_log(max_events=3)
    for topic in "abcd":
        publish(log, topic)
    assert [held(log, topic) for topic in "abcd"] == [[], [2], [3], [4]]


@each_case(
    ("max_events", "max_bytes", "published", "kept"),
    [
        (6, HUGE, "a30 b30 b30 b30 c30 c30 c30", {"a": [1], "b": [2, 3, 4], "c": [6, 7]}),  # the larger one
        (3, HUGE, "a30 a30 b30 b30", {"a": [2], "b": [3, 4]}),  # of two halves, the one with the oldest
        (3, 230, "a200 b30 b30", {"a": [], "b": [2, 3]}),  # by bytes, if these are too many
        (9, 200, "a30 b100 b100", {"a": [1], "b": [3]}),  # of two messages, the first
        (9, 200, "a30 b200", {"a": [], "b": [2]}),  # one that has exactly the bound stays
        (9, 230, "a100 a100 b30 b30", {"a": [2], "b": [3, 4]}),  # the smaller one loses nothing
    ],
)
def test_who_makes_room(max_events: int, max_bytes: int, published: str, kept: dict[str, list[int]]) -> None:
    log = make_log(max_events=max_events, max_bytes=max_bytes)
    for each in published.split():
        size = int(each[1:])
        made = message("x" * (size - SIZE), topic=each[0])
        log.append(made)
        assert len(made.wire) == size
    assert {topic: held(log, topic) for topic in kept} == kept


def test_the_only_message_of_a_topic_stays_though_it_is_large() -> None:
    log = make_log(max_bytes=10_000)
    for number in range(90):
        publish(log, f"small/{number}", "x" * 80)
    publish(log, "large", "x" * 5000)
    assert held(log, "large") == [91]
    assert log.size <= 10_000


def test_a_message_larger_than_the_bound_evicts_nothing_of_others() -> None:
    log = make_log(max_bytes=1000)
    publish(log, "a", "1", "2")
    publish(log, "b", "x" * 2000)
    assert (held(log, "a"), held(log, "b")) == ([1, 2], [])
    assert log.covers(2, ("a",))
    assert not log.covers(2, ("a", "b"))


def test_topics_that_lose_all_leave_nothing_behind() -> None:
    log = make_log(max_events=10, retention={"none/*": Retention(events=0)})
    publish(log, "quiet")
    for number in range(5000):
        publish(log, f"none/{number % 7}")
        publish(log, f"once/{number}")
    assert log.topics == len(log) == 10
    assert len(log._oldest._entries) < 200


# Gaps


def test_a_gap_is_only_what_these_topics_have_lost() -> None:
    log = make_log(max_events=4)
    publish(log, "quiet")
    publish(log, "busy", *"x" * 10)
    assert read(log, 0, "quiet") == [1]
    assert read(log, 1, "quiet") == []
    assert read(log, 0, "never") == []
    assert log.read(1, ("busy",)) is Gap.EXPIRED
    assert log.read(7, ("quiet", "busy")) is Gap.EXPIRED
    assert read(log, 8, "quiet", "busy") == [9, 10, 11]


def test_a_loss_is_known_after_the_topic_is_gone_and_back() -> None:
    log = make_log(max_events=2)
    for topic in "abc":
        publish(log, topic)
    assert held(log, "a") == []
    assert [log.covers(position, ("a",)) for position in (0, 1)] == [False, True]
    publish(log, "a")
    assert [log.covers(position, ("a",)) for position in (0, 1)] == [False, True]


def test_the_oldest_cursor_of_topics_is_after_their_losses() -> None:
    log = make_log(retention={"clock": Retention(events=1)})
    publish(log, "room", "a", "b")
    publish(log, "clock", *"x" * 5)
    assert log.first_id(("room",)) == log.id_at(0)
    assert log.first_id(("room", "clock")) == log.first_id(()) == log.id_at(6)


def test_what_was_lost_is_recorded_for_a_bounded_number_of_topics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topic_log, "_MOST_RECORDED", 3)
    log = make_log(max_events=3)
    for topic in "abcdefgh":  # of which the last three stay
        publish(log, topic)
    # What c, d and e have lost is recorded. All others may have lost what a and b have, at most.
    assert [log.covers(1, (topic,)) for topic in ("a", "b", "c", "d", "e", "never")] == [False] * 6
    assert [log.covers(2, (topic,)) for topic in ("a", "b", "never")] == [True] * 3
    assert [log.covers(3, (topic,)) for topic in "cde"] == [True, False, False]
    assert [log.covers(0, (topic,)) for topic in "fgh"] == [True, True, False]  # h came when a was forgotten


# The topics' own bounds


def test_a_topic_is_bounded_in_events() -> None:
    log = make_log(retention={"prices/*": Retention(events=2)})
    for topic in ("prices/a", "prices/b", "other"):
        publish(log, topic, *"wxyz")
    assert [len(held(log, topic)) for topic in ("prices/a", "prices/b", "other")] == [2, 2, 4]


def test_a_topic_is_bounded_in_bytes() -> None:
    log = make_log(retention={"t": Retention(bytes=3000)})
    publish(log, "t", *["x" * 900] * 10)
    assert held(log, "t") == [8, 9, 10]


def test_a_topic_of_which_nothing_is_kept() -> None:
    log = make_log(retention={"typing": Retention(events=0)})
    publish(log, "typing", "a")
    assert (len(log), log.topics) == (0, 0)
    assert [log.covers(position, ("typing",)) for position in (0, 1)] == [False, True]


def test_a_topic_is_bounded_in_age() -> None:
    clock = StoppedClock()
    log = make_log(retention={"t": Retention(age=10)}, clock=clock)
    for clock.now in (0, 4, 8):
        publish(log, "t")
        publish(log, "other")
    clock.now = 9.9
    assert read(log, 0, "t") == [1, 3, 5]
    clock.now = 14
    assert not log.covers(2, ("t",))
    assert read(log, 3, "t") == [5]
    assert log.covers(0, ("other",))
    assert len(log) == 4


def test_old_messages_go_when_something_else_is_published() -> None:
    clock = StoppedClock()
    log = make_log(retention={"old/*": Retention(age=10)}, clock=clock)
    for number in range(5):
        publish(log, f"old/{number}", "a", "b")
        clock.now += 1
    clock.now = 12.5
    publish(log, "new")
    assert (log.topics, len(log)) == (3, 5)
    clock.now = 100
    publish(log, "new")
    assert (log.topics, len(log)) == (1, 2)


def test_the_first_pattern_that_matches_counts() -> None:
    log = make_log(retention={"a/keep": Retention(), "a/*": Retention(events=1), "*": Retention(events=3)})
    for topic in ("a/keep", "a/b", "z"):
        publish(log, topic, *"vwxyz")
    assert [len(held(log, topic)) for topic in ("a/keep", "a/b", "z")] == [5, 1, 3]


@each_case(
    ("pattern", "topic", "matches"),
    [
        ("prices/*", "prices/", True),
        ("prices/*", "prices/a/b", True),
        ("prices/*", "prices", False),
        ("prices/*", "my prices/a", False),
        ("*", "x", True),
        ("a*b**c", "abc", True),
        ("a*b*c", "acb", False),
        ("[ab].?", "[ab].?", True),
        ("[ab].?", "a.x", False),
        ("preis/*", "preis/Öl €", True),
    ],
)
def test_patterns(pattern: str, topic: str, matches: bool) -> None:
    rules = RetentionRules({pattern: Retention(events=1)})
    assert (rules.of(topic) is not None) == matches


@each_case(
    ("bounds", "error", "text"),
    [
        ({"events": -1}, ValueError, "events must be at least 0"),
        ({"events": 1.0}, TypeError, "events must be an int"),
        ({"events": True}, TypeError, "events must be an int"),
        ({"bytes": -1}, ValueError, "bytes must be at least 0"),
        ({"bytes": "1"}, TypeError, "bytes must be an int"),
        ({"age": 0}, ValueError, "age must be more than 0 seconds"),
        ({"age": math.nan}, ValueError, "age must be more than 0 seconds"),
        ({"age": "1"}, TypeError, "age must be a number of seconds"),
    ],
)
def test_a_bound_that_is_not_acceptable(bounds: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        Retention(**bounds)


@each_case(
    ("rules", "error", "text"),
    [
        ([], TypeError, "retention must be a mapping of patterns, not list"),
        ({"t": 5}, TypeError, r"retention\['t'\] must be a Retention, not int"),
        ({7: Retention()}, TypeError, "a pattern of retention must be a str, not int"),
        ({"": Retention()}, ValueError, "1 to 256 characters"),
        ({"x" * 257: Retention()}, ValueError, "1 to 256 characters"),
        ({"a\nb": Retention()}, ValueError, "1 to 256 characters"),
    ],
)
def test_rules_that_are_not_acceptable(rules: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        RetentionRules(rules)


# At random


@pytest.mark.parametrize("seed", seeds(20))
def test_nothing_is_missing_or_repeated_without_a_gap(seed: int) -> None:
    """What can be read after each position is all that was appended there, or there is a gap."""
    chance, clock = random.Random(seed), StoppedClock()
    log = make_log(
        max_events=chance.choice([0, 1, 7, 40]),
        max_bytes=chance.choice([60, 600, HUGE]),
        retention={
            "a*": Retention(events=chance.choice([0, 1, 5])),
            "b*": Retention(bytes=chance.choice([0, 50, 300])),
            "c*": Retention(age=chance.choice([0.5, 5])),
        },
        clock=clock,
    )
    names = [f"{kind}{number}" for kind in "abcd" for number in range(3)]
    published: list[str] = []
    for _ in range(400):
        topic = chance.choice(names[: chance.randint(1, len(names))])
        publish(log, topic, "x" * chance.choice([0, 10, 100]))
        published.append(topic)
        clock.now += chance.choice([0, 0, 0.1, 3])
        topics = tuple(chance.sample(names, chance.randint(1, 3)))
        position = chance.randint(0, len(published))
        found = log.read(position, topics)
        if isinstance(found, Page):
            expected = [n for n, name in enumerate(published, 1) if n > position and name in topics]
            assert [each.sequence for each in found.messages] == expected
        first = log.position_of(log.first_id(topics), topics)
        assert isinstance(first, int)
        assert log.covers(first, topics)
        assert first == 0 or not log.covers(first - 1, topics)
    assert log.size == sum(topic.size for topic in log._by_topic.values())
    assert len(log) == sum(len(topic.messages) for topic in log._by_topic.values())


# The window on a shared log


def make_window(*topics: str, max_events: int) -> Window:
    window = Window(max_events=max_events, max_bytes=HUGE)
    window.restart("5", 0, "5-0")
    for number, topic in enumerate(topics, 1):
        record = f"{number}".encode()
        window.put(Entry(f"{10 + number}-0", "5", number, record), message(topic=topic))
    return window


def test_a_window_knows_the_ids_of_what_it_has_dropped() -> None:
    window = make_window("quiet", *["busy"] * 9, max_events=4)
    for number in (1, 7, 8, 10):  # quiet's only message, and those of the newest four entries
        assert window.position_of(f"{10 + number}-0", ("quiet",)) == number
    for number in (2, 3, 6):
        assert window.position_of(f"{10 + number}-0", ("quiet",)) is Gap.EXPIRED
    assert window.position_of("12-5", ("quiet",)) is Gap.EXPIRED
    assert window.position_of("4-9", ("quiet",)) is Gap.UNKNOWN
    assert window.position_of(window.first_id(("busy",)), ("busy",)) == 7
    assert read(window, 1, "quiet") == []
    assert window.read(6, ("busy",)) is Gap.EXPIRED


def test_a_window_compares_the_records_of_the_newest_entries() -> None:
    window = make_window("quiet", *["busy"] * 9, max_events=4)
    assert [window.holds_record(number, f"{number}".encode()) for number in (6, 7, 10, 11)] == [
        *(False, True, True, False)
    ]
    assert [window.contradicts(number, b"other") for number in (6, 7, 10, 11)] == [False, True, True, False]
    assert not window.contradicts(10, b"10")


def test_topics_that_expire_at_the_same_time_do_so() -> None:
    """They have equal places in the order of expiries, also when that is made anew."""
    clock = StoppedClock()
    log = make_log(max_events=40, retention={"*": Retention(age=5)}, clock=clock)
    for number in range(200):
        publish(log, f"t{number}")
    assert len(log) == 40
    clock.now += 6
    log.read(0, ())
    assert len(log) == 0


def test_an_order_of_topics_is_made_anew_when_half_of_it_is_out_of_date() -> None:
    heap = topic_log.TopicHeap(lambda topic: topic.messages[0].sequence)
    for live, most in ((50, 100), (10, 64)):
        heap.clear()
        for number in range(most + 1):
            heap.add(topic_log.TopicLog(f"t{number}", (0, ""), None), 0, live)  # equal places, too
        assert len(heap._entries) == most + 1
        heap.add(topic_log.TopicLog("last", (0, ""), None), 0, live)
        assert len(heap._entries) == 1
