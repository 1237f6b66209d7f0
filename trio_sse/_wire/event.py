"""Server-Sent Events as values, and their encoding on the wire.

The invariant that this file keeps together with `decoder`: **whatever can be encoded decodes to itself.** An
event therefore refuses, when it is made, every field that would break the framing or is too large, and the
encoder ends lines with LF only. The bounds count what is sent, in which each line of
the data and of a comment has a prefix. So an event, whatever is in it, is far below the decoder's bound.

Lines end at CR, LF or CRLF and nowhere else. `str.splitlines()` would also split at U+2028, U+0085, VT
and FF, which are ordinary characters of the data, so it is used nowhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import final

from .json_text import compact_json

Dumps = Callable[[object], str]

#: The most bytes that one event's data may have, encoded. A line break has seven, with its prefix. Any other
#: control character counts as the six that JSON has for it. So as JSON, in WebSocket frames and records of
#: shared logs, the data has at most twice as many: a quote or a backslash has two.
MAX_DATA_SIZE = 1024 * 1024

#: The most bytes that a type, an id or a key may have, encoded. A request's head can carry such an id back.
MAX_NAME_SIZE = 4096

#: The most bytes that a comment may have, encoded, with each line's prefix and end.
MAX_COMMENT_SIZE = 64 * 1024

#: Browsers keep the reconnection time in a number; past 2**53 it would no longer be exact.
MAX_RETRY = 2**53 - 1

_LINE_BREAK_SIZE = len("\ndata: ")

# What is no longer than this is never too large, so its size is not computed: that spares an ordinary event
# some percent. A character has four bytes at most, and a comment's line break three, with the next prefix.
_SHORT_NAME = MAX_NAME_SIZE // 4
_SHORT_COMMENT = MAX_COMMENT_SIZE // 4 - 1
_SHORT_DATA = MAX_DATA_SIZE // _LINE_BREAK_SIZE

# The characters that take six bytes in JSON, such as \u0000.
_LONG_IN_JSON = bytes(number for number in range(32) if chr(number) not in "\b\t\n\f\r")
_ESCAPE_SIZE = len("\\u0000")

_LINE_END = re.compile("\r\n|\r|\n")
_NOT_IN_EVENT = re.compile("[\r\n]")
_NOT_IN_ID = re.compile("[\r\n\0]")


def dumps_compact(data: object) -> str:
    """Encode `data` as JSON on one line, without spaces; refuse NaN and infinities, which are not JSON.

    A lone surrogate, as in a piece of a text that was split in the middle of a character, becomes an escape.
    """
    return compact_json(data)


@final
@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One event, as the application sees it.

    Args:
        data: a `str` is sent as it is, with CR and CRLF turned into LF, since the wire has one kind of line
            break only; anything else is encoded as JSON when the event is sent. At most 1 MiB encoded, where
            a line break counts as seven bytes, as the next line has a prefix, and any other control character
            as the six that JSON has for it.
        event: the event's type, without line breaks, at most 4 KiB; `None` is what `EventSource` calls
            "message".
        id: what the client sends as `Last-Event-ID` when it reconnects, without line breaks or NUL, at most
            4 KiB; the empty string makes it forget the one it has.
        retry: the client's reconnection time in milliseconds from now on.
        comment: text that receivers ignore. It may have several lines, at most 64 KiB encoded. As no receiver
            sees it, comparisons ignore it, too.
        topic: where it was published, if its receivers are to know, without line breaks, at most 4 KiB. It is
            a field of its own, which `EventSource` ignores.

    Raises:
        TypeError: a field is of the wrong type (`bytes` data among them: decode them first).
        ValueError: a field would break the framing, cannot be encoded as UTF-8, or is too large.
    """

    data: object
    event: str | None = field(default=None, kw_only=True)
    id: str | None = field(default=None, kw_only=True)
    retry: int | None = field(default=None, kw_only=True)
    comment: str | None = field(default=None, kw_only=True, compare=False)
    topic: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        texts = ("data", self.data), ("event", self.event), ("id", self.id), ("comment", self.comment)
        for name, value in texts if self.topic is None else (*texts, ("topic", self.topic)):
            if type(value) is not str and isinstance(value, str):
                # A subclass, such as an enum, may format itself differently from what is checked here.
                object.__setattr__(self, name, str.__str__(value))
        data = self.data
        if isinstance(data, str):
            if "\r" in data:
                data = _LINE_END.sub("\n", data)
                object.__setattr__(self, "data", data)
            _check_size(data)
        elif isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"data must be text or a JSON value, not {type(data).__name__}: decode it first")
        if self.event is not None:
            _check_name("event", self.event, _NOT_IN_EVENT, "CR or LF")
            if not self.event:
                raise ValueError("event must not be empty: leave it out for the type 'message'")
        if self.id is not None:
            _check_name("id", self.id, _NOT_IN_ID, "CR, LF or NUL")
        if self.retry is not None:
            object.__setattr__(self, "retry", check_retry(self.retry))
        if self.comment is not None:
            _check_comment(self.comment)
        if self.topic is not None:
            _check_name("topic", self.topic, _NOT_IN_EVENT, "CR or LF")

    def encode(self, *, dumps: Dumps = dumps_compact) -> bytes:
        """Return the event's bytes on the wire, with the blank line that ends it.

        Raises:
            TypeError: `data` is not a JSON value.
            ValueError: `data` cannot be written as JSON or UTF-8, or is too large once encoded.
        """
        encoded = encode_parts(self.text(dumps=dumps), self.event, self.id, self.retry, self.comment)
        return encoded if self.topic is None else encode_topic(self.topic) + encoded

    def text(self, *, dumps: Dumps = dumps_compact) -> str:
        """Return `data` as the text that is sent; raise what `encode` raises."""
        if isinstance(self.data, str):
            return self.data
        try:
            text = dumps(self.data)
        except TypeError as error:
            raise TypeError(f"data must be text or a JSON value: {error}") from error
        except ValueError as error:
            raise ValueError(f"data cannot be written as JSON: {error}") from error
        if not isinstance(text, str):
            raise TypeError(f"dumps must return a str, not {type(text).__name__}")
        text = str.__str__(text)  # of a subclass, the value that is checked here
        if "\r" in text:  # possible with a user's own `dumps`
            text = _LINE_END.sub("\n", text)
        _check_size(text)
        return text

    def json(self) -> object:
        """Return the value of `data`, which is JSON in an event that was received.

        Raises:
            ValueError: the text is not JSON.
        """
        return json.loads(self.data) if isinstance(self.data, str) else self.data


