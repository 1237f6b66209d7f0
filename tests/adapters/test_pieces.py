"""A text's pieces follow from the text, however it is read."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_sse import RunEmitted, RunOutcome, RunState, RunStatus, RunText
from trio_sse.adapters._pieces import PieceSplitter

HALVES = "\ud83d\ude00"  # of one character
WORDS = (
    st.text(st.sampled_from("ab \n。文é-" + " "), max_size=60)
    | st.text(st.sampled_from("a " + HALVES), max_size=9)
    | st.text(max_size=30)
    | st.just("x" * 70)
)
END = RunOutcome(RunStatus.FINISHED, None, None, "")


def utf16(text: str) -> bytes:
    return text.encode("utf-16", "surrogatepass")


def pieces_of(parts: list[str]) -> list[str]:
    splitter = PieceSplitter()
    found = [item for part in parts for item in splitter.split(RunText(part, "text", ""))]
    return [item.text for item in (*found, *splitter.split(END)) if isinstance(item, RunText)]


@pytest.mark.slow
@given(WORDS, st.lists(st.integers(0, 60)))
def test_pieces_do_not_depend_on_how_a_text_is_read(text: str, cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(text)]
    parts = [text[a:b] for a, b in pairwise(places)]
    assert pieces_of(parts) == pieces_of([text]) == pieces_of(list(text))
    assert utf16("".join(pieces_of([text]))) == utf16(text)


def test_words_are_sent_when_they_are_complete() -> None:
    assert pieces_of(["The answer, ", "well: 42.\n"]) == ["The", " answer,", " well:", " 42.", "\n"]
    assert pieces_of(["文字です"]) == ["文", "字", "で", "す"]
    assert pieces_of(["x" * 50]) == ["x" * 24, "x" * 24, "xx"]


def test_events_come_after_the_whole_text_before_them() -> None:
    splitter = PieceSplitter()
    event = RunEmitted("tool", "1", "")
    assert list(splitter.split(RunText("half", "text", ""))) == []
    assert list(splitter.split(RunText("hidden", "plan", ""))) == []
    assert list(splitter.split(state := RunState("1", ""))) == [state]
    assert list(splitter.split(event)) == [RunText("half", "text", ""), event]
    assert list(splitter.split(event)) == [event]
    every = PieceSplitter(further=True)
    for name in ("plan", "text"):
        assert list(every.split(RunText("one tw", name, ""))) == [RunText("one", name, "")]
    assert list(every.split(event)) == [RunText(" tw", "plan", ""), RunText(" tw", "text", ""), event]
    assert every.further_texts == ["plan"]
