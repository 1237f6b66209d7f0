"""Events as values, and their exact bytes on the wire."""

from __future__ import annotations

import dataclasses
import enum
import json
import math

import pytest

from trio_sse import ServerSentEvent
from trio_sse._wire.event import MAX_DATA_SIZE, MAX_RETRY, encode_comment, encode_retry

from ..support.cases import each_case

# Characters at which `str.splitlines` splits and an event stream does not.
NO_LINE_ENDS = "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e"

ALL_LINE_ENDS = ["\r", "\n", "\r\n"]


def test_the_order_on_the_wire_is_topic_comment_id_event_retry_data() -> None:
    event = ServerSentEvent("payload", event="update", id="7", retry=1500, comment="note", topic="prices")
    assert event.encode() == b"topic: prices\n: note\nid: 7\nevent: update\nretry: 1500\ndata: payload\n\n"


def test_fields_that_are_not_set_are_not_sent() -> None:
    assert ServerSentEvent("x").encode() == b"data: x\n\n"


@each_case(
    ("data", "wire"),
    [
        ("", b"data: \n\n"),
        (" x", b"data:  x\n\n"),
        ("  ", b"data:   \n\n"),
        (":x", b"data: :x\n\n"),
        ("data: x", b"data: data: x\n\n"),
        ("\ufeffx", b"data: \xef\xbb\xbfx\n\n"),
        ("\0", b"data: \0\n\n"),
        ("a\tb", b"data: a\tb\n\n"),
        ("grüße €", "data: grüße €\n\n".encode()),
        ("\U0001f600", b"data: \xf0\x9f\x98\x80\n\n"),
    ],
)
def test_text_is_sent_unchanged(data: str, wire: bytes) -> None:
    assert ServerSentEvent(data).encode() == wire


@pytest.mark.parametrize("line_end", ALL_LINE_ENDS)
def test_every_line_of_the_data_has_its_own_field(line_end: str) -> None:
    event = ServerSentEvent(f"one{line_end}two{line_end}{line_end}four")
    assert event.encode() == b"data: one\ndata: two\ndata: \ndata: four\n\n"


@each_case(
    ("data", "wire"),
    [
        ("x\n", b"data: x\ndata: \n\n"),
        ("\nx", b"data: \ndata: x\n\n"),
        ("\n", b"data: \ndata: \n\n"),
        ("\n\r", b"data: \ndata: \ndata: \n\n"),
        ("\r\r\n", b"data: \ndata: \ndata: \n\n"),
    ],
)
def test_line_breaks_at_the_edges_are_kept(data: str, wire: bytes) -> None:
    assert ServerSentEvent(data).encode() == wire


def test_line_breaks_in_data_can_not_begin_another_field() -> None:
    event = ServerSentEvent("x\n\nevent: forged\rid: 9\r\nretry: 0")
    assert event.encode() == b"data: x\ndata: \ndata: event: forged\ndata: id: 9\ndata: retry: 0\n\n"


def test_the_data_of_the_value_has_the_line_breaks_that_will_be_received() -> None:
    assert ServerSentEvent("a\r\nb\rc\nd").data == "a\nb\nc\nd"


@each_case("character", NO_LINE_ENDS)
def test_other_separators_never_split_the_data(character: str) -> None:
    assert ServerSentEvent(f"a{character}b").encode() == f"data: a{character}b\n\n".encode()


@each_case("character", NO_LINE_ENDS)
def test_other_separators_are_ordinary_in_names_and_comments(character: str) -> None:
    text = f"a{character}b"
    event = ServerSentEvent("", event=text, id=text, comment=text)
    assert event.encode() == f": {text}\nid: {text}\nevent: {text}\ndata: \n\n".encode()


@each_case("field", ["event", "id", "topic"])
@each_case("line_end", ALL_LINE_ENDS)
def test_line_breaks_in_a_name_are_refused(field: str, line_end: str) -> None:
    with pytest.raises(ValueError, match=f"^{field} must not contain CR"):
        ServerSentEvent("x", **{field: f"a{line_end}data: forged"})  # type: ignore[arg-type]


@pytest.mark.parametrize("id", ["\0", "a\0b", "7\0"])
def test_nul_in_an_id_is_refused(id: str) -> None:
    with pytest.raises(ValueError, match=r"^id must not contain CR, LF or NUL: "):
        ServerSentEvent("x", id=id)


def test_an_error_text_quotes_only_the_beginning_of_a_long_field() -> None:
    with pytest.raises(ValueError, match="must not contain") as caught:
        ServerSentEvent("x", id="a" * 10_000 + "\n")
    assert len(str(caught.value)) < 200


def test_an_empty_id_is_sent_so_that_the_client_forgets_its_own() -> None:
    assert ServerSentEvent("x", id="").encode() == b"id: \ndata: x\n\n"


