"""The body of a request that arrives in DATA frames: what was announced, what has arrived, and its window.

Most requests have none. So a stream has one of these only if its request goes on after the head.
"""

from __future__ import annotations

from collections import deque
from typing import final

from .._http.body_decoders import BYTES_PER_CHUNK, FREE_CHUNKS
from .error_code import ErrorCode, StreamFault

# Small pieces of a body that nobody has taken yet are joined: each object takes some 50 bytes more.
_JOINED_SIZE = 4 * 1024


@final
class RequestBody:
    """The body of one stream's request.

    Args:
        window: how many bytes the peer may send before we announce that it may send more.

    Attributes:
        pieces: those that nobody has taken; `None` if there never was one.
        unread: their size in bytes.
    """

    __slots__ = ("_credit", "_least", "_left", "_spare", "_stream_id", "_window", "pieces", "unread")

    def __init__(self, stream_id: int, window: int) -> None:
        self.pieces: deque[bytes] | None = None  # made on first need: it takes 0.6 KB
        self.unread = 0
        self._stream_id = stream_id
        self._window = window
        self._credit = 0  # bytes that were taken, and not announced to the peer
        self._left: int | None = None  # of what Content-Length announces
        self._spare = 0  # bytes that DATA frames have had beyond the least, which is 0 for a WebSocket
        self._least = 0

    def expect(self, length: int | None) -> None:
        """Bound the body by the bytes of DATA that the peer has announced, `None` if it has not."""
        self._left = length
        self._spare, self._least = FREE_CHUNKS * BYTES_PER_CHUNK, BYTES_PER_CHUNK

    def count_received(self, size: int) -> bool:
        """Count the payload of a DATA frame, with its padding; return whether the window allows it."""
        self._window -= size
        return self._window >= 0

    def add(self, data: bytes, *, is_end: bool) -> None:
        """Keep bytes of the body; `is_end` says that they are the last ones.

        Raises:
            StreamFault: they are not what was announced, or too many frames have hardly any bytes. Nothing
                is kept then.
        """
        left = self._left
        if left is not None:
            left -= len(data)
            if left < 0 or (is_end and left):
                text = "the body is not as long as announced"
                raise StreamFault(self._stream_id, ErrorCode.PROTOCOL_ERROR, text)
            self._left = left
        self._spare += len(data) - self._least
        if self._spare < 0:
            text = "too many pieces of the body are small"
            raise StreamFault(self._stream_id, ErrorCode.ENHANCE_YOUR_CALM, text)
        if not data:
            return
        self.unread += len(data)
        if self.pieces is None:
            self.pieces = deque()
        elif self.pieces and len(self.pieces[-1]) + len(data) <= _JOINED_SIZE:
            data = self.pieces.pop() + data
        self.pieces.append(data)

    @property
    def is_whole(self) -> bool:
        """Whether no announced byte is missing."""
        return not self._left

    def take(self, most: int) -> bytes:
        """Take bytes of the body, up to `most`; empty if nothing is there."""
        pieces = self.pieces
        if not pieces:
            return b""
        data = pieces.popleft()
        if len(data) > most:
            pieces.appendleft(data[most:])
            data = data[:most]
        self.unread -= len(data)
        return data

    def take_credit(self, size: int, least: int) -> int:
        """Count bytes that were taken; return how many to announce to the peer now, if at least `least`."""
        self._credit += size
        if self._credit < least:
            return 0
        credit, self._credit = self._credit, 0
        self._window += credit
        return credit
