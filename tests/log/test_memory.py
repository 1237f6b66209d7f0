"""The log: ids, bounds, pages and gaps."""

from __future__ import annotations

import re

from trio_sse._log.memory import PAGE_BYTES, PAGE_EVENTS, Gap, MemoryLog, Page

from ..support.cases import each_case
from ..support.messages import message

T = ("t",)


def make_log(count: int = 0, *, max_events: int = 100, max_bytes: int = 10**9) -> MemoryLog:
    log = MemoryLog(max_events=max_events, max_bytes=max_bytes)
    for number in range(1, count + 1):
        log.append(message(f"d{number}"))
    return log


def sequences(log: MemoryLog, position: int, topics: tuple[str, ...] = T) -> tuple[list[int], int]:
    found = log.read(position, topics)
    assert isinstance(found, Page)
    return [each.sequence for each in found.messages], found.position


def test_ids_are_the_epoch_and_a_sequence_from_one() -> None:
    log = make_log()
    first, second = message(), message()
    log.append(first)
    log.append(second)
    assert [first.id, second.id] == [f"{log.epoch}.1", f"{log.epoch}.2"]
    assert [first.sequence, second.sequence] == [1, 2]


def test_an_appended_message_carries_its_id_on_the_wire() -> None:
    log = make_log()
    appended = message("x")
    log.append(appended)
    assert appended.wire == f"id: {log.epoch}.1\ndata: x\n\n".encode()
    assert appended.event.id == f"{log.epoch}.1"


def test_ids_need_no_escaping() -> None:
    assert re.fullmatch(r"[0-9A-Za-z_~-]+\.[0-9]+", make_log(3).id_at(3))


def test_every_log_has_an_epoch_of_its_own() -> None:
    assert len({make_log().epoch for _ in range(100)}) == 100


def test_a_copy_gets_an_epoch_of_its_own() -> None:
    log = make_log(3)
    first, id = log.epoch, log.last_id
    log.renew()
    assert all(re.fullmatch("[0-9a-f]{8}", epoch) for epoch in (first, log.epoch))
    assert log.position_of(id, T) is Gap.UNKNOWN
    assert sequences(log, 0) == ([1, 2, 3], 3)


