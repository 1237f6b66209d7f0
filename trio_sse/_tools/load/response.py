"""Parsing one stream of the load tool: a response's head, its framing, and its events. No I/O.

A parser keeps little, because one process has tens of thousands of them. It is exact: an event is what an
`EventSource` would dispatch, however the network has split the bytes.
"""

from __future__ import annotations

import re
from typing import final

from ..._wire.decoder import EventDecoder
from ..._wire.event import ServerSentEvent

_MAX_HEAD = 64 * 1024
_MAX_CHUNK_HEAD = 1024
_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,16}")
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: ([^\r\n]*))?\r\n")


class LoadError(Exception):
    """A response is not an event stream. The text says what it is; the report counts equal texts.

    Attributes:
        is_final: another attempt would not help.
        retry_after: seconds that the server asks to wait, or 0.
    """

    def __init__(self, text: str, *, is_final: bool = False, retry_after: float = 0.0) -> None:
        super().__init__(text)
        self.is_final = is_final
        self.retry_after = retry_after


@final
class LoadStream:
    """Parses one response.

    Attributes:
        has_head: the head has been received, and is that of an event stream.
        is_ended: the body has ended, by its framing.
        decoder: knows the last event's id and the reconnection time.
    """

    __slots__ = ("_buffer", "_is_chunked", "_left", "_size_left", "decoder", "has_head", "is_ended")

    def __init__(self, last_event_id: str) -> None:
        self.has_head = False
        self.is_ended = False
        self.decoder = EventDecoder(last_event_id=last_event_id)
        self._buffer = b""
        self._is_chunked = False
        self._size_left: int | None = None  # of a body with Content-Length
        self._left = 0  # of the current chunk and its line end; 0 between chunks

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """Return the events that end in these bytes.

        Raises:
            LoadError: the response is not an event stream, or its framing is broken.
        """
        if not self.has_head:
            data = self._parse_heads(data)
            if not self.has_head:
                return []
        if self._is_chunked:
            data = self._unframe(data)
        elif self._size_left is not None:
            data = data[: self._size_left]
            self._size_left -= len(data)
            self.is_ended = not self._size_left
        try:
            return self.decoder.feed(data)
        except ValueError as error:
            raise LoadError(str(error), is_final=True) from None

    def end(self) -> None:
        """Note that the connection has ended. This also ends a body without framing.

        Raises:
            LoadError: the head or the body is incomplete.
        """
        is_framed = self._is_chunked or self._size_left is not None
        if not self.has_head or (is_framed and not self.is_ended):
            raise LoadError("the server cut the stream")

    def _parse_heads(self, data: bytes) -> bytes:
        """Parse interim responses and the head of the final one; return what follows."""
        data, self._buffer = self._buffer + data, b""
        while not self.has_head:
            end = data.find(b"\r\n\r\n")
            if end == -1:
                if len(data) > _MAX_HEAD:
                    raise LoadError("the response's head is too long", is_final=True)
                self._buffer = data
                return b""
            self._parse_head(data[: end + 2])
            data = data[end + 4 :]
        return data

    def _parse_head(self, head: bytes) -> None:
        match = _STATUS_LINE.match(head)
        if match is None:
            raise LoadError("the response is not HTTP/1.1", is_final=True)
        fields = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(b":") for line in head.split(b"\r\n")[1:-1])
        }
        self.take_head(int(match[1]), (match[2] or b"").decode("latin-1"), fields)

    def take_head(self, status: int, phrase: str, fields: dict[bytes, bytes]) -> None:
        """Note the head of a response, with fields by names in lower case; ignore an interim one.

        Raises:
            LoadError: the response is not an event stream.
        """
        if 100 <= status < 200 and status != 101:  # 101 ends HTTP
            return
        if status != 200:
            if 300 <= status < 400 and b"location" in fields:
                phrase += f": use {fields[b'location'].decode('latin-1')}"
            delay = fields.get(b"retry-after", b"")
            raise LoadError(
                f"{status} {phrase}".strip(),
                is_final=status < 500 and status not in (408, 425, 429),
                retry_after=float(delay) if delay.isdigit() else 0.0,
            )
        kind = fields.get(b"content-type", b"nothing").partition(b";")[0].strip().decode("latin-1")
        if kind.lower() != "text/event-stream":
            raise LoadError(f"the Content-Type is {kind}, not text/event-stream", is_final=True)
        if (coding := fields.get(b"content-encoding", b"identity").lower()) != b"identity":
            raise LoadError(
                f"the body is compressed ({coding.decode('latin-1')}), although not requested", is_final=True
            )
        if (size := fields.get(b"content-length", b"")).isdigit():
            self._size_left = int(size)
        self._is_chunked = fields.get(b"transfer-encoding", b"").lower() == b"chunked"
        self.has_head = True

    def _unframe(self, data: bytes) -> bytes:
        """Return the contents of chunks."""
        data, self._buffer = self._buffer + data, b""
        contents, at = [], 0
        while at < len(data) and not self.is_ended:
            if self._left:
                size = min(self._left, len(data) - at)
                contents.append(data[at : at + min(size, max(self._left - 2, 0))])  # not its line end
                self._left -= size
                at += size
                continue
            end = data.find(b"\r\n", at)
            if end == -1:
                self._buffer = data[at:]
                if len(self._buffer) > _MAX_CHUNK_HEAD:
                    raise LoadError("the chunked framing is broken")
                break
            digits = data[at:end].partition(b";")[0].strip()
            if not _CHUNK_SIZE.fullmatch(digits):  # `int` would accept signs and underscores, too
                raise LoadError("the chunked framing is broken")
            size = int(digits, 16)
            at = end + 2
            self.is_ended = size == 0
            self._left = size + 2
        return b"".join(contents)
