"""WebSocket frames of clients: in pieces as at once, and none is accepted that wsproto parses otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from wsproto.frame_protocol import CloseReason, FrameProtocol, Opcode

from trio_sse._wire.websocket_frames import binary_frame, close_frame, ping_frame, pong_frame, text_frame
from trio_sse._wire.websocket_parser import NO_STATUS, Close, FrameError, FrameParser, Ping, WebSocketEvent

from ..source import Source, pieces

_LARGE, _SMALL = 1 << 20, 100
_OPCODES = (0, 1, 2, 8, 9, 10)

# "Bad gateway" is registered, but wsproto refuses it.
_UNKNOWN_TO_WSPROTO = 1014


def seeds() -> Iterator[bytes]:
    yield b"\x00\x81\x85\x01\x02\x03\x04igohn"
    yield b"\x01\x81\x05hello\x88\x02\x03\xe8"
    yield b"\x01\x01\x02\xc3\xa4\x09\x04ping\x80\x01a\x82\x03\x00\x01\x02\x8a\x00"
    yield b"\x01\x01\x01\xc3\x80\x01\xa4\x88\x05\x03\xe8bye"
    yield b"\x01\x88\x05\x03\xf6bye"
    yield b"\x00\x82\xfe\x00\x7e" + bytes(130)
    yield b"\x00\x82\xff\x00\x00\x00\x00\x00\x01\x00\x00" + bytes(200)
    yield b"\x00\xc1\x80\0\0\0\0"


def check(data: bytes) -> None:
    source = Source(data)
    sent = source.rest() if source.number(2) == 0 else b"".join(_frames(source))
    for most in (_LARGE, _SMALL):
        found, code = _parse([sent], most)
        split, split_code = _parse(pieces(sent), most)
        assert split_code == code
        # A fault ends the connection: of what came before it, some may not be known yet.
        assert split == found
        assert sum(len(event) for event in found if isinstance(event, str | bytes)) <= len(sent)
        if not code and most == _LARGE and not _has_unknown_code(found):
            assert list(_parse_by_wsproto(sent)) == found
    _check_own_frames(data)


def _frames(source: Source) -> Iterator[bytes]:
    """Yield masked frames with right lengths, and any first byte."""
    while source:
        first, payload = source.take(1), source.piece()
        mask = b"\x11\x22\x33\x44"
        size = len(payload)
        length = bytes((0x80 | size,)) if size < 126 else b"\xfe" + size.to_bytes(2)
        yield first + length + mask + bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))


def _parse(parts: Iterable[bytes], most: int) -> tuple[list[WebSocketEvent], int]:
    """Return the events until a close frame, and the code of a fault, or 0."""
    parser, events = FrameParser(most), []
    try:
        for part in parts:
            for event in parser.feed(part):
                if event is not None:
                    events.append(event)
                if isinstance(event, Close):
                    return events, 0
    except FrameError as error:
        return events, error.code
    return events, 0


def _has_unknown_code(events: list[WebSocketEvent]) -> bool:
    last = events[-1] if events else None
    return isinstance(last, Close) and last.code == _UNKNOWN_TO_WSPROTO


def _parse_by_wsproto(data: bytes) -> Iterator[WebSocketEvent]:
    protocol = FrameProtocol(client=False, extensions=[])
    protocol.receive_bytes(data)
    text, binary = "", b""
    for found in protocol.received_frames():
        payload: Any = found.payload
        if found.opcode is Opcode.PING:
            yield Ping(bytes(payload))
        elif found.opcode is Opcode.CLOSE:
            code, reason = payload
            yield Close(NO_STATUS if code is CloseReason.NO_STATUS_RCVD else int(code), reason or "")
            return
        elif found.opcode is Opcode.TEXT:
            text += payload
            if found.message_finished:
                yield text
                text = ""
        elif found.opcode is Opcode.BINARY:
            binary += payload
            if found.message_finished:
                yield binary
                binary = b""


def _check_own_frames(data: bytes) -> None:
    """A client receives what is framed."""
    text = data.decode("utf-8", "replace")
    protocol = FrameProtocol(client=True, extensions=[])
    protocol.receive_bytes(text_frame(text) + binary_frame(data) + ping_frame() + pong_frame(data[:125]))
    protocol.receive_bytes(close_frame(1000, text))
    received: dict[Opcode, list[Any]] = {}
    for found in protocol.received_frames():
        received.setdefault(found.opcode, []).append(found.payload)
        if found.opcode is Opcode.CLOSE:
            break
    assert "".join(received[Opcode.TEXT]) == text
    assert b"".join(received[Opcode.BINARY]) == data
    ((code, reason),) = received[Opcode.CLOSE]
    assert code == 1000
    assert text.startswith(reason or "")
    assert len((reason or "").encode()) >= min(len(text.encode()), 120)
