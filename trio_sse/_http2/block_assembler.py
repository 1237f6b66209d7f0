"""Header blocks, from the HEADERS and CONTINUATION frames that they arrive in (RFC 9113, 4.3)."""

from __future__ import annotations

from typing import NamedTuple, final

from .error_code import ConnectionFault, ErrorCode
from .frames import Flag, Frame, FrameType
from .limits import Http2Limits
from .payloads import depends_on_itself, fragment_of


class HeaderBlock(NamedTuple):
    """A whole header block, compressed.

    Attributes:
        stream_id: the stream that it is for.
        is_end: whether the peer's side of the stream ends with it.
        depends_on_itself: whether its frame's priority is wrong.
        data: the block.
    """

    stream_id: int
    is_end: bool
    depends_on_itself: bool
    data: bytes


@final
class BlockAssembler:
    """Puts the header blocks of one connection together, within bounds."""

    __slots__ = ("_block", "_limits", "_parts")

    def __init__(self, limits: Http2Limits) -> None:
        self._limits = limits
        self._block: HeaderBlock | None = None  # what is known of an incomplete one
        self._parts: list[bytes] = []

    def check(self, frame: Frame) -> None:
        """Check that a frame does not come between those of a block."""
        block = self._block
        if block is None:
            if frame.type == FrameType.CONTINUATION:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        elif frame.type != FrameType.CONTINUATION or frame.stream_id != block.stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a header block must be sent without a break")

    def begin(self, frame: Frame) -> HeaderBlock | None:
        """Return the block of a HEADERS frame; `None` if CONTINUATION frames follow."""
        if not frame.stream_id % 2:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a client's streams have odd numbers")
        is_end = bool(frame.flags & Flag.END_STREAM)
        block = HeaderBlock(frame.stream_id, is_end, depends_on_itself(frame), fragment_of(frame))
        if frame.flags & Flag.END_HEADERS:
            return block
        self._block, self._parts = block, [block.data]
        return None

    def add(self, frame: Frame) -> HeaderBlock | None:
        """Return the block that a CONTINUATION frame completes; `None` if more of them follow."""
        block, parts = self._block, self._parts
        assert block is not None  # `check`
        parts.append(fragment_of(frame))
        limits = self._limits
        if len(parts) > 1 + limits.continuations or sum(map(len, parts)) > limits.header_block:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "a header block is too large")
        if not frame.flags & Flag.END_HEADERS:
            return None
        self._block, self._parts = None, []
        return block._replace(data=b"".join(parts))
