"""The head of an app's response, checked and encoded."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from typing import final

from .._asgi.types import Message
from .._http.fields import check_raw_field
from .._http.response import WITHOUT_BODY, date_line
from .._http.status import reason_phrase

# Names of fields that the server sets itself, or that tell it something.
_MEANINGFUL = frozenset(
    (b"connection", b"content-length", b"date", b"keep-alive", b"transfer-encoding", b"upgrade")
)

# Longer values, such as those of cookies, hardly come twice.
_LARGEST_CACHED = 256


@final
class AppResponse:
    """The head of an app's response."""

    __slots__ = ("_has_date", "_lines", "closes", "content_length", "has_body", "status", "upgrades")

    def __init__(self, message: Message) -> None:
        """Check an `http.response.start`; raises `ValueError` if it cannot be sent."""
        self.status = int(message["status"])
        if not 200 <= self.status < 600:
            raise ValueError(f"a response's status must be 200 to 599, not {self.status}")
        self.has_body = self.status not in WITHOUT_BODY  # whether the status allows one
        self.content_length: int | None = None
        self.closes = False  # the app asks for the connection to be closed
        self.upgrades = False  # it has an Upgrade field
        self._has_date = False
        self._lines: list[bytes] = []  # of the app's fields that are sent
        headers: Iterable[tuple[bytes, bytes]] = message.get("headers", ())
        for name, value in headers:
            if name == b"content-length":  # it differs from response to response
                self._note_length(bytes(value).strip())
                continue
            try:
                line = _encode_field(name, value) if len(value) <= _LARGEST_CACHED else None
            except TypeError:  # it is no `bytes`, and cannot be a key
                line = None
            if line is not None:
                self._lines.append(line)
            else:
                self._add(bytes(name), bytes(value).strip())

    def _add(self, name: bytes, value: bytes) -> None:
        """Check a field that may say something to the server, and note that."""
        match check_raw_field(name, value):
            case b"content-length":
                self._note_length(value)
                return
            case b"connection":
                self.closes |= b"close" in [option.strip() for option in value.lower().split(b",")]
                return
            case b"keep-alive" | b"transfer-encoding":
                return  # ASGI's HTTP specification, "Response Start", leaves them to the server
            case b"date":
                self._has_date = True
            case b"upgrade":
                self.upgrades = True
        self._lines.append(b"%b: %b\r\n" % (name, value))

    def _note_length(self, value: bytes) -> None:
        if not value.isdigit():
            raise ValueError(f"a response's Content-Length must be a number, not {value!r}")
        if self.content_length not in (None, int(value)):
            raise ValueError("a response must have one Content-Length")
        self.content_length = int(value)

    @property
    def has_content_type(self) -> bool:
        """Whether the head says what the body is."""
        return any(line.lower().startswith(b"content-type:") for line in self._lines)

    @property
    def is_event_stream(self) -> bool:
        """Whether the body is an event stream."""
        return any(line.lower().startswith(b"content-type: text/event-stream") for line in self._lines)

    def encode(self, lines: Sequence[bytes], *, without: Collection[bytes] = ()) -> bytes:
        """Return the head's bytes, with the server's own `lines`, and without those of the app's fields."""
        own = self._lines
        if without:
            own = [line for line in own if line.partition(b":")[0].lower() not in without]
        if not self._has_date:
            own = [*own, date_line()]
        return b"%b%b%b\r\n" % (_status_line(self.status), b"".join(own), b"".join(lines))


@lru_cache(maxsize=512)  # an app sends the same fields with each response
def _encode_field(name: bytes, value: bytes) -> bytes | None:
    """Return the line of a field; `None` if it may say something to the server.

    Raises:
        ValueError: the field cannot be sent.
    """
    name, value = bytes(name), bytes(value).strip()
    if check_raw_field(name, value) in _MEANINGFUL:
        return None
    return b"%b: %b\r\n" % (name, value)


@lru_cache(maxsize=128)
def _status_line(status: int) -> bytes:
    try:
        phrase = reason_phrase(status).encode()
    except ValueError:
        phrase = b""  # one of the app's own
    return b"HTTP/1.1 %d %b\r\n" % (status, phrase)
