"""The bounds of an event: they count what is sent, and whatever can be encoded decodes."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from trio_sse import EventDecoder, ServerSentEvent
from trio_sse._wire.event import (
    MAX_COMMENT_SIZE,
    MAX_DATA_SIZE,
    MAX_NAME_SIZE,
    check_key,
    dumps_compact,
    encode_comment,
)
from trio_sse._wire.message import Framing, Message, frame_event

from ..support.cases import each_case
from ..support.shares import examples
from ..support.strategies import cut, large_texts

LINE_END = re.compile("\r\n|\r|\n")
CONTROL = re.compile("[\0-\7\x0b\x0e-\x1f]")


def data_size(text: str) -> int:
    """Return the bytes that data has on the wire, without the first prefix and the last line's end.

    A control character counts as in JSON.
    """
    line, breaks = LINE_END.subn("", text)
    return len(CONTROL.sub(r"\\u0000", line).encode()) + breaks * len("\ndata: ")


def comment_size(text: str) -> int:
    """Return the bytes that a comment has on the wire: an empty line has no space after its colon."""
    without, breaks = LINE_END.subn("", text)
    lines = LINE_END.split(text)
    return len(without.encode()) + (breaks + 1) * len(":\n") + len(lines) - lines.count("")


def is_accepted(**fields: str) -> bool:
    try:
        make(**fields)
    except ValueError:
        return False
    return True


def make(data: str = "", **fields: str) -> ServerSentEvent:
    return ServerSentEvent(data, **fields)  # type: ignore[arg-type]  # there is no `retry`


@pytest.mark.slow
@settings(max_examples=examples(60))
@given(
    data=large_texts,
    event=large_texts,
    id=large_texts,
    comment=large_texts,
    at=st.lists(st.integers(0, 10**6)),
)
@example(data="\n" * (MAX_DATA_SIZE // 7), event="x" * 4096, id="x" * 4096, comment="\n" * 30_000, at=[])
@example(data="\n" * MAX_DATA_SIZE, event="x" * 10**6, id="x" * 10**6, comment="x" * 10**6, at=[])
def test_whatever_can_be_encoded_decodes_with_the_default_limit(
    data: str, event: str, id: str, comment: str, at: list[int]
) -> None:
    fields: dict[str, str] = {}
    for name, value in (("data", data), ("event", event), ("id", id), ("comment", comment)):
        for cleaned in (value, re.sub("[\r\n\0]", "", value)):
            if (cleaned or name != "event") and is_valid(name, cleaned) and is_accepted(**{name: cleaned}):
                fields[name] = cleaned
    made = make(**fields)
    decoder = EventDecoder()
    decoded = [event for piece in cut(made.encode(), at) for event in decoder.feed(piece)]
    assert decoded == [made]


def is_valid(name: str, value: str) -> bool:
    return name in ("data", "comment") or not re.search("[\r\n\0]" if name == "id" else "[\r\n]", value)


@pytest.mark.integration
@settings(max_examples=examples(60))
@given(large_texts)
@example("\n" * (MAX_DATA_SIZE // 7))
@example("\n" * (MAX_DATA_SIZE // 7 + 1))
@example("\r\n" * (MAX_DATA_SIZE // 7))
@example("x" * MAX_DATA_SIZE)
@example("\0" * (MAX_DATA_SIZE // 6))
@example("\x1f" * (MAX_DATA_SIZE // 6 + 1))
@example("\t\b\f\x7f" * (MAX_DATA_SIZE // 4))
@example("\n" * (MAX_COMMENT_SIZE // 2 - 1))
@example("\n" * (MAX_COMMENT_SIZE // 2))
def test_each_bound_is_exact(text: str) -> None:
    assert is_accepted(data=text) == (data_size(text) <= MAX_DATA_SIZE)
    assert is_accepted(comment=text) == (comment_size(text) <= MAX_COMMENT_SIZE)
    for name in ("event", "id"):
        if text and is_valid(name, text):
            assert is_accepted(**{name: text}) == (len(text.encode()) <= MAX_NAME_SIZE)


@pytest.mark.parametrize("line_end", ["\n", "\r", "\r\n"])
def test_a_mebibyte_of_line_breaks_is_refused_and_the_error_says_what_counts(line_end: str) -> None:
    with pytest.raises(
        ValueError, match="at most 1048576 bytes once encoded, not 7340032: each line break has 7"
    ):
        ServerSentEvent(line_end * 1_048_576)


def test_json_of_many_lines_is_bounded_as_text_is() -> None:
    event = ServerSentEvent([])
    assert event.encode(dumps=lambda data: "\n" * (MAX_DATA_SIZE // 7))
    with pytest.raises(ValueError, match="each line break has 7"):
        event.encode(dumps=lambda data: "\n" * (MAX_DATA_SIZE // 7 + 1))


@each_case("name", ["event", "id"])
@each_case("most", ["x" * 4096, "é" * 2048, "\U0001f600" * 1024])
def test_a_name_has_4_kib_at_most(name: str, most: str) -> None:
    assert is_accepted(**{name: most})
    with pytest.raises(ValueError, match=f"{name} must be at most 4096 bytes once encoded, not 4097"):
        make(**{name: most + "x"})


def test_a_key_has_4_kib_at_most() -> None:
    check_key("é" * 2048)
    with pytest.raises(ValueError, match="key must be at most 4096 bytes once encoded, not 4098"):
        check_key("é" * 2049)


def test_a_comment_of_its_own_has_the_same_bound() -> None:
    assert len(encode_comment("x" * (MAX_COMMENT_SIZE - 3))) == MAX_COMMENT_SIZE
    with pytest.raises(ValueError, match="comment must be at most 65536 bytes once encoded"):
        encode_comment("x" * (MAX_COMMENT_SIZE - 2))


@settings(max_examples=examples(60))
@given(large_texts)
@example("\0" * (MAX_DATA_SIZE // 6))
@example('"' * MAX_DATA_SIZE)
def test_as_a_websocket_frame_an_event_has_at_most_twice_its_bound(text: str) -> None:
    if is_accepted(data=text):
        assert len(frame_event(make(text), Framing.WEBSOCKET, dumps_compact)) <= 2 * MAX_DATA_SIZE + 100


@pytest.mark.parametrize(("data", "is_kept"), [("plain", True), ('{"a":"b"}', True), ("\0" * 1000, False)])
def test_a_frame_that_is_much_larger_than_what_bounds_count_is_not_kept(data: str, is_kept: bool) -> None:
    message = Message("t", ServerSentEvent(data), data)
    message.place(1, "0badc0de.1")
    assert (message.websocket_frame is message.websocket_frame) == is_kept
    assert message.websocket_frame == message.websocket_frame