def trusted_event(
    data: str, event: str | None, id: str | None, retry: int | None, topic: str | None = None
) -> ServerSentEvent:
    """Return an event of fields that need no check: they were checked before, or were received."""
    made = object.__new__(ServerSentEvent)
    for name, value in (("data", data), ("event", event), ("id", id), ("retry", retry), ("topic", topic)):
        object.__setattr__(made, name, value)
    object.__setattr__(made, "comment", None)
    return made


def encode_parts(
    text: str,
    event: str | None = None,
    id: str | None = None,
    retry: int | None = None,
    comment: str | None = None,
) -> bytes:
    """Encode fields that have been checked already, in the order id, event, retry, data."""
    head = "" if comment is None else _comment_lines(comment)
    if id is not None:
        head += f"id: {id}\n"
    if event is not None:
        head += f"event: {event}\n"
    if retry is not None:
        head += f"retry: {retry}\n"
    if "\n" in text:
        text = text.replace("\n", "\ndata: ")
    return f"{head}data: {text}\n\n".encode()


def encode_topic(topic: str) -> bytes:
    """Encode an event's topic, which has been checked, as the first field of the event."""
    return f"topic: {topic}\n".encode()


def encode_comment(text: str) -> bytes:
    """Encode a comment on its own, one comment line for each of its lines, without a blank line.

    A blank line makes some clients built on `fetch` emit an empty message, so there is none here.
    """
    _check_comment(text)
    return _comment_lines(text).encode()


def encode_retry(milliseconds: int) -> bytes:
    """Encode a reconnection time on its own, without a blank line (see `encode_comment`)."""
    return b"retry: %d\n" % check_retry(milliseconds)


def check_retry(retry: object) -> int:
    """Return `retry` if it is a reconnection time: whole milliseconds, not negative."""
    if isinstance(retry, bool) or not isinstance(retry, int):
        raise TypeError(f"retry must be an int of milliseconds, not {type(retry).__name__}")
    if not 0 <= retry <= MAX_RETRY:
        raise ValueError(f"retry must be between 0 and {MAX_RETRY} milliseconds, not {retry}")
    return int.__pos__(retry)  # of a subclass, the value that was checked


def _comment_lines(text: str) -> str:
    return "".join(f": {line}\n" if line else ":\n" for line in _LINE_END.split(text))


def _check_name(name: str, value: object, forbidden: re.Pattern[str], what: str) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str or None, not {type(value).__name__}")
    if forbidden.search(value):
        raise ValueError(f"{name} must not contain {what}: {value[:80]!r}")
    if len(value) > _SHORT_NAME or not value.isascii():
        _check_bound(name, utf8_size(name, value), MAX_NAME_SIZE)


def check_key(key: object) -> str:
    """Return `key` if it can be a message's key: a `str` of at most 4 KiB.

    Raises:
        TypeError, ValueError: it cannot.
    """
    if not isinstance(key, str):
        raise TypeError(f"key must be a str or None, not {type(key).__name__}")
    if len(key) > _SHORT_NAME or not key.isascii():
        _check_bound("key", utf8_size("key", key), MAX_NAME_SIZE)
    return str.__str__(key)  # of a subclass, the value that was checked


def _check_comment(value: object) -> None:
    if not isinstance(value, str):
        raise TypeError(f"comment must be a str or None, not {type(value).__name__}")
    if len(value) > _SHORT_COMMENT or not value.isascii():
        _check_bound("comment", utf8_size("comment", value), MAX_COMMENT_SIZE)
        _check_bound(
            "comment", len(_comment_lines(value).encode()), MAX_COMMENT_SIZE, ": each line has a prefix"
        )


def _check_size(text: str) -> None:
    """Raise an error if `text`, which has LF only, is too large as data."""
    size = len(text) if text.isascii() else utf8_size("data", text)
    if size > _SHORT_DATA:
        breaks = text.count("\n")
        controls = size - len(text.encode().translate(None, _LONG_IN_JSON))
        advice = ": each line break has 7 of them" if breaks else ""
        advice += ": each control character counts as 6" if controls else ""
        size += breaks * (_LINE_BREAK_SIZE - 1) + controls * (_ESCAPE_SIZE - 1)
        _check_bound("data", size, MAX_DATA_SIZE, advice)


def _check_bound(name: str, size: int, most: int, advice: str = "") -> None:
    if size > most:
        raise ValueError(f"{name} must be at most {most} bytes once encoded, not {size}{advice}")


def utf8_size(name: str, text: str) -> int:
    """Return how many bytes a text has as UTF-8; raise `ValueError` if it cannot be encoded."""
    try:
        return len(text.encode())
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{name} has a lone surrogate at position {error.start}, which UTF-8 cannot encode"
        ) from None
