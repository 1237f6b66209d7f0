"""The frames of a WebSocket's client, parsed into messages, pings and the close frame (RFC 6455, 5).

What a frame's head declares is checked before its payload arrives. Text is checked as it arrives, so it fails
at its first wrong byte. What is incomplete is kept as one `bytearray`, so that it takes as many bytes as the
client has sent, in however many fragments. No extension is negotiated, so every reserved bit is an error.

`docs/websocket.md` compares this with wsproto, which parsed the frames before, and `websockets`.
"""

from __future__ import annotations

import codecs
from collections.abc import Generator
from dataclasses import dataclass
from functools import lru_cache
from typing import final

from .websocket_frames import MAX_CONTROL_SIZE

_FINAL = 0x80
_RESERVED = 0x70
_OPCODE = 0x0F
_CONTROL = 0x08
_MASKED = 0x80
_MASK_SIZE = 4
_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

# Close codes (RFC 6455, 7.4.1).
PROTOCOL_ERROR = 1002
NO_STATUS = 1005  # never sent: the close frame had no code
INVALID_DATA = 1007
TOO_BIG = 1009

# What a close frame may say: the codes that RFC 6455 and IANA's registry have, and those of applications.
CLOSE_CODES = frozenset((*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)))

_MANY_BYTES = 4096  # from here on, translating each fourth byte is faster than one large integer

_new_utf8_decoder = codecs.getincrementaldecoder("utf-8")


@final
@dataclass(frozen=True, slots=True)
class Ping:
    """A ping, which the server answers with its payload."""

    payload: bytes


@final
@dataclass(frozen=True, slots=True)
class Close:
    """The client's close frame; the code is `NO_STATUS` if it has none. No frame follows it."""

    code: int
    reason: str


@final
class FrameError(Exception):
    """The client has broken the protocol, or a bound. Nothing that follows can be parsed.

    Attributes:
        code: the close code that says so.
    """

    def __init__(self, code: int, detail: str) -> None:
        super().__init__(detail)
        self.code = code


#: A text message, a binary one, or a control frame that needs an answer.
WebSocketEvent = str | bytes | Ping | Close


