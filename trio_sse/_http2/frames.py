"""Frames: their heads, those that we send, and how received bytes are cut (RFC 9113, 4 and 6).

A frame's payload is checked by the code that acts on it; `payloads` has the parsers.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final, NamedTuple, final

from .error_code import ConnectionFault, ErrorCode

#: The largest payload that we accept, which is also what we may send without asking (RFC 9113, 4.2).
MAX_FRAME_SIZE: Final = 16 * 1024

HEAD_SIZE: Final = 9

#: A frame's head: `length << 8 | type`, the flags, and the stream. Packing it costs 0.1 us.
HEAD: Final = struct.Struct(">IBI")

_STREAM_ID: Final = 0x7FFF_FFFF  # the highest bit is reserved, and ignored
_WORD: Final = struct.Struct(">I")
_SETTING: Final = struct.Struct(">HI")
_GOAWAY: Final = struct.Struct(">II")


@final
class FrameType:
    """The types of frames (RFC 9113, 6). They are plain numbers, since comparing those is fastest."""

    DATA: Final = 0x0
    HEADERS: Final = 0x1
    PRIORITY: Final = 0x2
    RST_STREAM: Final = 0x3
    SETTINGS: Final = 0x4
    PUSH_PROMISE: Final = 0x5
    PING: Final = 0x6
    GOAWAY: Final = 0x7
    WINDOW_UPDATE: Final = 0x8
    CONTINUATION: Final = 0x9


@final
class Flag:
    """The flags of frames (RFC 9113, 6)."""

    ACK: Final = 0x1
    END_STREAM: Final = 0x1
    END_HEADERS: Final = 0x4
    PADDED: Final = 0x8
    PRIORITY: Final = 0x20


@final
class Setting:
    """The names of settings (RFC 9113, 6.5.2; the last one is that of RFC 8441)."""

    HEADER_TABLE_SIZE: Final = 0x1
    ENABLE_PUSH: Final = 0x2
    MAX_CONCURRENT_STREAMS: Final = 0x3
    INITIAL_WINDOW_SIZE: Final = 0x4
    MAX_FRAME_SIZE: Final = 0x5
    MAX_HEADER_LIST_SIZE: Final = 0x6
    ENABLE_CONNECT_PROTOCOL: Final = 0x8


class Frame(NamedTuple):
    """A frame as it was received."""

    type: int
    flags: int
    stream_id: int
    payload: bytes


def encode_frame(type: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """Return a whole frame."""
    return HEAD.pack(len(payload) << 8 | type, flags, stream_id) + payload


def encode_settings(settings: Mapping[int, int]) -> bytes:
    """Return a SETTINGS frame."""
    payload = b"".join([_SETTING.pack(name, value) for name, value in settings.items()])
    return encode_frame(FrameType.SETTINGS, 0, 0, payload)


#: The acknowledgement of a SETTINGS frame.
SETTINGS_ACK: Final = encode_frame(FrameType.SETTINGS, Flag.ACK, 0)


def encode_ping(payload: bytes, *, is_ack: bool = False) -> bytes:
    """Return a PING frame with these eight bytes, or the answer to one."""
    return encode_frame(FrameType.PING, Flag.ACK if is_ack else 0, 0, payload)


def encode_goaway(last_stream_id: int, code: ErrorCode, text: bytes = b"") -> bytes:
    """Return a GOAWAY frame. Streams up to `last_stream_id` may have been acted on."""
    return encode_frame(FrameType.GOAWAY, 0, 0, _GOAWAY.pack(last_stream_id, code) + text)


def encode_reset(stream_id: int, code: ErrorCode) -> bytes:
    """Return a RST_STREAM frame."""
    return encode_frame(FrameType.RST_STREAM, 0, stream_id, _WORD.pack(code))


def encode_window_update(stream_id: int, increment: int) -> bytes:
    """Return a WINDOW_UPDATE frame; stream 0 means the connection."""
    return encode_frame(FrameType.WINDOW_UPDATE, 0, stream_id, _WORD.pack(increment))


def encode_block(stream_id: int, block: bytes, *, ends_stream: bool, max_size: int = MAX_FRAME_SIZE) -> bytes:
    """Return a header block as a HEADERS frame and as many CONTINUATION frames as it needs."""
    flags = Flag.END_STREAM if ends_stream else 0
    if len(block) <= max_size:
        return encode_frame(FrameType.HEADERS, flags | Flag.END_HEADERS, stream_id, block)
    frames = [encode_frame(FrameType.HEADERS, flags, stream_id, block[:max_size])]
    for start in range(max_size, len(block), max_size):
        end = start + max_size
        flags = Flag.END_HEADERS if end >= len(block) else 0
        frames.append(encode_frame(FrameType.CONTINUATION, flags, stream_id, block[start:end]))
    return b"".join(frames)


@final
class FrameReader:
    """Cuts what one peer sends into frames.

    It keeps what is incomplete: at most one frame of `max_size` bytes beyond the last `feed`, if all frames
    were taken before it.
    """

    __slots__ = ("_buffer", "_max_size", "_position")

    def __init__(self, max_size: int = MAX_FRAME_SIZE) -> None:
        self._buffer = bytearray()
        self._position = 0  # where the next frame begins
        self._max_size = max_size

    @property
    def unread_bytes(self) -> int:
        """How many bytes wait for the rest of their frame, or to be taken."""
        return len(self._buffer) - self._position

    def feed(self, data: bytes) -> None:
        """Add received bytes."""
        if self._position:
            del self._buffer[: self._position]
            self._position = 0
        self._buffer += data

    def take(self) -> Frame | None:
        """Return the next frame; `None` if it is incomplete.

        Raises:
            ConnectionFault: FRAME_SIZE_ERROR, as soon as the frame's head is there (RFC 9113, 4.2).
        """
        buffer, start = self._buffer, self._position
        known = len(buffer) - start - HEAD_SIZE
        if known < 0:
            return None
        word, flags, stream_id = HEAD.unpack_from(buffer, start)
        length = word >> 8
        if length > self._max_size:
            raise ConnectionFault(
                ErrorCode.FRAME_SIZE_ERROR, f"a frame may have {self._max_size} bytes at most"
            )
        if known < length:
            return None
        start += HEAD_SIZE
        self._position = start + length
        payload = bytes(buffer[start : start + length]) if length else b""
        if self._position == len(buffer):
            buffer.clear()
            self._position = 0
        return Frame(word & 0xFF, flags, stream_id & _STREAM_ID, payload)
