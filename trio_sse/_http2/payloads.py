"""What is in the payloads of frames, checked as RFC 9113, 6 demands.

Each parser checks the frame that it is given, and not whether the frame is allowed in its stream's state.
"""

from __future__ import annotations

import struct
from typing import Final

from .error_code import ConnectionFault, ErrorCode, StreamFault
from .frames import MAX_FRAME_SIZE, Flag, Frame, FrameType, Setting

MAX_WINDOW: Final = 0x7FFF_FFFF

SETTING_SIZE: Final = 6

_SETTING: Final = struct.Struct(">HI")
_BITS_31: Final = 0x7FFF_FFFF
_PRIORITY_SIZE: Final = 5
_LARGEST_FRAME_SIZE: Final = 0xFF_FFFF


def data_of(frame: Frame) -> bytes:
    """Return the data of a DATA frame, without its padding, all of which counts for the windows (6.1)."""
    _check_stream(frame, "DATA")
    return _without_padding(frame) if frame.flags & Flag.PADDED else frame.payload


def fragment_of(frame: Frame) -> bytes:
    """Return the part of a header block that a HEADERS or CONTINUATION frame has (6.2, 6.10)."""
    if frame.type == FrameType.CONTINUATION:
        _check_stream(frame, "CONTINUATION")
        return frame.payload
    _check_stream(frame, "HEADERS")
    fragment = _without_padding(frame) if frame.flags & Flag.PADDED else frame.payload
    if not frame.flags & Flag.PRIORITY:
        return fragment
    if len(fragment) < _PRIORITY_SIZE:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a HEADERS frame is too short for its priority")
    return fragment[_PRIORITY_SIZE:]


def depends_on_itself(frame: Frame) -> bool:
    """Return whether a PRIORITY frame, or the priority of a HEADERS frame, names its own stream.

    Priorities are deprecated, and ignored otherwise (RFC 9113, 5.3.2). RFC 7540, 5.3.1 makes this an error of
    the stream.
    """
    start = 0
    if frame.type == FrameType.HEADERS:
        if not frame.flags & Flag.PRIORITY:
            return False
        start = 1 if frame.flags & Flag.PADDED else 0
    return _word(frame.payload[start : start + 4]) == frame.stream_id


def check_priority(frame: Frame) -> None:
    """Check a PRIORITY frame, whose content is ignored (6.3)."""
    _check_stream(frame, "PRIORITY")
    if len(frame.payload) != _PRIORITY_SIZE:
        raise StreamFault(frame.stream_id, ErrorCode.FRAME_SIZE_ERROR, "a PRIORITY frame has 5 bytes")


def reset_code_of(frame: Frame) -> int:
    """Return the code of a RST_STREAM frame, which need not be one that we know (6.4)."""
    _check_stream(frame, "RST_STREAM")
    _check_size(frame, 4, "RST_STREAM")
    return _unsigned(frame.payload)


def settings_of(frame: Frame) -> list[tuple[int, int]]:
    """Return the settings of a SETTINGS frame, in order; those that we don't know are left out (6.5)."""
    _check_connection(frame, "SETTINGS")
    if frame.flags & Flag.ACK:
        if frame.payload:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "an acknowledgement of SETTINGS has no payload")
        return []
    if len(frame.payload) % SETTING_SIZE:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "each setting has 6 bytes")
    settings = list(_SETTING.iter_unpack(frame.payload))
    for name, value in settings:
        _check_setting(name, value)
    return [setting for setting in settings if setting[0] in _KNOWN_SETTINGS]


_KNOWN_SETTINGS: Final = frozenset((1, 2, 3, 4, 5, 6, 8))


def _check_setting(name: int, value: int) -> None:
    if name in (Setting.ENABLE_PUSH, Setting.ENABLE_CONNECT_PROTOCOL) and value > 1:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"the setting {name} must be 0 or 1")
    if name == Setting.INITIAL_WINDOW_SIZE and value > MAX_WINDOW:
        raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, f"a window may have {MAX_WINDOW} bytes at most")
    if name == Setting.MAX_FRAME_SIZE and not MAX_FRAME_SIZE <= value <= _LARGEST_FRAME_SIZE:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS_MAX_FRAME_SIZE must be 2^14 to 2^24 - 1")


def ping_of(frame: Frame) -> bytes:
    """Return the eight bytes of a PING frame (6.7)."""
    _check_connection(frame, "PING")
    _check_size(frame, 8, "PING")
    return frame.payload


def goaway_of(frame: Frame) -> tuple[int, int]:
    """Return the last stream and the code of a GOAWAY frame (6.8)."""
    _check_connection(frame, "GOAWAY")
    if len(frame.payload) < 8:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a GOAWAY frame has 8 bytes or more")
    return _word(frame.payload[:4]), _unsigned(frame.payload[4:8])


def increment_of(frame: Frame) -> int:
    """Return the increment of a WINDOW_UPDATE frame, of a stream or the connection (6.9)."""
    _check_size(frame, 4, "WINDOW_UPDATE")
    increment = _word(frame.payload)
    if not increment:
        text = "an increment must not be 0"
        if frame.stream_id:
            raise StreamFault(frame.stream_id, ErrorCode.PROTOCOL_ERROR, text)
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, text)
    return increment


def _without_padding(frame: Frame) -> bytes:
    if not frame.payload:
        raise ConnectionFault(
            ErrorCode.FRAME_SIZE_ERROR, "a padded frame is too short for its padding's length"
        )
    end = len(frame.payload) - frame.payload[0]
    if end < 1:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a frame has more padding than payload")
    return frame.payload[1:end]


def _check_stream(frame: Frame, name: str) -> None:
    if not frame.stream_id:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"a {name} frame must be on a stream")


def _check_connection(frame: Frame, name: str) -> None:
    if frame.stream_id:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"a {name} frame must not be on a stream")


def _check_size(frame: Frame, size: int, name: str) -> None:
    if len(frame.payload) != size:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"a {name} frame has {size} bytes")


def _word(payload: bytes) -> int:
    return int.from_bytes(payload) & _BITS_31


def _unsigned(payload: bytes) -> int:
    return int.from_bytes(payload)
