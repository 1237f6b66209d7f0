"""Server-Sent Events as values, and their encoding on the wire.

The invariant that this file keeps together with `decoder`: **whatever can be encoded decodes to itself.** An
event therefore refuses, when it is made, every field that would break the framing, and the encoder ends lines
with LF only.

Lines end at CR, LF or CRLF and nowhere else. `str.splitlines()` would also split at U+2028, U+0085, VT
and FF, which are ordinary characters of the data, so it is used nowhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import final

Dumps = Callable[[object], str]

#: The most bytes that one event's data may have, encoded.
MAX_DATA_SIZE = 1024 * 1024

#: Browsers keep the reconnection time in a number; past 2**53 it would no longer be exact.
MAX_RETRY = 2**53 - 1

_LINE_END = re.compile("\r\n|\r|\n")
_NOT_IN_EVENT = re.compile("[\r\n]")
_NOT_IN_ID = re.compile("[\r\n\0]")


def dumps_compact(data: object) -> str:
    """Encode `data` as JSON on one line, without spaces; refuse NaN and infinities, which are not JSON."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


@final
@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One event, as the application sees it.

    Args:
        data: a `str` is sent as it is, with CR and CRLF turned into LF, since the wire has one kind of line
            break only; anything else is encoded as JSON when the event is sent. At most 1 MiB encoded.
        event: the event's type, without line breaks; `None` is what `EventSource` calls "message".
        id: what the client sends as `Last-Event-ID` when it reconnects, without line breaks or NUL; the empty
            string makes it forget the one it has.
        retry: the client's reconnection time in milliseconds from now on.
        comment: text that receivers ignore. It may have several lines. As no receiver sees it, comparisons
            ignore it, too.

    Raises:
        TypeError: a field is of the wrong type (`bytes` data among them: decode them first).
        ValueError: a field would break the framing, can't be encoded as UTF-8, or is too large.
    """

    data: object
    event: str | None = field(default=None, kw_only=True)
    id: str | None = field(default=None, kw_only=True)
    retry: int | None = field(default=None, kw_only=True)
    comment: str | None = field(default=None, kw_only=True, compare=False)

    def __post_init__(self) -> None:
        texts = ("data", self.data), ("event", self.event), ("id", self.id), ("comment", self.comment)
        for name, value in texts:
            if type(value) is not str and isinstance(value, str):
                # A subclass, such as an enum, may format itself differently from what is checked here.
                object.__setattr__(self, name, str.__str__(value))
        data = self.data
        if isinstance(data, str):
            if "\r" in data:
                object.__setattr__(self, "data", _LINE_END.sub("\n", data))
            _check_size(data)
        elif isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"data must be text or a JSON value, not {type(data).__name__}: decode it first")
        if self.event is not None:
            _check_field("event", self.event, _NOT_IN_EVENT, "CR or LF")
            if not self.event:
                raise ValueError("event must not be empty: leave it out for the type 'message'")
        if self.id is not None:
            _check_field("id", self.id, _NOT_IN_ID, "CR, LF or NUL")
        if self.retry is not None:
            check_retry(self.retry)
        if self.comment is not None:
            _check_field("comment", self.comment, None, "")

    def encode(self, *, dumps: Dumps = dumps_compact) -> bytes:
        """Return the event's bytes on the wire, with the blank line that ends it.

        Raises:
            TypeError: `data` is not a JSON value.
            ValueError: `data` can't be written as JSON or UTF-8, or is too large once encoded.
        """
        return encode_parts(self.text(dumps=dumps), self.event, self.id, self.retry, self.comment)

    def text(self, *, dumps: Dumps = dumps_compact) -> str:
        """Return `data` as the text that is sent; raise what `encode` raises."""
        if isinstance(self.data, str):
            return self.data
        try:
            text = dumps(self.data)
        except TypeError as error:
            raise TypeError(f"data must be text or a JSON value: {error}") from error
        except ValueError as error:
            raise ValueError(f"data can't be written as JSON: {error}") from error
        if not isinstance(text, str):
            raise TypeError(f"dumps must return a str, not {type(text).__name__}")
        if "\r" in text:  # possible with a `dumps` of the user's own
            text = _LINE_END.sub("\n", text)
        _check_size(text)
        return text

    def json(self) -> object:
        """Return the value of `data`, which is JSON in an event that was received.

        Raises:
            ValueError: the text is not JSON.
        """
        return json.loads(self.data) if isinstance(self.data, str) else self.data


def trusted_event(data: str, event: str | None, id: str | None, retry: int | None) -> ServerSentEvent:
    """Return an event of fields that need no check: they were checked before, or were received."""
    made = object.__new__(ServerSentEvent)
    for name, value in (("data", data), ("event", event), ("id", id), ("retry", retry), ("comment", None)):
        object.__setattr__(made, name, value)
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


def encode_comment(text: str) -> bytes:
    """Encode a comment on its own, one comment line for each of its lines, without a blank line.

    A blank line makes some clients built on `fetch` emit an empty message, so there is none here.
    """
    _check_field("comment", text, None, "")
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
    return retry


def _comment_lines(text: str) -> str:
    return "".join(f": {line}\n" if line else ":\n" for line in _LINE_END.split(text))


def _check_field(name: str, value: object, forbidden: re.Pattern[str] | None, what: str) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str or None, not {type(value).__name__}")
    if forbidden is not None and forbidden.search(value):
        raise ValueError(f"{name} must not contain {what}: {value[:80]!r}")
    if not value.isascii():
        utf8_size(name, value)


def _check_size(text: str) -> None:
    size = len(text) if text.isascii() else utf8_size("data", text)
    if size > MAX_DATA_SIZE:
        raise ValueError(f"data must be at most {MAX_DATA_SIZE} bytes once encoded, not {size}")


def utf8_size(name: str, text: str) -> int:
    """Return how many bytes a text has as UTF-8; raise `ValueError` if it can't be encoded."""
    try:
        return len(text.encode())
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{name} has a lone surrogate at position {error.start}, which UTF-8 can't encode"
        ) from None
