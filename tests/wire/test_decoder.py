"""The decoder against the WHATWG algorithm (HTML, 9.2.5 and 9.2.6), our encoder, and httpx-sse."""

from __future__ import annotations

import httpx
import httpx_sse
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from trio_sse import EventDecoder, ServerSentEvent

from ..support.cases import each_case
from ..support.shares import examples
from ..support.strategies import cut, events

BOM = b"\xef\xbb\xbf"


def decode(*pieces: bytes) -> list[ServerSentEvent]:
    decoder = EventDecoder()
    return [event for piece in pieces for event in decoder.feed(piece)]


def data_of(*pieces: bytes) -> list[object]:
    return [event.data for event in decode(*pieces)]


def decode_bytewise(decoder: EventDecoder, stream: bytes) -> list[ServerSentEvent]:
    return [event for byte in stream for event in decoder.feed(bytes([byte]))]


# The specification's own examples (9.2.6)


def test_example_of_two_lines_in_one_event() -> None:
    assert decode(b"data: YHOO\ndata: +2\ndata: 10\n\n") == [ServerSentEvent("YHOO\n+2\n10")]


def test_example_of_four_blocks() -> None:
    decoder = EventDecoder()
    stream = b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event"

    assert decoder.feed(stream) == [
        ServerSentEvent("first event", id="1"),
        ServerSentEvent("second event", id=""),
    ]
    assert decoder.last_event_id == ""


def test_example_of_empty_data() -> None:
    assert data_of(b"data\n\ndata\ndata\n\ndata:") == ["", "\n"]


def test_example_of_the_optional_space() -> None:
    assert data_of(b"data:test\n\ndata: test\n\n") == ["test", "test"]


# Bytes and lines


@each_case("at", range(4))
def test_one_byte_order_mark_is_skipped(at: int) -> None:
    stream = BOM + b"data: x\n\n"
    assert data_of(stream[:at], stream[at:]) == ["x"]


def test_a_byte_order_mark_may_be_received_byte_by_byte() -> None:
    assert data_of(*(bytes([byte]) for byte in BOM + b"data: x\n\n")) == ["x"]


def test_only_the_first_byte_order_mark_is_skipped() -> None:
    assert data_of(BOM + BOM + b"data: lost, as its name begins with the mark\n\n") == []


def test_a_byte_order_mark_later_on_is_text() -> None:
    assert data_of(b"data: " + BOM + b"x\n\n" + BOM + b"data: y\n\n") == ["\ufeffx"]


@pytest.mark.parametrize("start", [BOM[:1], BOM[:2], BOM[:2] + b"d"])
def test_half_a_byte_order_mark_is_text(start: bytes) -> None:
    assert data_of(start, b": x\ndata: y\n\n") == ["y"]


@each_case("line_end", [b"\n", b"\r", b"\r\n"])
@each_case("blank", [b"\n", b"\r\n"])
def test_line_ends_may_be_mixed(line_end: bytes, blank: bytes) -> None:
    # A CR before the LF of the blank line would be one line end with it.
    end = line_end if line_end != b"\r" else b"\r\n"
    assert data_of(b"data: x" + line_end + b"data: y" + end + blank + b"data: z\r\r") == ["x\ny", "z"]


@pytest.mark.parametrize("line_end", [b"\n", b"\r", b"\r\n"])
def test_every_split_yields_the_same_events(line_end: bytes) -> None:
    stream = b"id: 1|data: x|data: y||:c|event: e|data: \xe2\x82\xac||".replace(b"|", line_end)
    expected = [ServerSentEvent("x\ny", id="1"), ServerSentEvent("€", event="e")]
    for at in range(len(stream) + 1):
        assert decode(stream[:at], stream[at:]) == expected
    assert decode(*(bytes([byte]) for byte in stream)) == expected


def test_a_cr_ends_its_line_at_once() -> None:
    assert data_of(b"data: x\r\r") == ["x"]


def test_an_lf_after_a_split_belongs_to_the_cr_before_it() -> None:
    assert decode(b"data: x\r", b"\ndata: y\r", b"", b"\n\r", b"\n") == [ServerSentEvent("x\ny")]


@each_case("character", "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e\0")
def test_other_separators_are_text(character: str) -> None:
    assert data_of(f"data: a{character}b\n\n".encode()) == [f"a{character}b"]


@each_case("broken", [b"\xff", b"\xc3", b"\xe2\x82", b"\xed\xa0\x80", b"\xf0\x9f", b"\xc0\xaf"])
def test_invalid_utf_8_is_replaced_as_if_the_whole_stream_were_decoded(broken: bytes) -> None:
    stream = b"data: a" + broken + b"\ndata: " + broken + b"b\n\n"
    lines = stream.decode("utf-8", "replace").split("\n")
    expected = "\n".join(line.removeprefix("data: ") for line in lines[:2])
    for at in range(len(stream) + 1):
        assert data_of(stream[:at], stream[at:]) == [expected]


