"""Ids that say which states their reader has, and batches with such ids."""

from __future__ import annotations

import pytest

from trio_sse import ServerSentEvent
from trio_sse._wire.held_states import id_holding, mark_of, marks_of, split_mark
from trio_sse._wire.message import Batch, Framing, Message


def test_a_mark_is_that_of_the_states_in_any_order() -> None:
    first, *marks = marks_of(["a", "b", "c"])
    assert (first, marks[-1]) == ("", mark_of("cba"))
    assert marks_of(["b", "c"], mark_of("a"))[1:] == marks[1:]
    assert len(set(marks)) == 3


@pytest.mark.parametrize("id", ["6d94802f.7", "1796-0", "7"])
def test_an_id_is_split_into_place_and_mark(id: str) -> None:
    assert split_mark(id_holding(id, mark_of("a"))) == (id, mark_of("a"))
    assert split_mark(id_holding(id, "")) == (id, "")


@pytest.mark.parametrize("id", ["", "a_b", "1_12345678_12345678", "1_1234567G", "_12345678", "1_123456789"])
def test_what_has_no_mark_is_left_as_it_is(id: str) -> None:
    assert split_mark(id) == (id, "")


def test_readers_of_the_same_states_share_a_batch_and_those_of_many_others_do_not_make_it_grow() -> None:
    message = Message("t", ServerSentEvent("x"), "x")
    message.place(1, "1")
    batch = Batch([message])
    first = batch.holding(mark_of("a"))
    assert batch.holding(mark_of("a")) is first
    assert first.framed(Framing.PLAIN) == f"id: 1_{mark_of('a')}\ndata: x\n\n".encode()
    assert message.event.id == "1"
    kept = {batch.holding(mark_of([f"{number}"])) for number in range(100)}
    assert sum(batch.holding(other.messages[0].id.partition("_")[2]) is other for other in [*kept]) <= 16
