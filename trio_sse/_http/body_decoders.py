"""Request bodies, decoded without I/O.

The chunked decoder accepts only what RFC 9112, 7.1 allows: every line ends with CRLF, a size is hexadecimal
digits only, and trailers cannot change what the request means. Two parsers that disagree about where a
request ends are how requests are smuggled past a proxy.

The load tool has its own decoder, for responses (`_tools/load/response.py`). There is nothing to smuggle
in a response, servers may send what this one refuses, and tens of thousands of such decoders share a process,
so it is lenient and small. One decoder for both would have to be the weaker one.
"""

from __future__ import annotations

import re
import sys
from typing import Protocol, final

from .exceptions import HTTPException
from .fields import FIELD_VALUE, NOT_IN_TRAILERS, TOKEN

# A chunk's size and its extensions (RFC 9112, 7.1.1). Hardly anybody uses those but to smuggle requests: they
# are skipped, and must be short. White space before the first of them is refused, as it is without one.
_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"'
_EXTENSION = rb";[ \t]*%b(?:[ \t]*=[ \t]*(?:%b|%b))?" % (TOKEN.encode(), TOKEN.encode(), _QUOTED)
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:%b(?:[ \t]*%b)*)?" % (_EXTENSION, _EXTENSION))
MAX_CHUNK_LINE = 256

# Each chunk costs some microseconds, however small it is. So a body may have this many, and more of them only
# if they have this many bytes on average.
FREE_CHUNKS = 16 * 1024
BYTES_PER_CHUNK = 16

_TRAILER = re.compile(rb"(%b):%b" % (TOKEN.encode(), FIELD_VALUE.encode()))
MAX_TRAILERS = 8 * 1024


class BodyDecoder(Protocol):
    """Takes a body's bytes from a buffer and leaves the next request in it.

    Attributes:
        body: what has been decoded; the reader removes what it takes.
    """

    body: bytearray

    @property
    def is_complete(self) -> bool:
        """Whether the body has been decoded to its end."""

    def feed(self, buffer: bytearray) -> None:
        """Decode what has arrived, and remove it from the buffer.

        Raises:
            HTTPException: the body is malformed or too large.
        """

    def lift_bound(self) -> None:
        """Accept a body of any size from now on, since nobody keeps it."""

    def end(self) -> bool:
        """Note that no byte follows; return whether the body is complete."""


def too_large(max_size: int) -> HTTPException:
    """Return the refusal of a body that is larger than `max_size` bytes."""
    return HTTPException(413, f"the body must have at most {max_size} bytes")


def _bad_line_end() -> HTTPException:
    return HTTPException(400, "lines of a chunked body must end with CRLF")


@final
class SizedDecoder:
    """Decodes a body whose length is in the head."""

    __slots__ = ("_left", "body")

    def __init__(self, length: int) -> None:
        self.body = bytearray()
        self._left = length

    @property
    def is_complete(self) -> bool:
        return not self._left

    def feed(self, buffer: bytearray) -> None:
        piece = buffer[: self._left]
        self.body += piece
        self._left -= len(piece)
        del buffer[: len(piece)]

    def lift_bound(self) -> None:
        """Do nothing: the head has said the size."""

    def end(self) -> bool:
        return self.is_complete


@final
class EndedDecoder:
    """Passes on a body of at most `max_size` bytes whose end is the transport's, as in HTTP/2."""

    __slots__ = ("_max_size", "_size", "body", "is_complete")

    def __init__(self, max_size: int) -> None:
        self.body = bytearray()
        self.is_complete = False
        self._max_size = max_size
        self._size = 0

    def feed(self, buffer: bytearray) -> None:
        self._size += len(buffer)
        if self._size > self._max_size:
            raise too_large(self._max_size)
        self.body += buffer
        buffer.clear()

    def lift_bound(self) -> None:
        self._max_size = sys.maxsize

    def end(self) -> bool:
        self.is_complete = True
        return True


@final
class ChunkedDecoder:
    """Decodes a chunked body (RFC 9112, 7.1) of at most `max_size` bytes."""

    __slots__ = (
        "_chunks",
        "_in_trailers",
        "_left",
        "_max_size",
        "_size",
        "_trailers_size",
        "body",
        "is_complete",
    )

    def __init__(self, max_size: int) -> None:
        self.body = bytearray()
        self.is_complete = False
        self._chunks = 0
        self._size = 0  # of all chunks so far
        self._max_size = max_size
        self._left = 0  # of the current chunk, with the CRLF at its end
        self._in_trailers = False
        self._trailers_size = 0

    def feed(self, buffer: bytearray) -> None:
        while buffer and not self.is_complete:
            if self._left:
                if not self._feed_chunk(buffer):
                    return
            elif (line := self._take_line(buffer)) is None:
                return
            elif self._in_trailers:
                self._end_trailer(line)
            else:
                self._begin_chunk(line)

    def lift_bound(self) -> None:
        self._max_size = sys.maxsize

    def end(self) -> bool:
        return self.is_complete

    def _feed_chunk(self, buffer: bytearray) -> bool:
        """Decode a part of the current chunk; return whether it is complete."""
        if self._left > 2:
            data = buffer[: self._left - 2]
            self.body += data
            del buffer[: len(data)]
            self._left -= len(data)
        if self._left > 2 or len(buffer) < 2:
            return False
        if buffer[:2] != b"\r\n":
            raise HTTPException(400, "a chunk must end with CRLF")
        del buffer[:2]
        self._left = 0
        return True

    def _take_line(self, buffer: bytearray) -> bytes | None:
        limit = MAX_TRAILERS if self._in_trailers else MAX_CHUNK_LINE
        end = buffer.find(b"\n", 0, limit + 2)
        if end == -1:
            if len(buffer) > limit + 1:  # the last of them may be the CR at its end
                raise HTTPException(400, f"a line of a chunked body must have at most {limit} bytes")
            if buffer.find(b"\r", 0, -1) != -1:  # it cannot become acceptable
                raise _bad_line_end()
            return None
        line = bytes(buffer[: end + 1])
        del buffer[: end + 1]
        if not line.endswith(b"\r\n"):
            raise _bad_line_end()
        return line[:-2]

    def _begin_chunk(self, line: bytes) -> None:
        match = _CHUNK_LINE.fullmatch(line)
        if match is None:
            raise HTTPException(400, "a chunk must begin with its size")
        size = int(match[1], 16)
        self._size += size
        if self._size > self._max_size:
            raise too_large(self._max_size)
        self._chunks += 1
        if self._chunks > FREE_CHUNKS + self._size // BYTES_PER_CHUNK:
            raise HTTPException(400, "the body has too many small chunks")
        self._left = size + 2 if size else 0
        self._in_trailers = not size

    def _end_trailer(self, line: bytes) -> None:
        self._trailers_size += len(line)
        if not line:
            self.is_complete = True
            return
        match = _TRAILER.fullmatch(line)
        if match is None or match[1].lower() in NOT_IN_TRAILERS or self._trailers_size > MAX_TRAILERS:
            raise HTTPException(400, "the trailer section is not acceptable")