def test_what_it_holds_of_a_topic() -> None:
    log = make_log()
    for topic in "aab":
        log.append(message(topic=topic))
    assert (log.size_of("a"), log.size_of("z")) == ((2, 2 * log.size // 3), (0, 0))
    assert [None if newest is None else newest.sequence for newest in map(log.newest, "abz")] == [2, 3, None]
    assert [None if part is None else part.name for part in map(log.topic_log, "az")] == ["a", None]
    assert [part.name for part in log.topic_logs()] == ["a", "b"]
    assert (log.first_id(()), log.is_ahead(log.id_at(9))) == (log.id_at(0), False)


def test_it_is_bounded_in_events() -> None:
    log = make_log(10, max_events=3)
    assert (len(log), log.first_id(T), log.last) == (3, log.id_at(7), 10)


def test_it_is_bounded_in_bytes() -> None:
    size = make_log(1).size
    log = make_log(9, max_bytes=size * 4 + 1)
    assert (len(log), log.size) == (4, size * 4)


def test_a_message_larger_than_the_bound_is_not_kept() -> None:
    log = make_log(3, max_bytes=1000)
    log.append(message("x" * 1000))
    assert (len(log), log.size, log.first_id(T), log.last) == (0, 0, log.id_at(4), 4)


def test_a_log_without_history_still_assigns_ids() -> None:
    log = make_log(5, max_events=0)
    assert (len(log), log.last) == (0, 5)
    assert [log.covers(position, T) for position in (4, 5)] == [False, True]


def test_positions_from_the_newest_loss_to_the_last_can_be_read_on_from() -> None:
    log = make_log(10, max_events=3)
    assert [log.position_of(log.id_at(n), T) for n in (6, 7, 10, 11)] == [6, 7, 10, Gap.UNKNOWN]
    assert [log.covers(n, T) for n in (6, 7, 10)] == [False, True, True]


def test_an_empty_log_can_be_read_on_from_its_start() -> None:
    log = make_log()
    assert log.position_of(log.id_at(0), T) == 0
    assert log.covers(0, T)
    assert log.read(0, ("t",)) == ([], 0, log.last_id)


NOT_IDS = [
    "",
    "7",
    ".",
    "x.",
    ".7",
    "x.7 ",
    "x.7\n",
    "x.+7",
    "x.-7",
    "x.07",
    "x.\u0667",
    "x." + "9" * 19,
    "x" * 33 + ".7",
]
NOT_IDS += ["x:7", "x.7.7", "\0", "é.7", "x.7" * 10_000, "0-0", "$"]


@each_case("event_id", NOT_IDS)
def test_an_invalid_id_is_unknown(event_id: str) -> None:
    log = make_log(10)
    log.epoch = "x"
    assert log.position_of(event_id, T) is Gap.UNKNOWN


def test_an_id_of_another_epoch_is_unknown() -> None:
    log = make_log(10)
    assert log.position_of(make_log(10).id_at(5), T) is Gap.UNKNOWN


def test_an_id_from_the_future_is_unknown() -> None:
    log = make_log(10)
    assert log.position_of(log.id_at(11), T) is Gap.UNKNOWN


def test_reading_returns_the_messages_after_a_position() -> None:
    assert sequences(make_log(5), 2) == ([3, 4, 5], 5)


def test_reading_skips_other_topics_and_their_positions() -> None:
    log = make_log()
    for topic in "abcab":
        log.append(message(topic=topic))
    assert sequences(log, 0, ("b",)) == ([2, 5], 5)
    assert sequences(log, 0, ("a", "c")) == ([1, 3, 4], 5)
    assert sequences(log, 0, ("z",)) == ([], 5)


def test_a_page_is_bounded_in_events() -> None:
    log = make_log(PAGE_EVENTS + 5, max_events=1000)
    assert sequences(log, 0) == (list(range(1, PAGE_EVENTS + 1)), PAGE_EVENTS)
    assert sequences(log, PAGE_EVENTS) == (list(range(PAGE_EVENTS + 1, PAGE_EVENTS + 6)), PAGE_EVENTS + 5)


def test_a_page_is_bounded_in_bytes() -> None:
    log = make_log()
    for _ in range(5):
        log.append(message("x" * (PAGE_BYTES // 2 - 100)))
    assert sequences(log, 0) == ([1, 2], 2)
    assert sequences(log, 2) == ([3, 4], 4)


def test_a_message_larger_than_a_page_has_one_of_its_own() -> None:
    log = make_log(1)
    log.append(message("x" * PAGE_BYTES * 2))
    log.append(message("y"))
    assert [sequences(log, n)[0] for n in (0, 1, 2)] == [[1], [2], [3]]


def test_reading_from_before_the_start_is_a_gap() -> None:
    log = make_log(10, max_events=3)
    assert log.read(6, ("t",)) is Gap.EXPIRED
    assert sequences(log, 7) == ([8, 9, 10], 10)


def test_pages_meet_exactly_wherever_they_are_cut() -> None:
    log = make_log(max_events=2000)
    for number in range(1500):
        log.append(message("x" * (number % 700), topic="ab"[number % 3 == 0]))
    position, read = 0, []
    while (page := sequences(log, position, ("a",)))[0]:
        read += page[0]
        position = page[1]
    assert read == [number + 1 for number in range(1500) if number % 3]


def test_a_page_that_has_exactly_its_bytes_has_no_more() -> None:
    log = make_log(1)
    size = log.size
    log.append(message("x" * (PAGE_BYTES - 2 * size + 2)))
    log.append(message())
    found = log.read(0, T)
    assert isinstance(found, Page)
    assert sum(len(each.wire) for each in found.messages) == PAGE_BYTES
    assert (found.position, found.id) == (2, log.id_at(2))