@final
class FrameParser:
    """Parses the frames of one client.

    Args:
        max_message_size: how many bytes the frames of one message may declare together.
    """

    __slots__ = (
        "_control",
        "_decoder",
        "_first",
        "_in_message",
        "_is_text",
        "_left",
        "_mask",
        "_max_message_size",
        "_message",
        "_message_size",
        "_unparsed",
    )

    def __init__(self, max_message_size: int) -> None:
        self._max_message_size = max_message_size
        self._unparsed = b""  # the beginning of a frame's head
        # The current frame.
        self._first = 0  # its first byte
        self._mask = b""  # turned to what its next byte needs
        self._left = -1  # bytes of its payload that are still missing; -1 between frames
        # What is incomplete.
        self._control = bytearray()
        self._in_message = False
        self._is_text = False
        self._message = bytearray()
        self._message_size = 0  # that its frames have declared
        self._decoder: codecs.IncrementalDecoder | None = None

    @property
    def incomplete_bytes(self) -> int:
        """How many bytes of a message have arrived that is not whole."""
        return len(self._message)

    def discard(self) -> None:
        """Forget these bytes. Nothing more may be parsed."""
        self._message.clear()

    def feed(self, data: bytes) -> Generator[WebSocketEvent | None, None, None]:
        """Parse the next bytes, and yield once for each frame: what it completes, or `None`.

        If the generator is closed before its end, the next call continues after what it has yielded.

        Raises:
            FrameError: the bytes that follow what was yielded are not acceptable.
        """
        if self._unparsed:
            data, self._unparsed = self._unparsed + data, b""
        position = 0
        while True:
            if self._left < 0:
                size = self._take_head(data, position)
                if not size:
                    self._unparsed = data[position:]
                    return
                position += size
            piece = data[position : position + self._left]
            size = len(piece)
            if size:
                piece = _unmask(piece, self._mask)
                position += size
                self._left -= size
            if self._left:
                turn = size % _MASK_SIZE
                if turn:
                    self._mask = self._mask[turn:] + self._mask[:turn]
                self._keep(piece)
                return
            self._left = -1
            event = self._finish_control(piece) if self._first & _CONTROL else self._finish_data(piece)
            try:
                yield event
            except GeneratorExit:
                self._unparsed = data[position:]
                raise

    # Heads

    def _take_head(self, data: bytes, start: int) -> int:
        """Parse the head that starts here; return its size, or 0 if it is incomplete."""
        known = len(data) - start
        if not known:
            return 0
        first = data[start]
        self._check_first(first)
        if known < 2:
            return 0
        second = data[start + 1]
        if not second & _MASKED:
            raise FrameError(PROTOCOL_ERROR, "a client must mask its frames")
        size, length = 2, second & 0x7F
        if length > MAX_CONTROL_SIZE:
            if first & _CONTROL:
                raise FrameError(PROTOCOL_ERROR, f"a control frame may have {MAX_CONTROL_SIZE} bytes at most")
            size = 4 if length == 126 else 10
            if known < size:
                return 0
            length = _extended_length(data[start + 2 : start + size])
        if not first & _CONTROL and self._message_size + length > self._max_message_size:
            raise FrameError(TOO_BIG, f"a message may have at most {self._max_message_size} bytes")
        if known < size + _MASK_SIZE:
            return 0
        self._mask = data[start + size : start + size + _MASK_SIZE]
        self._first, self._left = first, length
        if not first & _CONTROL:
            self._message_size += length
            if not self._in_message:
                self._in_message, self._is_text = True, first & _OPCODE == _TEXT
        return size + _MASK_SIZE

    def _check_first(self, first: int) -> None:
        opcode = first & _OPCODE
        if first & _RESERVED:
            raise FrameError(PROTOCOL_ERROR, "a reserved bit is set, but no extension was agreed on")
        if opcode & _CONTROL:
            if opcode > _PONG:
                raise FrameError(PROTOCOL_ERROR, f"the opcode {opcode:#x} is reserved")
            if not first & _FINAL:
                raise FrameError(PROTOCOL_ERROR, "a control frame must not be fragmented")
        elif opcode > _BINARY:
            raise FrameError(PROTOCOL_ERROR, f"the opcode {opcode:#x} is reserved")
        elif (opcode == _CONTINUATION) is not self._in_message:
            expected = "a continuation" if self._in_message else "the first frame of a message"
            raise FrameError(PROTOCOL_ERROR, f"the frame must be {expected}")

    # Payloads

    def _keep(self, piece: bytes) -> None:
        """Keep a piece of a frame or a message that is incomplete."""
        if self._first & _CONTROL:
            self._control += piece
            return
        if self._is_text:
            self._check_text(piece, is_last=False)
        self._message += piece

    def _finish_data(self, piece: bytes) -> str | bytes | None:
        """Return the message that ends with the last piece of a data frame; `None` if it does not end."""
        if not self._first & _FINAL:
            self._keep(piece)
            return None
        self._in_message, self._message_size = False, 0
        if self._decoder is not None:
            self._check_text(piece, is_last=True)
            self._decoder = None
        if not self._message:
            return _decode(piece) if self._is_text else piece
        self._message += piece
        message, self._message = self._message, bytearray()
        return _decode(message) if self._is_text else bytes(message)

    def _check_text(self, piece: bytes, *, is_last: bool) -> None:
        if self._decoder is None:
            self._decoder = _new_utf8_decoder()
        try:
            self._decoder.decode(piece, is_last)
        except UnicodeDecodeError:
            raise _not_utf8() from None

    def _finish_control(self, piece: bytes) -> Ping | Close | None:
        if self._control:
            self._control += piece
            piece = bytes(self._control)
            self._control.clear()
        opcode = self._first & _OPCODE
        if opcode == _PING:
            return Ping(piece)
        return _parse_close(piece) if opcode == _CLOSE else None


def _extended_length(encoded: bytes) -> int:
    length = int.from_bytes(encoded)
    if length <= (MAX_CONTROL_SIZE if len(encoded) == 2 else 0xFFFF):
        raise FrameError(PROTOCOL_ERROR, "a length must have its shortest form")
    if length >> 63:
        raise FrameError(PROTOCOL_ERROR, "the highest bit of a length must not be set")
    return length


def _parse_close(payload: bytes) -> Close:
    if not payload:
        return Close(NO_STATUS, "")
    if len(payload) == 1:
        raise FrameError(PROTOCOL_ERROR, "a close code has two bytes")
    code = int.from_bytes(payload[:2])
    if code not in CLOSE_CODES:
        raise FrameError(PROTOCOL_ERROR, f"{code} is not a close code")
    return Close(code, _decode(payload[2:]))


def _decode(payload: bytes | bytearray) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError:
        raise _not_utf8() from None


def _not_utf8() -> FrameError:
    return FrameError(INVALID_DATA, "text must be UTF-8")


def _unmask(payload: bytes, mask: bytes) -> bytes:
    size = len(payload)
    if size < _MANY_BYTES:
        key = int.from_bytes((mask * (size // _MASK_SIZE + 1))[:size])
        return (int.from_bytes(payload) ^ key).to_bytes(size)
    unmasked = bytearray(size)
    for position, byte in enumerate(mask):
        unmasked[position::_MASK_SIZE] = payload[position::_MASK_SIZE].translate(_xor_table(byte))
    return bytes(unmasked)


@lru_cache(maxsize=256)  # not all of them in advance: they take 280 KiB
def _xor_table(key: int) -> bytes:
    return bytes(byte ^ key for byte in range(256))
