"""Frames: how they are written, cut from what arrives, and checked."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from trio_sse._http2 import frames, payloads
from trio_sse._http2.error_code import ConnectionFault, ErrorCode, StreamFault
from trio_sse._http2.frames import Flag, Frame, FrameReader, FrameType, encode_frame

from ..support.cases import Cases, each_case

FRAMES = [
    (b"\0\0\x03\0\x01\0\0\0\x05abc", encode_frame(FrameType.DATA, Flag.END_STREAM, 5, b"abc")),
    (b"\0\x40\0\0\0\0\0\0\x05", frames.HEAD.pack(16384 << 8 | FrameType.DATA, 0, 5)),
    (b"\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\xff\xff", frames.encode_settings({4: 65535})),
    (b"\0\0\0\x04\x01\0\0\0\0", frames.SETTINGS_ACK),
    (b"\0\0\x08\x06\0\0\0\0\x0012345678", frames.encode_ping(b"12345678")),
    (b"\0\0\x08\x06\x01\0\0\0\x0012345678", frames.encode_ping(b"12345678", is_ack=True)),
    (b"\0\0\x0a\x07\0\0\0\0\0\0\0\0\x07\0\0\0\x0bhi", frames.encode_goaway(7, ErrorCode(11), b"hi")),
    (b"\0\0\x04\x03\0\0\0\0\x09\0\0\0\x08", frames.encode_reset(9, ErrorCode.CANCEL)),
    (b"\0\0\x04\x08\0\0\0\0\0\x7f\xff\xff\xff", frames.encode_window_update(0, 2**31 - 1)),
    (b"\0\0\x02\x01\x05\0\0\0\x01ab", frames.encode_block(1, b"ab", ends_stream=True)),
    (
        b"\0\0\x02\x01\x01\0\0\0\x01ab\0\0\x02\x09\0\0\0\0\x01cd\0\0\x01\x09\x04\0\0\0\x01e",
        frames.encode_block(1, b"abcde", ends_stream=True, max_size=2),
    ),
]


@each_case(("expected", "frame"), FRAMES)
def test_frames_are_written(expected: bytes, frame: bytes) -> None:
    assert frame == expected


@each_case("size", [1, 2, 8, 9, 10, 100])
def test_frames_are_cut_wherever_the_input_is_split(size: int) -> None:
    sent = [Frame(0, 1, 5, b"abc"), Frame(0xFF, 0xFF, 2**31 - 1, b""), Frame(1, 4, 3, bytes(20))]
    data = b"".join(encode_frame(type, flags, id | 0x8000_0000, text) for type, flags, id, text in sent)
    reader, received = FrameReader(), []

    for start in range(0, len(data), size):
        reader.feed(data[start : start + size])
        while (frame := reader.take()) is not None:
            received.append(frame)

    assert received == sent  # without the reserved bit
    assert reader.unread_bytes == 0


def test_a_frame_that_is_too_large_is_refused_by_its_head() -> None:
    reader = FrameReader()
    reader.feed(encode_frame(0, 0, 1, bytes(16384)) + b"\0\x40\x01\0\0\0\0\0")

    assert reader.take() is not None
    assert (reader.take(), reader.unread_bytes) == (None, 8)
    reader.feed(b"\x01")
    with pytest.raises(ConnectionFault, match="FRAME_SIZE_ERROR"):
        reader.take()


PARSED: list[tuple[Callable[[Frame], object], Frame, object]] = [
    (payloads.data_of, Frame(0, 0, 1, b"abc"), b"abc"),
    (payloads.data_of, Frame(0, 8, 1, b"\x02abc\0\0"), b"abc"),
    (payloads.data_of, Frame(0, 8, 1, b"\0"), b""),
    (payloads.data_of, Frame(0, 8, 1, b"\x02\0\0"), b""),
    (payloads.data_of, Frame(0, 8, 1, b"\x03\0\0"), ErrorCode.PROTOCOL_ERROR),
    (payloads.data_of, Frame(0, 8, 1, b""), ErrorCode.FRAME_SIZE_ERROR),
    (payloads.data_of, Frame(0, 0, 0, b"abc"), ErrorCode.PROTOCOL_ERROR),
    (payloads.fragment_of, Frame(1, 4, 1, b"abc"), b"abc"),
    (payloads.fragment_of, Frame(1, 0x2C, 1, b"\x01\0\0\0\0\0abc\0"), b"abc"),
    (payloads.fragment_of, Frame(1, 0x20, 1, b"\0\0\0\0"), ErrorCode.FRAME_SIZE_ERROR),
    (payloads.fragment_of, Frame(1, 4, 0, b"abc"), ErrorCode.PROTOCOL_ERROR),
    (payloads.fragment_of, Frame(9, 0x2C, 1, b"abc"), b"abc"),
    (payloads.fragment_of, Frame(9, 4, 0, b"abc"), ErrorCode.PROTOCOL_ERROR),
    (payloads.depends_on_itself, Frame(1, 0x20, 1, b"\x80\0\0\x01\0"), True),
    (payloads.depends_on_itself, Frame(1, 0x28, 1, b"\0\x80\0\0\x01\0"), True),
    (payloads.depends_on_itself, Frame(1, 0, 1, b"\0\0\0\x01\0"), False),
    (payloads.depends_on_itself, Frame(2, 0, 1, b"\0\0\0\x03\0"), False),
    (payloads.depends_on_itself, Frame(2, 0, 3, b"\0\0\0\x03\0"), True),
    (payloads.check_priority, Frame(2, 0, 3, bytes(5)), None),
    (payloads.check_priority, Frame(2, 0, 3, bytes(4)), (3, ErrorCode.FRAME_SIZE_ERROR)),
    (payloads.check_priority, Frame(2, 0, 0, bytes(5)), ErrorCode.PROTOCOL_ERROR),
    (payloads.reset_code_of, Frame(3, 0, 3, b"\xff\0\0\x08"), 0xFF000008),
    (payloads.reset_code_of, Frame(3, 0, 3, bytes(5)), ErrorCode.FRAME_SIZE_ERROR),
    (payloads.reset_code_of, Frame(3, 0, 0, bytes(4)), ErrorCode.PROTOCOL_ERROR),
    (payloads.settings_of, Frame(4, 0, 0, b"\0\x04\x7f\xff\xff\xff\0\x07\0\0\0\0"), [(4, 2**31 - 1)]),
    (payloads.settings_of, Frame(4, 1, 0, b""), []),
    (payloads.settings_of, Frame(4, 1, 0, bytes(6)), ErrorCode.FRAME_SIZE_ERROR),
    (payloads.settings_of, Frame(4, 0, 0, bytes(5)), ErrorCode.FRAME_SIZE_ERROR),
    (payloads.settings_of, Frame(4, 0, 1, b""), ErrorCode.PROTOCOL_ERROR),
    (payloads.settings_of, Frame(4, 0, 0, b"\0\x02\0\0\0\x02"), ErrorCode.PROTOCOL_ERROR),
    (payloads.settings_of, Frame(4, 0, 0, b"\0\x08\0\0\0\x02"), ErrorCode.PROTOCOL_ERROR),
    (payloads.settings_of, Frame(4, 0, 0, b"\0\x04\x80\0\0\0"), ErrorCode.FLOW_CONTROL_ERROR),
    (payloads.settings_of, Frame(4, 0, 0, b"\0\x05\0\0\x3f\xff"), ErrorCode.PROTOCOL_ERROR),
    (payloads.settings_of, Frame(4, 0, 0, b"\0\x05\x01\0\0\0"), ErrorCode.PROTOCOL_ERROR),
    (payloads.ping_of, Frame(6, 0, 0, b"12345678"), b"12345678"),
    (payloads.ping_of, Frame(6, 0, 0, b"1234567"), ErrorCode.FRAME_SIZE_ERROR),
    (payloads.ping_of, Frame(6, 0, 1, b"12345678"), ErrorCode.PROTOCOL_ERROR),
    (payloads.goaway_of, Frame(7, 0, 0, b"\x80\0\0\x07\0\0\0\x01text"), (7, 1)),
    (payloads.goaway_of, Frame(7, 0, 0, bytes(7)), ErrorCode.FRAME_SIZE_ERROR),
    (payloads.goaway_of, Frame(7, 0, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
    (payloads.increment_of, Frame(8, 0, 1, b"\x80\0\0\x07"), 7),
    (payloads.increment_of, Frame(8, 0, 1, b"\x80\0\0\0"), (1, ErrorCode.PROTOCOL_ERROR)),
    (payloads.increment_of, Frame(8, 0, 0, bytes(4)), ErrorCode.PROTOCOL_ERROR),
    (payloads.increment_of, Frame(8, 0, 1, bytes(3)), ErrorCode.FRAME_SIZE_ERROR),
]


def test_payloads_are_checked() -> None:
    with Cases() as cases:
        for parse, frame, expected in PARSED:
            with cases.case((parse, frame)):
                assert parsed_or_fault(parse, frame) == expected


def parsed_or_fault(parse: Callable[[Frame], object], frame: Frame) -> object:
    try:
        return parse(frame)
    except ConnectionFault as fault:
        return fault.code
    except StreamFault as fault:
        return fault.stream_id, fault.code
