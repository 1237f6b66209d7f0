"""Ids of connections that forward several subscriptions."""

from __future__ import annotations

from trio_sse._wire.composite_id import NOTHING, CompositeId, compose, parse_composite, tag_of
from trio_sse._wire.cursor import Cursor

from ..support.cases import each_case

A, B, C = (tag_of((topic,), None) for topic in "abc")


@each_case(
    ("a", "b", "composed"),
    [
        (Cursor(7, "6d94802f.7"), Cursor(5, "6d94802f.5"), f"6d94802f.5~{A}.7~{B}.5"),
        (Cursor(7, "1700-3"), Cursor(9, "1701-0"), f"1700-3~{A}.1700-3~{B}.1701-0"),
        (Cursor(7, "6d94802f.7"), Cursor(2, "0badc0de.2"), f"0badc0de.2~{A}.6d94802f.7~{B}.2"),
        (Cursor(7, "6d94802f.7"), Cursor(2, "1700-2"), f"1700-2~{A}.6d94802f.7~{B}.1700-2"),
        (Cursor(2, "6d94802f.2"), Cursor(7, "1700-2"), f"6d94802f.2~{A}.2~{B}.1700-2"),
    ],
)
def test_an_id_names_the_position_of_each_subscription(a: Cursor, b: Cursor, composed: str) -> None:
    assert compose([(A, a), (B, b)]) == composed
    first = min(a, b)
    assert parse_composite(composed) == CompositeId(first.id, {A: a.id, B: b.id})


def test_the_same_subscription_twice_has_the_first_of_its_positions() -> None:
    composed = compose([(A, Cursor(7, "e.7")), (A, Cursor(5, "e.5"))])
    assert parse_composite(composed) == CompositeId("e.5", {A: "e.5"})


def test_positions_that_nobody_has_claimed_are_kept() -> None:
    pinned = parse_composite(compose([(A, Cursor(7, "e.7")), (B, Cursor(5, "e.5"))]))
    composed = compose([(A, Cursor(9, "e.9"))], pinned)
    assert parse_composite(composed) == CompositeId("e.5", {A: "e.9", B: "e.5"})


def test_one_that_has_received_nothing_is_known_to_no_log() -> None:
    composed = compose([(A, Cursor(7, "6d94802f.7")), (B, NOTHING)])
    parsed = parse_composite(composed)
    assert parsed is not None
    assert parsed.base == NOTHING.id
    assert parsed.own[A] == "6d94802f.7"


def test_an_id_that_would_be_too_long_is_the_first_position() -> None:
    cursors = [(tag_of((f"{number}",), None), Cursor(number, f"e.{number}")) for number in range(3, 300)]
    assert compose(cursors) == "e.3"


@each_case(
    "text",
    ["", "~", "e.7", "e~1.7", "e.7~", f"e.7~{A}", f"e.7~{A}.", f"~{A}.7", f"e.7~{A}.7\n", f"é.7~{A}.7"],
)
def test_other_ids_are_not_composite(text: str) -> None:
    assert parse_composite(text) is None


def test_a_tag_depends_on_topics_and_pace_but_not_on_their_order() -> None:
    assert tag_of(("a", "b"), None) == tag_of(("b", "a"), None) == "316a3ac2"
    tags = {A, B, C, tag_of(("a", "b"), None), tag_of(("a",), (1.0, True)), tag_of(("a",), (1.0, False))}
    assert len(tags) == 6
