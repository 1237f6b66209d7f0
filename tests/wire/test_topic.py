"""The names of topics."""

from __future__ import annotations

import enum

import pytest

from trio_sse._wire.topic import MAX_TOPIC_LENGTH, MAX_TOPICS, TopicError, check_topic, check_topics

from ..support.cases import each_case


@each_case(
    "topic",
    [
        "x",
        "prices/EUR",
        "a b",
        "grüße",
        "*",
        "#",
        "\U0001f600",
        "x" * MAX_TOPIC_LENGTH,
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # Persian, with a non-joiner
        "\u0915\u094d\u200d\u0937",  # Hindi, with a joiner
        "\U0001f468\u200d\U0001f469\u200d\U0001f467",  # a family
        "\u05d7\u05d3\u05e8\u200e1",  # Hebrew, with a mark of direction
        "\u2068name\u2069",  # isolated, as messengers do with names
        "a\xa0b",
        "\u90e8\u5c4b\u3000\u4e00",  # an ideographic space
        "\U0001fae9",  # newer than the Unicode of Python 3.11
        "\U000e0fff",  # of no Unicode yet
        "\ue000",  # private use
        "\ufeff",
    ],
)
def test_text_of_any_script_is_a_name(topic: str) -> None:
    assert check_topic(topic) == topic


@each_case(
    "topic",
    [
        *("a\nb", "a\rb", "\0", "a\tb", "\x7f", "\x85", "\x9f"),
        *("a\u2028", "\u2029", "a\u202d", "\u202eb", "\ud800", "a\udfff"),
    ],
)
def test_characters_that_do_harm_are_refused(topic: str) -> None:
    with pytest.raises(TopicError, match=r"control characters or the like: U\+[0-9A-F]{4}$"):
        check_topic(topic)


@pytest.mark.parametrize("length", [0, MAX_TOPIC_LENGTH + 1, 10**6])
def test_names_out_of_bounds_are_refused_without_quoting_them(length: int) -> None:
    with pytest.raises(TopicError, match=f"1 to {MAX_TOPIC_LENGTH} characters, not {length}$"):
        check_topic("x" * length)


@each_case("topic", [None, 7, b"x", ["x"], ("x",)])
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
