"""The receiving side of an event stream: bytes in, `ServerSentEvent` out.

It follows the WHATWG algorithm to the letter (HTML, 9.2.6 "Interpreting an event stream"), wherever the bytes
are split; it knows one field more, `topic`. Lines are split as bytes and decoded one by one: CR and LF never
occur inside a UTF-8 sequence, so this replaces invalid sequences exactly as decoding the whole stream would.
"""

from __future__ import annotations

import re
from typing import final

from .event import MAX_DATA_SIZE, MAX_RETRY, ServerSentEvent, trusted_event

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_LINE_END = re.compile(b"\r\n|\r|\n")


@final
class EventDecoder:
    """Decodes an event stream piece by piece.

    A returned event has `id` and `retry` only if its own block had them; the values that last from one event
    to the next are the decoder's `last_event_id` and `retry`. Comments are dropped. An event that is
    truncated by the stream's end is never returned, and its id does not count.

    Attributes:
        last_event_id: what a client would send as `Last-Event-ID` now; empty if it would send none.
        retry: the last reconnection time received, in milliseconds, or `None`.
    """

    __slots__ = (
        "_after_cr",
        "_block",
        "_failure",
        "_head",
        "_id",
        "_line",
        "_max_size",
        "last_event_id",
        "retry",
    )

    def __init__(self, *, last_event_id: str = "", max_size: int = 4 * MAX_DATA_SIZE) -> None:
        """Start at the beginning of a stream in which an event has at most `max_size` bytes.

        `last_event_id` is what the stream was resumed from. It counts until an event has another one.
        """
        self.last_event_id = last_event_id
        self.retry: int | None = None
        self._max_size = max_size
        self._head: bytes | None = b""  # the first bytes, while they may become a byte order mark
        self._line = bytearray()  # the line that has not ended yet
        self._after_cr = False  # the last line ended at a CR: an LF now belongs to it
        self._id = last_event_id  # the algorithm's "last event ID buffer", which outlives the event
        self._block = _Block()
        self._failure: ValueError | None = None  # what the next call raises

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """Decode the stream's next bytes, and return the events that they complete, in order.

        Raises:
            ValueError: an event is larger than `max_size`. The decoder cannot be used afterwards. Events that
                the same bytes have completed before it are returned, and the next call raises the error.
        """
        if self._failure is not None:
            raise self._failure
        if self._head is not None:
            data = self._skip_byte_order_mark(data)
        if self._after_cr and data:
            data = data.removeprefix(b"\n")
            self._after_cr = False
        if not data:
            return []
        lines = _LINE_END.split(data)
        events: list[ServerSentEvent] = []
        if len(lines) > 1:
            if self._line:
                lines[0] = bytes(self._line + lines[0])
                self._line.clear()
            unended = lines.pop()
            for line in lines:
                event = self._end_line(line)
                if event is not None:
                    events.append(event)
                elif self._block.size > self._max_size:
                    return self._fail(events)
            self._line += unended
        else:
            self._line += data
        self._after_cr = data.endswith(b"\r")
        if self._block.size + len(self._line) > self._max_size:
            return self._fail(events)
        return events

    def _fail(self, events: list[ServerSentEvent]) -> list[ServerSentEvent]:
        self._failure = ValueError(f"an event of the stream is larger than {self._max_size} bytes")
        if not events:
            raise self._failure
        return events

    def _skip_byte_order_mark(self, data: bytes) -> bytes:
        head = (self._head or b"") + data
        if len(head) < len(_BYTE_ORDER_MARK) and _BYTE_ORDER_MARK.startswith(head):
            self._head = head
            return b""
        self._head = None
        return head.removeprefix(_BYTE_ORDER_MARK)

    def _end_line(self, line: bytes) -> ServerSentEvent | None:
        if not line:
            return self._dispatch()
        name, colon, value = line.partition(b":")
        if not name and colon:
            return None  # a comment: no part of the event, so there may be any number of keepalives
        block = self._block
        block.size += len(line)
        if block.size > self._max_size:
            return None  # which `feed` notices
        text = value.removeprefix(b" ").decode("utf-8", "replace")
        match name:
            case b"data":
                block.data.append(text)
            case b"event":
                block.event = text
            case b"id" if "\0" not in text:
                self._id = block.id = text
            case b"topic":
                block.topic = text
            case b"retry" if (retry := _parse_retry(text)) is not None:
                self.retry = block.retry = retry
        return None

    def _dispatch(self) -> ServerSentEvent | None:
        self.last_event_id = self._id
        block, self._block = self._block, _Block()
        if not block.data:
            return None
        # Not checked: an event that is too large to be sent may still be received.
        data = "\n".join(block.data)
        return trusted_event(data, block.event or None, block.id, block.retry, block.topic)


class _Block:
    """The fields of one event so far."""

    __slots__ = ("data", "event", "id", "retry", "size", "topic")

    def __init__(self) -> None:
        self.data: list[str] = []
        self.event = ""
        self.id: str | None = None
        self.retry: int | None = None
        self.topic: str | None = None
        self.size = 0


def _parse_retry(text: str) -> int | None:
    """Return a reconnection time, or `None` if it is not ASCII digits or is too large for a browser."""
    if not (text.isascii() and text.isdigit()):
        return None
    digits = text.lstrip("0") or "0"
    if len(digits) > len(str(MAX_RETRY)) or int(digits) > MAX_RETRY:
        return None
    return int(digits)
