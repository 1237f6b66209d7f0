"""Request bodies: read whole, before the handler is entered, within bounds of size and time."""

from __future__ import annotations

import re
from typing import final

import trio

from ._http import Head
from ._http_exception import HTTPException
from ._transport import Transport

# A chunk's size, and extensions that nobody uses but for smuggling: they are skipped, and kept short.
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;[\t\x20-\x7e\x80-\xff]*)?")
_MAX_CHUNK_LINE = 256

_TRAILER = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[\t\x20-\x7e\x80-\xff]*")
_MAX_TRAILERS = 8 * 1024

# Fields that would change what the request means, after it has been acted on (RFC 9110, 6.5.1).
_NOT_IN_TRAILERS = frozenset(
    (
        b"authorization",
        b"connection",
        b"content-length",
        b"content-type",
        b"cookie",
        b"host",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)


def check_body(head: Head, max_size: int) -> None:
    """Refuse a body by what the head says of it.

    Raises:
        HTTPException: 413 if it is too large, 417 for an unknown expectation.
    """
    expect = head.get(b"expect")
    if expect is not None and expect.lower() != b"100-continue":
        raise HTTPException(417, "the only expectation is: 100-continue")
    if head.content_length is not None and head.content_length > max_size:
        raise _too_large(max_size)


async def receive_body(head: Head, transport: Transport, buffer: bytearray, max_size: int) -> bytes:
    """Receive a body that `check_body` has let pass; leave in `buffer` what came after it.

    Raises:
        HTTPException: it is malformed, or larger than `max_size` bytes.
        trio.BrokenResourceError: the peer is gone, or ended its side within the body.
    """
    decoder: _Chunked | _Sized
    decoder = _Chunked(max_size) if head.content_length is None else _Sized(head.content_length)
    decoder.feed(buffer)
    while not decoder.is_complete:
        await trio.lowlevel.checkpoint()  # a peer that always has more to read must not keep the loop
        data = await transport.receive_some()
        if not data:
            raise trio.BrokenResourceError("the peer ended its side within the request's body")
        buffer += data
        decoder.feed(buffer)
    return bytes(decoder.body)


def _too_large(max_size: int) -> HTTPException:
    return HTTPException(413, f"the body must have at most {max_size} bytes")


@final
class _Sized:
    """A body whose length is known."""

    def __init__(self, length: int) -> None:
        self.body = bytearray()
        self._length = length

    @property
    def is_complete(self) -> bool:
        return len(self.body) == self._length

    def feed(self, buffer: bytearray) -> None:
        """Take from the buffer what belongs to the body."""
        wanted = self._length - len(self.body)
        self.body += buffer[:wanted]
        del buffer[:wanted]


@final
class _Chunked:
    """A chunked body (RFC 9112, 7.1), read to the letter: lines end with CRLF, sizes are digits only."""

    def __init__(self, max_size: int) -> None:
        self.body = bytearray()
        self.is_complete = False
        self._max_size = max_size
        self._wanted = 0  # bytes of the chunk under way, the CRLF at its end among them
        self._in_trailers = False
        self._trailers_size = 0

    def feed(self, buffer: bytearray) -> None:
        """Take from the buffer what belongs to the body; raises `HTTPException`."""
        while buffer and not self.is_complete:
            if self._wanted:
                if not self._feed_chunk(buffer):
                    return
            elif (line := self._take_line(buffer)) is None:
                return
            elif self._in_trailers:
                self._end_trailer(line)
            else:
                self._begin_chunk(line)

    def _feed_chunk(self, buffer: bytearray) -> bool:
        if self._wanted > 2:
            data = buffer[: self._wanted - 2]
            self.body += data
            del buffer[: len(data)]
            self._wanted -= len(data)
        if self._wanted > 2 or len(buffer) < 2:
            return False
        if buffer[:2] != b"\r\n":
            raise HTTPException(400, "a chunk must end with CRLF")
        del buffer[:2]
        self._wanted = 0
        return True

    def _take_line(self, buffer: bytearray) -> bytes | None:
        limit = _MAX_TRAILERS if self._in_trailers else _MAX_CHUNK_LINE
        end = buffer.find(b"\n", 0, limit + 2)
        if end == -1:
            if len(buffer) > limit:
                raise HTTPException(400, f"a line of a chunked body must have at most {limit} bytes")
            return None
        line = bytes(buffer[: end + 1])
        del buffer[: end + 1]
        if not line.endswith(b"\r\n"):
            raise HTTPException(400, "lines of a chunked body must end with CRLF")
        return line[:-2]

    def _begin_chunk(self, line: bytes) -> None:
        match = _CHUNK_LINE.fullmatch(line)
        if match is None:
            raise HTTPException(400, "a chunk must begin with its size")
        size = int(match[1], 16)
        if len(self.body) + size > self._max_size:
            raise _too_large(self._max_size)
        self._wanted = size + 2 if size else 0
        self._in_trailers = not size

    def _end_trailer(self, line: bytes) -> None:
        self._trailers_size += len(line)
        if not line:
            self.is_complete = True
            return
        match = _TRAILER.fullmatch(line)
        if match is None or match[1].lower() in _NOT_IN_TRAILERS or self._trailers_size > _MAX_TRAILERS:
            raise HTTPException(400, "the trailer section is not acceptable")