# Fields


def test_comments_are_dropped() -> None:
    assert data_of(b":\n: data: x\n:::\ndata: y\n:z\n\n") == ["y"]


def test_only_one_space_is_removed() -> None:
    assert decode(b"event:  e\nid:  1\ndata:  x \n\n") == [ServerSentEvent(" x ", event=" e", id=" 1")]


def test_a_tab_is_no_space() -> None:
    assert data_of(b"data:\tx\n\n") == ["\tx"]


def test_a_field_without_a_colon_is_empty() -> None:
    assert decode(b"event\nid\ndata\n\n") == [ServerSentEvent("", id="")]


@each_case("line", [b"Data: x", b"DATA: x", b" data: x", b"data : x", b"datax: x", b"foo", b"foo:"])
def test_unknown_fields_are_ignored(line: bytes) -> None:
    assert data_of(line + b"\ndata: y\n\n") == ["y"]


def test_the_last_type_of_a_block_counts() -> None:
    assert decode(b"event: a\nevent: b\ndata: x\n\n") == [ServerSentEvent("x", event="b")]


def test_an_empty_type_is_no_type() -> None:
    assert decode(b"event: a\nevent:\ndata: x\n\n") == [ServerSentEvent("x")]


def test_the_type_ends_with_its_block() -> None:
    assert decode(b"event: a\n\ndata: x\n\n") == [ServerSentEvent("x")]


def test_a_block_without_data_is_no_event() -> None:
    assert decode(b"event: a\nid: 1\nretry: 5\n\n") == []


def test_an_id_lasts_until_the_next() -> None:
    decoder = EventDecoder()
    first, second = decoder.feed(b"id: 1\ndata: x\n\ndata: y\n\n")
    assert (first.id, second.id) == ("1", None)
    assert decoder.last_event_id == "1"


def test_the_id_of_a_block_without_data_counts() -> None:
    decoder = EventDecoder()
    decoder.feed(b"id: 1\n\n")
    assert decoder.last_event_id == "1"


def test_an_empty_id_is_forgotten() -> None:
    decoder = EventDecoder()
    decoder.feed(b"id: 1\ndata: x\n\nid\n\n")
    assert decoder.last_event_id == ""


def test_an_id_with_nul_is_ignored() -> None:
    decoder = EventDecoder()
    assert decoder.feed(b"id: 1\nid: a\0b\ndata: x\n\n") == [ServerSentEvent("x", id="1")]
    assert decoder.last_event_id == "1"


@each_case(("value", "retry"), [(b"0", 0), (b"3000", 3000), (b"007", 7), (b"0" * 50 + b"1", 1)])
def test_a_reconnection_time_is_kept(value: bytes, retry: int) -> None:
    decoder = EventDecoder()
    assert decoder.feed(b"retry: " + value + b"\ndata: x\n\ndata: y\n\n") == [
        ServerSentEvent("x", retry=retry),
        ServerSentEvent("y"),
    ]
    assert decoder.retry == retry


@each_case(
    "value",
    [b"", b"+1", b"-1", b"1.5", b"1e3", b"0x10", b"1_000", b" 1", b"1 ", b"x", "٣".encode(), "²".encode()],
)
def test_what_is_not_only_ascii_digits_is_no_reconnection_time(value: bytes) -> None:
    decoder = EventDecoder()
    assert decoder.feed(b"retry: " + value + b"\ndata: x\n\n") == [ServerSentEvent("x")]
    assert decoder.retry is None


@each_case("digits", [str(2**53), "9" * 16, "9" * 17, "9" * 10_000])
def test_a_reconnection_time_too_large_for_a_browser_is_ignored(digits: str) -> None:
    decoder = EventDecoder()
    decoder.feed(b"retry: " + digits.encode() + b"\n")
    assert decoder.retry is None


def test_a_reconnection_time_counts_before_its_block_ends() -> None:
    decoder = EventDecoder()
    decoder.feed(b"retry: 5\n")
    assert decoder.retry == 5


@pytest.mark.parametrize("end", [b"", b"\n", b"\r"])
def test_an_event_without_its_blank_line_does_not_count(end: bytes) -> None:
    decoder = EventDecoder()
    assert decoder.feed(b"id: 1\ndata: x\n\nid: 2\ndata: y" + end) == [ServerSentEvent("x", id="1")]
    assert decoder.last_event_id == "1"


# Bounds


def test_an_event_as_large_as_allowed_is_decoded() -> None:
    decoder = EventDecoder(max_size=10)
    assert decoder.feed(b"data:12345\n\n" * 3) == [ServerSentEvent("12345")] * 3


@each_case("stream", [b"data:123456\n\n", b"data:1\ndata:2\n", b"x" * 11, b":" + b"x" * 10])
def test_an_event_that_is_too_large_is_an_error(stream: bytes) -> None:
    decoder = EventDecoder(max_size=10)
    with pytest.raises(ValueError, match="larger than 10 bytes"):
        decode_bytewise(decoder, stream)


