"""The names of topics."""

from __future__ import annotations

import enum

import pytest

from trio_sse._wire.topic import MAX_TOPIC_LENGTH, MAX_TOPICS, TopicError, check_topic, check_topics


@pytest.mark.parametrize(
    "topic", ["x", "prices/EUR", "a b", "grüße", "*", "#", "\U0001f600", "x" * MAX_TOPIC_LENGTH]
)
def test_printable_text_is_a_name(topic: str) -> None:
    assert check_topic(topic) == topic


@pytest.mark.parametrize(
    "topic", ["a\nb", "a\rb", "\0", "a\tb", "\x7f", "\u2028", "\u202e", "\ud800", "\xa0"]
)
def test_characters_that_are_not_printable_are_refused(topic: str) -> None:
    with pytest.raises(TopicError, match="printable"):
        check_topic(topic)


@pytest.mark.parametrize("length", [0, MAX_TOPIC_LENGTH + 1, 10**6])
def test_names_out_of_bounds_are_refused_without_quoting_them(length: int) -> None:
    with pytest.raises(TopicError, match=f"1 to {MAX_TOPIC_LENGTH} characters, not {length}$"):
        check_topic("x" * length)


@pytest.mark.parametrize("topic", [None, 7, b"x", ["x"], ("x",)])
def test_a_topic_that_is_not_a_string_is_refused(topic: object) -> None:
    with pytest.raises(TypeError, match=f"a topic must be a str, not {type(topic).__name__}"):
        check_topic(topic)


def test_a_string_of_a_subclass_is_the_topic_of_its_value() -> None:
    class Topic(enum.StrEnum):
        PRICES = "prices"

    assert {check_topic(Topic.PRICES): 1}["prices"]


def test_a_repeated_topic_counts_once() -> None:
    assert check_topics(["b", "a", "b"]) == ("b", "a")


@pytest.mark.parametrize("count", [0, MAX_TOPICS + 1])
def test_too_few_or_too_many_topics_are_refused(count: int) -> None:
    with pytest.raises(TopicError, match=f"1 to {MAX_TOPICS} topics, not {count}"):
        check_topics(str(number) for number in range(count))


def test_topics_are_counted_before_they_are_checked() -> None:
    names = iter(["\n"] * 1_000_000)
    with pytest.raises(TopicError, match=f"1 to {MAX_TOPICS} topics, not more than"):
        check_topics(names)
    assert next(names) == "\n", "the rest was not looked at"


def test_topics_may_be_repeated_within_reason() -> None:
    names = [str(number) for number in range(MAX_TOPICS)]
    assert check_topics(names * 4) == tuple(names)


def test_the_most_topics_are_accepted() -> None:
    assert len(check_topics(str(number) for number in range(MAX_TOPICS))) == MAX_TOPICS


def test_a_topic_error_is_a_value_error() -> None:
    assert issubclass(TopicError, ValueError)
