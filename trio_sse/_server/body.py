"""Request bodies, within bounds of size and time: read whole for routes, piece by piece for apps."""

from __future__ import annotations

import re
from typing import final

import trio

from .._http.exceptions import HTTPException
from .._http.request_head import Head
from .._transport.base import Transport, send_all

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

# A body has this long in all, and longer if it is large, as long as it comes at a rate that isn't a trickle.
_BODY_SECONDS = 30.0
_BYTES_PER_SECOND = 16 * 1024

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
    expect = head.headers.get("expect")
    if expect is not None and expect.lower() != "100-continue":
        raise HTTPException(417, "the only expectation is: 100-continue")
    if head.content_length is not None and head.content_length > max_size:
        raise _too_large(max_size)


@final
class BodyReader:
    """Reads the body of a request that `check_body` has let pass, and leaves in `buffer` what came after it.

    Only the time that is spent waiting for the peer counts, not what whoever reads takes in between.
    """

    __slots__ = ("_decoder", "_must_continue", "_patience", "_transport", "buffer")

    def __init__(self, head: Head, transport: Transport, buffer: bytearray, max_size: int) -> None:
        self._transport = transport
        self.buffer = buffer
        self._decoder: _Chunked | _Sized
        if head.content_length is None:
            self._decoder = _Chunked(max_size)
        else:
            self._decoder = _Sized(head.content_length)
        # A client that sends its body at once, whatever it said, needs no permission.
        is_asked = "expect" in head.headers and head.http_version == "1.1" and not buffer
        self._must_continue = is_asked and not self.is_complete
        self._patience = _BODY_SECONDS

    @property
    def is_complete(self) -> bool:
        """Whether the body has been read to its end."""
        return self._decoder.is_complete and not self._decoder.body

    @property
    def is_awaited(self) -> bool:
        """Whether the client waits for permission to send the body, which reading gives it."""
        return self._must_continue

    async def receive_some(self) -> bytes:
        """Wait for the body's next bytes; none mean that it is complete.

        Raises:
            HTTPException: it is malformed, larger than it may be, or doesn't come in time.
            trio.BrokenResourceError: the peer is gone, or ended its side within the body.

        If it is cancelled, nothing is lost.
        """
        if self._must_continue:
            await send_all(self._transport, _CONTINUE, write_timeout=_BODY_SECONDS)
            self._must_continue = False
        self._decoder.feed(self.buffer)
        while not (self._decoder.body or self._decoder.is_complete):
            self.buffer += await self._wait()
            self._decoder.feed(self.buffer)
        piece = bytes(self._decoder.body)
        self._decoder.body.clear()
        self._patience += len(piece) / _BYTES_PER_SECOND
        return piece

    async def _wait(self) -> bytes:
        await trio.lowlevel.checkpoint()  # a peer that always has more to read must not keep the loop
        began_at = trio.current_time()
        data = None
        with trio.move_on_after(max(self._patience, 0)):
            data = await self._transport.receive_some()
        if data is None:
            raise HTTPException(408, "the request's body didn't come in time")
        if not data:
            raise trio.BrokenResourceError("the peer ended its side within the request's body")
        self._patience -= trio.current_time() - began_at
        return data


async def receive_body(reader: BodyReader) -> bytes:
    """Receive a whole body; raises what `BodyReader.receive_some` does."""
    body = bytearray()
    while piece := await reader.receive_some():
        body += piece
    return bytes(body)


def _too_large(max_size: int) -> HTTPException:
    return HTTPException(413, f"the body must have at most {max_size} bytes")


@final
class _Sized:
    """A body whose length is known."""

    __slots__ = ("_wanted", "body")

    def __init__(self, length: int) -> None:
        self.body = bytearray()  # what has come and was not taken
        self._wanted = length

    @property
    def is_complete(self) -> bool:
        return not self._wanted

    def feed(self, buffer: bytearray) -> None:
        """Take from the buffer what belongs to the body."""
        piece = buffer[: self._wanted]
        self.body += piece
        self._wanted -= len(piece)
        del buffer[: len(piece)]


@final
class _Chunked:
    """A chunked body (RFC 9112, 7.1), read to the letter: lines end with CRLF, sizes are digits only."""

    def __init__(self, max_size: int) -> None:
        self.body = bytearray()  # what has come and was not taken
        self.is_complete = False
        self._size = 0  # of all chunks so far
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
        self._size += size
        if self._size > self._max_size:
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