@pytest.mark.parametrize("rest", [b"data:123456\n\n", b"data:1\ndata:2\n\ndata:z\n\n", b"x" * 11])
def test_events_before_one_that_is_too_large_are_not_lost(rest: bytes) -> None:
    decoder = EventDecoder(max_size=10)
    assert decoder.feed(b"id:1\ndata:a\n\n" + rest) == [ServerSentEvent("a", id="1")]
    for _ in range(2):
        with pytest.raises(ValueError, match="larger than 10 bytes"):
            decoder.feed(b"")
    assert decoder.last_event_id == "1"


def test_comments_are_no_part_of_an_event() -> None:
    decoder = EventDecoder(max_size=10)
    for _ in range(100):
        assert decoder.feed(b": alive\n") == []
    assert decoder.feed(b"data: x\n\n") == [ServerSentEvent("x")]


# Properties


@given(st.lists(events, max_size=5), st.lists(st.integers(0, 300), max_size=20))
def test_whatever_can_be_encoded_decodes_to_itself(sent: list[ServerSentEvent], at: list[int]) -> None:
    decoder = EventDecoder()
    stream = b"".join(event.encode() for event in sent)
    received = [event for piece in cut(stream, at) for event in decoder.feed(piece)]

    assert received == sent
    assert decoder.last_event_id == next((e.id for e in reversed(sent) if e.id is not None), "")


def interpret(stream: bytes) -> tuple[list[tuple[str, str, str]], str]:
    """Interpret a whole stream word by word as 9.2.6 does: (type, data, last event id) of each event."""
    text = stream.decode("utf-8", "replace").removeprefix("\ufeff")
    *lines, _incomplete = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    dispatched = []
    data, event_type, id_buffer, last_event_id = "", "", "", ""
    for line in lines:
        if line == "":
            last_event_id = id_buffer
            if data != "":
                dispatched.append((event_type or "message", data.removesuffix("\n"), last_event_id))
            data, event_type = "", ""
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            event_type = value
        elif field == "data":
            data += value + "\n"
        elif field == "id" and "\0" not in value:
            id_buffer = value
    return dispatched, last_event_id


soups = st.lists(
    st.one_of(
        st.sampled_from(
            [b"\r", b"\n", b"\r\n", b"\n\n", b"\r\r", "\u2028".encode(), b"\0", b"x", b":", b" "]
        ),
        st.sampled_from([b"data", b"data:", b"data: ", b"event:", b"id", b"id:"]),
        st.sampled_from([BOM, b"\xe2", b"\x82", b"\xac", b"\xff"]),
        st.binary(max_size=3),
    ),
    max_size=40,
).map(b"".join)


@given(soups, st.lists(st.integers(0, 100), max_size=10))
@example(BOM + BOM, [1, 2])
@example(b"\xef\xbb\r\rdata:\r\n\n", [2])
@settings(max_examples=examples(500))
def test_any_bytes_are_interpreted_as_the_specification_says(stream: bytes, at: list[int]) -> None:
    decoder = EventDecoder()
    received = [event for piece in cut(stream, at) for event in decoder.feed(piece)]
    expected, last_event_id = interpret(stream)

    assert [(event.event or "message", event.data) for event in received] == [event[:2] for event in expected]
    assert all(event.id in (None, id) for event, (_, _, id) in zip(received, expected, strict=True))
    assert decoder.last_event_id == last_event_id


# httpx-sse, an implementation that is not ours


def httpx_sse_events(pieces: list[bytes]) -> list[httpx_sse.ServerSentEvent]:
    headers = {"Content-Type": "text/event-stream"}
    response = httpx.Response(200, headers=headers, content=iter(pieces))
    return list(httpx_sse.EventSource(response).iter_sse())


@given(st.lists(events, max_size=5), st.lists(st.integers(0, 300), max_size=20))
def test_what_is_encoded_decodes_to_itself_by_httpx_sse(sent: list[ServerSentEvent], at: list[int]) -> None:
    stream = b"".join(event.encode() for event in sent)
    received = httpx_sse_events(cut(stream, at))

    # It returns the last id with each event, as browsers do, and names the default type.
    last_event_id = ""
    for ours, theirs in zip(sent, received, strict=True):
        last_event_id = last_event_id if ours.id is None else ours.id
        assert theirs.data == ours.data
        assert theirs.event == (ours.event or "message")
        assert theirs.id == last_event_id
        assert theirs.retry == ours.retry


def test_httpx_sse_takes_a_blank_line_as_an_event() -> None:
    """It does so once it has seen an id. So nothing that we send besides events has a blank line."""
    stream = ServerSentEvent("x", id="1").encode()
    assert len(httpx_sse_events([stream, b":\n"])) == 1
    assert len(httpx_sse_events([stream, b":\n\n"])) == 2
