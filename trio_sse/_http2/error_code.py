"""HTTP/2's error codes, and the two exceptions that carry them (RFC 9113, 5.4 and 7)."""

from __future__ import annotations

import enum
from typing import final


@final
class ErrorCode(enum.IntEnum):
    """Why a stream or a connection has ended (RFC 9113, 7)."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


@final
class ConnectionFault(Exception):
    """The peer has broken the protocol, or a bound, so that the whole connection ends with GOAWAY.

    Attributes:
        code: the code of the GOAWAY frame.
        text: why, for people to read; it has nothing of what the peer sent.
    """

    def __init__(self, code: ErrorCode, text: str) -> None:
        super().__init__(f"{code.name}: {text}")
        self.code = code
        self.text = text


@final
class StreamFault(Exception):
    """The peer has broken the protocol on one stream, which ends with RST_STREAM. The others go on.

    Attributes:
        stream_id: the stream.
        code: the code of the RST_STREAM frame.
        text: why, for people to read; it has nothing of what the peer sent.
    """

    def __init__(self, stream_id: int, code: ErrorCode, text: str) -> None:
        super().__init__(f"stream {stream_id}: {code.name}: {text}")
        self.stream_id = stream_id
        self.code = code
        self.text = text
