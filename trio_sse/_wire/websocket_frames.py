"""WebSocket frames as a server writes them (RFC 6455, 5.2): whole, unmasked, without extensions.

No frame is masked or compressed, so its bytes are the same for every client: a broadcast is framed once, and
shared. Of the frames that clients send, `FrameHeads` looks at the declared lengths; wsproto parses them.
"""

from __future__ import annotations

import struct
from typing import final

from .json_text import compact_json

_FINAL = 0x80
_CONTROL = 0x8
_MASKED = 0x80
_MAX_HEAD = 10  # without the masking key
_TEXT = 0x1
_BINARY = 0x2
_CLOSE = 0x8
_PING = 0x9
_PONG = 0xA

#: The most bytes that a control frame may carry (RFC 6455, 5.5).
MAX_CONTROL_SIZE = 125


def text_frame(text: str) -> bytes:
    """Frame a text message."""
    return _frame(_TEXT, text.encode())


def binary_frame(data: bytes) -> bytes:
    """Frame a binary message."""
    return _frame(_BINARY, data)


def event_frame(text: str, event: str | None, id: str | None, retry: int | None) -> bytes:
    """Frame an event, whose fields must have been checked, as a JSON object of the fields that it has."""
    fields: dict[str, str | int] = {}
    if id is not None:
        fields["id"] = id
    if event is not None:
        fields["event"] = event
    if retry is not None:
        fields["retry"] = retry
    fields["data"] = text
    return json_frame(fields)


def json_frame(value: object) -> bytes:
    """Frame a JSON value as a text message."""
    return text_frame(compact_json(value))


def ping_frame() -> bytes:
    """Frame a ping; the peer must reply with a pong."""
    return _frame(_PING, b"")


def pong_frame(payload: bytes) -> bytes:
    """Frame the reply to a ping, with the ping's payload."""
    return _frame(_PONG, payload)


def close_frame(code: int, reason: str) -> bytes:
    """Frame the end of a connection; a reason that is too long is truncated between two characters."""
    encoded = reason.encode()[: MAX_CONTROL_SIZE - 2]
    return _frame(_CLOSE, struct.pack("!H", code) + encoded.decode(errors="ignore").encode())


@final
class FrameHeads:
    """Finds the frame that makes a client's message too large, from its head.

    Args:
        max_message_size: how many bytes the frames of one message may declare together.
    """

    __slots__ = ("_head", "_left", "_max_message_size", "_message_size")

    def __init__(self, max_message_size: int) -> None:
        self._max_message_size = max_message_size
        self._head = b""  # the beginning of one that is incomplete
        self._left = 0  # of the current frame's payload, with its masking key
        self._message_size = 0

    def feed(self, data: bytes) -> int:
        """Return how many of the bytes come before the head that is refused; all, if none is."""
        position = min(self._left, len(data))
        self._left -= position
        while position < len(data):
            known = len(self._head)
            head = self._head + data[position : position + _MAX_HEAD - known]
            size = _head_size(head)
            if size is None:
                self._head = head
                break
            self._head = b""
            length = _declared(head)
            if not self._accept(head[0], length):
                return position
            position += size - known
            self._left = length + (4 if head[1] & _MASKED else 0)
            skipped = min(self._left, len(data) - position)
            self._left -= skipped
            position += skipped
        return len(data)

    def _accept(self, first: int, length: int) -> bool:
        """Count a frame; return whether its message is not too large. wsproto refuses what is malformed."""
        if first & _CONTROL or length >= 1 << 63:
            return True
        self._message_size += length
        if self._message_size > self._max_message_size:
            return False
        if first & _FINAL:
            self._message_size = 0
        return True


def _head_size(head: bytes) -> int | None:
    """Return the size of a frame's head, without its masking key; `None` if it is incomplete."""
    if len(head) < 2:
        return None
    size = {126: 4, 127: 10}.get(head[1] & 0x7F, 2)
    return size if len(head) >= size else None


def _declared(head: bytes) -> int:
    length = head[1] & 0x7F
    if length == 126:
        return int.from_bytes(head[2:4])
    return int.from_bytes(head[2:10]) if length == 127 else length


def _frame(opcode: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        return b"%c%c%b" % (_FINAL | opcode, size, payload)
    if size < 1 << 16:
        return b"%c\x7e%b%b" % (_FINAL | opcode, struct.pack("!H", size), payload)
    return b"%c\x7f%b%b" % (_FINAL | opcode, struct.pack("!Q", size), payload)
