"""WebSocket frames as a server writes them (RFC 6455, 5.2): whole, unmasked, without extensions.

No frame is masked or compressed, so its bytes are the same for every client: a broadcast is framed once, and
shared. `websocket_parser` parses the frames that clients send.
"""

from __future__ import annotations

import struct

from .json_text import compact_json

_FINAL = 0x80
_TEXT = 0x1
_BINARY = 0x2
_CLOSE = 0x8
_PING = 0x9
_PONG = 0xA

#: The most bytes that a control frame may carry (RFC 6455, 5.5).
MAX_CONTROL_SIZE = 125


def text_frame(text: str) -> bytes:
    """Frame a text message."""
    return _frame(_TEXT, str.encode(text))


def binary_frame(data: bytes) -> bytes:
    """Frame a binary message."""
    return _frame(_BINARY, data)


def event_frame(
    text: str, event: str | None, id: str | None, retry: int | None, topic: str | None = None
) -> bytes:
    """Frame an event, whose fields must have been checked, as a JSON object of the fields that it has."""
    fields: dict[str, str | int] = {}
    if topic is not None:
        fields["topic"] = topic
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
    encoded = str.encode(reason)[: MAX_CONTROL_SIZE - 2]
    return _frame(_CLOSE, struct.pack("!H", code) + encoded.decode(errors="ignore").encode())


def _frame(opcode: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        return b"%c%c%b" % (_FINAL | opcode, size, payload)
    if size < 1 << 16:
        return b"%c\x7e%b%b" % (_FINAL | opcode, struct.pack("!H", size), payload)
    return b"%c\x7f%b%b" % (_FINAL | opcode, struct.pack("!Q", size), payload)
