"""The bounds of an HTTP/2 connection."""

from __future__ import annotations

from typing import NamedTuple, Self

from .._http.request_head import HeadLimits

_FIELD_OVERHEAD = 32  # what RFC 9113, 6.5.2 counts for each field, beside its name and value


class Http2Limits(NamedTuple):
    """The bounds on what one client may ask for over one connection.

    Attributes:
        max_streams: open streams (SETTINGS_MAX_CONCURRENT_STREAMS). A further one is refused.
        header_list_size: bytes of one header list, with 32 for each field, that the client is asked to keep
            to (SETTINGS_MAX_HEADER_LIST_SIZE). A request with more fields or bytes than a head may have is
            answered with 431.
        header_list: bytes of one decompressed header list, counted in the same way. Beyond them, the
            connection ends.
        header_block: bytes of one compressed header block. Beyond them, the connection ends.
        continuations: CONTINUATION frames of one header block. Beyond them, the connection ends.
        stream_window: bytes of a request's body that may arrive before the handler reads them.
        connection_window: bytes of the bodies of all requests together.
        resets, reset_rate: requests that the client may reset before they are answered, or that may fail by
            its faults or be refused: so many at once, and so many each second. The numbers are those of
            Node.js.
        control_frames, control_rate: frames that ask for nothing: PING, SETTINGS, PRIORITY, WINDOW_UPDATE,
            empty DATA, and those of an unknown type. So many at once, and so many each second.
        frames_per_work: how many more of them for each request, and each DATA frame that is not empty.
        bytes_per_frame: one more of them for so many bytes of DATA that are sent, since a client that
            receives much sends many WINDOW_UPDATEs.
        settings: settings of one SETTINGS frame. This is the number of nghttp2.
    """

    max_streams: int = 250
    header_list_size: int = 16 * 1024 + 100 * _FIELD_OVERHEAD
    header_list: int = 2 * (16 * 1024 + 100 * _FIELD_OVERHEAD)
    header_block: int = 2 * 16 * 1024
    continuations: int = 16
    stream_window: int = 64 * 1024
    connection_window: int = 1024 * 1024
    resets: int = 1000
    reset_rate: float = 33.0
    control_frames: int = 1000
    control_rate: float = 100.0
    frames_per_work: float = 4.0
    bytes_per_frame: int = 32
    settings: int = 32

    @classmethod
    def of_heads(cls, heads: HeadLimits, *, max_streams: int = 250) -> Self:
        """Return the bounds that go with the bounds of heads.

        A list that is somewhat too large is decoded and answered with 431, as by HTTP/1.1.
        """
        size = heads.size + heads.fields * _FIELD_OVERHEAD
        return cls(
            max_streams=max_streams,
            header_list_size=size,
            header_list=2 * size,
            header_block=2 * heads.size,
        )


#: Those that go with the default bounds of heads.
LIMITS = Http2Limits()
