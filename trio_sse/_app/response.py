"""The head of an app's response, checked and encoded."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from typing import final

from .._asgi.types import Message
from .._http.fields import check_raw_fields
from .._http.response import WITHOUT_BODY, date_line
from .._http.status import reason_phrase

# Names of fields that the server sets itself, or that tell it something.
_MEANINGFUL = frozenset(
    (b"connection", b"content-length", b"date", b"keep-alive", b"transfer-encoding", b"upgrade")
)


@final
class AppResponse:
    """The head of an app's response."""

    __slots__ = ("_fields", "_has_date", "closes", "content_length", "has_body", "status", "upgrades")

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
        headers: Iterable[tuple[bytes, bytes]] = message.get("headers", ())
        fields = [(bytes(name), bytes(value).strip()) for name, value in headers]
        check_raw_fields(fields)
        self._fields = [
            field for field in fields if field[0].lower() not in _MEANINGFUL or self._keeps(*field)
        ]

    def _keeps(self, name: bytes, value: bytes) -> bool:
        """Note what a field says, and return whether it is sent as it is."""
        match name.lower():
            case b"content-length":
                if not value.isdigit():
                    raise ValueError(f"a response's Content-Length must be a number, not {value!r}")
                if self.content_length not in (None, int(value)):
                    raise ValueError("a response must have one Content-Length")
                self.content_length = int(value)
            case b"connection":
                self.closes |= b"close" in [option.strip() for option in value.lower().split(b",")]
            case b"date":
                self._has_date = True
                return True
            case b"upgrade":
                self.upgrades = True
                return True
        return False  # nor those that ASGI's HTTP specification, "Response Start", leaves to the server

    @property
    def is_event_stream(self) -> bool:
        """Whether the body is an event stream."""
        return any(
            name.lower() == b"content-type" and value.lower().startswith(b"text/event-stream")
            for name, value in self._fields
        )

    def encode(self, lines: Sequence[bytes], *, without: Collection[bytes] = ()) -> bytes:
        """Return the head's bytes, with the server's own `lines`, and without those of the app's fields."""
        fields = self._fields
        if without:
            fields = [field for field in fields if field[0].lower() not in without]
        own = [b"%b: %b\r\n" % field for field in fields]
        if not self._has_date:
            own.append(date_line())
        return b"%b%b%b\r\n" % (_status_line(self.status), b"".join(own), b"".join(lines))


@lru_cache(maxsize=128)
def _status_line(status: int) -> bytes:
    try:
        phrase = reason_phrase(status).encode()
    except ValueError:
        phrase = b""  # one of the app's own
    return b"HTTP/1.1 %d %b\r\n" % (status, phrase)
