"""What a case is, and the frames that cases are made of.

The server of these cases answers `/` with 200 and `ok`, `/echo` with what it was sent, and `/stream` with an
event stream that stays open. `/unread` neither reads nor answers. It accepts ten streams. Other paths are
answered with 404.
"""

from __future__ import annotations

from typing import NamedTuple

from trio_sse._http2.frames import Flag, FrameType, encode_frame
from trio_sse._http2.header_block import encode_fields

MAX_STREAMS = 10

DATA, HEADERS, PRIORITY, RST_STREAM = range(4)
SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(4, 10)
END_STREAM, END_HEADERS, PADDED, PRIORITIZED = Flag.END_STREAM, Flag.END_HEADERS, Flag.PADDED, Flag.PRIORITY
ACK = Flag.ACK
WHOLE = END_STREAM | END_HEADERS

GET = ":method: GET|:scheme: http|:authority: localhost|:path: /"
POST = ":method: POST|:scheme: http|:authority: localhost|:path: /echo"
UNREAD = POST.replace("echo", "unread")


class Case(NamedTuple):
    """One case.

    Attributes:
        section: of the RFC; of RFC 9113 if it does not say.
        name: what the client does.
        sent: what it sends. Unless it begins with the connection preface, the preface and an empty SETTINGS
            frame come first. A text in between waits until that was received.
        expected: what it must receive, separated by `; `: `1: 200` is a response's head on stream 1,
            `1: 5 bytes` a DATA frame, `1: end` its END_STREAM, `1: CANCEL` RST_STREAM with this code,
            `GOAWAY CANCEL` the end of the connection. Without GOAWAY, the connection must go on, and no other
            stream may be reset. So nothing means that what was sent is ignored. `+1` allows anything on
            stream 1.
    """

    section: str
    name: str
    sent: tuple[bytes | str, ...]
    expected: str = ""

    @property
    def is_raw(self) -> bool:
        """Whether it is about the preface itself."""
        return isinstance(self.sent[0], bytes) and self.sent[0][:3] in (b"PRI", b"XXX")


def frame(type: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """Return a frame."""
    return encode_frame(type, flags, stream_id, payload)


def fields_of(text: str) -> list[tuple[bytes, bytes]]:
    """Return the fields of `name: value|name: value`."""
    pairs = [field.partition(": ") for field in text.split("|")]
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, _, value in pairs]


def block(text: str) -> bytes:
    """Return the header block of `name: value|name: value`."""
    return encode_fields(fields_of(text))


def request(stream_id: int, text: str = GET, flags: int = WHOLE) -> bytes:
    """Return a HEADERS frame."""
    return frame(FrameType.HEADERS, flags, stream_id, block(text))


def stream(stream_id: int) -> bytes:
    """Return a request for the stream that stays open, so that it is half-closed."""
    return request(stream_id, GET + "stream")


def post(stream_id: int, more: str = "") -> bytes:
    """Return the head of a request whose body follows."""
    return request(stream_id, POST + more, END_HEADERS)


def setting(*pairs: tuple[int, int]) -> bytes:
    """Return a SETTINGS frame."""
    payload = b"".join([name.to_bytes(2) + value.to_bytes(4) for name, value in pairs])
    return frame(SETTINGS, 0, 0, payload)


def window_update(stream_id: int, increment: int) -> bytes:
    """Return a WINDOW_UPDATE frame."""
    return frame(WINDOW_UPDATE, 0, stream_id, increment.to_bytes(4))
