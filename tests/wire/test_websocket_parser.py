"""The frames that clients send: the same messages and errors as wsproto finds, within bounds."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import pytest
import wsproto.events
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionState, ConnectionType

from trio_sse._wire.websocket_parser import Close, FrameError, FrameParser, Ping, WebSocketEvent

from ..support.cases import each_case
from ..support.strategies import cut
from ..support.websocket_client import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, encode

MAX = 70_000

Seen = str | bytes | Ping | Close | int


def parse(pieces: Sequence[bytes], max_message_size: int = MAX) -> list[Seen]:
    """Return what a parser finds up to the close frame, or up to an error, which is its code."""
    parser = FrameParser(max_message_size)
    found: list[Seen] = []
    try:
        for piece in pieces:
            for event in parser.feed(piece):
                if event is not None:
                    found.append(event)
                if isinstance(event, Close):
                    return found
    except FrameError as error:
        found.append(error.code)
    return found


def parse_by_wsproto(pieces: Sequence[bytes]) -> list[Seen]:
    protocol = Connection(ConnectionType.SERVER)
    found: list[Seen] = []
    parts: list[Any] = []
    for piece in pieces:
        protocol.receive_data(piece)
        for event in protocol.events():
            match event:
                case wsproto.events.TextMessage() | wsproto.events.BytesMessage():
                    parts.append(event.data)
                    if event.message_finished:
                        found.append("".join(parts) if isinstance(event.data, str) else b"".join(parts))
                        parts.clear()
                case wsproto.events.Ping():
                    found.append(Ping(bytes(event.payload)))
                case wsproto.events.CloseConnection():
                    if protocol.state is ConnectionState.REMOTE_CLOSING:
                        return [*found, Close(event.code, event.reason or "")]
                    return [*found, event.code]
    return found


TEXTS = ["", "a", "Gr\u00fc\u00dfe", "\u20ac" * 42, "\U0001f600" * 31, "x" * 126, "y" * 5000]
PAYLOADS = st.sampled_from([text.encode() for text in TEXTS]) | st.binary(max_size=130)
FRAMES = st.builds(
    encode,
    st.sampled_from([CONTINUATION, TEXT, TEXT, BINARY, PING, PONG]) | st.integers(0, 15),
    PAYLOADS,
    is_final=st.sampled_from([True, True, False]),
    reserved=st.sampled_from([0] * 12 + [1, 4]),
    is_masked=st.sampled_from([True] * 12 + [False]),
)
CLOSES = st.builds(
    lambda code, reason: encode(CLOSE, struct.pack("!H", code) + reason),
    st.sampled_from([999, 1000, 1001, 1005, 1006, 1011, 3000, 4999, 5000]),
    st.sampled_from([b"", b"bye", b"\xff", b"x" * 123]),
)


@given(
    frames=st.lists(FRAMES, max_size=8),
    last=st.just(b"") | CLOSES,
    rest=st.binary(max_size=20),
    at=st.lists(st.integers(0, 12_000), max_size=8),
)
def test_it_finds_what_wsproto_finds(frames: list[bytes], last: bytes, rest: bytes, at: list[int]) -> None:
    pieces = cut(b"".join(frames) + last + rest, at)

    found, expected = parse(pieces), parse_by_wsproto(pieces)

    # Both may fail at an incomplete frame, ours as soon as its first byte is wrong.
    has_failed_early = bool(rest and found) and isinstance(found[-1], int)
    assert found == expected or (has_failed_early and found[:-1] == expected)


@given(
    texts=st.lists(st.tuples(st.text(max_size=300), st.booleans()), max_size=4),
    step=st.integers(1, 400),
    at=st.lists(st.integers(0, 6000), max_size=8),
)
def test_messages_arrive_whole_however_they_are_cut(
    texts: list[tuple[str, bool]], step: int, at: list[int]
) -> None:
    data = b""
    expected: list[Seen] = []
    for text, is_text in texts:
        encoded = text.encode()
        parts = [encoded[i : i + step] for i in range(0, len(encoded), step)] or [b""]
        for number, part in enumerate(parts):
            opcode = CONTINUATION if number else TEXT if is_text else BINARY
            data += encode(opcode, part, is_final=number == len(parts) - 1) + encode(PING, b"p")
            expected.append(Ping(b"p"))
        expected.insert(-1, text if is_text else encoded)

    assert parse(cut(data, at)) == expected


@each_case("size", [4095, 4096, 4097, 65_535, 65_536])
@each_case("step", [1001, 4096, 1 << 20])
def test_large_payloads_are_unmasked_wherever_they_are_cut(size: int, step: int) -> None:
    payload = bytes(range(256)) * 256 + b"end"
    data = encode(BINARY, payload[:size])

    assert parse([data[i : i + step] for i in range(0, len(data), step)]) == [payload[:size]]


@pytest.mark.parametrize("declared", [MAX + 1, 1 << 40, (1 << 63) - 1])
def test_a_frame_that_is_too_large_fails_by_its_head(declared: int) -> None:
    head = b"\x82\xff" + struct.pack("!Q", declared)

    assert parse([encode(TEXT, b"before") + head[:9]]) == ["before"]
    assert parse([encode(TEXT, b"before") + head[:9], head[9:]]) == ["before", 1009]


def test_the_fragments_of_a_message_count_together() -> None:
    begun = encode(TEXT, b"x" * (MAX - 10), is_final=False) + encode(PING, b"")

    assert parse([begun, encode(CONTINUATION, b"y" * 10)]) == [Ping(b""), "x" * (MAX - 10) + "y" * 10]
    assert parse([begun, encode(CONTINUATION, b"y" * 11)]) == [Ping(b""), 1009]
    assert parse([begun, encode(CONTINUATION, b"y" * 10), encode(TEXT, b"z" * MAX)])[2] == "z" * MAX


def test_a_closed_iterator_loses_nothing() -> None:
    parser = FrameParser(MAX)
    data = encode(TEXT, b"one") + encode(TEXT, b"two") + encode(TEXT, b"three")
    events: list[WebSocketEvent | None] = []
    piece = data[:-2]
    while len(events) < 3:
        generator = parser.feed(piece)
        for event in generator:
            events.append(event)
            generator.close()
            break
        piece = data[-2:] if len(events) == 2 else b""

    assert events == ["one", "two", "three"]