def test_an_empty_type_is_refused() -> None:
    with pytest.raises(ValueError, match="event must not be empty"):
        ServerSentEvent("x", event="")


@each_case("retry", [0, 1, 3000, MAX_RETRY])
def test_a_reconnection_time_is_sent_as_digits(retry: int) -> None:
    assert ServerSentEvent("", retry=retry).encode() == f"retry: {retry}\ndata: \n\n".encode()


@each_case("retry", [True, False, "10", 10.0, 1.5, b"1", math.inf])
def test_a_reconnection_time_that_is_no_integer_is_refused(retry: object) -> None:
    with pytest.raises(TypeError, match=f"retry must be an int of milliseconds, not {type(retry).__name__}"):
        ServerSentEvent("", retry=retry)  # type: ignore[arg-type]


@each_case("retry", [-1, -(10**30), MAX_RETRY + 1, 10**100])
def test_a_reconnection_time_out_of_range_is_refused(retry: int) -> None:
    with pytest.raises(ValueError, match="retry must be between 0 and"):
        ServerSentEvent("", retry=retry)


@each_case("field", ["event", "id", "comment"])
@each_case("value", [b"x", 7, True, ["x"]])
def test_a_name_of_another_type_is_refused(field: str, value: object) -> None:
    with pytest.raises(TypeError, match=f"{field} must be a str or None, not {type(value).__name__}"):
        ServerSentEvent("x", **{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("data", [b"x", bytearray(b"x"), memoryview(b"x")])
def test_bytes_are_refused_with_advice(data: object) -> None:
    with pytest.raises(TypeError, match=f"not {type(data).__name__}: decode it first"):
        ServerSentEvent(data)


@pytest.mark.parametrize("field", ["event", "id", "comment"])
def test_lone_surrogates_in_a_name_are_refused(field: str) -> None:
    with pytest.raises(ValueError, match=f"{field} has a lone surrogate at position 1"):
        ServerSentEvent("x", **{field: "a\ud800"})  # type: ignore[arg-type]


def test_lone_surrogates_in_data_are_refused() -> None:
    with pytest.raises(ValueError, match="data has a lone surrogate at position 2"):
        ServerSentEvent("ab\udfff")


def test_lone_surrogates_that_an_encoder_returns_are_refused() -> None:
    with pytest.raises(ValueError, match="data has a lone surrogate"):
        ServerSentEvent(7).encode(dumps=lambda data: f'"{data}\ud800"')


def test_a_mebibyte_of_data_is_the_most() -> None:
    ServerSentEvent("x" * MAX_DATA_SIZE)
    with pytest.raises(
        ValueError, match=f"at most {MAX_DATA_SIZE} bytes once encoded, not {MAX_DATA_SIZE + 1}"
    ):
        ServerSentEvent("x" * (MAX_DATA_SIZE + 1))


def test_the_size_of_data_is_that_of_its_bytes() -> None:
    with pytest.raises(ValueError, match=f"not {MAX_DATA_SIZE + 2}"):
        ServerSentEvent("é" * (MAX_DATA_SIZE // 2 + 1))


def test_json_is_as_bounded_as_text() -> None:
    event = ServerSentEvent(["x" * MAX_DATA_SIZE])
    with pytest.raises(ValueError, match="data must be at most"):
        event.encode()


@each_case(
    ("data", "wire"),
    [
        ({"a": [1, None, True]}, b'data: {"a":[1,null,true]}\n\n'),
        (["grüße"], 'data: ["grüße"]\n\n'.encode()),
        (None, b"data: null\n\n"),
        (0, b"data: 0\n\n"),
        (False, b"data: false\n\n"),
        ({"a": "b\nc"}, b'data: {"a":"b\\nc"}\n\n'),
        (("a", "b"), b'data: ["a","b"]\n\n'),
    ],
)
def test_other_values_are_sent_as_json_on_one_line(data: object, wire: bytes) -> None:
    assert ServerSentEvent(data).encode() == wire


@pytest.mark.parametrize("data", [math.nan, math.inf, [-math.inf]])
def test_numbers_that_json_does_not_have_are_refused(data: object) -> None:
    with pytest.raises(ValueError, match="data cannot be written as JSON: Out of range float"):
        ServerSentEvent(data).encode()


def test_the_error_names_a_value_that_is_not_json() -> None:
    with pytest.raises(TypeError, match="data must be text or a JSON value: Object of type set"):
        ServerSentEvent({1, 2}).encode()


def test_data_that_contains_itself_is_refused() -> None:
    data: list[object] = []
    data.append(data)
    with pytest.raises(ValueError, match="data cannot be written as JSON: Circular"):
        ServerSentEvent(data).encode()


def test_json_can_be_written_by_a_function_of_the_users() -> None:
    event = ServerSentEvent({"b": 1, "a": 2})
    assert event.encode(dumps=lambda data: json.dumps(data, sort_keys=True)) == b'data: {"a": 2, "b": 1}\n\n'


@pytest.mark.parametrize("line_end", ALL_LINE_ENDS)
def test_json_of_several_lines_has_a_field_for_each(line_end: str) -> None:
    wire = ServerSentEvent([1]).encode(dumps=lambda data: f"[{line_end}1{line_end}]")
    assert wire == b"data: [\ndata: 1\ndata: ]\n\n"


def test_a_function_that_writes_json_as_bytes_is_refused_with_the_reason() -> None:
    def dumps(data: object) -> str:
        return b"[1]"  # type: ignore[return-value]  # as orjson's does

    with pytest.raises(TypeError, match="dumps must return a str, not bytes"):
        ServerSentEvent([1]).encode(dumps=dumps)


def test_text_is_not_passed_to_dumps() -> None:
    def dumps(data: object) -> str:
        raise AssertionError(data)

    assert ServerSentEvent("x").encode(dumps=dumps) == b"data: x\n\n"


class Kind(str, enum.Enum):  # noqa: UP042  # a `StrEnum` has no such `__format__`
    """A string with a `__format__` of its own."""

    UPDATE = "update"


def test_strings_of_a_subclass_are_sent_by_their_value() -> None:
    event = ServerSentEvent(Kind.UPDATE, event=Kind.UPDATE, id=Kind.UPDATE, comment=Kind.UPDATE)
    assert event.encode() == b": update\nid: update\nevent: update\ndata: update\n\n"


def test_a_subclass_can_not_smuggle_in_what_was_not_checked() -> None:
    class Forged(str):
        def __format__(self, spec: str) -> str:
            return "x\n\ndata: forged"

    event = ServerSentEvent(Forged("a"), event=Forged("b"), id=Forged("c"))
    assert event.encode() == b"id: c\nevent: b\ndata: a\n\n"


@pytest.mark.parametrize("line_end", ALL_LINE_ENDS)
def test_every_line_of_a_comment_is_a_comment(line_end: str) -> None:
    event = ServerSentEvent("x", comment=f"one{line_end}{line_end}data: forged")
    assert event.encode() == b": one\n:\n: data: forged\ndata: x\n\n"


def test_an_event_is_frozen() -> None:
    event = ServerSentEvent("x")
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.data = "y"  # type: ignore[misc]


def test_only_the_data_is_positional() -> None:
    with pytest.raises(TypeError):
        ServerSentEvent("x", "update")  # type: ignore[call-arg]


def test_comments_take_no_part_in_comparisons() -> None:
    assert ServerSentEvent("x", id="1", comment="a") == ServerSentEvent("x", id="1", comment="b")
    assert ServerSentEvent("x", id="1") != ServerSentEvent("x", id="2")


def test_received_data_is_read_as_json() -> None:
    assert ServerSentEvent('{"a": [1]}').json() == {"a": [1]}


def test_received_data_that_is_no_json_is_an_error() -> None:
    with pytest.raises(ValueError, match="Expecting value"):
        ServerSentEvent("nonsense").json()


def test_a_comment_of_its_own_has_no_blank_line() -> None:
    assert encode_comment("") == b":\n"
    assert encode_comment("a\r\nb\n") == b": a\n: b\n:\n"


def test_a_reconnection_time_of_its_own_has_no_blank_line() -> None:
    assert encode_retry(2500) == b"retry: 2500\n"


@each_case(
    ("data", "text"),
    [
        ({"delta": "hi \ud83d"}, '{"delta":"hi \\ud83d"}'),
        (["\ude00!", "\xe4"], '["\\ude00!","\xe4"]'),
        ({"\ud800": "\udfff"}, '{"\\ud800":"\\udfff"}'),
        ("\ud83d" + "\ude00", None),
    ],
)
def test_half_of_a_surrogate_pair_is_escaped_in_json(data: object, text: str | None) -> None:
    if text is None:  # text is sent as it is, and UTF-8 cannot encode it
        with pytest.raises(ValueError, match="a lone surrogate at position 0"):
            ServerSentEvent(data)
    else:
        event = ServerSentEvent(data)
        assert event.text() == text
        assert event.encode() == f"data: {text}\n\n".encode()
        assert json.loads(text) == data


def test_the_halves_of_a_character_are_one_again_when_they_are_joined() -> None:
    pieces = [json.loads(ServerSentEvent([piece]).text())[0] for piece in ("\ud83d", "\ude00")]
    assert "".join(pieces).encode("utf-16", "surrogatepass").decode("utf-16") == "\U0001f600"
